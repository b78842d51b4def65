//! Both sides of joining, over a pipe.

use tokio::io::duplex;

use super::*;
use crate::random::SystemRandom;
use crate::transport::BoxFuture;
use crate::transport::authority::Signer;

const EXPORTED: [u8; 32] = [7; 32];
const MEMBER: MemberId = MemberId(7);

fn secrets(count: usize) -> Vec<JoinSecret> {
    (0..count)
        .map(|_| JoinSecret::mint(&SystemRandom))
        .collect()
}

/// Both sides of the proofs.
async fn proofs(
    joiner: &[JoinSecret],
    member: &[JoinSecret],
    exporters: [[u8; 32]; 2],
) -> (Result<(), Error>, Result<(), Error>) {
    let (mut one, mut other) = duplex(1 << 16);
    tokio::join!(
        prove(&mut one, &exporters[0], joiner),
        check_proofs(&mut other, &exporters[1], member)
    )
}

fn is_secret(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::Refused(Refusal::Secret)))
}

#[tokio::test]
async fn one_secret_in_common_is_enough() {
    let known = secrets(3);
    let both = [EXPORTED; 2];
    for (joiner, member) in [(0..1, 0..1), (0..2, 1..3), (1..3, 0..2), (0..1, 0..2)] {
        let (one, other) = proofs(&known[joiner], &known[member], both).await;
        assert!(one.is_ok() && other.is_ok());
    }
    for (joiner, member) in [(0..1, 1..3), (0..0, 0..2), (0..2, 0..0)] {
        let (one, other) = proofs(&known[joiner], &known[member], both).await;
        assert!(is_secret(&one) && is_secret(&other));
    }
    // More than two at a time are not looked at.
    let (one, _) = proofs(&known[2..3], &known, both).await;
    assert!(is_secret(&one));
}

#[tokio::test]
async fn a_proof_that_is_passed_on_proves_nothing() {
    // Whoever stands between has two connections, and each has an exporter of its own.
    let known = secrets(1);
    let (one, other) = proofs(&known, &known, [EXPORTED, [8; 32]]).await;
    assert!(is_secret(&one) && is_secret(&other));
}

#[tokio::test]
async fn a_mirrored_proof_proves_nothing() {
    let known = secrets(1);
    let (mut one, mut other) = duplex(1 << 16);
    let mirror = async {
        let body = receive(&mut other).await.expect("proofs");
        let proofs = read_proofs(&body).expect("read");
        send(&mut other, &[&[0], &proofs[0][..]].concat()).await
    };
    let (proven, mirrored) = tokio::join!(prove(&mut one, &EXPORTED, &known), mirror);
    assert!(mirrored.is_ok());
    assert!(matches!(proven, Err(Error::Unproven)));
}

#[tokio::test]
async fn what_is_no_exchange_ends() {
    let known = secrets(1);
    let good = {
        let mut body = vec![FORMAT, 1];
        body.extend(known[0].prove(Side::Joiner, &EXPORTED));
        body
    };
    let mut wrong_format = good.clone();
    wrong_format[0] = 2;
    let mut many = good.clone();
    many[1] = 200;
    let longer = [&good[..], &[0]].concat();
    for body in [&good[..33], &[], &[FORMAT], &wrong_format, &many, &longer] {
        let (mut one, mut other) = duplex(1 << 16);
        send(&mut one, body).await.expect("sent");
        let checked = check_proofs(&mut other, &EXPORTED, &known).await;
        assert!(checked.is_err(), "{body:?}");
    }
    // A message that is too long, and one that is cut off.
    for bytes in [&[0xff, 0xff][..], &[0, 40, FORMAT]] {
        let (mut one, mut other) = duplex(1 << 16);
        one.write_all(bytes).await.expect("sent");
        drop(one);
        assert!(check_proofs(&mut other, &EXPORTED, &known).await.is_err());
    }
}

/// A registry with one authority, that ties every id to the key it is asked for.
struct Signing(bytes::Bytes);

impl Registry for Signing {
    fn forget_removed(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn authority(&self) -> io::Result<Option<(bytes::Bytes, crate::ids::Revision)>> {
        Ok(Some((self.0.clone(), crate::ids::Revision(1))))
    }

    fn put_authority(
        &self,
        _: bytes::Bytes,
        _: Option<crate::ids::Revision>,
    ) -> BoxFuture<'_, io::Result<bool>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn bind(&self, _: MemberId, _: [u8; 32]) -> BoxFuture<'_, io::Result<Bound>> {
        Box::pin(std::future::ready(Ok(Bound::Yes)))
    }

    fn addresses(&self) -> Vec<String> {
        Vec::new()
    }
}

#[tokio::test]
async fn only_the_key_that_was_shown_is_signed() {
    let known = secrets(1);
    let signer = Signer::new(1_000_000, &SystemRandom).expect("made");
    let sealed = signer.seal(&known[0], &SystemRandom).expect("sealed");
    let registry = Signing(sealed);
    let office = Office {
        registry: Some(&registry),
        secrets: &known,
        now: 1_000_000,
        random: &SystemRandom,
    };
    let (key, other) = (
        certificate::new_key().expect("a key"),
        certificate::new_key().expect("a key"),
    );
    let shown = certificate::self_signed(MEMBER, &key, 1_000_000, &SystemRandom);
    let shown = certificate::check_self_signed(&shown.expect("made")).expect("its own");
    let request = |member, key| certificate::request(member, key).expect("made");
    let good = request(MEMBER, &key);
    let granted = office.grant(&good, &shown).await.expect("granted");
    assert_eq!(granted.facts.key, shown.key);
    let refused = [
        request(MEMBER, &other),
        request(MemberId(8), &key),
        good[1..].to_vec(),
        Vec::new(),
    ];
    for request in refused {
        let answer = office.grant(&request, &shown).await;
        assert_eq!(answer.err(), Some(Refusal::Request));
    }
    // Over the wire, to somebody who wanted it for another key.
    for (owner, fits) in [
        ((MEMBER, shown.key), true),
        ((MEMBER, certificate::public_key(&other)), false),
    ] {
        let (mut one, mut two) = duplex(1 << 16);
        let serve = async {
            let request = receive(&mut two).await?;
            let granted = office.grant(&request, &shown).await;
            answer(&mut two, granted).await
        };
        let (asked, served) = tokio::join!(ask(&mut one, &good, owner), serve);
        assert!(served.is_ok());
        assert_eq!(asked.is_ok(), fits);
    }
    let nowhere = Office {
        registry: None,
        ..office
    };
    let answer = nowhere.grant(&good, &shown).await;
    assert_eq!(answer.err(), Some(Refusal::NoCluster));
}
