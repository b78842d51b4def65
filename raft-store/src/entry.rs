//! What an entry of the log says: proposals, and at most one command that closes it.
//!
//! `[format 2][closes 1][close][count][proposal]…`. Leases are not here: they are between a member and the leader.

use crate::codec::{self, Reader, Writer};
use crate::ids::{Incarnation, MemberId, ProposalId, Revision};
use crate::limits::{ENTRY_BYTES, ENTRY_PROPOSALS, KEY_BYTES_CEILING, Limits};
use bytes::Bytes;

mod registration;

pub use registration::{MemberInfo, Registration};

/// The one format of entries that this build writes and reads.
pub const ENTRY_FORMAT: u16 = 1;
/// Most bytes of an encoded entry: its proposals and the command behind them.
pub const ENTRY_ENCODED_BYTES: usize = ENTRY_BYTES + 8 * 1024;
/// Fewest bytes of a proposal and of a write (the deletion of an empty key, which apply refuses).
const PROPOSAL_LEAST: usize = 4;
const WRITE_LEAST: usize = 2;

/// Why bytes are not an entry. Each stops the member: an entry is committed, so it cannot be passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("an entry of format {found}; this build reads format {ENTRY_FORMAT}")]
    Format { found: u16 },
    #[error("an entry that cannot be read: {0}")]
    Codec(#[from] codec::Error),
}

/// The body of one entry. The command is applied after the proposals.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntryBody {
    /// ≤ [`ENTRY_PROPOSALS`].
    pub proposals: Vec<Proposal>,
    /// A registration takes the entry's index for its incarnation, hence one an entry.
    pub close: Option<Close>,
}

/// One caller's write, applied at most once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    pub id: ProposalId,
    /// Results of sequences below are dropped.
    pub lowest_unanswered: u64,
    pub op: Op,
}

/// What a proposal does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    Write(Write),
    /// Each with a result of its own; later ones see earlier ones.
    Batch(Vec<Write>),
    /// Takes the place of a proposal whose fate is unknown.
    Nop,
}

impl Op {
    /// Writes it has.
    pub fn writes(&self) -> usize {
        match self {
            Self::Write(_) => 1,
            Self::Batch(writes) => writes.len(),
            Self::Nop => 0,
        }
    }
}

/// A conditioned write of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    pub key: Bytes,
    pub expect: Expect,
    pub action: Action,
}

/// The condition of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// The key is not there. An orphaned one is.
    Absent,
    /// The key was last written at this revision.
    Revision(Revision),
    Any,
}

/// What a write does if its condition holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Put {
        value: Bytes,
        /// A live incarnation, of whatever member; refused otherwise.
        owner: Option<Incarnation>,
    },
    Delete,
}

/// A command of the store itself. All are harmless when repeated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Close {
    Register(Registration),
    /// Ends an incarnation: its window goes, its keys are orphaned.
    Dead(Incarnation),
    /// Removes the next orphaned keys of a dead incarnation, ≤ [`Limits::clean_up_keys`].
    CleanUp(Incarnation),
    /// Ends a member for ever: its incarnation dies, its id gets a tombstone.
    Remove(MemberId),
    /// Raises the cluster format.
    Format(u16),
}

impl EntryBody {
    /// `TooLarge` over [`ENTRY_ENCODED_BYTES`]. What could not be read again is refused: it would stop every member.
    pub fn encode(&self) -> Result<Bytes, Error> {
        let mut to = Writer::new(ENTRY_ENCODED_BYTES);
        to.u16(ENTRY_FORMAT);
        to.bool(self.close.is_some());
        if let Some(close) = &self.close {
            close.encode(&mut to);
        }
        to.varint(self.proposals.len() as u64);
        for proposal in &self.proposals {
            proposal.encode(&mut to);
        }
        let whole = to.finish("entry")?.into();
        Self::decode(&whole).map(|_| whole)
    }

    /// The bytes that [`EntryBody::encode`] gave. Keys and values are not copied: they keep `whole` alive.
    pub fn decode(whole: &Bytes) -> Result<Self, Error> {
        let mut from = Reader::new(whole);
        let found = from.u16("entry format")?;
        if found != ENTRY_FORMAT {
            return Err(Error::Format { found });
        }
        let close = match from.bool("closing command")? {
            true => Some(Close::decode(&mut from)?),
            false => None,
        };
        let count = from.count(ENTRY_PROPOSALS, PROPOSAL_LEAST, "proposals")?;
        let mut proposals = Vec::with_capacity(count);
        for _ in 0..count {
            proposals.push(Proposal::decode(&mut from, whole)?);
        }
        from.finish("entry")?;
        Ok(Self { proposals, close })
    }
}

impl Proposal {
    /// Bytes that it adds to an entry.
    pub fn encoded_bytes(&self) -> usize {
        let mut count = Writer::new(0);
        self.encode(&mut count);
        count.len()
    }

