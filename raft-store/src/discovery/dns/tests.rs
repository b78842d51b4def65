//! Questions to a name server made here.

use std::net::Ipv4Addr;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use tokio::net::UdpSocket;

use super::*;

/// What the server has: a name, the kind of record, its data.
type Zone = Vec<(&'static str, u16, Vec<u8>)>;

/// A name as it is written on the wire (RFC 1035 §3.1).
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).expect("short");
        [&[length], label.as_bytes()].concat()
    });
    labels.chain([0]).collect()
}

/// The header, the question as asked, and every record of its name and kind; a name without any does not exist.
fn answer(zone: &Zone, question: &[u8]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|b| *b == 0).expect("a name") + 1;
    let kind = u16::from_be_bytes([question[end], question[end + 1]]);
    let asked = question[12..end].to_ascii_lowercase();
    let named: Vec<_> = zone
        .iter()
        .filter(|(name, ..)| wire(name) == asked)
        .collect();
    let records: Vec<_> = named.iter().filter(|(_, of, _)| *of == kind).collect();
    let mut packet = question[..2].to_vec();
    let code = if named.is_empty() { 3 } else { 0 };
    let count = u8::try_from(records.len()).expect("few");
    packet.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    packet.extend(&question[12..end + 4]);
    for (_, _, data) in records {
        packet.extend([0xc0, 12]);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1, 0, 0, 0, 60]);
        packet.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        packet.extend(data);
    }
    packet
}

/// Serves a zone on a free port; answers nothing without one.
async fn resolver(zone: Option<Zone>) -> TokioResolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let mut connection = ConnectionConfig::udp();
    connection.port = socket.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            if let Some(zone) = &zone {
                let answer = answer(zone, &packet[..length]);
                socket.send_to(&answer, from).await.expect("sent");
            }
        }
    });
    let localhost = Ipv4Addr::LOCALHOST.into();
    let servers = vec![NameServerConfig::new(localhost, true, vec![connection])];
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    fresh(builder).build().expect("a resolver")
}

fn service(port: u16, target: &str) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 5];
    data.extend(port.to_be_bytes());
    data.extend(wire(target));
    data
}

#[tokio::test]
async fn addresses_of_both_kinds_in_one_order() {
    let mut six = [0; 16];
    six[15] = 1;
    let zone = vec![
        ("members.raft", 1, vec![192, 0, 2, 9]),
        ("members.raft", 1, vec![192, 0, 2, 7]),
        ("members.raft", 28, six.to_vec()),
    ];
    let way = Dns::new(resolver(Some(zone)).await, "members.raft", Some(53));
    let found = way.search().await.expect("answered");
    assert_eq!(found, ["192.0.2.7:53", "192.0.2.9:53", "[::1]:53"]);
}

#[tokio::test]
async fn services_say_their_ports_in_one_order() {
    let name = "_raft._tcp.members.raft";
    let zone = vec![
        (name, 33, service(5301, "b.members.raft")),
        (name, 33, service(5300, "a.members.raft")),
    ];
    let way = Dns::new(resolver(Some(zone)).await, name, None);
    let found = way.search().await.expect("answered");
    assert_eq!(found, ["a.members.raft:5300", "b.members.raft:5301"]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_has_no_addresses() {
    let resolver = resolver(Some(Vec::new())).await;
    let way = Dns::new(resolver, "members.raft", Some(53));
    assert_eq!(way.search().await, Ok(Vec::new()));
}
