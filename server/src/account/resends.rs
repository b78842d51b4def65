//! Sent again is not sent twice (DESIGN §1, promise 2).
//!
//! After a restart or an unclean end a client may send again what it never saw acknowledged.
//! The account's next messages are then compared with what it sent lately: by origin-id
//! (XEP-0359 §3.2), and by plain `id` only on a stream that has just failed to resume a session,
//! since ids are unique per stream only (RFC 6120 §8.1.3). Everything else is new.
//!
//! A client that fails again before it has seen its resends acknowledged sends them once more: they lie in
//! storage since a session before the one it fails to resume then (see [`Lineage`]). Such a client is back
//! quickly: where the session it fails to resume began longer ago than `FOREBEARS_COUNT`, it has had the time to read
//! what was acknowledged, and what earlier ones sent is new when it comes again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use eider_storage::{AccountId, ResendKey, Storage, Timestamp};
use eider_xmpp::ns;
use eider_xmpp::payload::stanza_id::origin_id;
use eider_xmpp::stanza::Stanza;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::c2s::resumable::{Lineage, Resumable, jid_digest};

/// Messages of the account that are remembered, newest first.
const REMEMBERED_MESSAGES: u32 = 500;
/// Bytes of messages that are read to be remembered.
const REMEMBERED_BYTES: u64 = 8 * 1024 * 1024;
/// Older messages are not looked at: the longest time a session waits for its client, and as much again.
const REMEMBERED: Duration = Duration::from_secs(7_200);
/// For this long after its session's start an account's messages are compared.
const WATCHED: Duration = Duration::from_secs(300);
/// A session that began longer ago stands for itself alone, not for those before it.
const FOREBEARS_COUNT: Duration = Duration::from_secs(900);
/// Accounts remembered; beyond it all are suspect.
const SUSPECTS_MAX: usize = 100_000;
/// Lost sessions remembered of one account.
const LOST_SESSIONS_MAX: usize = 16;

/// A name and what makes two messages the same, digested.
type Key = [u8; 16];

/// First byte of a stored key: what the message was named by.
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
    Suspect(Box<Suspicion>),
    /// What was sent lately.
    Window(Box<Window>),
}

impl Watch {
    /// What the session's stream failed to resume, while that matters.
    pub fn failed(&self) -> &[Resumable] {
        match self {
            Watch::No => &[],
            Watch::Suspect(suspicion) => &suspicion.failed,
            Watch::Window(window) => &window.suspicion.failed,
        }
    }

    /// Nothing is kept once nothing more is to be expected.
    pub fn forget_if_over(&mut self, now: Instant) {
        let is_over = match self {
            Watch::No => return,
            Watch::Suspect(suspicion) => suspicion.is_over(now),
            Watch::Window(window) => window.sent.is_empty() || window.suspicion.is_over(now),
        };
        if is_over {
            *self = Watch::No;
        }
    }
}

/// Why a session's messages are compared, and how long.
#[derive(Debug, Clone)]
pub struct Suspicion {
    /// What its stream failed to resume.
    failed: Lineage,
    /// Fixed when the session begins, however late its first message comes.
    until: Instant,
}

impl Suspicion {
    fn is_over(&self, now: Instant) -> bool {
        now > self.until
    }
}

/// What an account sent lately: each message is recognised once.
#[derive(Debug)]
pub struct Window {
    sent: Vec<Sent>,
    suspicion: Suspicion,
}

/// One message, as it may be recognised.
#[derive(Debug)]
struct Sent {
    at: Timestamp,
    origin_id: Option<Key>,
    /// Only of what the sessions sent that could not be resumed.
    id: Option<Key>,
}

/// Which accounts may send something again: those with a session that ended and was not closed.
/// Another session's orderly end changes nothing about that, only time does.
#[derive(Debug)]
struct Suspects {
    /// Until then everyone: what an earlier run knew is gone.
    everyone_until: Instant,
    /// Of sessions that began before, it is not known how they ended.
    known_since: Timestamp,
    /// But of these it is: their clients closed them.
    closed: HashSet<(AccountId, Resumable)>,
    accounts: HashMap<AccountId, Suspect>,
}

