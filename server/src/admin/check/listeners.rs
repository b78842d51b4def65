//! Checks of listeners: whether they answer, or could be opened.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::certificates::covers;
use super::finding::{Finding, Kind, Severity, Symptom};
use super::handshake::handshake;
use crate::admin::protocol::Failure;
use crate::config::{C2sListener, Config, Host, TlsMode};
use crate::tls;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

const NOT_RUNNING: Kind = Kind {
    id: "server-not-running",
    severity: Severity::Error,
    symptom: Symptom::Ports,
    what: "the server is not running with this data directory",
    effect: "\"connection refused\"",
    remedy: "eider serve (with systemd: systemctl start eider; why it stopped: journalctl -u eider -e)",
};

const UNASKED: Kind = Kind {
    id: "server-not-asked",
    severity: Severity::Error,
    symptom: Symptom::Start,
    what: "the server cannot be asked: {reason}",
    effect: "nothing follows from this about users",
    remedy: "sudo -u eider eider check (with the name of the server's user)",
};

const REFUSED: Kind = Kind {
    id: "listener-refuses",
    severity: Severity::Error,
    symptom: Symptom::Ports,
    what: "nobody answers on {address} though the server runs: {reason}",
    effect: "\"connection refused\" or a time-out",
    remedy: "eider status (a changed listener needs a restart)",
};

const MUTE: Kind = Kind {
    id: "listener-mute",
    severity: Severity::Error,
    symptom: Symptom::Ports,
    what: "{address} accepts connections and does not answer as XMPP: {reason}",
    effect: "time-outs while connecting",
    remedy: "ss -ltnp 'sport = :{port}' (another program?), eider status, eider log debug eider::listener --for 10m",
};

const HANDSHAKE: Kind = Kind {
    id: "listener-without-tls",
    severity: Severity::Error,
    symptom: Symptom::Certificates,
    what: "{address} comes to no TLS with a client of {host}: {reason}",
    effect: "\"secure connection failed\", or nothing but a time-out",
    remedy: "eider log debug eider::stream --for 10m; eider reload (reads certificates again)",
};

const SHOWN: Kind = Kind {
    id: "listener-certificate",
    severity: Severity::Error,
    symptom: Symptom::Certificates,
    what: "{address} shows clients of {host} a certificate {reason}",
    effect: "warnings of the certificate, or refusal to connect",
    remedy: "eider reload; put a certificate for {host} into the certificate directory",
};

const TAKEN: Kind = Kind {
    id: "port-taken",
    severity: Severity::Error,
    symptom: Symptom::Ports,
    what: "port {port} is taken by another program",
    effect: "the server does not start",
    remedy: "ss -ltnp 'sport = :{port}'",
};

const FORBIDDEN: Kind = Kind {
    id: "port-forbidden",
    severity: Severity::Error,
    symptom: Symptom::Ports,
    what: "this user may not listen on {address}: {reason}",
    effect: "the server does not start",
    remedy: "setcap cap_net_bind_service=+ep \"$(command -v eider)\" (or take a port from 1024 on)",
};

const NO_ADDRESS: Kind = Kind {
    id: "no-such-address",
    severity: Severity::Error,
    symptom: Symptom::Ports,
    what: "{address} cannot be listened on: {reason}",
    effect: "the server does not start",
    remedy: "ip addr (is it an address of this machine?)",
};

const ONLY_LOOPBACK: Kind = Kind {
    id: "only-loopback",
    severity: Severity::Warning,
    symptom: Symptom::Ports,
    what: "clients are accepted from this machine alone",
    effect: "cannot connect from elsewhere",
    remedy: "set address = \"*\" under [[listeners.c2s]] and restart",
};

const HTTP_OPEN: Kind = Kind {
    id: "http-open",
    severity: Severity::Warning,
    symptom: Symptom::Ports,
    what: "metrics and health are served on {address}, not on this machine alone",
    effect: "nothing; strangers could read how busy the server is",
    remedy: "set listeners.http.address = \"127.0.0.1\" and restart (or close the port in the firewall)",
};

/// Every kind of this area.
pub const KINDS: &[&Kind] = &[
    &NOT_RUNNING,
    &UNASKED,
    &REFUSED,
    &MUTE,
    &HANDSHAKE,
    &SHOWN,
    &TAKEN,
    &FORBIDDEN,
    &NO_ADDRESS,
    &ONLY_LOOPBACK,
    &HTTP_OPEN,
];

/// A server that is there and cannot be asked.
pub fn unasked(failure: &Failure) -> Finding {
    UNASKED.found(&[("reason", failure)])
}

