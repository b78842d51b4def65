//! Who this data directory is: the member id minted with it, the cluster it belongs to, and whether its log has begun.
//!
//! `[magic 8][format 2][member 8][log has begun 1][belongs 1][cluster 16][founder 1][CRC-32C 4]`. Once the log has begun,
//! a start without a log is refused: a member that lost its votes must not come back as the one it was.
//! Format 1 ended behind "log has begun"; its members had no peers, so each gets a cluster of its own.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::codec::{self, Reader, Writer};
use crate::disk::{Disk, Open, read_exact_at};
use crate::error::OpenError;
use crate::ids::{ClusterId, MemberId};
use crate::random::Random;

const MAGIC: [u8; 8] = *b"raftself";
const FORMAT: u16 = 2;
const BYTES: usize = 41;
const BYTES_OF_FORMAT_1: usize = 23;
const NAME: &str = "identity";
const UNFINISHED: &str = "identity.unfinished";

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member: MemberId,
    /// A log was opened here before.
    pub(crate) begun: bool,
    pub(crate) belongs: Option<Belongs>,
}

/// The cluster that a directory was meant for. Only a log binds it: see [`crate::founding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belongs {
    pub(crate) cluster: ClusterId,
    /// This member has minted the cluster's UUID.
    pub(crate) founder: bool,
}

fn io(source: io::Error) -> OpenError {
    let what = "the member's identity";
    OpenError::Io { what, source }
}

/// A new cluster's UUID (RFC 9562 §5.4).
pub(crate) fn mint(random: &dyn Random) -> ClusterId {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    ClusterId(bytes)
}

