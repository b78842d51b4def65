//! A member's key and what was granted to it, in one file of its directory, replaced whole: key and certificate so
//! always belong together.
//!
//! `[magic 8][format 2][member 8][key][authority][certificate][sealed authority][CRC-32C 4]`; the last three are empty
//! while there are none. The key is on disk before anybody hears of it: an id is tied to its key for ever.

use std::io;
use std::path::Path;

use bytes::Bytes;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;

use super::authority::SEALED_BYTES;
use super::certificate::{self, Authority, CERTIFICATE_BYTES, Facts};
use crate::codec::{self, Reader, Writer};
use crate::disk::{self, Disk, Open, read_exact_at};
use crate::ids::MemberId;

const MAGIC: [u8; 8] = *b"raftcred";
const FORMAT: u16 = 1;
const NAME: &str = "credentials";
const KEY_BYTES: usize = 512;
const FILE_BYTES: usize = 16 << 10;

/// Why a file holds no credentials.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the credentials are damaged")]
    Damaged,
    #[error("the credentials are not of a format that this build reads")]
    Format,
    #[error("the credentials are another member's")]
    OtherMember,
    #[error("the credentials: {0}")]
    Codec(#[from] codec::Error),
    #[error("the credentials: {0}")]
    Certificate(#[from] certificate::Error),
}

/// A certificate and who has signed it.
#[derive(Clone)]
pub(crate) struct Granted {
    pub(crate) authority: Authority,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) facts: Facts,
}

impl Granted {
    /// Checks that the certificate is `authority`'s and this member's own. Dates are not looked at.
    pub(crate) fn new(
        authority: Authority,
        certificate: &[u8],
        owner: (MemberId, [u8; 32]),
    ) -> Result<Self, certificate::Error> {
        let facts = authority.check(certificate)?;
        if (facts.member, facts.key) != owner {
            return Err(certificate::Error::Request);
        }
        Ok(Self {
            authority,
            certificate: CertificateDer::from(certificate.to_vec()),
            facts,
        })
    }
}

/// See the module's documentation.
pub(crate) struct Credentials {
    pub(crate) member: MemberId,
    pub(crate) key: KeyPair,
    pub(crate) granted: Option<Granted>,
    /// Of a founder whose store does not have it yet.
    pub(crate) sealed: Option<Bytes>,
}

impl Credentials {
    /// Those in `dir`, begun with a new key if there are none.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, member: MemberId) -> Result<Self, Error> {
        let path = dir.join(NAME);
        if disk.list(dir)?.contains(&path) {
            let file = disk.open(&path, Open::Read)?;
            let bytes = usize::try_from(file.len()?).unwrap_or(usize::MAX);
            if bytes > FILE_BYTES {
                return Err(Error::Damaged);
            }
            let mut read = vec![0; bytes];
            read_exact_at(&*file, &mut read, 0)?;
            return Self::decode(&read, member);
        }
        let begun = Self {
            member,
            key: certificate::new_key()?,
            granted: None,
            sealed: None,
        };
        begun.write(disk, dir)?;
        Ok(begun)
    }

    /// Durable on return. Blocks its thread.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
        Ok(disk::replace(disk, dir, NAME, &self.encode()?)?)
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        certificate::public_key(&self.key)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut to = Writer::new(FILE_BYTES);
        to.raw(&MAGIC);
        to.u16(FORMAT);
        to.u64(self.member.0);
        to.bytes(self.key.serialized_der());
        let granted = self.granted.as_ref();
        to.bytes(granted.map_or(&[], |granted| &granted.authority.der));
        to.bytes(granted.map_or(&[], |granted| &granted.certificate));
        to.bytes(self.sealed.as_deref().unwrap_or_default());
        let mut bytes = to.finish("credentials")?;
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_le_bytes());
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8], member: MemberId) -> Result<Self, Error> {
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(Error::Damaged)?;
        if crc32c::crc32c(content).to_le_bytes() != *crc {
            return Err(Error::Damaged);
        }
        let mut from = Reader::new(content);
        let magic: [u8; 8] = from.array("magic")?;
        if magic != MAGIC || from.u16("format")? != FORMAT {
            return Err(Error::Format);
        }
        if from.u64("member")? != member.0 {
            return Err(Error::OtherMember);
        }
        let key = certificate::read_key(from.bytes(KEY_BYTES, "key")?)?;
        let authority = from.bytes(CERTIFICATE_BYTES, "authority")?;
        let certificate = from.bytes(CERTIFICATE_BYTES, "certificate")?;
        let sealed = from.bytes(SEALED_BYTES, "sealed authority")?;
        let sealed = (!sealed.is_empty()).then(|| Bytes::copy_from_slice(sealed));
        from.finish("credentials")?;
        let granted = if certificate.is_empty() {
            None
        } else {
            let owner = (member, certificate::public_key(&key));
            let authority = Authority::parse(authority)?;
            Some(Granted::new(authority, certificate, owner)?)
        };
        Ok(Self {
            member,
            key,
            granted,
            sealed,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::SimDisk;
    use crate::random::{Seeded, SystemRandom};
    use crate::transport::authority::Signer;

    const MEMBER: MemberId = MemberId(7);

    #[test]
    fn credentials_survive_a_power_cut_and_damage_is_told() {
        let disk = SimDisk::new(Arc::new(Seeded::new(1, "credentials")));
        let dir = Path::new("member");
        disk.create_dir(dir).expect("made");
        let open = || Credentials::open(&disk, dir, MEMBER);
        let mut first = open().expect("begun");
        disk.power_cut();
        let read = open().expect("read");
        assert_eq!(read.public_key(), first.public_key());
        assert!(read.granted.is_none() && read.sealed.is_none());

        let signer = Signer::new(1_000_000, &SystemRandom).expect("made");
        let request = certificate::request(MEMBER, &first.key).expect("made");
        let request = certificate::read_request(&request).expect("read");
        let issued = certificate::issue(
            &signer.authority,
            &signer.key,
            &request,
            1_000_000,
            &SystemRandom,
        );
        let owner = (MEMBER, first.public_key());
        let granted = Granted::new(signer.authority, &issued.expect("issued"), owner);
        first.granted = Some(granted.expect("its own"));
        first.sealed = Some(Bytes::from_static(b"sealed"));
        first.write(&disk, dir).expect("written");
        disk.power_cut();
        let read = open().expect("read");
        assert_eq!(read.granted.expect("granted").facts.member, MEMBER);
        assert_eq!(read.sealed.as_deref(), Some(&b"sealed"[..]));

        let other = Credentials::open(&disk, dir, MemberId(8));
        assert!(matches!(other, Err(Error::OtherMember)));
        let bytes = first.encode().expect("short");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(Credentials::decode(&damaged, MEMBER).is_err(), "byte {at}");
            assert!(Credentials::decode(&bytes[..at], MEMBER).is_err());
        }
    }
}
