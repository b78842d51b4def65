//! Sessions that a client may take up again (XEP-0198 §5), by their id.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use eider_storage::Timestamp;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::cluster::sessions::SessionHandle;
use crate::sealed_ids::{ID_LEN, SealedIds};

/// One session, as its id tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resumable {
    /// See [`jid_digest`]; of its full JID.
    pub jid: u64,
    /// When stream management began.
    pub since: Timestamp,
}

/// A session, and before it those whose ends its client may not have got over yet: each began on a stream
/// that had failed to resume the one listed after it. Newest first. What was sent on one of them may be sent
/// again after the last, because no acknowledgement since is sure to have come.
pub type Lineage = SmallVec<[Resumable; 1]>;

/// Sessions of a lineage; the oldest of more is forgotten.
const LINEAGE_MAX: usize = 4;

/// A full JID in short.
pub fn jid_digest(full: &str) -> u64 {
    let digest = digest(&SHA256, full.as_bytes());
    let (first, _) = digest.as_ref().split_at(8);
    u64::from_be_bytes(first.try_into().expect("eight bytes"))
}

/// Ids of sessions with stream management. An id tells the session's lineage, also when nothing else knows of it
/// any more. It is security-relevant (XEP-0198 §9): at least 128 bits that nobody can guess, good only for the
/// account that got it.
pub struct Resumables {
    sessions: Mutex<HashMap<String, Arc<SessionHandle>>>,
    ids: SealedIds,
}

impl Resumables {
    /// Nobody waits; `ids` makes and reads the ids.
    pub fn new(ids: SealedIds) -> Resumables {
        Resumables {
            sessions: Mutex::default(),
            ids,
        }
    }

    /// Gives a session its id; `failed` is the lineage that its stream has failed to resume.
    pub fn register(
        &self,
        handle: &Arc<SessionHandle>,
        now: Timestamp,
        failed: &[Resumable],
    ) -> String {
        let mut own = Resumable {
            jid: jid_digest(handle.full.as_str()),
            since: now,
        };
        let before: String = forebears(failed).iter().map(|one| self.seal(one)).collect();
        let mut sessions = self.sessions.lock();
        loop {
            let id = self.seal(&own) + &before;
            if !sessions.contains_key(&id) {
                sessions.insert(id.clone(), handle.clone());
                return id;
            }
            own.since.0 += 1;
        }
    }

    fn seal(&self, session: &Resumable) -> String {
        self.ids.seal(session.jid, session.since.0.cast_unsigned())
    }

    /// What an id tells. Of an id we did not give: sessions that nobody ever had, or none.
    pub fn read(&self, id: &str) -> Lineage {
        let blocks = id.as_bytes().chunks(ID_LEN).take(LINEAGE_MAX);
        let sealed = blocks.filter_map(|block| std::str::from_utf8(block).ok());
        sealed
            .filter_map(|block| self.ids.open(block))
            .map(|(jid, since)| Resumable {
                jid,
                since: Timestamp(since.cast_signed()),
            })
            .collect()
    }

    /// A session of an earlier run keeps its id.
    pub fn restore(&self, id: String, handle: &Arc<SessionHandle>) {
        self.sessions.lock().insert(id, handle.clone());
    }

    /// The session of an id, for its own account.
    pub fn find(&self, id: &str, account: &str) -> Option<Arc<SessionHandle>> {
        let sessions = self.sessions.lock();
        sessions
            .get(id)
            .filter(|handle| handle.bare.as_str() == account)
            .cloned()
    }

    /// The session has ended.
    pub fn remove(&self, id: &str) {
        self.sessions.lock().remove(id);
    }

    /// A session has ended that can no longer say its id.
    pub fn remove_session(&self, key: u64) -> Option<Resumable> {
        let mut sessions = self.sessions.lock();
        let mut ids = sessions.iter().filter(|(_, handle)| handle.key == key);
        let id = ids.next()?.0.clone();
        sessions.remove(&id);
        self.read(&id).first().copied()
    }
}

/// What a new session's id tells of those before it: of several with one JID the earliest stands for all.
fn forebears(failed: &[Resumable]) -> Lineage {
    let mut before = Lineage::new();
    for session in failed {
        match before.iter_mut().find(|known| known.jid == session.jid) {
            Some(known) => known.since = known.since.min(session.since),
            None => before.push(*session),
        }
    }
    before.truncate(LINEAGE_MAX - 1);
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed_ids::KEY_LEN_BYTES;

    fn handle(full: &str) -> Arc<SessionHandle> {
        let full = full.parse().expect("a full JID");
        Arc::new(SessionHandle::new(full, None, None, crate::clock::now(), 1))
    }

    fn session(full: &str, since: i64) -> Resumable {
        Resumable {
            jid: jid_digest(full),
            since: Timestamp(since),
        }
    }

    #[test]
    fn an_id_tells_its_session_and_those_that_it_came_after() {
        let resumables = Resumables::new(SealedIds::new(&[7; KEY_LEN_BYTES]));
        let mut lineage = Lineage::new();
        for (since, full) in [(10, "a@h/1"), (20, "a@h/1"), (30, "a@h/1"), (40, "a@h/2")] {
            let id = resumables.register(&handle(full), Timestamp(since), &lineage);
            lineage = resumables.read(&id);
        }
        let told = [session("a@h/2", 40), session("a@h/1", 10)];
        assert_eq!(lineage.as_slice(), told);
    }

    #[test]
    fn a_lineage_and_so_an_id_is_bounded() {
        let resumables = Resumables::new(SealedIds::new(&[7; KEY_LEN_BYTES]));
        let mut lineage = Lineage::new();
        for since in 0..10 {
            let full = format!("a@h/{since}");
            let id = resumables.register(&handle(&full), Timestamp(since), &lineage);
            assert!(id.len() <= LINEAGE_MAX * ID_LEN);
            lineage = resumables.read(&id);
        }
        assert_eq!(lineage.first(), Some(&session("a@h/9", 9)));
        assert_eq!(lineage.len(), LINEAGE_MAX);
    }

    #[test]
    fn two_sessions_never_have_one_id() {
        let resumables = Resumables::new(SealedIds::new(&[7; KEY_LEN_BYTES]));
        let ids = [(); 2].map(|()| resumables.register(&handle("a@h/1"), Timestamp(1), &[]));
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn an_id_of_others_tells_nothing_of_ours() {
        let resumables = Resumables::new(SealedIds::new(&[7; KEY_LEN_BYTES]));
        for id in ["", "x", "ä", &"ä".repeat(50), &"A".repeat(4_000)] {
            assert!(resumables.read(id).len() <= LINEAGE_MAX, "{id}");
        }
    }
}
