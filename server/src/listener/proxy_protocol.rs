//! The PROXY protocol, versions 1 and 2: who is behind the proxy that connects

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout_at;

/// How long a proxy may take for its header.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest header of version 1, in bytes, its line end included.
const MAX_V1_BYTES: usize = 107;
/// Longest rest of a header of version 2 read, in bytes; with a TLS certificate among
/// its extensions it is well below.
const MAX_V2_BYTES: usize = 4096;
/// Starts a header of version 2.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the part whose length they tell.
const V2_FIXED_BYTES: usize = 16;

/// Why a header was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a header of either version, or a broken one.
    #[error("{0}")]
    Malformed(&'static str),
    /// The connection ended or failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The header did not come in time.
    #[error("no header in time")]
    Timeout,
}

/// Reads the header and not a byte more. `None`: the proxy speaks for itself (a
/// health check) or does not know the address.
///
/// # Errors
/// [`Error`]; the connection is to be closed.
pub async fn read(
    socket: &mut (impl AsyncRead + Unpin),
    accepted_at: Instant,
) -> Result<Option<SocketAddr>, Error> {
    let deadline = accepted_at + TIMEOUT;
    match timeout_at(deadline.into(), read_header(socket)).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout),
    }
}

async fn read_header(socket: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, Error> {
    // The shortest line of version 1 is longer than this.
    let mut header = vec![0; V2_SIGNATURE.len()];
    socket.read_exact(&mut header).await?;
    if header == V2_SIGNATURE {
        header.resize(V2_FIXED_BYTES, 0);
        socket.read_exact(&mut header[V2_SIGNATURE.len()..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if rest > MAX_V2_BYTES {
            return Err(Error::Malformed("header too long"));
        }
        header.resize(V2_FIXED_BYTES + rest, 0);
        socket.read_exact(&mut header[V2_FIXED_BYTES..]).await?;
        return parse_v2(&header);
    }
    if !header.starts_with(b"PROXY ") {
        return Err(Error::Malformed("no header"));
    }
    while !header.ends_with(b"\r\n") {
        if header.len() >= MAX_V1_BYTES {
            return Err(Error::Malformed("line too long"));
        }
        header.push(socket.read_u8().await?);
    }
    parse_v1(&header)
}

/// Parses a whole line of version 1, its CR LF included.
///
/// # Errors
/// [`Error::Malformed`].
pub fn parse_v1(line: &[u8]) -> Result<Option<SocketAddr>, Error> {
    let malformed = || Error::Malformed("broken line");
    let line = std::str::from_utf8(line).map_err(|_| malformed())?;
    let line = line
        .strip_prefix("PROXY ")
        .and_then(|line| line.strip_suffix("\r\n"));
    let mut parts = line.ok_or_else(malformed)?.split(' ');
    let family = parts.next().ok_or_else(malformed)?;
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let (Some(source), Some(destination), Some(port), Some(to_port), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return Err(malformed());
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let number = |text: &str| -> Option<u16> {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten()
    };
    address(destination).ok_or_else(malformed)?;
    number(to_port).ok_or_else(malformed)?;
    let source = address(source).ok_or_else(malformed)?;
    Ok(Some(SocketAddr::new(
        source.to_canonical(),
        number(port).ok_or_else(malformed)?,
    )))
}

/// Parses a whole header of version 2; extensions behind the addresses are skipped.
///
/// # Errors
/// [`Error::Malformed`].
pub fn parse_v2(header: &[u8]) -> Result<Option<SocketAddr>, Error> {
    let malformed = Error::Malformed;
    let fixed = header
        .get(..V2_FIXED_BYTES)
        .ok_or(malformed("header too short"))?;
    if fixed[..12] != V2_SIGNATURE || fixed[12] >> 4 != 2 {
        return Err(malformed("unknown version"));
    }
    let rest = &header[V2_FIXED_BYTES..];
    if rest.len() != usize::from(u16::from_be_bytes([fixed[14], fixed[15]])) {
        return Err(malformed("wrong length"));
    }
    match fixed[12] & 0x0f {
        // LOCAL: the proxy's own connection.
        0 => return Ok(None),
        1 => {}
        _ => return Err(malformed("unknown command")),
    }
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    match fixed[13] {
        // TCP over IPv4: addresses of 4, ports of 2 bytes.
        0x11 if rest.len() >= 12 => {
            let octets: [u8; 4] = rest[..4].try_into().expect("four bytes");
            Ok(Some(SocketAddr::new(IpAddr::from(octets), port(8))))
        }
        // TCP over IPv6: addresses of 16, ports of 2 bytes.
        0x21 if rest.len() >= 36 => {
            let octets: [u8; 16] = rest[..16].try_into().expect("sixteen bytes");
            Ok(Some(SocketAddr::new(
                IpAddr::from(octets).to_canonical(),
                port(32),
            )))
        }
        0x00 => Ok(None),
        _ => Err(malformed("not TCP, or addresses missing")),
    }
}