/// Checks all listeners at a time in seconds since 1970: with the server running by talking to them, else by trying
/// to open them.
pub async fn check(config: &Config, running: bool, now: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !running {
        findings.push(NOT_RUNNING.found(&[]));
    }
    for listener in &config.listeners.c2s {
        let addresses = listener.socket_addresses().unwrap_or_default();
        findings.extend(match running {
            true => answers(listener, &addresses, &config.hosts, now).await,
            false => can_open(&addresses).into_iter().collect(),
        });
    }
    let loopback = |l: &C2sListener| {
        l.socket_addresses()
            .unwrap_or_default()
            .iter()
            .all(|a| a.ip().is_loopback())
    };
    let local_only = config.hosts.iter().all(|h| h.name == "localhost");
    if !local_only && config.listeners.c2s.iter().all(loopback) {
        findings.push(ONLY_LOOPBACK.found(&[]));
    }
    let http = &config.listeners.http;
    let addresses = http.socket_addresses().unwrap_or_default();
    if http.enabled {
        if addresses.iter().any(|a| !a.ip().is_loopback()) {
            let address = format!("{}:{}", http.address, http.port);
            findings.push(HTTP_OPEN.found(&[("address", &address)]));
        }
        if !running {
            findings.extend(can_open(&addresses));
        }
    }
    findings
}

/// An unspecified address is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // The dual-stack socket answers IPv4 too, also on machines without ::1.
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What a client of each host meets on the way to its login.
async fn answers(
    listener: &C2sListener,
    addresses: &[SocketAddr],
    hosts: &[Host],
    now: i64,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(address) = addresses.first().copied().map(reachable) else {
        return findings;
    };
    // A free port taken at the start is not in the configuration; networks of proxies may include us.
    let behind_proxy = listener
        .proxy_networks
        .iter()
        .any(|n| n.contains(&address.ip()));
    if address.port() == 0 || behind_proxy {
        return findings;
    }
    for host in hosts {
        let met = match timeout(ANSWER, meet(listener.tls, address, &host.name, now)).await {
            Ok(met) => met,
            Err(_) => Err((&MUTE, "time-out".to_owned())),
        };
        let Err((kind, reason)) = met else { continue };
        let port = address.port();
        findings.push(kind.found(&[
            ("address", &address),
            ("reason", &reason),
            ("port", &port),
            ("host", &host.name),
        ]));
        // No host's doing: the others meet the same.
        if *kind == REFUSED || *kind == MUTE {
            break;
        }
    }
    findings
}

/// Connects as a client of the host up to and with TLS; what is wrong and why.
async fn meet(
    mode: TlsMode,
    address: SocketAddr,
    host: &str,
    now: i64,
) -> Result<(), (&'static Kind, String)> {
    let because = |kind| move |error: io::Error| (kind, error.to_string());
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(because(&REFUSED))?;
    let name = tls::ascii(host);
    if mode == TlsMode::Starttls {
        let offered = offers_starttls(&mut stream, &name).await;
        if !offered.map_err(because(&MUTE))? {
            return Err((&MUTE, "it does not offer STARTTLS".to_owned()));
        }
        let proceeds = starts_tls(&mut stream).await;
        if !proceeds.map_err(because(&HANDSHAKE))? {
            return Err((&HANDSHAKE, "STARTTLS is refused".to_owned()));
        }
    }
    let shown = handshake(stream, &name, mode == TlsMode::Direct).await;
    let shown = shown.map_err(because(&HANDSHAKE))?;
    let reason = if !covers(&shown.names, &name) {
        format!("of {}", shown.names.join(", "))
    } else if shown.not_after < now {
        format!("that ended {} days ago", (now - shown.not_after) / 86_400)
    } else if shown.not_before > now {
        "that is not valid yet".to_owned()
    } else {
        return Ok(());
    };
    Err((&SHOWN, reason))
}

/// Opens a stream (RFC 6120 §4.2) and looks for the offer of STARTTLS in the features.
async fn offers_starttls(stream: &mut TcpStream, domain: &str) -> io::Result<bool> {
    let header = format!(
        "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    );
    stream.write_all(header.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while answer.len() < 16 * 1024 {
        let n = stream.read(&mut chunk).await?;
        answer.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&answer);
        if n == 0 || text.contains("</stream:features>") {
            return Ok(text.contains("urn:ietf:params:xml:ns:xmpp-tls"));
        }
    }
    Ok(false)
}

/// RFC 6120 §5.4.2: whether the server is ready for TLS.
async fn starts_tls(stream: &mut TcpStream) -> io::Result<bool> {
    let starttls = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    stream.write_all(starttls).await?;
    let mut answer = [0; 1024];
    let n = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..n]).contains("<proceed"))
}

/// Tries to listen, first address that works; without one the first problem.
fn can_open(addresses: &[SocketAddr]) -> Option<Finding> {
    let mut problem = None;
    for address in addresses {
        match std::net::TcpListener::bind(address) {
            Ok(_) => return None,
            Err(e) => problem = problem.or(Some((address, e))),
        }
    }
    let (address, error) = problem?;
    let kind = match error.kind() {
        io::ErrorKind::AddrInUse => &TAKEN,
        io::ErrorKind::PermissionDenied => &FORBIDDEN,
        _ => &NO_ADDRESS,
    };
    let port = address.port();
    let address: SocketAddr = match address.ip() {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => (Ipv4Addr::UNSPECIFIED, port).into(),
        _ => *address,
    };
    Some(kind.found(&[("address", &address), ("port", &port), ("reason", &error)]))
}

#[cfg(test)]
#[path = "listeners/tests.rs"]
mod tests;
