//! Listeners: the sockets that accept clients, and the internal one for metrics and health.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::schema::{choice, section};

section! {
    /// Where connections are accepted.
    pub struct Listeners {
        /// Listeners for clients. Naming any replaces both defaults.
        pub c2s: Vec<C2sListener> = vec![
            C2sListener::default(),
            C2sListener { port: 5223, tls: TlsMode::Direct, ..C2sListener::default() },
        ],
        /// The internal HTTP listener.
        pub http: HttpListener = HttpListener::default(),
    }
}

section! {
    /// One listener for clients.
    pub struct C2sListener {
        /// The address to listen on; "*" means every address of the machine, IPv6 and IPv4.
        pub address: String = "*".to_owned(),
        /// The TCP port; 0 takes a free one, printed at the start.
        pub port: u16 = 5222,
        /// How TLS begins.
        pub tls: TlsMode = TlsMode::Starttls,
        /// Networks of proxies whose PROXY protocol header (version 1 or 2) is believed, and
        /// required. All other addresses are served without one.
        pub proxy_networks: Vec<IpNet> = Vec::new(),
        /// Connections this listener holds at once; further ones are closed at once.
        pub max_connections: u32 = 100_000,
        /// New connections accepted in a second; further ones wait in the system's queue.
        pub connections_per_second: u32 = 2_000,
        /// New connections accepted in a second from one address (IPv6: one /64); further ones are
        /// closed at once. 0 means no limit.
        pub connections_per_second_per_address: u32 = 200,
        /// Connections from one address (IPv6: one /64) at once, logged in or not. 0 means no limit.
        pub max_connections_per_address: u32 = 20_000,
    }
}

impl C2sListener {
    /// The addresses to bind: for "*" first the dual-stack one, then what to fall back to on a
    /// machine without IPv6. `None` where the text is no address.
    pub fn socket_addresses(&self) -> Option<Vec<SocketAddr>> {
        socket_addresses(&self.address, self.port)
    }
}

choice! {
    /// How TLS begins on a listener for clients.
    pub enum TlsMode {
        /// The stream starts in the clear and must switch to TLS (RFC 6120 §5).
        Starttls = "starttls",
        /// TLS from the first byte (XEP-0368).
        Direct = "direct",
    }
}

section! {
    /// The internal HTTP listener: /metrics, /healthz, /readyz. Not for the internet.
    pub struct HttpListener {
        /// Whether it listens at all.
        pub enabled: bool = true,
        /// The address to listen on.
        pub address: String = "127.0.0.1".to_owned(),
        /// The TCP port; 0 takes a free one, printed at the start.
        pub port: u16 = 5280,
    }
}

impl HttpListener {
    /// The addresses to bind, as for [`C2sListener::socket_addresses`].
    pub fn socket_addresses(&self) -> Option<Vec<SocketAddr>> {
        socket_addresses(&self.address, self.port)
    }
}

fn socket_addresses(address: &str, port: u16) -> Option<Vec<SocketAddr>> {
    if address == "*" {
        return Some(vec![
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        ]);
    }
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Some(vec![SocketAddr::new(address.parse().ok()?, port)])
}
