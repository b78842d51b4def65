//! Damaged examples of everything that a port reads before or while somebody proves itself: no panic, no other meaning.

use super::authority::{self, Signer};
use super::certificate::{self, Authority};
use super::join;
use super::secret::{JoinSecret, Side};
use crate::ids::MemberId;
use crate::random::{Random, Seeded};

const MEMBER: MemberId = MemberId(7);
const ROUNDS: usize = 4_000;

/// Bits flipped, bytes set, parts cut out or doubled.
fn damage(random: &Seeded, example: &[u8]) -> Vec<u8> {
    let mut bytes = example.to_vec();
    for _ in 0..=random.below(4) {
        let length = bytes.len() as u64;
        let at = random.below(length) as usize;
        let end = at + random.below(length - at as u64 + 1) as usize;
        match random.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.u64() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => bytes.extend_from_within(at..end),
            _ => bytes.truncate(end),
        }
    }
    bytes
}

#[test]
fn damaged_bytes_never_panic_and_never_mean_something_else() {
    let random = Seeded::new(1, "damaged");
    let secrets = [JoinSecret::mint(&random)];
    let signer = Signer::new(1_000_000, &random).expect("made");
    let key = certificate::new_key().expect("a key");
    let request = certificate::request(MEMBER, &key).expect("made");
    let requested = certificate::read_request(&request).expect("read");
    let ca = &signer.authority;
    let issued = certificate::issue(ca, &signer.key, &requested, 1_000_000, &random);
    let issued = issued.expect("issued");
    let facts = ca.check(&issued).expect("ours");
    let sealed = signer.seal(&secrets[0], &random).expect("sealed");
    let mut proofs = vec![1, 1];
    proofs.extend(secrets[0].prove(Side::Joiner, &[7; 32]));
    for _ in 0..ROUNDS {
        if let Ok(said) = ca.check(&damage(&random, &issued)) {
            assert_eq!(said, facts);
        }
        if let Ok(said) = certificate::read_request(&damage(&random, &request)) {
            assert_eq!((said.member, said.key), (MEMBER, facts.key));
        }
        let damaged = damage(&random, &sealed);
        assert!(authority::open(&damaged, &secrets).is_err() || damaged[..] == sealed[..]);
        let _ = Authority::parse(&damage(&random, &ca.der));
        let _ = certificate::check_self_signed(&damage(&random, &issued));
        let _ = join::read_proofs(&damage(&random, &proofs));
        let _ = certificate::read_key(&damage(&random, key.serialized_der()));
    }
}
