//! Requests as bytes.

use bytes::Bytes;

use super::{counted, maybe_id, part, put_id, put_option, put_vote, unknown, vote};
use crate::codec::{Error, Reader, Writer};
use crate::entry::{self, Proposal, Registration};
use crate::ids::MemberId;
use crate::limits::{ENTRY_PROPOSALS, FRAME_BYTES, SNAPSHOT_BLOCK_BYTES};
use crate::link::messages::Request;
use crate::log::Entry;
use crate::snapshot::file::META_BYTES;

/// Fewest bytes of an entry and of a proposal.
const ENTRY_LEAST: usize = 11;
const PROPOSAL_LEAST: usize = 4;

/// A request's body; `TooLarge` when no frame holds it.
pub(in crate::link) fn encode_request(request: &Request, head: Vec<u8>) -> Result<Vec<u8>, Error> {
    let mut to = Writer::with_buffer(head, FRAME_BYTES);
    put_request(&mut to, request);
    to.finish("request")
}

/// What each request begins with.
fn kind(request: &Request) -> u8 {
    match request {
        Request::Append { .. } => 1,
        Request::Vote { .. } => 2,
        Request::PreVote { .. } => 3,
        Request::Ping { .. } => 4,
        Request::TakeVote { .. } => 5,
        Request::Elect { .. } => 6,
        Request::Forward(_) => 7,
        Request::Register(_) => 8,
        Request::ReadIndex => 9,
        Request::Renew { .. } => 10,
        Request::SnapshotOffer { .. } => 11,
        Request::SnapshotChunk { .. } => 12,
        Request::SnapshotInstall { .. } => 13,
        Request::StateHash { .. } => 14,
        Request::Remove { .. } => 15,
    }
}

fn put_request(to: &mut Writer, request: &Request) {
    to.u8(kind(request));
    match request {
        Request::Append {
            vote,
            previous,
            entries,
            committed,
        } => {
            put_vote(to, *vote);
            put_option(to, *previous, put_id);
            put_option(to, *committed, put_id);
            put_entries(to, entries);
        }
        Request::Vote { vote, last } => {
            put_vote(to, *vote);
            put_option(to, *last, put_id);
        }
        Request::PreVote { term, last } => {
            to.varint(*term);
            put_option(to, *last, put_id);
        }
        Request::Ping { vote } => put_vote(to, *vote),
        Request::TakeVote { leader, vote } | Request::Elect { leader, vote } => {
            put_vote(to, *leader);
            put_vote(to, *vote);
        }
        Request::Forward(proposals) => {
            to.varint(proposals.len() as u64);
            proposals.iter().for_each(|one| one.encode(to));
        }
        Request::Register(registration) => registration.encode(to),
        Request::ReadIndex => {}
        Request::Renew { incarnation } => to.varint(incarnation.0),
        Request::SnapshotOffer {
            vote,
            id,
            bytes,
            meta,
        } => {
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
            put_vote(to, *vote);
            to.raw(id);
            to.varint(*offset);
            to.u32(*crc);
            to.bytes(chunk);
        }
        Request::SnapshotInstall { vote, id } => {
            put_vote(to, *vote);
            to.raw(id);
        }
        Request::StateHash { index, hash } => {
            to.varint(*index);
            to.u128(*hash);
        }
        Request::Remove { member } => to.u64(member.0),
    }
}

fn put_entries(to: &mut Writer, entries: &[Entry]) {
    to.varint(entries.len() as u64);
    for entry in entries {
        put_id(to, entry.id);
        to.bytes(&entry.body);
    }
}

/// Of a request's body. Entries, keys and values are not copied: they keep `whole` alive.
pub(in crate::link) fn decode_request(whole: &Bytes) -> Result<Request, Error> {
    let from = &mut Reader::new(whole);
    let request = match from.u8("request")? {
        1 => append(from, whole)?,
        2 => Request::Vote {
            vote: vote(from)?,
            last: maybe_id(from)?,
        },
        3 => Request::PreVote {
            term: counted(from, "term")?,
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
            bytes: counted(from, "snapshot length")?,
            meta: part(from, whole, META_BYTES, "what lies beside a state")?,
        },
        12 => Request::SnapshotChunk {
            vote: vote(from)?,
            id: from.array("snapshot id")?,
            offset: counted(from, "offset")?,
            crc: from.u32("checksum")?,
            chunk: part(from, whole, SNAPSHOT_BLOCK_BYTES, "chunk")?,
        },
        13 => Request::SnapshotInstall {
            vote: vote(from)?,
            id: from.array("snapshot id")?,
        },
        14 => Request::StateHash {
            index: counted(from, "index")?,
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
        let id = super::id(from)?;
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
