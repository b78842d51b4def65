//! Segment files: name, header, and where frames lie in them.
//!
//! A segment is claimed, filled with zeros, given its header and synced under another name before it gets its own:
//! a file with a segment's name and without a valid header is damaged, never half made.

use super::frame::Nonce;
use super::{Error, Settings};
use crate::codec::{Reader, Writer};
use crate::disk::{Disk, File, Open, read_exact_at};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the first frame of a segment begins: the header has a page of its own, which is never written again.
pub const FRAMES_AT: u64 = 4096;
/// The first segment of each log.
pub const FIRST_ID: u64 = 1;
const MAGIC: [u8; 8] = *b"raft-log";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 56;
const ENDING: &str = ".segment";

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Counts up by one and is never used again.
    pub id: u64,
    pub nonce: Nonce,
    /// Whose log it is.
    pub member: u64,
    /// Length of the file in bytes.
    pub length: u64,
}

pub fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016x}{ENDING}"))
}

/// Name of a segment that is not ready yet.
pub fn unfinished_path(dir: &Path) -> PathBuf {
    dir.join("unfinished")
}

/// Ids of the segments in a directory, ascending and without a gap.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Error> {
    let files = disk.list(dir).map_err(|error| Error::io(dir, error))?;
    let names = files.iter().filter_map(|file| file.file_name()?.to_str());
    let digits = names.filter_map(|name| name.strip_suffix(ENDING));
    let mut ids: Vec<u64> = digits
        .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
        .collect();
    ids.sort_unstable();
    for pair in ids.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(Error::Corrupt {
                file: path(dir, pair[0] + 1),
                offset: 0,
                what: "a segment between others is missing",
            });
        }
    }
    Ok(ids)
}

impl Header {
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(HEADER_BYTES);
        writer.raw(&MAGIC);
        writer.u32(FORMAT);
        writer.u64(self.id);
        writer.raw(&self.nonce);
        writer.u64(self.member);
        writer.u64(self.length);
        let mut bytes = writer.finish("header").expect("it is shorter than that");
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let magic: [u8; 8] = reader.array("magic").ok()?;
        let format = reader.u32("format").ok()?;
        let id = reader.u64("id").ok()?;
        let nonce = reader.array("nonce").ok()?;
        let member = reader.u64("member").ok()?;
        let length = reader.u64("length").ok()?;
        let covered = &bytes[..reader.position()];
        let fits = crc32c::crc32c(covered) == reader.u32("CRC").ok()?;
        let known = magic == MAGIC && format == FORMAT && length > FRAMES_AT;
        (fits && known).then_some(Self {
            id,
            nonce,
            member,
            length,
        })
    }

    /// Reads and checks the header of the segment with this id.
    pub fn read(disk: &dyn Disk, settings: &Settings, id: u64) -> Result<Self, Error> {
        let file = path(&settings.dir, id);
        let corrupt = |what, offset| Error::Corrupt {
            file: file.clone(),
            offset,
            what,
        };
        let io = |error| Error::io(&file, error);
        let opened = disk.open(&file, Open::Read).map_err(io)?;
        let mut bytes = [0; HEADER_BYTES];
        read_exact_at(&*opened, &mut bytes, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => corrupt("the header is cut short", 0),
            _ => io(error),
        })?;
        let header = Self::decode(&bytes).ok_or_else(|| corrupt("bad header", 0))?;
        let length = opened.len().map_err(io)?;
        if header.id != id {
            return Err(corrupt("the header of another segment", 0));
        }
        if length != header.length {
            return Err(corrupt("the file has another length", length));
        }
        if header.member != settings.member {
            return Err(Error::Foreign {
                file,
                member: header.member,
            });
        }
        Ok(header)
    }
}

/// A segment open for reading. It stays readable when its file is removed.
pub struct Readable {
    pub header: Header,
    pub path: PathBuf,
    pub file: Box<dyn File>,
}

/// A segment that frames can be written to.
pub struct Segment {
    pub file: Box<dyn File>,
    pub readable: Arc<Readable>,
}

impl Segment {
    /// Opens a finished segment.
    pub fn open(disk: &dyn Disk, dir: &Path, header: Header) -> Result<Self, Error> {
        let path = path(dir, header.id);
        let open = |how| {
            disk.open(&path, how)
                .map_err(|error| Error::io(&path, error))
        };
        Ok(Self {
            file: open(Open::Write)?,
            readable: Arc::new(Readable {
                header,
                file: open(Open::Read)?,
                path: path.clone(),
            }),
        })
    }

    pub fn id(&self) -> u64 {
        self.readable.header.id
    }

    pub fn length(&self) -> u64 {
        self.readable.header.length
    }
}
