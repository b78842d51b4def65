//! openraft's types as this crate fills them, and their encodings.
//!
//! An entry of the log: `[0]` blank, `[1][entry body]`, `[2][membership]`. A membership: `[configurations][voters each]…
//! [nodes][id]…`; what lies beside the state in a snapshot: `[last log id][membership's log id][membership]`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::{CommittedLeaderId, EmptyNode, EntryPayload, LeaderId};

use super::runtime::Runtime;
use crate::codec::{self, Reader, Writer};
use crate::entry::{self, ENTRY_ENCODED_BYTES, EntryBody};
use crate::log;
use crate::snapshot::file::META_BYTES;
use crate::state::State;

/// Most configurations of a membership (two while it is joint), and most ids in one.
const CONFIGURATIONS: usize = 8;
const NODES: usize = 1024;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

openraft::declare_raft_types!(
    /// See the module's documentation.
    pub(crate) Types:
        D = Command,
        R = (),
        NodeId = u64,
        Node = EmptyNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = SnapshotFile,
        AsyncRuntime = Runtime,
        Responder = openraft::impls::OneshotResponder<Types>,
);

pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, EmptyNode>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Raft = openraft::Raft<Types>;

/// Why bytes are no entry of the log, or nothing that belongs beside a state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Entry(#[from] entry::Error),
    #[error("a membership or log id that cannot be read: {0}")]
    Codec(#[from] codec::Error),
}

/// The body of an entry with the bytes that the log keeps. Cloning is one reference count.
#[derive(Clone)]
pub(crate) struct Command(Arc<Inner>);

struct Inner {
    body: EntryBody,
    /// With the tag.
    logged: Bytes,
}

impl Command {
    /// Encodes a body, once. `TooLarge` over [`ENTRY_ENCODED_BYTES`].
    pub(crate) fn new(body: EntryBody) -> Result<Self, entry::Error> {
        let encoded = body.encode()?;
        let mut logged = Vec::with_capacity(1 + encoded.len());
        logged.push(NORMAL);
        logged.extend_from_slice(&encoded);
        let logged = logged.into();
        Ok(Self(Arc::new(Inner { body, logged })))
    }

    pub(super) fn body(&self) -> &EntryBody {
        &self.0.body
    }

    pub(super) fn logged_bytes(&self) -> usize {
        self.0.logged.len()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.body.proposals.len();
        write!(f, "{count} proposals, {} bytes", self.0.logged.len())
    }
}

/// A snapshot as openraft passes it on: one to be installed carries its state, read and verified before.
#[derive(Debug, Default)]
pub(crate) struct SnapshotFile {
    pub(crate) state: Option<State>,
}

pub(super) fn from_log_id(id: log::LogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term, id.node), id.index)
}

pub(super) fn to_log_id(id: LogId) -> log::LogId {
    log::LogId {
        term: id.leader_id.term,
        node: id.leader_id.node_id,
        index: id.index,
    }
}

pub(super) fn to_vote(vote: &Vote) -> log::Vote {
    log::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

/// Never committed: a leader that starts again must be elected again (DESIGN §5).
pub(super) fn from_vote(vote: log::Vote) -> Vote {
    Vote {
        leader_id: LeaderId::new(vote.term, vote.node),
        committed: false,
    }
}

/// As a peer said it.
pub(super) fn exact_vote(vote: log::Vote) -> Vote {
    Vote {
        leader_id: LeaderId::new(vote.term, vote.node),
        committed: vote.committed,
    }
}

/// As the log keeps it.
pub(super) fn to_logged(entry: &Entry) -> Result<log::Entry, Error> {
    let body = match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[BLANK]),
        EntryPayload::Normal(command) => command.0.logged.clone(),
        EntryPayload::Membership(membership) => {
            let mut to = Writer::new(ENTRY_ENCODED_BYTES);
            to.u8(MEMBERSHIP);
            encode_membership(&mut to, membership);
            to.finish("membership")?.into()
        }
    };
    let id = to_log_id(entry.log_id);
    Ok(log::Entry { id, body })
}

pub(super) fn from_logged(entry: log::Entry) -> Result<Entry, Error> {
    let mut from = Reader::new(&entry.body);
    let payload = match from.u8("kind of an entry")? {
        BLANK => {
            from.finish("blank entry")?;
            EntryPayload::Blank
        }
        NORMAL => {
            let body = EntryBody::decode(&entry.body.slice(1..))?;
            let logged = entry.body;
            EntryPayload::Normal(Command(Arc::new(Inner { body, logged })))
        }
        MEMBERSHIP => {
            let membership = decode_membership(&mut from)?;
            from.finish("membership")?;
            EntryPayload::Membership(membership)
        }
        other => {
            let (what, value) = ("kind of an entry", u64::from(other));
            return Err(codec::Error::Unknown { what, value }.into());
        }
    };
    let log_id = from_log_id(entry.id);
    Ok(Entry { log_id, payload })
}

