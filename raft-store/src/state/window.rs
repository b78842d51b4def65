//! Results of one incarnation's proposals, so that each is applied at most once and answered again as before.

use super::hash::Item;
use crate::codec::{self, Reader, Writer};
use crate::ids::{Incarnation, MemberId, Revision};
use crate::limits::Limits;
use std::collections::VecDeque;
use std::sync::Arc;

/// Most bytes of one encoded result: a batch with a conflict each.
pub(crate) const OUTCOME_BYTES: usize = 16 * 1024;

/// What one write came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteOutcome {
    /// Done; the key's revision. A delete of what was not there changes nothing and gives the store's revision.
    Written(Revision),
    /// The condition did not hold; the key's revision, if it is there. A local read now shows this or later.
    Conflict(Option<Revision>),
    Refused(WriteRefusal),
}

/// Why a write was not even tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteRefusal {
    /// No key, or one over `key_bytes`.
    KeyBytes,
    /// Over `value_bytes`.
    ValueBytes,
    /// It would bring the store over `store_bytes`.
    StoreBytes,
    /// Its owner is not live.
    OwnerDead,
}

/// What a proposal came to, as the window keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Write(WriteOutcome),
    Batch(Arc<[WriteOutcome]>),
    /// A `Nop` came first: whatever else has this id never was and never will be applied.
    Nop,
    /// A batch over `batch_writes` or `batch_bytes`: none of it was applied.
    TooLarge,
}

/// What the window knows of a sequence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known<'a> {
    New,
    Stored(&'a Outcome),
    /// Below the window: applied or never to be, nobody knows any more.
    Stale,
}

/// The window of one live incarnation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    member: MemberId,
    /// The lowest sequence that may still have, or get, a result.
    floor: u64,
    /// From `floor` on.
    results: VecDeque<Option<Outcome>>,
    /// That `results` are of.
    writes: usize,
    /// Of the hashes of all results.
    sum: u128,
}

impl Window {
    pub(crate) fn new(member: MemberId, floor: u64) -> Self {
        let results = VecDeque::new();
        Self {
            member,
            floor,
            results,
            writes: 0,
            sum: 0,
        }
    }

    /// Whose run it is.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// The lowest sequence that is not stale.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The result kept for a sequence: how a waiter is answered whose entry came with a snapshot.
    pub fn result(&self, sequence: u64) -> Option<&Outcome> {
        let at = usize::try_from(sequence.checked_sub(self.floor)?).ok()?;
        self.results.get(at)?.as_ref()
    }

    pub(crate) fn known(&self, sequence: u64) -> Known<'_> {
        if sequence < self.floor {
            return Known::Stale;
        }
        self.result(sequence).map_or(Known::New, Known::Stored)
    }

    /// Drops the results below `lowest`.
    pub(crate) fn raise(&mut self, incarnation: Incarnation, lowest: u64) {
        if lowest <= self.floor {
            return;
        }
        let drop = usize::try_from(lowest - self.floor).unwrap_or(usize::MAX);
        let drop = drop.min(self.results.len());
        for (at, outcome) in self.results.drain(..drop).enumerate() {
            if let Some(outcome) = outcome {
                let hash = result_hash(incarnation, self.floor + at as u64, &outcome);
                self.sum = self.sum.wrapping_sub(hash);
                self.writes -= outcome.writes();
            }
        }
        self.floor = lowest;
    }

    /// Keeps the result of a sequence that was [`Known::New`]; over `window_results`, or `window_writes` of them
    /// together, the lowest go: this one too if it is the lowest.
    pub(crate) fn keep(
        &mut self,
        incarnation: Incarnation,
        sequence: u64,
        outcome: Outcome,
        limits: &Limits,
    ) {
        let results = limits.window_results as u64;
        self.raise(incarnation, sequence.saturating_sub(results - 1));
        let at = (sequence - self.floor) as usize;
        if self.results.len() <= at {
            self.results.resize(at + 1, None);
        }
        let hash = result_hash(incarnation, sequence, &outcome);
        self.sum = self.sum.wrapping_add(hash);
        self.writes += outcome.writes();
        self.results[at] = Some(outcome);
        while self.writes > limits.window_writes {
            self.raise(incarnation, self.floor + 1);
        }
    }

    /// Writes that the results kept are of.
    pub(crate) fn writes(&self) -> usize {
        self.writes
    }

    /// Sequences that have a result, in order.
    pub(crate) fn results(&self) -> impl Iterator<Item = (u64, &Outcome)> {
        let numbered = self.results.iter().enumerate();
        numbered.filter_map(|(at, outcome)| Some((self.floor + at as u64, outcome.as_ref()?)))
    }

    /// What it adds to the state hash.
    pub(crate) fn hash(&self, incarnation: Incarnation) -> u128 {
        let head = Item::new(b'w').number(incarnation.0).number(self.member.0);
        head.number(self.floor).hash().wrapping_add(self.sum)
    }
}