#[derive(Debug)]
struct Suspect {
    until: Instant,
    lost: SmallVec<[Resumable; 1]>,
}

impl Suspects {
    fn new(now: Instant, time: Timestamp) -> Suspects {
        Suspects {
            everyone_until: now + REMEMBERED,
            known_since: time,
            closed: HashSet::new(),
            accounts: HashMap::new(),
        }
    }

    fn lost(
        &mut self,
        account: AccountId,
        session: Option<Resumable>,
        now: Instant,
        time: Timestamp,
    ) {
        if self.accounts.len() >= SUSPECTS_MAX {
            self.accounts.retain(|_, suspect| now < suspect.until);
            if self.accounts.len() > SUSPECTS_MAX / 2 {
                *self = Suspects::new(now, time);
            }
        }
        let suspect = self.accounts.entry(account).or_insert(Suspect {
            until: now,
            lost: SmallVec::new(),
        });
        suspect.until = now + REMEMBERED;
        if suspect.lost.len() == LOST_SESSIONS_MAX {
            suspect.lost.remove(0);
        }
        suspect.lost.extend(session);
    }

    fn is_suspect(&self, account: AccountId, now: Instant) -> bool {
        let suspect = self.accounts.get(&account);
        now < self.everyone_until || suspect.is_some_and(|suspect| now < suspect.until)
    }

    fn closed(&mut self, account: AccountId, session: Resumable) {
        if session.since < self.known_since && self.closed.len() < SUSPECTS_MAX {
            self.closed.insert((account, session));
        }
    }

    fn watch(
        &self,
        account: AccountId,
        mut failed: Lineage,
        now: Instant,
        time: Timestamp,
    ) -> Watch {
        let newest = failed.first().copied();
        let newest = newest.filter(|session| self.has_lost(account, session));
        if newest.is_none() && !self.is_suspect(account, now) {
            return Watch::No;
        }
        match newest {
            None => failed.clear(),
            Some(newest) if newest.since < time.minus_seconds(FOREBEARS_COUNT.as_secs()) => {
                failed.truncate(1);
            }
            Some(_) => {}
        }
        let until = now + WATCHED;
        Watch::Suspect(Box::new(Suspicion { failed, until }))
    }

    /// Whether a session ended and was not closed, as far as is known.
    fn has_lost(&self, account: AccountId, session: &Resumable) -> bool {
        let suspect = self.accounts.get(&account);
        let is_known =
            session.since >= self.known_since || self.closed.contains(&(account, *session));
        !is_known || suspect.is_some_and(|suspect| suspect.lost.contains(session))
    }
}

/// Recognises what is sent again.
pub struct Resends {
    storage: Arc<dyn Storage>,
    suspects: Mutex<Suspects>,
}

impl Resends {
    /// Every account is suspect after a start, which is now.
    pub fn new(storage: Arc<dyn Storage>, time: Timestamp) -> Resends {
        Resends {
            storage,
            suspects: Mutex::new(Suspects::new(Instant::now(), time)),
        }
    }

    /// What a new session of the account has to do; `failed` is what its stream could not resume.
    pub fn watch(
        &self,
        account: AccountId,
        failed: Lineage,
        now: Instant,
        time: Timestamp,
    ) -> Watch {
        self.suspects.lock().watch(account, failed, now, time)
    }

    /// A session of the account ended without its client closing it; with what its id tells of it.
    pub fn lost(&self, account: AccountId, session: Option<Resumable>, now: Instant) {
        let time = crate::clock::timestamp();
        self.suspects.lock().lost(account, session, now, time);
    }

    /// A session of the account was closed by its client; with what its id tells of it.
    pub fn closed(&self, account: AccountId, session: Resumable) {
        self.suspects.lock().closed(account, session);
    }

