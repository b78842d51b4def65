//! Who this data directory is: the member id minted with it, and whether its log has begun.
//!
//! `[magic 8][format 2][member 8][log has begun 1][CRC-32C 4]`. Once the log has begun, a start without a log is refused:
//! a member that lost its votes must not come back as the one it was.

use std::io;
use std::path::Path;

use crate::codec::{Reader, Writer};
use crate::disk::{Disk, Open, read_exact_at};
use crate::error::OpenError;
use crate::ids::MemberId;
use crate::random::Random;

const MAGIC: [u8; 8] = *b"raftself";
const FORMAT: u16 = 1;
const BYTES: usize = 23;
const NAME: &str = "identity";
const UNFINISHED: &str = "identity.unfinished";

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member: MemberId,
    /// A log was opened here before.
    pub(crate) begun: bool,
}

fn io(source: io::Error) -> OpenError {
    let what = "the member's identity";
    OpenError::Io { what, source }
}

impl Identity {
    /// That of the directory `dir`, minted if it has none.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        random: &dyn Random,
    ) -> Result<Self, OpenError> {
        disk.create_dir(dir).map_err(io)?;
        let path = dir.join(NAME);
        if disk.list(dir).map_err(io)?.contains(&path) {
            return Self::read(disk, &path);
        }
        let identity = Self {
            member: MemberId(random.u64()),
            begun: false,
        };
        identity.write(disk, dir)?;
        Ok(identity)
    }

    fn read(disk: &dyn Disk, path: &Path) -> Result<Self, OpenError> {
        let file = disk.open(path, Open::Read).map_err(io)?;
        if file.len().map_err(io)? != BYTES as u64 {
            return Err(OpenError::Identity("a file of another length"));
        }
        let mut bytes = [0; BYTES];
        read_exact_at(&*file, &mut bytes, 0).map_err(io)?;
        Self::decode(&bytes)
    }

    fn decode(bytes: &[u8; BYTES]) -> Result<Self, OpenError> {
        let (content, crc) = bytes.split_at(BYTES - 4);
        if crc32c::crc32c(content).to_le_bytes() != *crc {
            return Err(OpenError::Identity("damaged"));
        }
        let mut from = Reader::new(content);
        let mut read = || -> Result<_, crate::codec::Error> {
            let magic = from.array("magic")?;
            let format = from.u16("format")?;
            let member = MemberId(from.u64("member")?);
            Ok((
                magic == MAGIC && format == FORMAT,
                member,
                from.bool("begun")?,
            ))
        };
        match read() {
            Ok((true, member, begun)) => Ok(Self { member, begun }),
            _ => Err(OpenError::Identity("not of a format that this build reads")),
        }
    }

    fn encode(self) -> Vec<u8> {
        let mut to = Writer::new(BYTES);
        to.raw(&MAGIC);
        to.u16(FORMAT);
        to.u64(self.member.0);
        to.bool(self.begun);
        let mut bytes = to.finish("identity").expect("of this length");
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    fn write(self, disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
        let unfinished = dir.join(UNFINISHED);
        if disk.list(dir).map_err(io)?.contains(&unfinished) {
            disk.remove(&unfinished).map_err(io)?;
        }
        let mut file = disk.open(&unfinished, Open::Create).map_err(io)?;
        file.write_at(&self.encode(), 0).map_err(io)?;
        // Before anything runs: a simulated disk's time is not waited for.
        file.sync_data().map_err(io)?;
        disk.rename(&unfinished, &dir.join(NAME)).map_err(io)?;
        disk.sync_dir(dir).map_err(io)
    }

    /// Notes, durably, that the log has begun.
    pub(crate) fn begin(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        self.write(disk, dir)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::SimDisk;
    use crate::random::Seeded;

    #[test]
    fn an_identity_is_minted_once() {
        let random = Arc::new(Seeded::new(1, "identity"));
        let disk = SimDisk::new(random.clone());
        let dir = Path::new("member");
        let open = || Identity::open(&disk, dir, &*random);
        let mut first = open().expect("minted");
        disk.power_cut();
        assert_eq!(open().expect("read"), first);
        first.begin(&disk, dir).expect("written");
        disk.power_cut();
        let read = open().expect("read");
        assert_eq!((read, read.begun), (first, true));
        for at in 0..BYTES {
            let damaged = disk.copy();
            assert!(damaged.flip(&dir.join(NAME), at, 4));
            assert!(
                Identity::open(&damaged, dir, &*random).is_err(),
                "byte {at}"
            );
        }
    }
}
