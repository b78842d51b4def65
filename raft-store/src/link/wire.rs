//! Requests, replies and hellos as bytes. `[kind 1][fields]`, nothing may follow.

use bytes::Bytes;

use super::messages::{Appended, Forwarded, NotServed, Removing, Renewed, Reply, Request};
use super::{Hello, Lane, Refused};
use crate::codec::{Error, Reader, Writer};
use crate::entry::{self, Proposal, Registration};
use crate::ids::{BootNonce, ClusterId, MemberId};
use crate::limits::{
    ADDRESS_BYTES, ENTRY_PROPOSALS, FRAME_BYTES, MEMBER_ADDRESSES, SNAPSHOT_BLOCK_BYTES,
};
use crate::log::{Entry, LogId, Vote};

/// The one format of frames that this build speaks.
const FORMAT: u16 = 1;
/// Fewest bytes of an entry and of a proposal.
const ENTRY_LEAST: usize = 11;
const PROPOSAL_LEAST: usize = 4;
/// What lies beside the state of a snapshot.
const META_BYTES: usize = 64 * 1024;

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

fn put_id(to: &mut Writer, id: LogId) {
    to.varint(id.term);
    to.u64(id.node);
    to.varint(id.index);
}

fn id(from: &mut Reader<'_>) -> Result<LogId, Error> {
    Ok(LogId {
        term: from.varint("term")?,
        node: from.u64("leader")?,
        index: from.varint("index")?,
    })
}

fn put_vote(to: &mut Writer, vote: Vote) {
    to.varint(vote.term);
    to.u64(vote.node);
    to.bool(vote.committed);
}

