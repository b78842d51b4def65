//! Sent again is not sent twice (DESIGN §1, promise 2).
//!
//! After a restart or an unclean end a client may send again what it never saw acknowledged.
//! The account's next messages are then compared with what it sent lately: by origin-id
//! (XEP-0359 §3.2), and by plain `id` only on a stream that has just failed to resume a session,
//! since ids are unique per stream only (RFC 6120 §8.1.3). Everything else is new.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use eider_storage::{AccountId, ResendKey, Storage, Timestamp};
use eider_xmpp::ns;
use eider_xmpp::payload::stanza_id::origin_id;
use eider_xmpp::stanza::Stanza;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Messages of the account that are remembered, newest first.
const REMEMBERED_MESSAGES: u32 = 500;
/// Bytes of messages that are read to be remembered.
const REMEMBERED_BYTES: u64 = 8 * 1024 * 1024;
/// Older messages are not looked at, in seconds: the longest time a session waits for its client, and as much again.
const REMEMBERED_SECONDS: u64 = 7_200;
/// For this long after its session's start an account's messages are compared.
const WATCHED: Duration = Duration::from_secs(300);
/// Accounts remembered as settled; beyond it all are looked at again.
const SETTLED_MAX: usize = 200_000;

/// First byte of a key: what the message was named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NamedBy {
    OriginId = 1,
    Id = 2,
}

/// What a session has to do about messages sent again.
#[derive(Debug, Default)]
pub enum Watch {
    /// Nothing: its client has no reason to send anything again.
    #[default]
    No,
    /// What was sent lately has to be read first.
    Suspect {
        /// Whether this stream failed to resume a session.
        failed_resume: bool,
    },
    /// What was sent lately.
    Window(Window),
}

/// What an account sent lately: each message is recognised once.
#[derive(Debug)]
pub struct Window {
    sent: HashMap<Vec<u8>, u32>,
    until: Instant,
    failed_resume: bool,
}

/// Which accounts may send something again.
pub struct Resends {
    storage: Arc<dyn Storage>,
    settled: Mutex<HashSet<AccountId>>,
}

impl Resends {
    /// Every account is suspect after a start.
    pub fn new(storage: Arc<dyn Storage>) -> Resends {
        Resends {
            storage,
            settled: Mutex::default(),
        }
    }

    /// What a new session of the account has to do.
    pub fn watch(&self, account: AccountId, failed_resume: bool) -> Watch {
        if !failed_resume && self.settled.lock().contains(&account) {
            return Watch::No;
        }
        Watch::Suspect { failed_resume }
    }

    /// A session of the account ended; `clean` where its client closed it.
    pub fn ended(&self, account: AccountId, clean: bool) {
        let mut settled = self.settled.lock();
        if !clean {
            settled.remove(&account);
            return;
        }
        if settled.len() >= SETTLED_MAX {
            settled.clear();
        }
        settled.insert(account);
    }

    /// Reads what the account sent lately.
    ///
    /// # Errors
    /// Storage's.
    pub async fn load(
        &self,
        account: AccountId,
        failed_resume: bool,
    ) -> Result<Watch, eider_storage::Error> {
        let now = crate::clock::timestamp();
        let since = now.minus_seconds(REMEMBERED_SECONDS);
        let rows = self
            .storage
            .archive_recent_sent(account, REMEMBERED_MESSAGES, REMEMBERED_BYTES, since)
            .await?;
        let keys = self
            .storage
            .archive_resend_keys(account, REMEMBERED_MESSAGES, since)
            .await?;
        let mut sent: HashMap<Vec<u8>, u32> = HashMap::new();
        let stored = rows
            .into_iter()
            .filter_map(|row| Stanza::parse_stored(row.bytes).ok());
        let stored =
            stored.flat_map(|stanza| [key(&stanza, NamedBy::OriginId), key(&stanza, NamedBy::Id)]);
        for key in stored.flatten().chain(keys.into_iter().map(|key| key.key)) {
            *sent.entry(key).or_insert(0) += 1;
        }
        Ok(Watch::Window(Window {
            sent,
            until: Instant::now() + WATCHED,
            failed_resume,
        }))
    }
}

