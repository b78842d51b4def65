//! The cluster's authority as it lies in the store: its certificate, and its key encrypted under a join secret.
//!
//! `[format 2][salt 32][nonce 12][certificate][sealed key]`; AES-256-GCM, its key HKDF-SHA-256 of secret and salt, over
//! all that lies before it. Whoever knows the secret can so sign for new members, on every member; whoever only reads
//! the store, a snapshot or a disk cannot. A rotated secret means sealing the same key anew.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use rcgen::KeyPair;

use super::certificate::{self, Authority, CERTIFICATE_BYTES};
use super::secret::JoinSecret;
use crate::codec::{self, Reader, Writer};
use crate::random::Random;

const FORMAT: u16 = 1;
const SALT_BYTES: usize = 32;
/// A sealed key is shorter: 83 bytes of PKCS #8 and 16 of the seal.
const KEY_BYTES: usize = 512;
/// Longest sealed authority.
pub(crate) const SEALED_BYTES: usize = 4096;
const PURPOSE: &[u8] = b"raft-store authority";

/// Why an authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the sealed authority is damaged: {0}")]
    Damaged(#[from] codec::Error),
    #[error("the sealed authority has format {0}, which this build does not read")]
    Format(u16),
    #[error("the authority is sealed under another join secret")]
    OtherSecret,
    #[error("no join secret is set")]
    NoSecret,
    #[error("the authority's certificate or key: {0}")]
    Certificate(#[from] certificate::Error),
}

/// An authority that can sign. Nobody keeps one longer than for one signature.
pub(crate) struct Signer {
    pub(crate) authority: Authority,
    pub(crate) key: KeyPair,
}

/// A sealed authority that was opened.
pub(crate) struct Opened {
    pub(crate) signer: Signer,
    /// Under the first secret; if not, it should be sealed anew.
    pub(crate) by_first: bool,
}

impl Signer {
    pub(crate) fn new(now: i64, random: &dyn Random) -> Result<Self, Error> {
        let key = certificate::new_key()?;
        let authority = certificate::new_authority(&key, now, random)?;
        Ok(Self { authority, key })
    }

    /// For the store.
    pub(crate) fn seal(&self, secret: &JoinSecret, random: &dyn Random) -> Result<Bytes, Error> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_LEN]);
        random.fill(&mut salt);
        random.fill(&mut nonce);
        let mut to = Writer::new(SEALED_BYTES);
        to.u16(FORMAT);
        to.raw(&salt);
        to.raw(&nonce);
        to.bytes(&self.authority.der);
        let mut sealed = to.finish("the authority")?;
        let mut key = self.key.serialized_der().to_vec();
        sealing_key(secret, &salt)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&sealed),
                &mut key,
            )
            .expect("a key is shorter than what may be sealed");
        let mut to = Writer::with_buffer(std::mem::take(&mut sealed), SEALED_BYTES);
        to.bytes(&key);
        Ok(to.finish("the authority")?.into())
    }
}

fn sealing_key(secret: &JoinSecret, salt: &[u8]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, &secret.derive(salt, PURPOSE));
    LessSafeKey::new(key.expect("a key of 32 bytes"))
}

/// Opens a sealed authority with the first of `secrets` that fits.
pub(crate) fn open(sealed: &[u8], secrets: &[JoinSecret]) -> Result<Opened, Error> {
    if secrets.is_empty() {
        return Err(Error::NoSecret);
    }
    let mut from = Reader::new(sealed);
    let format = from.u16("format")?;
    if format != FORMAT {
        return Err(Error::Format(format));
    }
    let salt: [u8; SALT_BYTES] = from.array("salt")?;
    let nonce: [u8; NONCE_LEN] = from.array("nonce")?;
    let authority = from.bytes(CERTIFICATE_BYTES, "certificate")?;
    let around = &sealed[..from.position()];
    let sealed_key = from.bytes(KEY_BYTES, "key")?;
    from.finish("the authority")?;
    for (at, secret) in secrets.iter().enumerate() {
        let mut key = sealed_key.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = sealing_key(secret, &salt).open_in_place(nonce, Aad::from(around), &mut key);
        if let Ok(key) = opened {
            let signer = Signer {
                authority: Authority::parse(authority)?,
                key: certificate::read_key(key)?,
            };
            let by_first = at == 0;
            return Ok(Opened { signer, by_first });
        }
    }
    Err(Error::OtherSecret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn secrets(count: usize) -> Vec<JoinSecret> {
        (0..count)
            .map(|_| JoinSecret::mint(&SystemRandom))
            .collect()
    }

    #[test]
    fn who_knows_the_secret_opens_it() {
        let [old, new, other] = &secrets(3)[..] else {
            unreachable!("three")
        };
        let signer = Signer::new(1_000_000, &SystemRandom).expect("made");
        let sealed = signer.seal(old, &SystemRandom).expect("sealed");
        let opened = open(&sealed, std::slice::from_ref(old)).expect("opened");
        assert!(opened.by_first);
        assert_eq!(opened.signer.authority.der, signer.authority.der);
        assert_eq!(
            opened.signer.key.serialized_der(),
            signer.key.serialized_der()
        );
        // During the rotation whoever has both opens it, and sees that it is to be sealed anew.
        let both = [new.clone(), old.clone()];
        let opened = open(&sealed, &both).expect("opened");
        assert!(!opened.by_first);
        let sealed = opened.signer.seal(new, &SystemRandom).expect("sealed");
        assert!(open(&sealed, &both).expect("opened").by_first);
        let refused = |secrets: &[JoinSecret]| open(&sealed, secrets).err();
        for wrong in [old, other] {
            let error = refused(std::slice::from_ref(wrong));
            assert!(matches!(error, Some(Error::OtherSecret)));
        }
        assert!(matches!(refused(&[]), Some(Error::NoSecret)));
    }

    #[test]
    fn every_bit_of_it_counts() {
        let secrets = secrets(1);
        let signer = Signer::new(1_000_000, &SystemRandom).expect("made");
        let sealed = signer.seal(&secrets[0], &SystemRandom).expect("sealed");
        for at in 0..sealed.len() {
            let mut damaged = sealed.to_vec();
            damaged[at] ^= 1 << (at % 8);
            assert!(open(&damaged, &secrets).is_err(), "byte {at}");
            assert!(open(&sealed[..at], &secrets).is_err(), "cut at {at}");
        }
        assert!(open(&[&sealed[..], &[0]].concat(), &secrets).is_err());
    }
}
