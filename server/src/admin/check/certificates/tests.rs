//! Tests of the checks of certificates, on files made here.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use time::OffsetDateTime;

use super::*;
use crate::config::Host;

const DAY: i64 = 86_400;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn folder(name: &str) -> Folder {
    let path = std::env::temp_dir().join(format!("eider-check-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    Folder(path)
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

/// Writes a certificate for the name, valid between the days, signed by an authority that is in the file
/// or not.
fn write(folder: &Folder, file: &str, name: &str, days: (i64, i64), with_issuer: bool) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "Test Authority");
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = at(days.0 * DAY);
    params.not_after = at(days.1 * DAY);
    let issuer = Issuer::new(authority, authority_key);
    let mut pem = params.signed_by(&key, &issuer).unwrap().pem();
    if with_issuer {
        pem.push_str(&authority_pem);
    }
    pem.push_str(&key.serialize_pem());
    std::fs::write(folder.0.join(file), pem).unwrap();
}

fn config(folder: &Folder, hosts: &[&str]) -> Config {
    let mut config = Config::default();
    config.tls.certificate_directory = Some(folder.0.clone());
    config.tls.local_authority = false;
    config.hosts = hosts.iter().map(|h| Host::named(h)).collect();
    config
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|f| f.id).collect()
}

#[test]
fn a_good_certificate_gives_no_finding() {
    let folder = folder("good");
    write(&folder, "a.pem", "a.example", (100, 200), true);
    write(&folder, "wild.pem", "*.b.example", (100, 200), true);
    let config = config(&folder, &["a.example", "chat.b.example"]);
    assert!(check(&config, 150 * DAY).is_empty());
}

#[test]
fn finds_what_is_wrong_with_certificates() {
    let folder = folder("bad");
    write(&folder, "a.pem", "a.example", (100, 200), true);
    write(&folder, "alone.pem", "alone.example", (100, 200), false);
    std::fs::write(folder.0.join("c.pem"), "nonsense").unwrap();
    let found = |hosts: &[&str], day: i64| check(&config(&folder, hosts), day * DAY);
    assert_eq!(ids(&found(&["a.example"], 150)), ["certificate-unreadable"]);
    std::fs::remove_file(folder.0.join("c.pem")).unwrap();
    let ended = found(&["a.example"], 230);
    assert_eq!(ids(&ended), ["certificate-expired"]);
    assert!(
        ended[0].what.ends_with("a.example ended 30 days ago"),
        "{}",
        ended[0].what
    );
    assert_eq!(ids(&found(&["a.example"], 190)), ["certificate-ends-soon"]);
    assert_eq!(
        ids(&found(&["a.example"], 50)),
        ["certificate-not-yet-valid"]
    );
    assert_eq!(ids(&found(&["b.example"], 150)), ["certificate-missing"]);
    assert_eq!(
        ids(&found(&["alone.example"], 150)),
        ["certificate-chain-incomplete"]
    );
}

#[test]
fn the_own_authority_is_for_private_names() {
    let folder = folder("local");
    let mut config = config(&folder, &["localhost", "chat.eider-im.org"]);
    config.tls.local_authority = true;
    let found = check(&config, 0);
    assert_eq!(ids(&found), ["certificate-local"]);
    assert!(found[0].what.starts_with("chat.eider-im.org"));
}
