//! Certificates of members and of their authority, good and bad.

use rcgen::{ExtendedKeyUsagePurpose, PKCS_ECDSA_P256_SHA256};

use super::*;
use crate::fuzz;
use crate::random::SystemRandom;

const NOW: i64 = 1_800_000_000;
const MEMBER: MemberId = MemberId(0x0123_4567_89ab_cdef);

struct Cluster {
    authority: Authority,
    key: KeyPair,
}

fn cluster() -> Cluster {
    let key = new_key().expect("a key");
    let authority = new_authority(&key, NOW, &SystemRandom).expect("made");
    Cluster { authority, key }
}

impl Cluster {
    fn issue(&self, member: MemberId, key: &KeyPair) -> CertificateDer<'static> {
        let request = request(member, key).expect("a request");
        let requested = read_request(&request).expect("read");
        issue(&self.authority, &self.key, &requested, NOW, &SystemRandom).expect("issued")
    }

    /// Signed by this authority whatever it says.
    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
        let issuer = Issuer::from_ca_cert_der(&self.authority.der, &self.key).expect("an issuer");
        params
            .signed_by(key, &issuer)
            .expect("signed")
            .der()
            .clone()
    }
}

#[test]
fn a_request_becomes_a_certificate_over_the_same_key() {
    let (cluster, key) = (cluster(), new_key().expect("a key"));
    let facts = cluster
        .authority
        .check(&cluster.issue(MEMBER, &key))
        .expect("ours");
    assert_eq!((facts.member, facts.key), (MEMBER, public_key(&key)));
    assert_eq!(facts.ends, NOW + VALID_SECONDS);
    let again = read_key(key.serialized_der()).expect("read");
    assert_eq!(public_key(&again), facts.key);
    let other = self::cluster();
    let foreign = other.issue(MEMBER, &key);
    assert_eq!(cluster.authority.check(&foreign), Err(Error::Foreign));
    let own = self_signed(MEMBER, &key, NOW, &SystemRandom).expect("made");
    assert_eq!(cluster.authority.check(&own), Err(Error::Foreign));
    assert_eq!(check_self_signed(&own).expect("own").key, facts.key);
    assert!(check_self_signed(&foreign).is_err());
}

#[test]
fn an_authority_of_the_same_name_is_another() {
    let (cluster, key) = (cluster(), new_key().expect("a key"));
    let (_, parsed) = X509Certificate::from_der(&cluster.authority.der).expect("parsed");
    let name = parsed.subject().iter_common_name().next().expect("a name");
    let name = name.as_str().expect("text").to_owned();
    let false_key = new_key().expect("a key");
    let mut made = params(name, serial(&SystemRandom), NOW, NOW + VALID_SECONDS).expect("params");
    made.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let made = made.self_signed(&false_key).expect("made");
    let false_cluster = Cluster {
        authority: Authority::parse(made.der()).expect("an authority"),
        key: false_key,
    };
    let forged = false_cluster.issue(MEMBER, &key);
    assert_eq!(cluster.authority.check(&forged), Err(Error::Foreign));
}

#[test]
fn dates_count_from_thirty_days_on() {
    let (cluster, key) = (cluster(), new_key().expect("a key"));
    let facts = cluster
        .authority
        .check(&cluster.issue(MEMBER, &key))
        .expect("ours");
    let (begins, ends) = (facts.begins, facts.ends);
    for (now, wrong_by) in [
        (NOW, 0),
        (begins, 0),
        (ends, 0),
        (begins - 5, 5),
        (ends + 7, 7),
    ] {
        assert_eq!(facts.wrong_by(now), wrong_by);
        assert_eq!(facts.check_dates(now), Ok(()));
    }
    for limit in [ends + TOLERATED_SECONDS, begins - TOLERATED_SECONDS] {
        let inwards = (NOW - limit).signum();
        assert_eq!(facts.check_dates(limit + inwards), Ok(()));
        let refused = Err(Error::ClockOrCertificate { days: 30 });
        assert_eq!(facts.check_dates(limit), refused);
    }
    assert!(facts.check_dates(i64::MIN).is_err() && facts.check_dates(i64::MAX).is_err());
    assert!(!facts.is_due(NOW));
    assert!(facts.is_due(begins + 30 * DAY_SECONDS));
    assert!(!facts.is_due(begins + 30 * DAY_SECONDS - 1));
    assert!(facts.is_due(begins - 1));
}