impl Window {
    /// Whether nothing more is to be expected.
    pub fn is_over(&self) -> bool {
        self.sent.is_empty() || Instant::now() > self.until
    }

    /// Whether the account has sent this message before. `stanza` with both addresses.
    pub fn recognises(&mut self, stanza: &Stanza) -> bool {
        if self.take(key(stanza, NamedBy::OriginId)) {
            return true;
        }
        self.failed_resume && self.take(key(stanza, NamedBy::Id))
    }

    fn take(&mut self, key: Option<Vec<u8>>) -> bool {
        let Some(key) = key else { return false };
        let Some(left) = self.sent.get_mut(&key) else {
            return false;
        };
        *left -= 1;
        if *left == 0 {
            self.sent.remove(&key);
        }
        true
    }
}

/// How a message of an account without an archive is recognised later.
pub fn resend_key(account: AccountId, stanza: &Stanza, at: Timestamp) -> Option<ResendKey> {
    let key = key(stanza, NamedBy::OriginId).or_else(|| key(stanza, NamedBy::Id))?;
    Some(ResendKey { account, key, at })
}

/// A digest of what makes two messages the same: name, `to`, `type` and payload less delays.
fn key(stanza: &Stanza, named_by: NamedBy) -> Option<Vec<u8>> {
    let name = match named_by {
        NamedBy::OriginId => origin_id(stanza)?,
        NamedBy::Id => stanza.id()?.into_owned(),
    };
    let mut digest = Context::new(&SHA256);
    let mut field = |bytes: &[u8]| {
        digest.update(&(bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    field(name.as_bytes());
    field(stanza.to()?.as_str().as_bytes());
    field(stanza.type_attr().unwrap_or_default().as_bytes());
    for child in stanza.children().filter(|child| child.ns != ns::DELAY) {
        field(child.bytes);
    }
    let mut key = vec![named_by as u8];
    key.extend_from_slice(&digest.finish().as_ref()[..16]);
    Some(key)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn stanza(xml: &str) -> Stanza {
        Stanza::parse_stored(Bytes::copy_from_slice(xml.as_bytes())).expect("well-formed")
    }

    fn window(sent: &[&str], failed_resume: bool) -> Window {
        let mut keys = HashMap::new();
        for xml in sent {
            let stanza = stanza(xml);
            for key in [key(&stanza, NamedBy::OriginId), key(&stanza, NamedBy::Id)]
                .into_iter()
                .flatten()
            {
                *keys.entry(key).or_insert(0) += 1;
            }
        }
        Window {
            sent: keys,
            until: Instant::now() + WATCHED,
            failed_resume,
        }
    }

    const NAMED: &str = "<message to='b@h' id='1'><body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='o'/></message>";
    const PLAIN: &str = "<message to='b@h' id='1' type='chat'><body>x</body></message>";

    #[test]
    fn an_origin_id_is_recognised_once_and_despite_a_delay() {
        let mut window = window(&[NAMED], false);
        let again = "<message to='b@h' id='2'><body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='o'/><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/></message>";
        assert!(window.recognises(&stanza(again)));
        assert!(!window.recognises(&stanza(again)));
    }

    #[test]
    fn a_plain_id_counts_only_after_a_failed_resumption() {
        assert!(!window(&[PLAIN], false).recognises(&stanza(PLAIN)));
        assert!(window(&[PLAIN], true).recognises(&stanza(PLAIN)));
    }

    #[test]
    fn another_payload_recipient_or_type_is_another_message() {
        for other in [
            "<message to='b@h' id='1' type='chat'><body>y</body></message>",
            "<message to='c@h' id='1' type='chat'><body>x</body></message>",
            "<message to='b@h' id='1'><body>x</body></message>",
        ] {
            assert!(
                !window(&[PLAIN], true).recognises(&stanza(other)),
                "{other}"
            );
        }
    }
}
