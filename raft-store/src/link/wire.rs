//! Requests, replies and hellos as bytes. `[kind 1][fields]`, nothing may follow.

mod reply;
mod request;

pub(super) use reply::{decode_reply, encode_reply};
pub(super) use request::{decode_request, encode_request};

use bytes::Bytes;

use super::{Hello, Lane, Refused};
use crate::codec::{Error, Reader, Writer};
use crate::ids::{BootNonce, ClusterId, MemberId};
use crate::limits::{ADDRESS_BYTES, MEMBER_ADDRESSES};
use crate::log::{LogId, Vote};

/// Highest term and index that is believed.
const COUNTED: u64 = 1 << 62;
/// The one format of frames that this build speaks.
const FORMAT: u16 = 1;

fn unknown(what: &'static str, value: u8) -> Error {
    let value = u64::from(value);
    Error::Unknown { what, value }
}

fn put_option<T>(to: &mut Writer, value: Option<T>, put: impl FnOnce(&mut Writer, T)) {
    to.bool(value.is_some());
    if let Some(value) = value {
        put(to, value);
    }
}

fn option<'a, T>(
    from: &mut Reader<'a>,
    what: &'static str,
    get: impl FnOnce(&mut Reader<'a>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    match from.bool(what)? {
        true => get(from).map(Some),
        false => Ok(None),
    }
}

/// A term or an index: far from where the next one would be none.
fn counted(from: &mut Reader<'_>, what: &'static str) -> Result<u64, Error> {
    let value = from.varint(what)?;
    match value <= COUNTED {
        true => Ok(value),
        false => Err(Error::TooLarge {
            what,
            value,
            limit: COUNTED,
        }),
    }
}

fn put_id(to: &mut Writer, id: LogId) {
    to.varint(id.term);
    to.u64(id.node);
    to.varint(id.index);
}

fn id(from: &mut Reader<'_>) -> Result<LogId, Error> {
    Ok(LogId {
        term: counted(from, "term")?,
        node: from.u64("leader")?,
        index: counted(from, "index")?,
    })
}

fn put_vote(to: &mut Writer, vote: Vote) {
    to.varint(vote.term);
    to.u64(vote.node);
    to.bool(vote.committed);
}

fn vote(from: &mut Reader<'_>) -> Result<Vote, Error> {
    Ok(Vote {
        term: counted(from, "term of a vote")?,
        node: from.u64("candidate")?,
        committed: from.bool("committed vote")?,
    })
}

fn maybe_id(from: &mut Reader<'_>) -> Result<Option<LogId>, Error> {
    option(from, "log id", id)
}

fn part(
    from: &mut Reader<'_>,
    whole: &Bytes,
    limit: usize,
    what: &'static str,
) -> Result<Bytes, Error> {
    Ok(whole.slice_ref(from.bytes(limit, what)?))
}

/// A hello for one lane.
pub(super) fn put_hello(to: &mut Writer, lane: Lane, hello: &Hello) {
    to.u16(FORMAT);
    to.u8(match lane {
        Lane::Raft => 1,
        Lane::Calls => 2,
        Lane::Snapshot => 3,
    });
    put_option(to, hello.cluster, |to, cluster| to.raw(&cluster.0));
    to.u64(hello.member.0);
    to.u64(hello.nonce.0);
    to.u16(hello.formats.0);
    to.u16(hello.formats.1);
    put_option(to, hello.vote, put_vote);
    put_option(to, hello.last, put_id);
    let addresses = hello
        .addresses
        .iter()
        .filter(|one| one.len() <= ADDRESS_BYTES);
    let addresses: Vec<_> = addresses.take(MEMBER_ADDRESSES).collect();
    to.varint(addresses.len() as u64);
    addresses.iter().for_each(|one| to.bytes(one.as_bytes()));
}

pub(super) fn hello(from: &mut Reader<'_>) -> Result<(Lane, Hello), Error> {
    let format = from.u16("frame format")?;
    if format != FORMAT {
        let (what, value) = ("frame format", u64::from(format));
        return Err(Error::Unknown { what, value });
    }
    let lane = match from.u8("lane")? {
        1 => Lane::Raft,
        2 => Lane::Calls,
        3 => Lane::Snapshot,
        other => return Err(unknown("lane", other)),
    };
    let cluster = option(from, "cluster", |from| from.array("cluster"))?;
    let member = MemberId(from.u64("member")?);
    let nonce = BootNonce(from.u64("boot nonce")?);
    let formats = (from.u16("lowest format")?, from.u16("highest format")?);
    let vote = option(from, "vote", vote)?;
    let last = maybe_id(from)?;
    let count = from.count(MEMBER_ADDRESSES, 1, "addresses")?;
    let mut addresses = Vec::with_capacity(count);
    for _ in 0..count {
        let text = std::str::from_utf8(from.bytes(ADDRESS_BYTES, "address")?);
        let text = text.map_err(|_| unknown("address that is no text", 0))?;
        addresses.push(text.to_owned());
    }
    let cluster = cluster.map(ClusterId);
    let hello = Hello {
        cluster,
        member,
        nonce,
        formats,
        vote,
        last,
        addresses,
    };
    Ok((lane, hello))
}

/// Reasons with a byte each.
const REASONS: [(u8, Refused); 7] = [
    (1, Refused::Cluster),
    (2, Refused::Certificate),
    (3, Refused::TwoRuns),
    (4, Refused::Removed),
    (5, Refused::Reverted),
    (6, Refused::Format),
    (7, Refused::Busy),
];

pub(super) fn reason_byte(reason: Refused) -> u8 {
    let found = REASONS.iter().find(|(_, known)| *known == reason);
    found.map_or(0, |(byte, _)| *byte)
}

/// `None`: a reason that this build does not know.
pub(super) fn reason(byte: u8) -> Option<Refused> {
    let found = REASONS.iter().find(|(known, _)| *known == byte);
    found.map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests;
