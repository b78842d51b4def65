//! Many connections that never log in: what they cost, what is refused, and that others still get in.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::bench::{Bench, Finding, healthy, resident_kib};
use crate::harness::Server;

const GROUP: &str = "crowds";
/// Open connections that are not logged in.
const CROWD: usize = 15_000;
/// Addresses they come from.
const ADDRESSES: usize = 3;
/// What one of them may cost the server, KiB.
const KIB_PER_CONNECTION: f64 = 8.0;
/// What the allocator may keep once they are gone, KiB: what they took. The next crowd gets it.
const CROWD_KIB_LEFT_MAX: u64 = 8 * CROWD as u64;
/// What a second crowd may cost beyond the first, KiB.
const SECOND_KIB_MAX: u64 = 8 * 1024;
/// Each address has its share and no more.
const CROWD_CONFIG: &str = "limits = { connections_before_login_per_address = 5000 }\n\
    login.deadline_seconds = 300\n";
/// Connections from one address beyond that.
const BEYOND: usize = 500;

/// Connections that each hold back the end of something.
const HOLDERS: usize = 200;
const HELD_BYTES: usize = 15_000;
/// For all connections from one address.
const HELD_BYTES_MAX: usize = 1024 * 1024;
const HELD_CONFIG: &str = "limits = { bytes_before_login_per_address = 1048576 }\n";
/// What they may cost meanwhile, buffers growing by doubling, KiB.
const HELD_KIB_MAX: u64 = 4 * 1024;

/// In which the server has told everyone it does not want.
const TO_BE_ENDED: Duration = Duration::from_secs(4);
const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='localhost'>";

/// Lets this process have as many files as it may.
fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted)?;
    let enough = limit
        .maximum
        .is_none_or(|files| files > CROWD as u64 + 1_000);
    ensure!(enough, "this process may not have {CROWD} files");
    Ok(())
}

/// Connects from 127.0.0.(2 + `address`), where the clients that look after the server do not come from.
async fn connect(server: &Server, address: usize) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(2 + address)?;
    socket.bind(SocketAddr::new(
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)),
        0,
    ))?;
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), server.port);
    Ok(timeout(Duration::from_secs(60), socket.connect(to)).await??)
}

/// Opens so many connections from an address, each with these bytes sent.
async fn open(
    server: &Server,
    address: usize,
    count: usize,
    bytes: &[u8],
) -> Result<Vec<TcpStream>> {
    let mut connections = Vec::with_capacity(count);
    for number in 0..count {
        let mut connection = connect(server, address)
            .await
            .with_context(|| format!("connection {number}"))?;
        // Refused ones may be closed by now.
        let _ = connection.write_all(bytes).await;
        connections.push(connection);
    }
    Ok(connections)
}

/// How many were ended by the server, and what the first of them was told.
fn ended(connections: &[TcpStream]) -> (usize, String) {
    let mut told = String::new();
    let mut ended = 0;
    for connection in connections {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match connection.try_read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => {
                    ended += 1;
                    if told.is_empty() {
                        told = condition(&all);
                    }
                    break;
                }
                Ok(bytes) => all.extend_from_slice(&buffer[..bytes]),
            }
        }
    }
    (ended, told)
}

/// The condition of a stream error, if there was one.
fn condition(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let after = text.split("<stream:error>").nth(1).unwrap_or_default();
    match after.trim_start_matches('<').split([' ', '/']).next() {
        Some(name) if !name.is_empty() => format!("stream error {name}"),
        _ => "closed".to_owned(),
    }
}

/// Bytes before login are counted by address: what is over ends, and nobody else is hurt.
async fn hold(server: &Server) -> Result<String> {
    let before_kib = resident_kib(server)?;
    let bytes = [HEADER, &b"<auth>"[..], &vec![b'x'; HELD_BYTES][..]].concat();
    let connections = open(server, 0, HOLDERS, &bytes).await?;
    sleep(TO_BE_ENDED).await;
    let (refused, told) = ended(&connections);
    let cost = resident_kib(server)?.saturating_sub(before_kib);
    healthy(server).await.context("a login meanwhile")?;
    let held = HOLDERS - refused;
    ensure!(told == "stream error policy-violation", "{told}");
    ensure!(held * HELD_BYTES <= HELD_BYTES_MAX, "{held} are held");
    ensure!(cost <= HELD_KIB_MAX, "cost {cost} KiB");
    Ok(format!(
        "{held} held, {refused} {told}; +{cost} KiB meanwhile"
    ))
}

/// Opens all connections and those beyond; memory while they are open, KiB, and what was refused.
async fn gather(server: &Server) -> Result<(u64, String)> {
    let mut held = Vec::new();
    for address in 0..ADDRESSES {
        held.extend(open(server, address, CROWD / ADDRESSES, HEADER).await?);
    }
    // Behind all of them in the listener's queue.
    healthy(server).await.context("a login meanwhile")?;
    let (lost, told) = ended(&held);
    ensure!(lost == 0, "{lost} connections: {told}");
    let kib = resident_kib(server)?;
    let beyond = open(server, 0, BEYOND, HEADER).await?;
    sleep(TO_BE_ENDED).await;
    let (refused, told) = ended(&beyond);
    ensure!(refused == BEYOND, "only {refused} of {BEYOND} refused");
    healthy(server).await.context("a login afterwards")?;
    Ok((kib, format!("{refused} beyond the address's limit: {told}")))
}

async fn crowd(server: &Server) -> Result<String> {
    raise_file_limit()?;
    let before_kib = resident_kib(server)?;
    let (first_kib, refused) = gather(server).await?;
    sleep(TO_BE_ENDED).await;
    let (second_kib, _) = gather(server).await?;
    let each = first_kib.saturating_sub(before_kib) as f64 / CROWD as f64;
    let more = second_kib.saturating_sub(first_kib);
    ensure!(each <= KIB_PER_CONNECTION, "{each:.1} KiB each");
    ensure!(
        more <= SECOND_KIB_MAX,
        "a second crowd cost {more} KiB more"
    );
    Ok(format!(
        "{CROWD} held, {each:.1} KiB each, +{more} KiB the second time; {refused}; logins from another address went on"
    ))
}

/// All of them; the largest only where `all`.
pub async fn cases(bench: &mut Bench<'_>, all: bool) -> Result<()> {
    let case = "200 connections hold back 15 KB each";
    if bench.wants(GROUP, case) {
        let server = bench.server(HELD_CONFIG).await?;
        let sent = "<stream:stream …><auth>xxx… from 127.0.0.2";
        let finding = async { Finding::of(sent, hold(&server).await) };
        bench.judge((GROUP, case), &server, finding).await?;
    }
    let case = "15,000 connections that do not log in";
    if all && bench.wants(GROUP, case) {
        let server = bench.server(CROWD_CONFIG).await?;
        let sent = "<stream:stream …> from 127.0.0.2, .3, .4: 5,000 each";
        let finding = async {
            Finding {
                kib_max: Some(CROWD_KIB_LEFT_MAX),
                ..Finding::of(sent, crowd(&server).await)
            }
        };
        bench.judge((GROUP, case), &server, finding).await?;
    }
    Ok(())
}
