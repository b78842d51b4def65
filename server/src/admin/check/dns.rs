//! Checks of DNS: addresses (A, AAAA) and the SRV records of RFC 6120 §3.2.1 and XEP-0368, with the line to
//! paste into the zone where one is missing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};

use super::finding::{Finding, Kind, Severity, Symptom};
use crate::config::{Config, TlsMode};

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(5);

const UNREACHABLE: Kind = Kind {
    id: "dns-unreachable",
    severity: Severity::Warning,
    symptom: Symptom::Ports,
    what: "the DNS cannot be asked for {name}: {reason}",
    effect: "nothing follows from this about users",
    remedy: "cat /etc/resolv.conf",
};

const NO_ADDRESS: Kind = Kind {
    id: "dns-no-address",
    severity: Severity::Error,
    symptom: Symptom::Ports,
    what: "{name} has no address",
    effect: "\"server not found\"",
    remedy: "add to the zone: {name}. 3600 IN A ADDRESS (and AAAA for IPv6)",
};

const NO_IPV6: Kind = Kind {
    id: "dns-no-ipv6",
    severity: Severity::Note,
    symptom: Symptom::Ports,
    what: "{name} has no IPv6 address",
    effect: "nothing, but for those whose network has IPv6 alone",
    remedy: "add to the zone: {name}. 3600 IN AAAA ADDRESS",
};

const CLIENT_MISSING: Kind = Kind {
    id: "dns-srv-client-missing",
    severity: Severity::Warning,
    symptom: Symptom::Ports,
    what: "{record} is missing",
    effect: "clients fall back to {host}, port 5222; those that look only here time out",
    remedy: "add to the zone: {line}",
};

const DIRECT_MISSING: Kind = Kind {
    id: "dns-srv-direct-missing",
    severity: Severity::Note,
    symptom: Symptom::Ports,
    what: "{record} is missing",
    effect: "clients behind firewalls that let only TLS through cannot connect; others take longer",
    remedy: "add to the zone: {line}",
};

const SERVER_MISSING: Kind = Kind {
    id: "dns-srv-server-missing",
    severity: Severity::Note,
    symptom: Symptom::Ports,
    what: "{record} is missing",
    effect: "other servers fall back to {host}, port 5269, once this one talks to them",
    remedy: "add to the zone: {line}",
};

const PORT_WRONG: Kind = Kind {
    id: "dns-srv-port-wrong",
    severity: Severity::Error,
    symptom: Symptom::Ports,
    what: "{record} points to port {port}, and no listener of that kind has it",
    effect: "time-outs or \"connection refused\"",
    remedy: "change the record to: {line} (or forward the port, if that is what is meant)",
};

const TARGET_NO_ADDRESS: Kind = Kind {
    id: "dns-srv-target-no-address",
    severity: Severity::Error,
    symptom: Symptom::Ports,
    what: "{record} points to {target}, which has no address",
    effect: "\"server not found\"",
    remedy: "add to the zone: {target}. 3600 IN A ADDRESS",
};

/// Every kind of this area.
pub const KINDS: &[&Kind] = &[
    &UNREACHABLE,
    &NO_ADDRESS,
    &NO_IPV6,
    &CLIENT_MISSING,
    &DIRECT_MISSING,
    &SERVER_MISSING,
    &PORT_WRONG,
    &TARGET_NO_ADDRESS,
];

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Srv {
    target: String,
    port: u16,
}

/// What the DNS says of a host; `Err` where it could not be asked.
#[derive(Debug, Clone, Default)]
struct Records {
    services: BTreeMap<&'static str, Result<Vec<Srv>, String>>,
    /// Of the host and of all targets.
    addresses: BTreeMap<String, Result<Vec<IpAddr>, String>>,
}

/// The four services, with the port where no listener says another.
const SERVICES: [(&str, u16, &Kind); 4] = [
    ("_xmpp-client._tcp", 5222, &CLIENT_MISSING),
    ("_xmpps-client._tcp", 5223, &DIRECT_MISSING),
    ("_xmpp-server._tcp", 5269, &SERVER_MISSING),
    ("_xmpps-server._tcp", 5270, &SERVER_MISSING),
];

/// Whether a domain is one that the public DNS can know (RFC 6761, RFC 6762).
pub fn is_public(domain: &str) -> bool {
    let last = domain.rsplit('.').next().unwrap_or_default();
    let private = [
        "localhost",
        "local",
        "test",
        "example",
        "invalid",
        "internal",
        "lan",
        "home",
        "arpa",
    ];
    domain.contains('.') && !private.contains(&last) && domain.parse::<IpAddr>().is_err()
}

/// Asks the system's resolver about every public host.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let hosts: Vec<_> = config
        .hosts
        .iter()
        .map(|h| &h.name)
        .filter(|h| is_public(h))
        .collect();
    if hosts.is_empty() {
        return findings;
    }
    let resolver = match TokioResolver::builder_tokio().and_then(|builder| builder.build()) {
        Ok(resolver) => resolver,
        Err(e) => return vec![UNREACHABLE.found(&[("name", &hosts[0]), ("reason", &e)])],
    };
    for host in hosts {
        let records = ask(&resolver, host).await;
        findings.extend(judge(config, host, &records));
    }
    findings
}

