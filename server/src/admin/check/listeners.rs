//! Checks of listeners: whether they answer, or could be opened.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::{Finding, Kind, Severity, Symptom};
use crate::admin::protocol::Failure;
use crate::config::{C2sListener, Config, TlsMode};

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

/// Checks all listeners: with the server running by talking to them, else by trying to open them.
pub async fn check(config: &Config, running: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !running {
        findings.push(NOT_RUNNING.found(&[]));
    }
    let domain = config
        .hosts
        .first()
        .map_or("localhost", |h| h.name.as_str());
    for listener in &config.listeners.c2s {
        let addresses = listener.socket_addresses().unwrap_or_default();
        findings.extend(match running {
            true => answers(listener, &addresses, domain).await,
            false => can_open(&addresses),
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

async fn answers(
    listener: &C2sListener,
    addresses: &[SocketAddr],
    domain: &str,
) -> Option<Finding> {
    let address = reachable(*addresses.first()?);
    // A free port taken at the start is not in the configuration; networks of proxies may include us.
    let behind_proxy = listener
        .proxy_networks
        .iter()
        .any(|n| n.contains(&address.ip()));
    if address.port() == 0 || behind_proxy {
        return None;
    }
    let refused = |reason: &dyn std::fmt::Display| {
        Some(REFUSED.found(&[("address", &address), ("reason", reason)]))
    };
    let mut stream = match timeout(ANSWER, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return refused(&e),
        Err(_) => return refused(&"time-out"),
    };
    if listener.tls == TlsMode::Direct {
        return None;
    }
    match timeout(ANSWER, offers_starttls(&mut stream, domain)).await {
        Ok(Ok(true)) => None,
        outcome => {
            let reason = match outcome {
                Ok(Ok(_)) => "it does not offer STARTTLS".to_owned(),
                Ok(Err(e)) => e.to_string(),
                Err(_) => "time-out".to_owned(),
            };
            let port = address.port();
            Some(MUTE.found(&[("address", &address), ("reason", &reason), ("port", &port)]))
        }
    }
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
        if text.contains("urn:ietf:params:xml:ns:xmpp-tls") {
            // Politeness: the server may be gone.
            let _ = stream.write_all(b"</stream:stream>").await;
            return Ok(true);
        }
        if n == 0 || text.contains("</stream:features>") {
            return Ok(false);
        }
    }
    Ok(false)
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
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn config(port: u16) -> Config {
        let mut config = Config::default();
        config.listeners.http.enabled = false;
        let address = "127.0.0.1".to_owned();
        config.listeners.c2s = vec![C2sListener {
            address,
            port,
            ..C2sListener::default()
        }];
        config
    }

    fn ids(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|f| f.id).collect()
    }

    #[tokio::test]
    async fn finds_a_taken_port() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = holder.local_addr().unwrap().port();
        let found = check(&config(port), false).await;
        assert_eq!(ids(&found), ["server-not-running", "port-taken"]);
        assert!(found[1].remedy.contains(&port.to_string()));
    }

    #[tokio::test]
    async fn finds_listeners_that_refuse_or_are_mute() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = holder.local_addr().unwrap().port();
        let serve = tokio::spawn(async move {
            for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", FEATURES] {
                let (mut stream, _) = holder.accept().await.unwrap();
                let mut header = [0; 512];
                let _ = stream.read(&mut header).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(ids(&check(&config(port), true).await), ["listener-mute"]);
        assert!(check(&config(port), true).await.is_empty());
        serve.await.unwrap();
        assert_eq!(ids(&check(&config(port), true).await), ["listener-refuses"]);
    }

    const FEATURES: &str = "<stream:stream><stream:features><starttls \
        xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
}