fn result_hash(incarnation: Incarnation, sequence: u64, outcome: &Outcome) -> u128 {
    let mut bytes = Writer::new(OUTCOME_BYTES);
    outcome.encode(&mut bytes);
    let bytes = bytes
        .finish("result")
        .expect("a batch has at most 512 writes");
    let item = Item::new(b'r').number(incarnation.0).number(sequence);
    item.bytes(&bytes).hash()
}

impl Outcome {
    /// Writes it is of: never more than its proposal has.
    pub(crate) fn writes(&self) -> usize {
        match self {
            Self::Write(_) => 1,
            Self::Batch(outcomes) => outcomes.len(),
            Self::Nop | Self::TooLarge => 0,
        }
    }

    pub(crate) fn encode(&self, to: &mut Writer) {
        match self {
            Self::Nop => to.u8(0),
            Self::TooLarge => to.u8(1),
            Self::Write(outcome) => {
                to.u8(2);
                outcome.encode(to);
            }
            Self::Batch(outcomes) => {
                to.u8(3);
                to.varint(outcomes.len() as u64);
                outcomes.iter().for_each(|outcome| outcome.encode(to));
            }
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let what = "outcome";
        Ok(match from.u8(what)? {
            0 => Self::Nop,
            1 => Self::TooLarge,
            2 => Self::Write(WriteOutcome::decode(from)?),
            3 => {
                let count = from.count(Limits::format_1().batch_writes, 1, what)?;
                let outcomes = (0..count).map(|_| WriteOutcome::decode(from));
                Self::Batch(outcomes.collect::<Result<_, _>>()?)
            }
            other => {
                let value = u64::from(other);
                return Err(codec::Error::Unknown { what, value });
            }
        })
    }
}

impl WriteOutcome {
    fn encode(self, to: &mut Writer) {
        match self {
            Self::Written(revision) => {
                to.u8(0);
                to.varint(revision.0);
            }
            Self::Conflict(None) => to.u8(1),
            Self::Conflict(Some(revision)) => {
                to.u8(2);
                to.varint(revision.0);
            }
            Self::Refused(WriteRefusal::KeyBytes) => to.u8(3),
            Self::Refused(WriteRefusal::ValueBytes) => to.u8(4),
            Self::Refused(WriteRefusal::StoreBytes) => to.u8(5),
            Self::Refused(WriteRefusal::OwnerDead) => to.u8(6),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let what = "outcome of a write";
        Ok(match from.u8(what)? {
            0 => Self::Written(Revision(from.varint(what)?)),
            1 => Self::Conflict(None),
            2 => Self::Conflict(Some(Revision(from.varint(what)?))),
            3 => Self::Refused(WriteRefusal::KeyBytes),
            4 => Self::Refused(WriteRefusal::ValueBytes),
            5 => Self::Refused(WriteRefusal::StoreBytes),
            6 => Self::Refused(WriteRefusal::OwnerDead),
            other => {
                let value = u64::from(other);
                return Err(codec::Error::Unknown { what, value });
            }
        })
    }
}

#[cfg(test)]
mod tests;