    /// Reads what the account sent lately.
    ///
    /// # Errors
    /// Storage's.
    pub async fn load(
        &self,
        account: AccountId,
        suspicion: Suspicion,
    ) -> Result<Watch, eider_storage::Error> {
        let now = crate::clock::timestamp();
        let since = now.minus_seconds(REMEMBERED.as_secs());
        let rows = self
            .storage
            .archive_recent_sent(account, REMEMBERED_MESSAGES, REMEMBERED_BYTES, since)
            .await?;
        let keys = self
            .storage
            .archive_resend_keys(account, REMEMBERED_MESSAGES, since)
            .await?;
        let rows = rows.into_iter().filter_map(|row| {
            let stanza = Stanza::parse_stored(row.bytes).ok()?;
            Sent::stanza(&stanza, row.at, &suspicion.failed)
        });
        let keys = keys
            .into_iter()
            .filter_map(|key| Sent::key(&key, &suspicion.failed));
        Ok(Watch::Window(Box::new(Window {
            sent: rows.chain(keys).collect(),
            suspicion,
        })))
    }
}

impl Sent {
    /// A message of the archive; `None` where it cannot be recognised.
    fn stanza(stanza: &Stanza, at: Timestamp, failed: &[Resumable]) -> Option<Sent> {
        let jid = jid_digest(stanza.from()?.as_str());
        let sent_by = |failed: &Resumable| failed.jid == jid && at >= failed.since;
        let origin_id = origin_id_key(stanza);
        let id = failed.iter().any(sent_by).then(|| id_key(stanza, jid));
        let id = id.flatten();
        (origin_id.is_some() || id.is_some()).then_some(Sent { at, origin_id, id })
    }

    /// A message of an account without an archive.
    fn key(stored: &ResendKey, failed: &[Resumable]) -> Option<Sent> {
        let (named_by, key) = stored.key.split_first()?;
        let key: Key = key.try_into().ok()?;
        let of_failed = failed.iter().any(|failed| stored.at >= failed.since);
        let is = |wanted: NamedBy| *named_by == wanted as u8;
        let (origin_id, id) = (is(NamedBy::OriginId), is(NamedBy::Id) && of_failed);
        (origin_id || id).then_some(Sent {
            at: stored.at,
            origin_id: origin_id.then_some(key),
            id: id.then_some(key),
        })
    }
}

impl Window {
    /// Whether the account has sent this message before. `stanza` with both addresses.
    pub fn recognises(&mut self, stanza: &Stanza) -> bool {
        let origin_id = origin_id_key(stanza);
        let failed = self.suspicion.failed.iter();
        let ids = failed.filter_map(|one| Some((one.since, id_key(stanza, one.jid)?)));
        let ids: SmallVec<[(Timestamp, Key); 1]> = ids.collect();
        let is_id = |sent: &Sent| {
            let of = |(since, key): &(Timestamp, Key)| sent.at >= *since && sent.id == Some(*key);
            ids.iter().any(of)
        };
        let is_known =
            |sent: &Sent| (origin_id.is_some() && origin_id == sent.origin_id) || is_id(sent);
        let found = self.sent.iter().position(is_known);
        found.map(|at| self.sent.swap_remove(at)).is_some()
    }
}

/// How a message of an account without an archive is recognised later. `stanza` with both addresses.
pub fn resend_key(account: AccountId, stanza: &Stanza, at: Timestamp) -> Option<ResendKey> {
    let (named_by, key) = match origin_id_key(stanza) {
        Some(key) => (NamedBy::OriginId, key),
        None => {
            let jid = jid_digest(stanza.from()?.as_str());
            (NamedBy::Id, id_key(stanza, jid)?)
        }
    };
    let mut stored = vec![named_by as u8];
    stored.extend_from_slice(&key);
    Some(ResendKey {
        account,
        key: stored,
        at,
    })
}

fn origin_id_key(stanza: &Stanza) -> Option<Key> {
    key(stanza, &origin_id(stanza)?, None)
}

/// An id says something only together with the session that sent it.
fn id_key(stanza: &Stanza, jid: u64) -> Option<Key> {
    key(stanza, &stanza.id()?, Some(jid))
}

