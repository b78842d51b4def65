//! Tests of the checks of DNS: judgements on records, and the questions against a name server made here.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::UdpSocket;

use super::*;

fn srv(target: &str, port: u16) -> Result<Vec<Srv>, String> {
    Ok(vec![Srv {
        target: target.to_owned(),
        port,
    }])
}

fn records(client: Result<Vec<Srv>, String>, addresses: &[(&str, &[&str])]) -> Records {
    let services = SERVICES.iter().map(|(service, port, _)| match *service {
        "_xmpp-client._tcp" => (*service, client.clone()),
        service => (service, srv("eider-im.org", *port)),
    });
    let addresses = addresses.iter().map(|(name, addresses)| {
        (
            (*name).to_owned(),
            Ok(addresses.iter().map(|a| a.parse().unwrap()).collect()),
        )
    });
    Records {
        services: services.collect(),
        addresses: addresses.collect(),
    }
}

fn found(records: &Records) -> Vec<Finding> {
    judge(&Config::default(), "eider-im.org", records)
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|f| f.id).collect()
}

const BOTH: &[&str] = &["192.0.2.1", "2001:db8::1"];

#[test]
fn complete_records_give_no_finding() {
    let all = records(srv("eider-im.org", 5222), &[("eider-im.org", BOTH)]);
    assert!(found(&all).is_empty());
}

#[test]
fn says_the_line_to_paste() {
    let none = records(Ok(Vec::new()), &[("eider-im.org", BOTH)]);
    let findings = found(&none);
    assert_eq!(ids(&findings), ["dns-srv-client-missing"]);
    let line = "_xmpp-client._tcp.eider-im.org. 3600 IN SRV 0 5 5222 eider-im.org.";
    assert!(findings[0].remedy.ends_with(line), "{}", findings[0].remedy);
}

#[test]
fn finds_wrong_ports_and_targets() {
    let wrong = records(
        srv("chat.eider-im.org", 443),
        &[("chat.eider-im.org", &[]), ("eider-im.org", BOTH)],
    );
    assert_eq!(
        ids(&found(&wrong)),
        ["dns-srv-port-wrong", "dns-srv-target-no-address"]
    );
    let nowhere = records(Ok(Vec::new()), &[("eider-im.org", &[])]);
    assert!(ids(&found(&nowhere)).contains(&"dns-no-address"));
    let old = records(
        srv("eider-im.org", 5222),
        &[("eider-im.org", &["192.0.2.1"])],
    );
    assert_eq!(ids(&found(&old)), ["dns-no-ipv6"]);
    let silent = records(Err("time-out".to_owned()), &[]);
    assert_eq!(ids(&found(&silent)), ["dns-unreachable"]);
}

#[test]
fn private_names_are_not_asked_for() {
    for private in ["localhost", "chat.local", "a.test", "10.0.0.1", "eider"] {
        assert!(!is_public(private), "{private}");
    }
    assert!(is_public("example.org"));
}

/// Answers every question on a free port: SRV with one record, A with one, all else with none.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut packet).await {
            let answer = answer(&packet[..n]);
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    address
}

/// RFC 1035 §4: the header, the question as asked, and one record.
fn answer(question: &[u8]) -> Vec<u8> {
    let name_end = 12 + question[12..].iter().position(|b| *b == 0).unwrap() + 1;
    let kind = u16::from_be_bytes([question[name_end], question[name_end + 1]]);
    let data: Option<Vec<u8>> = match kind {
        1 => Some(vec![192, 0, 2, 7]),
        33 => Some(
            [
                &[0, 0, 0, 5, 0x14, 0x66][..],
                b"\x04chat\x07example\x03org\x00",
            ]
            .concat(),
        ),
        _ => None,
    };
    let mut packet = question[..2].to_vec();
    packet.extend([0x81, 0x80, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    packet.extend(&question[12..name_end + 4]);
    if let Some(data) = data {
        packet.extend([0xc0, 12]);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1, 0, 0, 0, 60]);
        packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        packet.extend(data);
    }
    packet
}

#[tokio::test]
async fn asks_for_services_and_addresses() {
    let server = name_server().await;
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let servers = vec![NameServerConfig::new(
        Ipv4Addr::LOCALHOST.into(),
        true,
        vec![connection],
    )];
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let resolver = builder.build().unwrap();
    let records = ask(&resolver, "eider-im.org").await;
    assert_eq!(
        records.services["_xmpps-client._tcp"],
        srv("chat.example.org", 5222)
    );
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    assert_eq!(records.addresses["chat.example.org"], Ok(vec![address]));
}