    /// Appends it.
    pub fn encode(&self, to: &mut Writer) {
        to.varint(self.id.incarnation.0);
        to.varint(self.id.sequence);
        to.varint(self.lowest_unanswered);
        match &self.op {
            Op::Nop => to.u8(0),
            Op::Write(write) => {
                to.u8(1);
                write.encode(to);
            }
            Op::Batch(writes) => {
                to.u8(2);
                to.varint(writes.len() as u64);
                writes.iter().for_each(|write| write.encode(to));
            }
        }
    }

    /// The next one of `from`, which reads (a part of) `whole`.
    pub fn decode(from: &mut Reader<'_>, whole: &Bytes) -> Result<Self, codec::Error> {
        let incarnation = incarnation(from, "incarnation of a proposal")?;
        let sequence = from.varint("sequence")?;
        let lowest_unanswered = from.varint("lowest unanswered")?;
        let op = match from.u8("operation")? {
            0 => Op::Nop,
            1 => Op::Write(Write::decode(from, whole)?),
            2 => {
                let count = from.count(Limits::format_1().batch_writes, WRITE_LEAST, "writes")?;
                let writes = (0..count).map(|_| Write::decode(from, whole));
                Op::Batch(writes.collect::<Result<_, _>>()?)
            }
            other => return Err(unknown("operation", other)),
        };
        let id = ProposalId {
            incarnation,
            sequence,
        };
        Ok(Self {
            id,
            lowest_unanswered,
            op,
        })
    }
}

impl Write {
    /// Bytes of key and value.
    pub fn payload_bytes(&self) -> usize {
        let value = match &self.action {
            Action::Put { value, .. } => value.len(),
            Action::Delete => 0,
        };
        self.key.len() + value
    }

    fn encode(&self, to: &mut Writer) {
        let expect = match self.expect {
            Expect::Any => 0,
            Expect::Absent => 1,
            Expect::Revision(_) => 2,
        };
        let action = match self.action {
            Action::Delete => 0,
            Action::Put { owner: None, .. } => 1,
            Action::Put { owner: Some(_), .. } => 2,
        };
        to.u8(expect << 2 | action);
        to.bytes(&self.key);
        if let Expect::Revision(revision) = self.expect {
            to.varint(revision.0);
        }
        if let Action::Put { value, owner } = &self.action {
            if let Some(owner) = owner {
                to.varint(owner.0);
            }
            to.bytes(value);
        }
    }

    fn decode(from: &mut Reader<'_>, whole: &Bytes) -> Result<Self, codec::Error> {
        let shape = from.u8("write")?;
        let key = whole.slice_ref(from.bytes(KEY_BYTES_CEILING, "key")?);
        let expect = match shape >> 2 {
            0 => Expect::Any,
            1 => Expect::Absent,
            2 => Expect::Revision(Revision(from.varint("expected revision")?)),
            _ => return Err(unknown("expectation", shape)),
        };
        let owner = match shape & 3 {
            0 => {
                let action = Action::Delete;
                return Ok(Self {
                    key,
                    expect,
                    action,
                });
            }
            1 => None,
            2 => Some(incarnation(from, "owner")?),
            _ => return Err(unknown("action", shape)),
        };
        let value = whole.slice_ref(from.bytes(ENTRY_ENCODED_BYTES, "value")?);
        let action = Action::Put { value, owner };
        Ok(Self {
            key,
            expect,
            action,
        })
    }
}

impl Close {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Register(registration) => {
                to.u8(1);
                registration.encode(to);
            }
            Self::Dead(incarnation) => {
                to.u8(2);
                to.varint(incarnation.0);
            }
            Self::CleanUp(incarnation) => {
                to.u8(3);
                to.varint(incarnation.0);
            }
            Self::Remove(member) => {
                to.u8(4);
                to.u64(member.0);
            }
            Self::Format(format) => {
                to.u8(5);
                to.u16(*format);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        Ok(match from.u8("command")? {
            1 => Self::Register(Registration::decode(from)?),
            2 => Self::Dead(incarnation(from, "dead incarnation")?),
            3 => Self::CleanUp(incarnation(from, "incarnation to clean up")?),
            4 => Self::Remove(MemberId(from.u64("member")?)),
            5 => Self::Format(from.u16("cluster format")?),
            other => return Err(unknown("command", other)),
        })
    }
}

fn unknown(what: &'static str, value: u8) -> codec::Error {
    codec::Error::Unknown {
        what,
        value: u64::from(value),
    }
}

fn maybe_incarnation(
    from: &mut Reader<'_>,
    what: &'static str,
) -> Result<Option<Incarnation>, codec::Error> {
    let value = from.varint(what)?;
    if value > Incarnation::CEILING {
        let limit = Incarnation::CEILING;
        return Err(codec::Error::TooLarge { what, value, limit });
    }
    Ok((value != 0).then_some(Incarnation(value)))
}

/// 1 ..= [`Incarnation::CEILING`]: no run is registered by the entry that founds the cluster, index 0.
pub(crate) fn incarnation(
    from: &mut Reader<'_>,
    what: &'static str,
) -> Result<Incarnation, codec::Error> {
    maybe_incarnation(from, what)?.ok_or(codec::Error::Unknown { what, value: 0 })
}

#[cfg(test)]
mod tests;