fn vote(from: &mut Reader<'_>) -> Result<Vote, Error> {
    Ok(Vote {
        term: from.varint("term of a vote")?,
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

/// A request's body; `TooLarge` when no frame holds it.
pub(super) fn encode_request(request: &Request, head: Vec<u8>) -> Result<Vec<u8>, Error> {
    let mut to = Writer::with_buffer(head, FRAME_BYTES);
    put_request(&mut to, request);
    to.finish("request")
}

fn put_request(to: &mut Writer, request: &Request) {
    match request {
        Request::Append {
            vote,
            previous,
            entries,
            committed,
        } => {
            to.u8(1);
            put_vote(to, *vote);
            put_option(to, *previous, put_id);
            put_option(to, *committed, put_id);
            to.varint(entries.len() as u64);
            for entry in entries {
                put_id(to, entry.id);
                to.bytes(&entry.body);
            }
        }
        Request::Vote { vote, last } => {
            to.u8(2);
            put_vote(to, *vote);
            put_option(to, *last, put_id);
        }
        Request::PreVote { term, last } => {
            to.u8(3);
            to.varint(*term);
            put_option(to, *last, put_id);
        }
        Request::Ping { vote } => {
            to.u8(4);
            put_vote(to, *vote);
        }
        Request::TakeVote { leader, vote } => {
            to.u8(5);
            put_vote(to, *leader);
            put_vote(to, *vote);
        }
        Request::Elect { leader, vote } => {
            to.u8(6);
            put_vote(to, *leader);
            put_vote(to, *vote);
        }
        Request::Forward(proposals) => {
            to.u8(7);
            to.varint(proposals.len() as u64);
            proposals.iter().for_each(|one| one.encode(to));
        }
        Request::Register(registration) => {
            to.u8(8);
            registration.encode(to);
        }
        Request::ReadIndex => to.u8(9),
        Request::Renew { incarnation } => {
            to.u8(10);
            to.varint(incarnation.0);
        }
        Request::SnapshotOffer {
            vote,
            id,
            bytes,
            meta,
        } => {
            to.u8(11);
            put_vote(to, *vote);
            to.raw(id);
            to.varint(*bytes);
            to.bytes(meta);
        }
        Request::SnapshotChunk {
            vote,
            id,
            offset,
            crc,
            chunk,
        } => {
            to.u8(12);
            put_vote(to, *vote);
            to.raw(id);
            to.varint(*offset);
            to.u32(*crc);
            to.bytes(chunk);
        }
        Request::SnapshotInstall { vote, id } => {
            to.u8(13);
            put_vote(to, *vote);
            to.raw(id);
        }
        Request::StateHash { index, hash } => {
            to.u8(14);
            to.varint(*index);
            to.u128(*hash);
        }
        Request::Remove { member } => {
            to.u8(15);
            to.u64(member.0);
        }
    }
}

/// Of a request's body. Entries, keys and values are not copied: they keep `whole` alive.
pub(super) fn decode_request(whole: &Bytes) -> Result<Request, Error> {
    let from = &mut Reader::new(whole);
    let request = match from.u8("request")? {
        1 => append(from, whole)?,
        2 => Request::Vote {
            vote: vote(from)?,
            last: maybe_id(from)?,
        },
        3 => Request::PreVote {
            term: from.varint("term")?,
            last: maybe_id(from)?,
        },
        4 => Request::Ping { vote: vote(from)? },
        5 => Request::TakeVote {
            leader: vote(from)?,
            vote: vote(from)?,
        },
        6 => Request::Elect {
            leader: vote(from)?,
            vote: vote(from)?,
        },
        7 => {
            let count = from.count(ENTRY_PROPOSALS, PROPOSAL_LEAST, "proposals")?;
            let proposals = (0..count).map(|_| Proposal::decode(from, whole));
            Request::Forward(proposals.collect::<Result<_, _>>()?)
        }
        8 => Request::Register(Registration::decode(from)?),
        9 => Request::ReadIndex,
        10 => Request::Renew {
            incarnation: entry::incarnation(from, "renewed incarnation")?,
        },
        11 => Request::SnapshotOffer {
            vote: vote(from)?,
            id: from.array("snapshot id")?,
            bytes: from.varint("snapshot length")?,
            meta: part(from, whole, META_BYTES, "what lies beside a state")?,
        },
        12 => Request::SnapshotChunk {
            vote: vote(from)?,
            id: from.array("snapshot id")?,
            offset: from.varint("offset")?,
            crc: from.u32("checksum")?,
            chunk: part(from, whole, SNAPSHOT_BLOCK_BYTES, "chunk")?,
        },
        13 => Request::SnapshotInstall {
            vote: vote(from)?,
            id: from.array("snapshot id")?,
        },
        14 => Request::StateHash {
            index: from.varint("index")?,
            hash: from.u128("state hash")?,
        },
        15 => Request::Remove {
            member: MemberId(from.u64("member")?),
        },
        other => return Err(unknown("request", other)),
    };
    from.clone().finish("request")?;
    Ok(request)
}

fn append(from: &mut Reader<'_>, whole: &Bytes) -> Result<Request, Error> {
    let vote = vote(from)?;
    let previous = maybe_id(from)?;
    let committed = maybe_id(from)?;
    let count = from.count(FRAME_BYTES, ENTRY_LEAST, "entries")?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let id = id(from)?;
        let body = part(from, whole, FRAME_BYTES, "entry")?;
        entries.push(Entry { id, body });
    }
    Ok(Request::Append {
        vote,
        previous,
        entries,
        committed,
    })
}

/// A reply's body.
pub(super) fn encode_reply(reply: &Reply, head: Vec<u8>) -> Result<Vec<u8>, Error> {
    let mut to = Writer::with_buffer(head, FRAME_BYTES);
    put_reply(&mut to, reply);
    to.finish("reply")
}

fn put_reply(to: &mut Writer, reply: &Reply) {
    match reply {
        Reply::Append(appended) => {
            to.u8(1);
            put_appended(to, *appended);
        }
        Reply::Vote {
            vote,
            granted,
            last,
        } => {
            to.u8(2);
            put_vote(to, *vote);
            to.bool(*granted);
            put_option(to, *last, put_id);
        }
        Reply::PreVote(granted) => {
            to.u8(3);
            to.bool(*granted);
        }
        Reply::Pong { vote } => {
            to.u8(4);
            put_option(to, *vote, put_vote);
        }
        Reply::Taken(taken) => {
            to.u8(5);
            to.bool(*taken);
        }
        Reply::Forwarded(forwarded) => {
            to.u8(6);
            put_forwarded(to, *forwarded);
        }
        Reply::ReadIndex(Ok(index)) => {
            to.u8(7);
            to.varint(*index);
        }
        Reply::ReadIndex(Err(why)) => {
            to.u8(8);
            put_not_served(to, *why);
        }
        Reply::Renewed(renewed) => {
            to.u8(9);
            match renewed {
                Renewed::Granted => to.u8(1),
                Renewed::Lost => to.u8(2),
                Renewed::Not(why) => {
                    to.u8(3);
                    put_not_served(to, *why);
                }
            }
        }
        Reply::SnapshotHave { offset } => {
            to.u8(10);
            to.varint(*offset);
        }
        Reply::SnapshotInstalled { vote } => {
            to.u8(11);
            put_vote(to, *vote);
        }
        Reply::SnapshotBad => to.u8(12),
        Reply::StateHash { agrees } => {
            to.u8(13);
            put_option(to, *agrees, Writer::bool);
        }
        Reply::Unfit => to.u8(14),
        Reply::Removing(Removing::Removed) => to.u8(15),
        Reply::Removing(Removing::Wanted) => to.u8(16),
        Reply::Removing(Removing::Unknown) => to.u8(17),
        Reply::Removing(Removing::Not(why)) => {
            to.u8(18);
            put_not_served(to, *why);
        }
    }
}

fn put_appended(to: &mut Writer, appended: Appended) {
    match appended {
        Appended::All => to.u8(1),
        Appended::Some(up_to) => {
            to.u8(2);
            put_option(to, up_to, put_id);
        }
        Appended::Conflict => to.u8(3),
        Appended::Higher(vote) => {
            to.u8(4);
            put_vote(to, vote);
        }
        Appended::Superseded => to.u8(5),
    }
}

fn put_forwarded(to: &mut Writer, forwarded: Forwarded) {
    match forwarded {
        Forwarded::Queued => to.u8(1),
        Forwarded::Not(why) => {
            to.u8(2);
            put_not_served(to, why);
        }
        Forwarded::Removed => to.u8(3),
        Forwarded::Full => to.u8(4),
        Forwarded::Format(format) => {
            to.u8(5);
            to.u16(format);
        }
    }
}

fn put_not_served(to: &mut Writer, why: NotServed) {
    match why {
        NotServed::NotLeader(leader) => {
            to.u8(1);
            put_option(to, leader, |to, leader| to.u64(leader.0));
        }
        NotServed::NoQuorum => to.u8(2),
        NotServed::Busy => to.u8(3),
    }
}

/// Of a reply's body.
pub(super) fn decode_reply(body: &[u8]) -> Result<Reply, Error> {
    let from = &mut Reader::new(body);
    let reply = match from.u8("reply")? {
        1 => Reply::Append(appended(from)?),
        2 => Reply::Vote {
            vote: vote(from)?,
            granted: from.bool("granted")?,
            last: maybe_id(from)?,
        },
        3 => Reply::PreVote(from.bool("agreed")?),
        4 => Reply::Pong {
            vote: option(from, "vote", vote)?,
        },
        5 => Reply::Taken(from.bool("taken")?),
        6 => Reply::Forwarded(forwarded(from)?),
        7 => Reply::ReadIndex(Ok(from.varint("index")?)),
        8 => Reply::ReadIndex(Err(not_served(from)?)),
        9 => Reply::Renewed(match from.u8("renewal")? {
            1 => Renewed::Granted,
            2 => Renewed::Lost,
            3 => Renewed::Not(not_served(from)?),
            other => return Err(unknown("renewal", other)),
        }),
        10 => Reply::SnapshotHave {
            offset: from.varint("offset")?,
        },
        11 => Reply::SnapshotInstalled { vote: vote(from)? },
        12 => Reply::SnapshotBad,
        13 => Reply::StateHash {
            agrees: option(from, "known", |from| from.bool("agrees"))?,
        },
        14 => Reply::Unfit,
        15 => Reply::Removing(Removing::Removed),
        16 => Reply::Removing(Removing::Wanted),
        17 => Reply::Removing(Removing::Unknown),
        18 => Reply::Removing(Removing::Not(not_served(from)?)),
        other => return Err(unknown("reply", other)),
    };
    from.clone().finish("reply")?;
    Ok(reply)
}

fn appended(from: &mut Reader<'_>) -> Result<Appended, Error> {
    Ok(match from.u8("what was appended")? {
        1 => Appended::All,
        2 => Appended::Some(maybe_id(from)?),
        3 => Appended::Conflict,
        4 => Appended::Higher(vote(from)?),
        5 => Appended::Superseded,
        other => return Err(unknown("what was appended", other)),
    })
}

fn forwarded(from: &mut Reader<'_>) -> Result<Forwarded, Error> {
    Ok(match from.u8("forward")? {
        1 => Forwarded::Queued,
        2 => Forwarded::Not(not_served(from)?),
        3 => Forwarded::Removed,
        4 => Forwarded::Full,
        5 => Forwarded::Format(from.u16("cluster format")?),
        other => return Err(unknown("forward", other)),
    })
}

fn not_served(from: &mut Reader<'_>) -> Result<NotServed, Error> {
    Ok(match from.u8("why not served")? {
        1 => {
            let leader = option(from, "leader", |from| from.u64("leader"))?;
            NotServed::NotLeader(leader.map(MemberId))
        }
        2 => NotServed::NoQuorum,
        3 => NotServed::Busy,
        other => return Err(unknown("why not served", other)),
    })
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
