//! Sessions that a client may take up again (XEP-0198 §5), by their id.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;

use crate::cluster::sessions::SessionHandle;

/// Ids of sessions with stream management. An id is security-relevant (XEP-0198 §9): 128 random bits,
/// good only for the account that got it, single use per takeover.
#[derive(Default)]
pub struct Resumables {
    sessions: Mutex<HashMap<String, Arc<SessionHandle>>>,
    random: SystemRandom,
}

impl Resumables {
    /// Gives a session its id.
    pub fn register(&self, handle: &Arc<SessionHandle>) -> String {
        let mut bytes = [0u8; 16];
        self.random
            .fill(&mut bytes)
            .expect("the system has randomness");
        let id = URL_SAFE_NO_PAD.encode(bytes);
        self.restore(id.clone(), handle);
        id
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
    pub fn remove_session(&self, key: u64) {
        self.sessions.lock().retain(|_, handle| handle.key != key);
    }
}
