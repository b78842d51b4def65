//! A drained session written down for the next start (XEP-0198 §5, DESIGN §3).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use eider_storage::{AccountId, SavedSession, Timestamp};
use eider_xmpp::jid::FullJid;
use eider_xmpp::sasl::Mechanism;
use eider_xmpp::stanza::Stanza;
use serde::{Deserialize, Serialize};

use crate::c2s::mailbox::Origin;
use crate::c2s::stream_management::{Sent, StreamManagement};
use crate::cluster::sessions::SessionHandle;

/// Format written now; older ones are read by what they lack.
const VERSION: u32 = 1;

/// One session as stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    /// Its full JID.
    pub jid: String,
    mechanism: String,
    since_micros: i64,
    resume_seconds: u64,
    handled: u32,
    acknowledged: u32,
    presence: Option<SavedPresence>,
    carbons: bool,
    interested: bool,
    blocking_interest: bool,
    directed: Vec<String>,
    /// Bytes and stanzas its client has sent.
    #[serde(default)]
    sent: (u64, u64),
    queue: Vec<SavedDelivery>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedPresence {
    stanza: String,
    priority: i8,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedDelivery {
    stanza: String,
    debt: Option<i64>,
    copy: bool,
}

/// What a restored session starts from.
pub struct Restored {
    /// The handle, with presence and flags as they were.
    pub handle: Arc<SessionHandle>,
    /// Counters and queue.
    pub sm: StreamManagement,
    /// The mechanism of its login.
    pub mechanism: Mechanism,
    /// Debts in its queue.
    pub debts: Vec<i64>,
    /// Bytes and stanzas its client has sent.
    pub sent: (u64, u64),
}

/// Writes a session down, with the bytes and stanzas its client has `sent`; `None` where it has no account or cannot be resumed.
pub fn save(
    handle: &SessionHandle,
    sm: &StreamManagement,
    mechanism: &str,
    sent: (u64, u64),
) -> Option<SavedSession> {
    let id = sm.id.clone()?;
    let presence = handle.presence().zip(handle.priority());
    let saved = Saved {
        version: VERSION,
        jid: handle.full.as_str().to_owned(),
        mechanism: mechanism.to_owned(),
        since_micros: Timestamp::from_system(handle.since).0,
        resume_seconds: sm.resume.as_secs(),
        handled: sm.handled,
        acknowledged: sm.acknowledged,
        presence: presence.map(|(stanza, priority)| SavedPresence {
            stanza: text(stanza.as_bytes()),
            priority,
        }),
        carbons: handle.carbons(),
        interested: handle.interested(),
        blocking_interest: handle.blocking_interest(),
        directed: handle
            .directed()
            .iter()
            .map(|jid| jid.as_str().to_owned())
            .collect(),
        sent,
        queue: sm.unacknowledged().iter().map(saved_delivery).collect(),
    };
    Some(SavedSession {
        id,
        account: handle.account?,
        state: Bytes::from(serde_json::to_vec(&saved).ok()?),
        expires_at: Timestamp::from_system(crate::clock::now() + sm.resume),
    })
}

/// Reads a session back. `None` where it was not written by a version we know.
pub fn restore(saved: &SavedSession, limit_bytes: usize) -> Option<Restored> {
    let state: Saved = serde_json::from_slice(&saved.state).ok()?;
    if state.version > VERSION {
        return None;
    }
    let full: FullJid = state.jid.parse().ok()?;
    let since = Timestamp(state.since_micros).to_system();
    let handle = handle(&state, full, saved.account, since, limit_bytes)?;
    let mut queue = VecDeque::with_capacity(state.queue.len());
    for delivery in &state.queue {
        queue.push_back(restored_delivery(delivery)?);
    }
    let debts = queue.iter().filter_map(|delivery| delivery.debt).collect();
    let resume = Duration::from_secs(state.resume_seconds);
    let id = saved.id.clone();
    let sm = StreamManagement::restored(id, resume, state.handled, state.acknowledged, queue);
    let mechanism = Mechanism::from_name(&state.mechanism)?;
    Some(Restored {
        handle,
        sm,
        mechanism,
        debts,
        sent: state.sent,
    })
}

fn handle(
    state: &Saved,
    full: FullJid,
    account: AccountId,
    since: SystemTime,
    limit_bytes: usize,
) -> Option<Arc<SessionHandle>> {
    let handle = SessionHandle::new(full, Some(account), None, since, limit_bytes);
    handle.set_carbons(state.carbons);
    if state.interested {
        handle.set_interested();
    }
    if state.blocking_interest {
        handle.set_blocking_interest();
    }
    for jid in &state.directed {
        handle.add_directed(jid.parse().ok()?, usize::MAX);
    }
    if let Some(presence) = &state.presence {
        handle.set_presence(Some((stanza(&presence.stanza)?, presence.priority)));
    }
    Some(Arc::new(handle))
}

fn text(stanza: &[u8]) -> String {
    String::from_utf8_lossy(stanza).into_owned()
}

fn stanza(text: &str) -> Option<Stanza> {
    Stanza::parse_stored(Bytes::copy_from_slice(text.as_bytes())).ok()
}

fn saved_delivery(sent: &Sent) -> SavedDelivery {
    SavedDelivery {
        stanza: text(&sent.bytes),
        debt: sent.debt,
        copy: sent.origin != Origin::Direct,
    }
}

fn restored_delivery(saved: &SavedDelivery) -> Option<Sent> {
    let origin = if saved.copy {
        Origin::Copy
    } else {
        Origin::Direct
    };
    Some(Sent {
        bytes: stanza(&saved.stanza)?.into_bytes(),
        debt: saved.debt,
        origin,
    })
}
