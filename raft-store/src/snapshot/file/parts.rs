//! The items of a snapshot, put together to the state they came from.

use super::*;

/// The state as far as it was read.
#[derive(Default)]
pub(super) struct Parts {
    restore: Option<Restore>,
    meta: Option<Vec<u8>>,
    /// The tag of the last item, those of one kind as one.
    last: u8,
    window: Option<Incarnation>,
    /// Of one chunk.
    records: Vec<Record>,
}

impl Parts {
    pub(super) fn take(&mut self, tag: u8, content: &[u8], limits: Limits) -> Result<(), Error> {
        let rank = match tag {
            RESULT => WINDOW,
            CHUNK => RECORD,
            other => other,
        };
        let once = matches!(rank, HEAD | META);
        let expected = match self.last {
            0 => rank == HEAD,
            HEAD => rank == META,
            last => rank >= last && !once,
        };
        if !expected {
            return Err(Error::Content("items out of order"));
        }
        self.last = rank;
        if rank == HEAD {
            let head = decode_head(Reader::new(content))?;
            let (found, known) = (head.cluster_format, limits.format_known);
            if found > known {
                return Err(Error::ClusterFormat { found, known });
            }
            self.restore = Some(Restore::new(head, limits));
            return Ok(());
        }
        if rank > RECORD {
            self.flush()?;
        }
        self.part(tag, content)
    }

    fn part(&mut self, tag: u8, content: &[u8]) -> Result<(), Error> {
        let mut from = Reader::new(content);
        let restore = self.restore.as_mut().ok_or(Error::Content("no head"))?;
        let done = match tag {
            META => {
                self.meta = Some(from.take(content.len().min(META_BYTES), "meta")?.to_vec());
                Ok(())
            }
            MEMBER => {
                let id = MemberId(from.u64("member")?);
                let limited = content.len() <= MEMBER_BYTES;
                let member = Member::decode(&mut from)?;
                if limited {
                    restore.member(id, member)
                } else {
                    Err("a member over its limit")
                }
            }
            TOMBSTONE => restore.tombstone(MemberId(from.u64("tombstone")?)),
            WINDOW => {
                let incarnation = entry::incarnation(&mut from, "incarnation of a window")?;
                self.window = Some(incarnation);
                let member = MemberId(from.u64("member of a window")?);
                restore.window(incarnation, member, from.u64("floor of a window")?)
            }
            RESULT => {
                let window = self.window.ok_or(Error::Content("a result of no window"))?;
                let sequence = from.u64("sequence of a result")?;
                let limited = content.len() <= OUTCOME_BYTES;
                let outcome = Outcome::decode(&mut from)?;
                if limited {
                    restore.result(window, sequence, outcome)
                } else {
                    Err("a result over its limit")
                }
            }
            CHUNK | RECORD => {
                if tag == CHUNK || self.records.len() == map::FULL {
                    self.flush()?;
                }
                let record = Record::from_bytes(from.rest());
                self.records
                    .push(record.ok_or(Error::Content("no record"))?);
                Ok(())
            }
            ORPHAN => {
                let owner = entry::incarnation(&mut from, "orphaned owner")?;
                restore.orphan(owner, from.rest())
            }
            _ => Err("an unknown item"),
        };
        done.map_err(Error::Content)?;
        Ok(from.finish("item")?)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let restore = self.restore.as_mut().ok_or(Error::Content("no head"))?;
        let mut records = Vec::with_capacity(self.records.len());
        records.append(&mut self.records);
        restore.records(records).map_err(Error::Content)
    }

    pub(super) fn finish(mut self) -> Result<(State, Vec<u8>), Error> {
        self.flush()?;
        let restore = self.restore.ok_or(Error::Content("no head"))?;
        let meta = self.meta.ok_or(Error::Content("no meta"))?;
        Ok((restore.finish().map_err(Error::Content)?, meta))
    }
}