impl Identity {
    /// That of the directory `dir`, minted if it has none.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        random: &dyn Random,
    ) -> Result<Self, OpenError> {
        disk.create_dir(dir).map_err(io)?;
        if let Some((mut identity, format)) = Self::find(disk, dir)? {
            if format == 1 && identity.begun {
                let (cluster, founder) = (mint(random), true);
                identity.belong(disk, dir, Belongs { cluster, founder })?;
            }
            return Ok(identity);
        }
        let identity = Self {
            member: MemberId(random.u64()),
            begun: false,
            belongs: None,
        };
        identity.write(disk, dir)?;
        Ok(identity)
    }

    /// That of the directory `dir`, if it has one, with the format of the file.
    pub(crate) fn find(disk: &dyn Disk, dir: &Path) -> Result<Option<(Self, u16)>, OpenError> {
        let path = dir.join(NAME);
        if !disk.list(dir).map_err(io)?.contains(&path) {
            return Ok(None);
        }
        let file = disk.open(&path, Open::Read).map_err(io)?;
        let length = file.len().map_err(io)?;
        if length != BYTES as u64 && length != BYTES_OF_FORMAT_1 as u64 {
            return Err(OpenError::Identity("a file of another length"));
        }
        let mut bytes = vec![0; length as usize];
        read_exact_at(&*file, &mut bytes, 0).map_err(io)?;
        Self::decode(&bytes).map(Some)
    }

    fn decode(bytes: &[u8]) -> Result<(Self, u16), OpenError> {
        let (content, crc) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(content).to_le_bytes() != *crc {
            return Err(OpenError::Identity("damaged"));
        }
        let read = Self::read(Reader::new(content)).ok().flatten();
        read.ok_or(OpenError::Identity("not of a format that this build reads"))
    }

    fn read(mut from: Reader<'_>) -> Result<Option<(Self, u16)>, codec::Error> {
        let magic = from.array("magic")?;
        let format = from.u16("format")?;
        if magic != MAGIC || format == 0 || format > FORMAT {
            return Ok(None);
        }
        let member = MemberId(from.u64("member")?);
        let begun = from.bool("begun")?;
        let mut belongs = None;
        if format > 1 {
            let known = from.bool("belongs")?;
            let cluster = ClusterId(from.array("cluster")?);
            let founder = from.bool("founder")?;
            belongs = known.then_some(Belongs { cluster, founder });
        }
        from.finish("identity")?;
        let identity = Self {
            member,
            begun,
            belongs,
        };
        Ok(Some((identity, format)))
    }

    fn encode(self) -> Vec<u8> {
        let mut to = Writer::new(BYTES);
        to.raw(&MAGIC);
        to.u16(FORMAT);
        to.u64(self.member.0);
        to.bool(self.begun);
        to.bool(self.belongs.is_some());
        to.raw(&self.belongs.map_or([0; 16], |belongs| belongs.cluster.0));
        to.bool(self.belongs.is_some_and(|belongs| belongs.founder));
        let mut bytes = to.finish("identity").expect("of this length");
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    /// Replaces what `dir` has, durably. Returns the time that this takes in simulation.
    pub(crate) fn write(self, disk: &dyn Disk, dir: &Path) -> Result<Duration, OpenError> {
        let unfinished = dir.join(UNFINISHED);
        if disk.list(dir).map_err(io)?.contains(&unfinished) {
            disk.remove(&unfinished).map_err(io)?;
        }
        let mut file = disk.open(&unfinished, Open::Create).map_err(io)?;
        file.write_at(&self.encode(), 0).map_err(io)?;
        let took = file.sync_data().map_err(io)?;
        file.wait_for_sync();
        disk.rename(&unfinished, &dir.join(NAME)).map_err(io)?;
        disk.sync_dir(dir).map_err(io)?;
        Ok(took)
    }

    /// Notes, durably, that the log has begun.
    pub(crate) fn begin(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        // Before anything runs: a simulated disk's time is not waited for.
        self.write(disk, dir).map(drop)
    }

    /// Notes, durably, which cluster the directory is meant for. Returns the time that this takes in simulation.
    pub(crate) fn belong(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        belongs: Belongs,
    ) -> Result<Duration, OpenError> {
        if self.belongs == Some(belongs) {
            return Ok(Duration::ZERO);
        }
        self.belongs = Some(belongs);
        self.write(disk, dir)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::SimDisk;
    use crate::fuzz;
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
        let cluster = mint(&*random);
        let belongs = Belongs {
            cluster,
            founder: true,
        };
        first.belong(&disk, dir, belongs).expect("written");
        first.begin(&disk, dir).expect("written");
        disk.power_cut();
        let read = open().expect("read");
        assert_eq!((read, read.begun), (first, true));
        assert_eq!(read.belongs, Some(belongs));
        for at in 0..BYTES {
            let damaged = disk.copy();
            assert!(damaged.flip(&dir.join(NAME), at, 4));
            assert!(
                Identity::open(&damaged, dir, &*random).is_err(),
                "byte {at}"
            );
        }
    }

    #[test]
    fn fuzz_identity() {
        let belongs = Some(Belongs {
            cluster: ClusterId([3; 16]),
            founder: true,
        });
        let begun = true;
        let identity = Identity {
            member: MemberId(7),
            begun,
            belongs,
        };
        let example = fuzz::without_crc(&identity.encode());
        fuzz::run("identity", &[example], fuzz::BRIEFLY, |input| {
            let bytes = fuzz::with_crc(input);
            if let Ok((read, FORMAT)) = Identity::decode(&bytes) {
                let again = Identity::decode(&read.encode());
                assert_eq!(again.ok(), Some((read, FORMAT)));
            }
        });
    }

    #[test]
    fn a_member_of_format_1_gets_a_cluster_when_its_log_has_begun() {
        let random = Arc::new(Seeded::new(1, "identity"));
        let dir = Path::new("member");
        for begun in [false, true] {
            let disk = SimDisk::new(random.clone());
            let mut to = Writer::new(BYTES);
            to.raw(&MAGIC);
            to.u16(1);
            to.u64(77);
            to.bool(begun);
            let mut bytes = to.finish("identity").expect("small");
            bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
            let mut file = disk.open(&dir.join(NAME), Open::Create).expect("new");
            file.write_at(&bytes, 0).expect("written");
            let open = || Identity::open(&disk, dir, &*random).expect("read");
            let read = open();
            assert_eq!((read.member, read.begun), (MemberId(77), begun));
            assert_eq!(read.belongs.map(|is| is.founder), begun.then_some(true));
            assert_eq!(open(), read, "once");
        }
    }
}