/// A digest of what makes two messages the same: name, sender where it matters, `to`, `type` and payload
/// less delays.
fn key(stanza: &Stanza, name: &str, jid: Option<u64>) -> Option<Key> {
    let mut digest = Context::new(&SHA256);
    let mut field = |bytes: &[u8]| {
        digest.update(&(bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    field(name.as_bytes());
    if let Some(jid) = jid {
        field(&jid.to_be_bytes());
    }
    field(stanza.to()?.as_str().as_bytes());
    field(stanza.type_attr().unwrap_or_default().as_bytes());
    for child in stanza.children().filter(|child| child.ns != ns::DELAY) {
        field(child.bytes);
    }
    let digest = digest.finish();
    let (first, _) = digest.as_ref().split_at(16);
    first.try_into().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NAMED: &str = "<message from='a@h/1' to='b@h' id='1'><body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='o'/></message>";
    const PLAIN: &str =
        "<message from='a@h/1' to='b@h' id='1' type='chat'><body>x</body></message>";
    const AGAIN: &str =
        "<message from='a@h/2' to='b@h' id='1' type='chat'><body>x</body></message>";

    fn stanza(xml: &str) -> Stanza {
        Stanza::parse_stored(Bytes::copy_from_slice(xml.as_bytes())).expect("well-formed")
    }

    /// The session of a@h/1, since time 10.
    fn session() -> Resumable {
        Resumable {
            jid: jid_digest("a@h/1"),
            since: Timestamp(10),
        }
    }

    fn window(sent: &str, at: i64, failed: &[Resumable]) -> Window {
        let sent = Sent::stanza(&stanza(sent), Timestamp(at), failed);
        compared(sent, failed)
    }

    fn compared(sent: Option<Sent>, failed: &[Resumable]) -> Window {
        Window {
            sent: sent.into_iter().collect(),
            suspicion: Suspicion {
                failed: failed.into(),
                until: Instant::now() + WATCHED,
            },
        }
    }

    #[test]
    fn an_origin_id_is_recognised_once_and_despite_a_delay() {
        let mut window = window(NAMED, 11, &[]);
        let again = "<message from='a@h/2' to='b@h' id='2'><body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='o'/><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/></message>";
        assert!(window.recognises(&stanza(again)));
        assert!(!window.recognises(&stanza(again)));
    }

    #[test]
    fn who_is_recognised_by_origin_id_is_not_recognised_by_id_again() {
        let mut window = window(NAMED, 11, &[session()]);
        assert!(window.recognises(&stanza(NAMED)));
        assert!(!window.recognises(&stanza(NAMED)));
    }

    #[test]
    fn an_id_counts_only_for_what_the_lost_session_sent() {
        let other = Resumable {
            jid: jid_digest("a@h/3"),
            ..session()
        };
        assert!(window(PLAIN, 11, &[session()]).recognises(&stanza(AGAIN)));
        assert!(!window(PLAIN, 11, &[]).recognises(&stanza(AGAIN)));
        assert!(!window(PLAIN, 9, &[session()]).recognises(&stanza(AGAIN)));
        assert!(!window(PLAIN, 11, &[other]).recognises(&stanza(AGAIN)));
    }

    #[test]
    fn the_same_holds_for_an_account_without_an_archive() {
        let key = resend_key(AccountId(1), &stanza(PLAIN), Timestamp(11)).expect("it has an id");
        let recognises = |failed: &[Resumable]| {
            compared(Sent::key(&key, failed), failed).recognises(&stanza(AGAIN))
        };
        let later = Resumable {
            since: Timestamp(12),
            ..session()
        };
        assert!(recognises(&[session()]));
        assert!(!recognises(&[]));
        assert!(!recognises(&[later]));
        assert!(recognises(&[later, session()]));
        // Sent by a session that was closed: the time of another one's beginning says nothing of it.
        let (later, other) = (later, jid_digest("a@h/2"));
        let other = Resumable {
            jid: other,
            ..session()
        };
        assert!(!recognises(&[later, other]));
    }

    #[test]
    fn what_an_earlier_session_of_the_lineage_sent_is_recognised() {
        let second = Resumable {
            jid: jid_digest("a@h/2"),
            since: Timestamp(20),
        };
        assert!(window(PLAIN, 11, &[second, session()]).recognises(&stanza(AGAIN)));
        assert!(!window(PLAIN, 11, &[second]).recognises(&stanza(AGAIN)));
    }

    #[test]
    fn another_payload_recipient_or_type_is_another_message() {
        for other in [
            "<message from='a@h/1' to='b@h' id='1' type='chat'><body>y</body></message>",
            "<message from='a@h/1' to='c@h' id='1' type='chat'><body>x</body></message>",
            "<message from='a@h/1' to='b@h' id='1'><body>x</body></message>",
        ] {
            let mut window = window(PLAIN, 11, &[session()]);
            assert!(!window.recognises(&stanza(other)), "{other}");
        }
    }

    #[test]
    fn suspicion_ends_with_time_and_knows_lost_sessions() {
        let (start, one, two) = (Instant::now(), AccountId(1), AccountId(2));
        let mut suspects = Suspects::new(start, Timestamp(5));
        assert!(suspects.is_suspect(one, start));
        let later = start + REMEMBERED;
        assert!(!suspects.is_suspect(one, later));
        assert!(!suspects.has_lost(one, &session()));
        suspects.lost(one, Some(session()), later, Timestamp(20));
        assert!(suspects.is_suspect(one, later) && !suspects.is_suspect(two, later));
        assert!(suspects.has_lost(one, &session()) && !suspects.has_lost(two, &session()));
        assert!(!suspects.is_suspect(one, later + REMEMBERED));
        let of_an_earlier_run = Resumable {
            since: Timestamp(4),
            ..session()
        };
        assert!(suspects.has_lost(two, &of_an_earlier_run));
        suspects.closed(two, of_an_earlier_run);
        assert!(!suspects.has_lost(two, &of_an_earlier_run));
        assert!(suspects.has_lost(one, &of_an_earlier_run));
    }

    #[test]
    fn who_has_had_time_to_read_is_not_compared_with_what_earlier_sessions_sent() {
        let (now, one) = (Instant::now(), AccountId(1));
        let minutes = |minutes: i64| Timestamp(Timestamp(0).0 + minutes * 60_000_000);
        let mut suspects = Suspects::new(now, minutes(0));
        let begun = |jid, at| Resumable {
            jid: jid_digest(jid),
            since: minutes(at),
        };
        let lineage = [begun("a@h/2", 30), begun("a@h/1", 10)];
        suspects.lost(one, Some(lineage[0]), now, minutes(60));
        let failed = |at| {
            let watch = suspects.watch(one, lineage[..].into(), now, minutes(at));
            watch.failed().len()
        };
        assert_eq!((failed(45), failed(46)), (2, 1));
    }

    #[test]
    fn messages_are_compared_from_the_sessions_start_on_for_so_long() {
        let now = Instant::now();
        let suspects = Suspects::new(now, Timestamp(0));
        let watch = suspects.watch(AccountId(1), Lineage::new(), now, Timestamp(1));
        let Watch::Suspect(suspicion) = watch else {
            panic!("everyone is suspect after a start");
        };
        assert!(!suspicion.is_over(now + WATCHED));
        let later = now + WATCHED + Duration::from_secs(1);
        assert!(suspicion.is_over(later));
        let mut watch = Watch::Suspect(suspicion);
        watch.forget_if_over(now);
        assert!(matches!(watch, Watch::Suspect(_)));
        watch.forget_if_over(later);
        assert!(matches!(watch, Watch::No), "an idle session keeps nothing");
    }

    #[test]
    fn suspects_are_bounded() {
        let now = Instant::now();
        let mut suspects = Suspects::new(now - REMEMBERED, Timestamp(0));
        for account in 0..=SUSPECTS_MAX as i64 {
            suspects.lost(AccountId(account), None, now, Timestamp(9));
        }
        assert!(suspects.accounts.len() <= SUSPECTS_MAX);
        assert!(suspects.is_suspect(AccountId(0), now));
    }
}
