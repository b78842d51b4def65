//! RFC 5802 §5, RFC 7677 §3: examples, and what has to be refused

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::sasl::{BindingKind, Mechanism};
use crate::testing::Random;

fn iterations(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("not zero")
}

fn start(first: &str) -> Result<ClientFirst, ScramError> {
    ClientFirst::parse(
        ScramHash::Sha1,
        false,
        false,
        &ChannelBindings::default(),
        first.as_bytes(),
    )
}

#[test]
fn rfc_5802_example() {
    let salt = STANDARD.decode("QSXCR+Q6sek8bf92").expect("base64");
    let keys = ScramKeys::derive(ScramHash::Sha1, "pencil", &salt, iterations(4096));
    let first = start("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").expect("client-first");
    assert_eq!((first.username(), first.authzid()), ("user", None));
    let (challenged, server_first) = first
        .challenge(keys, "3rfcNHYJY1ZVvWVs7j", None)
        .expect("same hash");
    assert_eq!(
        server_first,
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    );
    let last = "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
    assert_eq!(
        challenged.finish(last.as_bytes()).as_deref(),
        Ok("v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    );
}

#[test]
fn rfc_7677_example() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    let keys = ScramKeys::derive(ScramHash::Sha256, "pencil", &salt, iterations(4096));
    let first = ClientFirst::parse(
        ScramHash::Sha256,
        false,
        false,
        &ChannelBindings::default(),
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    );
    let (challenged, server_first) = first
        .expect("client-first")
        .challenge(keys, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", None)
        .expect("same hash");
    assert_eq!(
        server_first,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(
        challenged.finish(last.as_bytes()).as_deref(),
        Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    );
}

/// A client of its own: proof over what was really sent.
fn client_final(hash: ScramHash, server_first: &str, bare: &str, binding: &[u8]) -> String {
    let part = |name: &str| {
        let value = server_first
            .split(',')
            .find_map(|part| part.strip_prefix(name));
        value.expect("attribute of server-first").to_owned()
    };
    let without = format!("c={},r={}", STANDARD.encode(binding), part("r="));
    let salt = STANDARD.decode(part("s=")).expect("base64");
    let rounds = iterations(part("i=").parse().expect("number"));
    let mut salted = vec![0; hash.len_bytes()];
    let algorithm = match hash {
        ScramHash::Sha1 => aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA1,
        ScramHash::Sha256 => aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256,
        ScramHash::Sha512 => aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA512,
    };
    aws_lc_rs::pbkdf2::derive(algorithm, rounds, &salt, b"secret", &mut salted);
    let client_key = hash.hmac(&salted, b"Client Key");
    let stored = hash.hash(client_key.as_ref());
    let auth = format!("{bare},{server_first},{without}");
    let signature = hash.hmac(stored.as_ref(), auth.as_bytes());
    let proof: Vec<u8> = client_key
        .as_ref()
        .iter()
        .zip(signature.as_ref())
        .map(|(k, s)| k ^ s)
        .collect();
    format!("{without},p={}", STANDARD.encode(proof))
}

fn bindings() -> ChannelBindings {
    ChannelBindings {
        tls_exporter: Some([7; 32]),
        tls_server_end_point: Some(vec![9; 48]),
    }
}

fn plus_exchange(
    hash: ScramHash,
    header: &str,
    client_data: &[u8],
    password: &str,
) -> Result<String, ScramError> {
    let bare = "n=juliet,r=abc";
    let message = format!("{header}{bare}");
    let first = ClientFirst::parse(hash, true, true, &bindings(), message.as_bytes())?;
    let keys = ScramKeys::derive(hash, password, &[1; SALT_BYTES], iterations(10));
    let (challenged, server_first) = first.challenge(keys, "def", Some("aGFzaA=="))?;
    assert!(server_first.ends_with(",h=aGFzaA=="));
    let binding = [header.as_bytes(), client_data].concat();
    challenged.finish(client_final(hash, &server_first, bare, &binding).as_bytes())
}

#[test]
fn plus_works_with_every_hash_and_type() {
    for hash in ScramHash::ALL {
        let exporter = plus_exchange(hash, "p=tls-exporter,,", &[7; 32], "secret");
        assert!(exporter.expect("right").starts_with("v="));
        let end_point = plus_exchange(hash, "p=tls-server-end-point,,", &[9; 48], "secret");
        assert!(end_point.expect("right").starts_with("v="));
    }
}

#[test]
fn channel_binding_tricks() {
    let hash = ScramHash::Sha512;
    let mismatch = Err(ScramError::ChannelBindingsDontMatch);
    assert_eq!(
        plus_exchange(hash, "p=tls-exporter,,", &[8; 32], "secret"),
        mismatch
    );
    assert_eq!(
        plus_exchange(hash, "p=tls-exporter,,", b"", "secret"),
        mismatch
    );
    assert_eq!(
        plus_exchange(hash, "p=tls-exporter,,", &[9; 48], "secret"),
        mismatch
    );
    assert_eq!(
        plus_exchange(hash, "p=tls-exporter,,", &[7; 32], "wrong"),
        Err(ScramError::InvalidProof)
    );
    assert_eq!(
        plus_exchange(hash, "p=tls-unique,,", &[7; 32], "secret"),
        Err(ScramError::UnsupportedChannelBindingType)
    );
    assert_eq!(
        plus_exchange(hash, "y,,", b"", "secret"),
        Err(ScramError::ServerDoesSupportChannelBinding)
    );
    assert_eq!(
        plus_exchange(hash, "n,,", b"", "secret"),
        Err(ScramError::OtherError)
    );

    let parse = |plus_offered, message: &str| {
        ClientFirst::parse(hash, false, plus_offered, &bindings(), message.as_bytes()).map(|_| ())
    };
    assert_eq!(
        parse(true, "y,,n=u,r=a"),
        Err(ScramError::ServerDoesSupportChannelBinding)
    );
    assert_eq!(parse(false, "y,,n=u,r=a"), Ok(()));
    assert_eq!(
        parse(true, "p=tls-exporter,,n=u,r=a"),
        Err(ScramError::ChannelBindingNotSupported)
    );
    assert_eq!(parse(true, "n,,n=u,r=a"), Ok(()));
}

#[test]
fn exporter_is_not_offered_without_data() {
    let old_tls = ChannelBindings {
        tls_exporter: None,
        tls_server_end_point: Some(vec![1]),
    };
    assert_eq!(
        old_tls.kinds().collect::<Vec<_>>(),
        [BindingKind::TlsServerEndPoint]
    );
    let first = ClientFirst::parse(
        ScramHash::Sha256,
        true,
        true,
        &old_tls,
        b"p=tls-exporter,,n=u,r=a",
    );
    assert_eq!(
        first.map(|_| ()),
        Err(ScramError::UnsupportedChannelBindingType)
    );
}

#[test]
fn names_are_unescaped() {
    let first = start("n,a=admin=2Cx,n=a=3Db=2Cc,r=x").expect("valid");
    assert_eq!(
        (first.username(), first.authzid()),
        ("a=b,c", Some("admin,x"))
    );
    let bad = Err(ScramError::InvalidUsernameEncoding);
    for message in [
        "n,,n=a=b,r=x",
        "n,,n=a=2c,r=x",
        "n,,n=a=,r=x",
        "n,,n=a=3é,r=x",
    ] {
        assert_eq!(start(message).map(|_| ()), bad, "{message}");
    }
}

#[test]
fn malformed_first_messages() {
    for (message, error) in [
        ("", ScramError::InvalidEncoding),
        ("n", ScramError::InvalidEncoding),
        ("n,,", ScramError::InvalidEncoding),
        ("n,,n=user", ScramError::InvalidEncoding),
        ("n,,r=x,n=user", ScramError::InvalidEncoding),
        ("n,,n=,r=x", ScramError::InvalidEncoding),
        ("n,,n=user,r=", ScramError::InvalidEncoding),
        ("n,,n=user,r=a b", ScramError::InvalidEncoding),
        ("n,b=x,n=user,r=a", ScramError::InvalidEncoding),
        ("p=,,n=user,r=a", ScramError::InvalidEncoding),
        ("p=tls exporter,,n=user,r=a", ScramError::InvalidEncoding),
        ("z,,n=user,r=a", ScramError::InvalidEncoding),
        ("n,,n=us\0er,r=a", ScramError::InvalidEncoding),
        ("n,,m=x,n=user,r=a", ScramError::ExtensionsNotSupported),
        ("n,,n=user,r=a,m=x", ScramError::ExtensionsNotSupported),
        ("n,,n=user,r=a,", ScramError::InvalidEncoding),
        ("n,,n=user,r=a,1=x", ScramError::InvalidEncoding),
    ] {
        assert_eq!(start(message).map(|_| ()), Err(error), "{message:?}");
    }
    assert!(start("n,,n=user,r=a,x=ignored").is_ok());
    assert!(start(&format!("n,,n=user,r={}", "a".repeat(300))).is_err());
}

#[test]
fn malformed_final_messages() {
    for (message, error) in [
        ("", ScramError::InvalidEncoding),
        ("c=biws,r=ab", ScramError::InvalidEncoding),
        ("r=ab,c=biws,p=AAAA", ScramError::InvalidEncoding),
        ("c=biws,r=a,p=AAAA", ScramError::OtherError),
        ("c=biws,r=abb,p=AAAA", ScramError::OtherError),
        ("c=biws,r=b,p=AAAA", ScramError::OtherError),
        ("c=eSws,r=ab,p=AAAA", ScramError::ChannelBindingsDontMatch),
        ("c=biw,r=ab,p=AAAA", ScramError::InvalidEncoding),
        ("c=biws,r=ab,p=AA", ScramError::InvalidEncoding),
        ("c=biws,r=ab,p=AAAA", ScramError::InvalidProof),
        ("c=biws,r=ab,m=x,p=AAAA", ScramError::ExtensionsNotSupported),
        ("c=biws,r=ab,p=AAAA,x=y", ScramError::InvalidEncoding),
        (
            "c=biws,r=ab,p=AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ScramError::InvalidProof,
        ),
    ] {
        let keys = ScramKeys::derive(ScramHash::Sha1, "secret", b"salt", iterations(1));
        let first = start("n,,n=user,r=a").expect("valid");
        let (challenged, _) = first.challenge(keys, "b", None).expect("same hash");
        assert_eq!(
            challenged.finish(message.as_bytes()),
            Err(error),
            "{message:?}"
        );
    }
}

#[test]
fn decoys_are_stable_and_shaped_like_accounts() {
    let secret = DecoySecret::new(&[3; 32]);
    let real = ScramKeys::derive(ScramHash::Sha512, "x", &[0; SALT_BYTES], iterations(5));
    let decoy = secret.keys(ScramHash::Sha512, "nobody@example.org", iterations(5));
    assert_eq!(
        decoy,
        secret.keys(ScramHash::Sha512, "nobody@example.org", iterations(5))
    );
    assert_eq!(decoy.salt.len(), real.salt.len());
    assert_eq!(decoy.stored_key.len(), real.stored_key.len());
    assert_ne!(
        decoy.salt,
        secret
            .keys(ScramHash::Sha512, "n2@example.org", iterations(5))
            .salt
    );
    assert_ne!(
        decoy.salt,
        secret
            .keys(ScramHash::Sha1, "nobody@example.org", iterations(5))
            .salt
    );
    let other = DecoySecret::new(&[4; 32]);
    assert_ne!(
        decoy,
        other.keys(ScramHash::Sha512, "nobody@example.org", iterations(5))
    );
}

#[test]
fn passwords_are_verified_against_stored_keys() {
    let keys = ScramKeys::derive_all("secret", [[1; 16], [2; 16], [3; 16]], iterations(3));
    for keys in &keys {
        assert!(keys.verify("secret"));
        assert!(!keys.verify("Secret"));
        assert!(!format!("{keys:?}").contains("stored_key"));
    }
}

#[test]
fn xep_0474_example() {
    let hash = ScramHash::Sha1;
    let mechanisms = [true, false].map(|plus| Mechanism::Scram {
        hash: ScramHash::Sha1,
        plus,
    });
    let bindings = [BindingKind::TlsServerEndPoint, BindingKind::TlsExporter];
    assert_eq!(
        downgrade_hash(hash, &mechanisms, &bindings),
        "G6k/rBLDqgOhRRaCuuatSDFkJ08="
    );
}

/// A message with a few bytes changed, taken out or put in.
fn mutated(random: &mut Random, message: &str) -> Vec<u8> {
    let mut bytes = message.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let byte = *random.pick(b"=,nyparscm\0\xff AZ+/i");
        match random.below(3) {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => _ = bytes.remove(at),
            _ => bytes.insert(at, byte),
        }
    }
    bytes
}

#[test]
fn no_mutation_panics_or_logs_in() {
    let hash = ScramHash::Sha256;
    let bare = "n=user,r=abc";
    let header = "p=tls-exporter,,";
    let first_message = format!("{header}{bare}");
    let keys = ScramKeys::derive(hash, "secret", &[1; SALT_BYTES], iterations(2));
    let started = |message: &[u8]| ClientFirst::parse(hash, true, true, &bindings(), message);
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let other = mutated(&mut random, &first_message);
        let message = if random.one_in(2) {
            other.clone()
        } else {
            first_message.clone().into()
        };
        let Ok(first) = started(&message) else {
            continue;
        };
        let (challenged, server_first) = first
            .challenge(keys.clone(), "def", None)
            .expect("same hash");
        let binding = [header.as_bytes(), &[7; 32]].concat();
        let right = client_final(hash, &server_first, bare, &binding);
        let sent = mutated(&mut random, &right);
        if sent != right.as_bytes() {
            assert!(challenged.finish(&sent).is_err(), "seed {seed}");
        }
        let _ = crate::sasl::Plain::parse(&sent);
        let _ = crate::sasl::trace(&sent);
        let _ = crate::sasl::requested_identity(&sent);
    }
}