async fn ask(resolver: &TokioResolver, host: &str) -> Records {
    let mut records = Records::default();
    let mut names = vec![host.to_owned()];
    for (service, ..) in SERVICES {
        let found = services(resolver, &format!("{service}.{host}.")).await;
        for srv in found.iter().flatten() {
            if !names.contains(&srv.target) {
                names.push(srv.target.clone());
            }
        }
        records.services.insert(service, found);
    }
    for name in names {
        let found = addresses(resolver, &name).await;
        records.addresses.insert(name, found);
    }
    records
}

async fn lookup(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
) -> Result<Vec<RData>, String> {
    match tokio::time::timeout(ANSWER, resolver.lookup(name, kind)).await {
        Ok(Ok(found)) => Ok(found
            .answers()
            .iter()
            .map(|record| record.data.clone())
            .collect()),
        Ok(Err(e)) if e.is_no_records_found() || e.is_nx_domain() => Ok(Vec::new()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("time-out".to_owned()),
    }
}

async fn services(resolver: &TokioResolver, name: &str) -> Result<Vec<Srv>, String> {
    let found = lookup(resolver, name, RecordType::SRV).await?;
    let found = found.into_iter().filter_map(|data| match data {
        RData::SRV(srv) => Some(Srv {
            target: srv.target.to_utf8().trim_end_matches('.').to_lowercase(),
            port: srv.port,
        }),
        _ => None,
    });
    Ok(found.collect())
}

async fn addresses(resolver: &TokioResolver, name: &str) -> Result<Vec<IpAddr>, String> {
    let mut all = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        let found = lookup(resolver, &format!("{name}."), kind).await?;
        all.extend(found.into_iter().filter_map(|data| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        }));
    }
    Ok(all)
}

fn judge(config: &Config, host: &str, records: &Records) -> Vec<Finding> {
    let failed = records
        .services
        .values()
        .find_map(|found| found.as_ref().err());
    if let Some(reason) = failed {
        return vec![UNREACHABLE.found(&[("name", &host), ("reason", reason)])];
    }
    let mut findings = Vec::new();
    for (service, port, missing) in SERVICES {
        let ports = ports(config, service);
        let record = format!("{service}.{host}");
        let best = ports.first().copied().unwrap_or(port);
        let line = format!("{record}. 3600 IN SRV 0 5 {best} {host}.");
        let found = records
            .services
            .get(service)
            .and_then(|found| found.as_ref().ok());
        let found = found.map(Vec::as_slice).unwrap_or_default();
        let is_client = service.ends_with("client._tcp");
        // A record for what is not listened to would be wrong; RFC 6120 has a target "." for "not here".
        if found.is_empty() && !(is_client && ports.is_empty()) {
            findings.push(missing.found(&[("record", &record), ("host", &host), ("line", &line)]));
        }
        for srv in found.iter().filter(|srv| !srv.target.is_empty()) {
            if is_client && !ports.contains(&srv.port) {
                let values: [(&str, &dyn std::fmt::Display); 3] =
                    [("record", &record), ("port", &srv.port), ("line", &line)];
                findings.push(PORT_WRONG.found(&values));
            }
            if let Some(Ok(addresses)) = records.addresses.get(&srv.target)
                && addresses.is_empty()
            {
                findings
                    .push(TARGET_NO_ADDRESS.found(&[("record", &record), ("target", &srv.target)]));
            }
        }
    }
    findings.extend(judge_addresses(host, records));
    findings
}

/// The host itself needs an address only where clients are not sent elsewhere.
fn judge_addresses(host: &str, records: &Records) -> Option<Finding> {
    let client = records.services.get("_xmpp-client._tcp")?.as_ref().ok()?;
    let name = client.first().map_or(host, |srv| srv.target.as_str());
    match records.addresses.get(name)? {
        Err(reason) => Some(UNREACHABLE.found(&[("name", &name), ("reason", reason)])),
        Ok(none) if none.is_empty() && client.is_empty() => {
            Some(NO_ADDRESS.found(&[("name", &name)]))
        }
        Ok(some) if !some.is_empty() && !some.iter().any(IpAddr::is_ipv6) => {
            Some(NO_IPV6.found(&[("name", &name)]))
        }
        Ok(_) => None,
    }
}

/// The ports of listeners that a service can mean; none for servers, which are not listened for yet.
fn ports(config: &Config, service: &str) -> Vec<u16> {
    let mode = match service {
        "_xmpp-client._tcp" => TlsMode::Starttls,
        "_xmpps-client._tcp" => TlsMode::Direct,
        _ => return Vec::new(),
    };
    config
        .listeners
        .c2s
        .iter()
        .filter(|l| l.tls == mode)
        .map(|l| l.port)
        .collect()
}

#[cfg(test)]
#[path = "dns/tests.rs"]
mod tests;
