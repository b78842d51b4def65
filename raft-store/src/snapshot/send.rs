//! The published snapshot as it is sent to a peer, chunk by chunk (DESIGN §6).

use std::io;

use bytes::Bytes;

use super::publish::{Published, Snapshots};
use crate::disk::{File, read_exact_at};
use crate::limits::SNAPSHOT_CHUNK_BYTES;

/// A snapshot that was published when its sending began; it stays readable when the next is published.
pub(crate) struct Outgoing {
    pub(crate) published: Published,
    file: Box<dyn File>,
}

impl Outgoing {
    /// `None`: nothing is published.
    pub(crate) fn open(snapshots: &Snapshots) -> io::Result<Option<Self>> {
        let opened = snapshots.open_published()?;
        Ok(opened.map(|(published, file)| Self { published, file }))
    }

    /// What follows `offset`, at most [`SNAPSHOT_CHUNK_BYTES`] with their CRC-32C; nothing at the end.
    pub(crate) fn chunk(&self, offset: u64) -> io::Result<(Bytes, u32)> {
        let left = self.published.bytes.saturating_sub(offset);
        let mut chunk = vec![0; left.min(SNAPSHOT_CHUNK_BYTES as u64) as usize];
        read_exact_at(&*self.file, &mut chunk, offset)?;
        let crc = crc32c::crc32c(&chunk);
        Ok((chunk.into(), crc))
    }
}
