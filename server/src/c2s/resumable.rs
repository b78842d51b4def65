//! Sessions that a client may take up again (XEP-0198 §5), by their id.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use eider_storage::Timestamp;
use parking_lot::Mutex;

use crate::cluster::sessions::SessionHandle;
use crate::sealed_ids::SealedIds;

/// Which session an id was given to, told by the id itself, also when nothing else knows it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumable {
    /// See [`jid_digest`]; of its full JID.
    pub jid: u64,
    /// When stream management began.
    pub since: Timestamp,
}

/// A full JID in short.
pub fn jid_digest(full: &str) -> u64 {
    let digest = digest(&SHA256, full.as_bytes());
    let (first, _) = digest.as_ref().split_at(8);
    u64::from_be_bytes(first.try_into().expect("eight bytes"))
}

/// Ids of sessions with stream management. An id is security-relevant (XEP-0198 §9): 128 bits that nobody
/// can guess, good only for the account that got it.
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

    /// Gives a session its id.
    pub fn register(&self, handle: &Arc<SessionHandle>, now: Timestamp) -> String {
        let jid = jid_digest(handle.full.as_str());
        let mut since = now.0;
        let mut sessions = self.sessions.lock();
        loop {
            let id = self.ids.seal(jid, since.cast_unsigned());
            if !sessions.contains_key(&id) {
                sessions.insert(id.clone(), handle.clone());
                return id;
            }
            since += 1;
        }
    }

    /// What an id tells of its session. Of an id we did not give: a session that nobody ever had.
    pub fn read(&self, id: &str) -> Option<Resumable> {
        let (jid, since) = self.ids.open(id)?;
        let since = Timestamp(since.cast_signed());
        Some(Resumable { jid, since })
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
        self.read(&id)
    }
}
