//! PROXY protocol headers, good and bad

use std::net::SocketAddr;
use std::time::Instant;

use super::proxy_protocol::{Error, parse_v1, parse_v2, read};

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend((rest.len() as u16).to_be_bytes());
    header.extend(rest);
    header
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().expect("an address"))
}

#[test]
fn version_1() {
    for (line, client) in [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 5222\r\n",
            address("192.0.2.1:56324"),
        ),
        (
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 5222\r\n",
            address("[2001:db8::1]:1"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        (
            "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
            None,
        ),
    ] {
        assert_eq!(parse_v1(line.as_bytes()).expect(line), client);
    }
    for line in [
        "PROXY\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 5222 x\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 5222\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 5222\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +1 5222\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.1 1 5222\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 1 5222\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 5222\n",
        "proxy TCP4 192.0.2.1 198.51.100.1 1 5222\r\n",
    ] {
        assert!(
            matches!(parse_v1(line.as_bytes()), Err(Error::Malformed(_))),
            "{line:?}"
        );
    }
}

#[test]
fn version_2() {
    let ipv4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x14, 0x66];
    let expected = address("192.0.2.1:56324");
    assert_eq!(parse_v2(&v2(0x21, 0x11, &ipv4)).expect("valid"), expected);
    let extended = [&ipv4[..], &[0x04, 0, 1, 0]].concat();
    assert_eq!(
        parse_v2(&v2(0x21, 0x11, &extended)).expect("valid"),
        expected
    );
    let mut ipv6 = [0u8; 36];
    ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    ipv6[33] = 7;
    assert_eq!(
        parse_v2(&v2(0x21, 0x21, &ipv6)).expect("valid"),
        address("[2001:db8::]:7")
    );
    assert_eq!(parse_v2(&v2(0x20, 0x00, &[])).expect("LOCAL"), None);
    assert_eq!(parse_v2(&v2(0x21, 0x00, &[])).expect("UNSPEC"), None);
    for bad in [
        v2(0x31, 0x11, &ipv4),
        v2(0x22, 0x11, &ipv4),
        v2(0x21, 0x12, &ipv4),
        v2(0x21, 0x31, &ipv4),
        v2(0x21, 0x11, &ipv4[..11]),
        v2(0x21, 0x21, &ipv4),
        v2(0x21, 0x11, &ipv4)[..20].to_vec(),
        v2(0x21, 0x11, &ipv4)[..10].to_vec(),
    ] {
        assert!(
            matches!(parse_v2(&bad), Err(Error::Malformed(_))),
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn nothing_behind_the_header_is_read() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 5222\r\n";
    let ipv4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x14, 0x66];
    for header in [line.to_vec(), v2(0x21, 0x11, &ipv4)] {
        let sent = [&header[..], b"<stream"].concat();
        let mut socket = &sent[..];
        let client = read(&mut socket, Instant::now()).await.expect("valid");
        assert_eq!(client, address("192.0.2.1:56324"));
        assert_eq!(socket, b"<stream");
    }
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    for bad in [
        &b"<stream:stream xmlns='jabber:client'>"[..],
        b"PROXY TC",
        &long,
    ] {
        assert!(read(&mut &bad[..], Instant::now()).await.is_err());
    }
}

/// Every header with every byte changed, and every beginning of it: an answer, no panic.
#[tokio::test]
async fn no_mutation_panics() {
    let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 5222\r\n".to_vec();
    for header in [line, v2(0x21, 0x21, &[9; 40]), v2(0x21, 0x11, &[9; 12])] {
        for at in 0..header.len() {
            for byte in 0..=255 {
                let mut changed = header.clone();
                changed[at] = byte;
                let _ = parse_v1(&changed);
                let _ = parse_v2(&changed);
                let _ = read(&mut &changed[..], Instant::now()).await;
            }
            assert!(read(&mut &header[..at], Instant::now()).await.is_err());
        }
    }
}