fn encode_ids<'a>(to: &mut Writer, ids: impl ExactSizeIterator<Item = &'a u64>) {
    to.varint(ids.len() as u64);
    ids.for_each(|id| to.u64(*id));
}

fn decode_ids(from: &mut Reader<'_>) -> Result<BTreeSet<u64>, codec::Error> {
    let count = from.count(NODES, 8, "members")?;
    (0..count).map(|_| from.u64("member")).collect()
}

fn encode_membership(to: &mut Writer, membership: &Membership) {
    let configurations = membership.get_joint_config();
    to.varint(configurations.len() as u64);
    for voters in configurations {
        encode_ids(to, voters.iter());
    }
    let nodes: Vec<_> = membership.nodes().map(|(id, _)| *id).collect();
    encode_ids(to, nodes.iter());
}

fn decode_membership(from: &mut Reader<'_>) -> Result<Membership, codec::Error> {
    let count = from.count(CONFIGURATIONS, 1, "configurations")?;
    let configurations = (0..count).map(|_| decode_ids(from));
    let configurations = configurations.collect::<Result<Vec<_>, _>>()?;
    Ok(Membership::new(configurations, decode_ids(from)?))
}

fn encode_id(to: &mut Writer, id: Option<LogId>) {
    to.bool(id.is_some());
    if let Some(id) = id {
        let id = to_log_id(id);
        to.u64(id.term);
        to.u64(id.node);
        to.u64(id.index);
    }
}

fn decode_id(from: &mut Reader<'_>) -> Result<Option<LogId>, codec::Error> {
    if !from.bool("log id")? {
        return Ok(None);
    }
    Ok(Some(from_log_id(log::LogId {
        term: from.u64("term")?,
        node: from.u64("node")?,
        index: from.u64("index")?,
    })))
}

/// What lies beside the state in a snapshot.
pub(super) fn encode_meta(last: Option<LogId>, at: &StoredMembership) -> Result<Vec<u8>, Error> {
    let mut to = Writer::new(META_BYTES);
    encode_id(&mut to, last);
    encode_id(&mut to, *at.log_id());
    encode_membership(&mut to, at.membership());
    Ok(to.finish("meta")?)
}

pub(super) fn decode_meta(meta: &[u8]) -> Result<(Option<LogId>, StoredMembership), Error> {
    let mut from = Reader::new(meta);
    let last = decode_id(&mut from)?;
    let at = decode_id(&mut from)?;
    let membership = decode_membership(&mut from)?;
    from.finish("meta")?;
    Ok((last, StoredMembership::new(at, membership)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> LogId {
        from_log_id(log::LogId {
            term: 3,
            node: 7,
            index,
        })
    }

    fn joint() -> Membership {
        let configurations = vec![BTreeSet::from([7]), BTreeSet::from([7, 8, u64::MAX])];
        Membership::new(configurations, BTreeSet::from([1, 7, 8]))
    }

    #[test]
    fn entries_come_back_from_the_log() {
        let command = Command::new(EntryBody::default()).expect("small");
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(command),
            EntryPayload::Membership(joint()),
        ];
        for payload in payloads {
            let log_id = id(5);
            let logged = to_logged(&Entry { log_id, payload }).expect("encoded");
            let read = from_logged(logged.clone()).expect("decoded");
            assert_eq!(to_logged(&read).expect("encoded"), logged);
            if let EntryPayload::Membership(read) = read.payload {
                assert_eq!(read, joint());
            }
            let mut longer = logged.body.to_vec();
            longer.push(0);
            let body = longer.into();
            let id = logged.id;
            assert!(from_logged(log::Entry { id, body }).is_err());
            let body = Bytes::from_static(&[9]);
            assert!(from_logged(log::Entry { id, body }).is_err());
        }
    }

    #[test]
    fn meta_comes_back() {
        for (last, at) in [(None, None), (Some(id(9)), Some(id(4)))] {
            let stored = StoredMembership::new(at, joint());
            let meta = encode_meta(last, &stored).expect("small");
            assert_eq!(decode_meta(&meta).expect("its own"), (last, stored));
            for cut in 0..meta.len() {
                assert!(decode_meta(&meta[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_stored_vote_is_read_uncommitted() {
        let vote = Vote::new_committed(3, 7);
        assert_eq!(from_vote(to_vote(&vote)), Vote::new(3, 7));
    }
}