#[test]
fn only_the_one_shape_is_accepted() {
    let (cluster, key) = (cluster(), new_key().expect("a key"));
    let good = || member_params(MEMBER, NOW, &SystemRandom).expect("params");
    let check = |params: &CertificateParams| cluster.authority.check(&cluster.sign(params, &key));
    assert!(check(&good()).is_ok());
    let mut params = good();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    assert!(check(&params).is_ok(), "usages are not looked at");
    let uri = |name: &str| SanType::URI(name.to_owned().try_into().expect("ascii"));
    let wrong_names = [
        vec![],
        vec![uri("raft-store:member:123")],
        vec![uri("raft-store:member:0123456789ABCDEF")],
        vec![uri("raft-store:member:+123456789abcdef")],
        vec![uri("https://0123456789abcdef")],
        vec![SanType::DnsName("a.example".try_into().expect("ascii"))],
        vec![
            uri("raft-store:member:0123456789abcdef"),
            uri("raft-store:member:0123456789abcdee"),
        ],
    ];
    for names in wrong_names {
        let mut params = good();
        params.subject_alt_names = names;
        assert_eq!(check(&params), Err(Error::Name), "{params:?}");
    }
    let mut params = good();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(check(&params), Err(Error::Name), "an authority");
    let mut params = good();
    let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions = vec![extension];
    assert_eq!(check(&params), Err(Error::Unreadable), "critical");
    let other_kind = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let signed = cluster.sign(&good(), &other_kind);
    assert_eq!(cluster.authority.check(&signed), Err(Error::Unreadable));
}

#[test]
fn nothing_that_a_certificate_says_can_be_changed() {
    let (cluster, key) = (cluster(), new_key().expect("a key"));
    let good = cluster.issue(MEMBER, &key);
    let facts = cluster.authority.check(&good).expect("ours");
    let mut forgiven = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut damaged = good.to_vec();
            damaged[at] ^= 1 << bit;
            // Around what is signed the parser forgives a bit or two.
            if let Ok(said) = cluster.authority.check(&damaged) {
                assert_eq!(said, facts, "{at} {bit}");
                forgiven += 1;
            }
        }
        assert!(cluster.authority.check(&good[..at]).is_err());
    }
    assert!(
        cluster
            .authority
            .check(&[&good[..], &[0]].concat())
            .is_err()
    );
    assert!(forgiven <= 32, "{forgiven} bits of {}", 8 * good.len());
}

#[test]
fn a_request_is_signed_with_the_key_it_is_over() {
    let key = new_key().expect("a key");
    let good = request(MEMBER, &key).expect("made");
    let read = read_request(&good).expect("read");
    assert_eq!((read.member, read.key), (MEMBER, public_key(&key)));
    let mut forgiven = 0;
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x10;
        if let Ok(said) = read_request(&damaged) {
            assert_eq!((said.member, said.key), (read.member, read.key));
            forgiven += 1;
        }
    }
    assert!(forgiven <= 4, "{forgiven} bits");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![];
    let unnamed = params.serialize_request(&key).expect("made");
    assert!(matches!(read_request(unnamed.der()), Err(Error::Name)));
    let other_kind = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let other = request(MEMBER, &other_kind).expect("made");
    assert!(matches!(read_request(&other), Err(Error::Request)));
}

/// Behind the signature, where nobody but the authority gets.
#[test]
fn fuzz_certificate_content() {
    let (cluster, key) = (cluster(), new_key().expect("a key"));
    let examples = [
        cluster.issue(MEMBER, &key).to_vec(),
        cluster.authority.der.to_vec(),
    ];
    fuzz::run("certificate_content", &examples, fuzz::BRIEFLY, |input| {
        let Ok(certificate) = parse(input) else {
            return;
        };
        let _ = certificate.basic_constraints();
        if let Ok(facts) = facts(&certificate) {
            let name = format!("{NAME_PREFIX}{}", facts.member);
            assert_eq!(parse_name(&name), Some(facts.member));
            for now in [i64::MIN, NOW, i64::MAX] {
                assert_eq!(
                    facts.check_dates(now).is_ok(),
                    facts.wrong_by(now) < TOLERATED_SECONDS
                );
            }
            let _ = facts.is_due(NOW);
        }
    });
}
