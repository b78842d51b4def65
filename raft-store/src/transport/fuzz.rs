//! Fuzz targets of everything that a port reads before or while somebody proves itself, and of the file with its key:
//! no panic, no other meaning.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Builder;

use super::authority::{self, Signer};
use super::certificate::{self, Authority, Facts};
use super::credentials::{Credentials, Granted};
use super::join::{self, Office};
use super::secret::{JoinSecret, Side};
use crate::fuzz;
use crate::ids::MemberId;
use crate::random::Seeded;

const MEMBER: MemberId = MemberId(7);
const NOW: i64 = 1_000_000;
const EXPORTED: [u8; 32] = [7; 32];

struct World {
    random: Seeded,
    secret: JoinSecret,
    signer: Signer,
    key: rcgen::KeyPair,
    request: Vec<u8>,
    granted: Granted,
}

fn world() -> World {
    let random = Seeded::new(1, "fuzz");
    let secret = JoinSecret::mint(&random);
    let signer = Signer::new(NOW, &random).expect("made");
    let key = certificate::new_key().expect("a key");
    let request = certificate::request(MEMBER, &key).expect("made");
    let requested = certificate::read_request(&request).expect("read");
    let ca = &signer.authority;
    let issued = certificate::issue(ca, &signer.key, &requested, NOW, &random).expect("issued");
    let owner = (MEMBER, certificate::public_key(&key));
    let granted = Granted::new(ca.clone(), &issued, owner).expect("its own");
    World {
        random,
        secret,
        signer,
        key,
        request,
        granted,
    }
}

impl World {
    fn own(&self) -> Vec<u8> {
        let own = certificate::self_signed(MEMBER, &self.key, NOW, &self.random);
        own.expect("made").to_vec()
    }

    fn owner(&self) -> (MemberId, [u8; 32]) {
        (MEMBER, self.granted.facts.key)
    }

    fn secrets(&self) -> &[JoinSecret] {
        std::slice::from_ref(&self.secret)
    }
}

#[test]
fn fuzz_certificate() {
    let world = world();
    let ca = &world.signer.authority;
    let examples = [
        world.granted.certificate.to_vec(),
        world.own(),
        ca.der.to_vec(),
    ];
    let own = certificate::check_self_signed(&examples[1]).expect("good");
    fuzz::run("certificate", &examples, fuzz::BRIEFLY, |input| {
        let same = |said: &Facts, known: &Facts| assert_eq!(said, known);
        if let Ok(said) = ca.check(input) {
            same(&said, &world.granted.facts);
        }
        if let Ok(said) = certificate::check_self_signed(input) {
            same(&said, &own);
        }
        if let Ok(said) = Authority::parse(input) {
            assert_eq!(said.check(&examples[0]), Ok(world.granted.facts));
        }
    });
}

#[test]
fn fuzz_certificate_request() {
    let world = world();
    let examples = [world.request.clone()];
    fuzz::run("certificate_request", &examples, fuzz::BRIEFLY, |input| {
        if let Ok(said) = certificate::read_request(input) {
            assert_eq!((said.member, said.key), world.owner());
        }
    });
}

#[test]
fn fuzz_sealed_authority() {
    let world = world();
    let sealed = world.signer.seal(&world.secret, &world.random);
    let sealed = sealed.expect("sealed").to_vec();
    fuzz::run(
        "sealed_authority",
        std::slice::from_ref(&sealed),
        fuzz::BRIEFLY,
        |input| {
            assert!(authority::open(input, world.secrets()).is_err() || input == sealed);
        },
    );
}

#[test]
fn fuzz_credentials() {
    let world = world();
    let sealed = world.signer.seal(&world.secret, &world.random);
    let credentials = Credentials {
        member: MEMBER,
        key: certificate::read_key(world.key.serialized_der()).expect("a key"),
        granted: Some(world.granted.clone()),
        sealed: Some(sealed.expect("sealed")),
    };
    let example = credentials.encode().expect("short");
    Credentials::decode(&example, MEMBER).expect("good");
    let examples = [fuzz::without_crc(&example)];
    fuzz::run("credentials", &examples, fuzz::BRIEFLY, |input| {
        let Ok(read) = Credentials::decode(&fuzz::with_crc(input), MEMBER) else {
            return;
        };
        // A certificate over another key than the one beside it is none.
        if let Some(granted) = &read.granted {
            assert_eq!(
                (granted.facts.member, granted.facts.key),
                (MEMBER, read.public_key())
            );
        }
    });
}

/// `[length 2][body]`, as on the stream.
fn message(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    [&length[..], body].concat()
}

/// What a stranger sends to a member: nobody without the secret gets anything, and nobody another's name.
#[test]
fn fuzz_joining() {
    let world = world();
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let mut proofs = vec![1, 1];
    proofs.extend(world.secret.prove(Side::Joiner, &EXPORTED));
    let examples = [
        [message(&proofs), message(&world.request)].concat(),
        message(&proofs),
        message(&world.request),
    ];
    let proof = &proofs[2..];
    fuzz::run("joining", &examples, fuzz::BRIEFLY, |input| {
        runtime.block_on(async {
            let (mut one, mut other) = duplex(1 << 17);
            one.write_all(input).await.expect("room");
            one.shutdown().await.expect("open");
            let checked = join::check_proofs(&mut other, &EXPORTED, world.secrets()).await;
            if checked.is_ok() {
                assert!(input.windows(proof.len()).any(|part| part == proof));
                let office = Office {
                    registry: None,
                    secrets: world.secrets(),
                    now: NOW,
                    random: &world.random,
                };
                if let Ok(request) = join::receive(&mut other).await {
                    let granted = office.grant(&request, &world.granted.facts).await;
                    assert!(granted.is_err(), "it has no cluster");
                    let answered = join::answer(&mut other, granted).await;
                    assert!(answered.is_err(), "it is refused");
                }
            }
            drop(other);
            let mut said = Vec::new();
            one.read_to_end(&mut said).await.expect("ended");
            assert!(said.len() <= 35 + 4, "a proof and a reason at most");
        });
    });
}

/// What whoever is asked answers to a joiner: only a member is believed, and only its own certificate is taken.
#[test]
fn fuzz_join_answers() {
    let world = world();
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let proof = world.secret.prove(Side::Member, &EXPORTED);
    let mut to = crate::codec::Writer::new(4096);
    to.u8(0);
    to.bytes(&world.granted.authority.der);
    to.bytes(&world.granted.certificate);
    let granted = to.finish("certificate").expect("short");
    let examples = [
        [message(&[&[0], &proof[..]].concat()), message(&granted)].concat(),
        message(&[1, 0]),
        [message(&[&[0], &proof[..]].concat()), message(&[1, 3])].concat(),
    ];
    fuzz::run("join_answers", &examples, fuzz::BRIEFLY, |input| {
        runtime.block_on(async {
            let (mut one, mut other) = duplex(1 << 17);
            other.write_all(input).await.expect("room");
            other.shutdown().await.expect("open");
            let proven = join::prove(&mut one, &EXPORTED, world.secrets()).await;
            if proven.is_err() {
                return;
            }
            assert!(input.windows(proof.len()).any(|part| part == proof));
            if let Ok(granted) = join::ask(&mut one, &world.request, world.owner()).await {
                // What the signature does not cover, the tag before its algorithm, may be another: it means nothing else.
                assert_eq!(granted.facts, world.granted.facts);
                let again = granted.authority.check(&world.granted.certificate);
                assert_eq!(again, Ok(world.granted.facts));
            }
        });
    });
}
