//! Which of an account's resources get a stanza (RFC 6121 §8.5, XEP-0280).

use std::sync::Arc;

use eider_storage::AccountId;
use eider_xmpp::error::StanzaError;
use eider_xmpp::jid::{BareJid, FullJid, Jid};
use eider_xmpp::payload::{carbons, stanza_id};
use eider_xmpp::stanza::{IqType, Kind, MessageType, Stanza, error_reply};

use smallvec::{SmallVec, smallvec};

use crate::account::ledger::Holders;
use crate::account::stanza_ids::StanzaIds;
use crate::c2s::control::Control;
use crate::c2s::mailbox::{Delivery, Origin, Refused};
use crate::cluster::sessions::{Entry, SessionHandle, Sessions};

/// Where a message for a local account goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The one resource it names.
    Resource,
    /// The resources of the highest non-negative priority, all equals (RFC 6121 §8.5.2.1.1).
    Account,
    /// Every resource of non-negative priority (headlines).
    Everyone,
}

/// What RFC 6121 §8.5 says of a message before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on.
    Deliver(Destination),
    /// Answered with `service-unavailable`.
    Refuse,
    /// Dropped in silence.
    Drop,
}

/// RFC 6121 §8.5.2 and §8.5.3 for messages to an existing account.
///
/// `resource_bound`: `None` for a bare JID, else whether the named resource is bound.
/// `reachable`: whether any resource is available with a non-negative priority.
/// `kept`: whether the offline store would keep it.
pub fn message_verdict(
    kind: MessageType,
    resource_bound: Option<bool>,
    reachable: bool,
    kept: bool,
) -> Verdict {
    use MessageType::{Chat, Error, Groupchat, Headline, Normal};
    match (resource_bound, kind) {
        (Some(true), _) => Verdict::Deliver(Destination::Resource),
        (Some(false), Normal | Groupchat) | (None, Groupchat) => Verdict::Refuse,
        (Some(false), Headline | Error) | (None, Error) => Verdict::Drop,
        (None, Headline) if reachable => Verdict::Deliver(Destination::Everyone),
        (None, Headline) => Verdict::Drop,
        (Some(false), Chat) | (None, Chat | Normal) if reachable || kept => {
            Verdict::Deliver(Destination::Account)
        }
        // Neither reachable nor kept: what cannot be stored is not pretended to be.
        (Some(false), Chat) | (None, Chat | Normal) => Verdict::Refuse,
    }
}

/// One message on its way to a local account.
pub struct Incoming<'a> {
    /// The stanza without stanza-ids.
    pub stanza: &'a Stanza,
    /// The address it was sent to.
    pub to: &'a Jid,
    /// See [`Destination`].
    pub destination: Destination,
    /// Whether XEP-0280 lets copies be made.
    pub carbons: bool,
    /// The account and its archive position, where it has one.
    pub stored: Option<Stored>,
}

/// A row just committed for an owner.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// Whose archive.
    pub owner: AccountId,
    /// Where in it.
    pub position: i64,
    /// Whether queries see it, so that it gets a stanza-id.
    pub archived: bool,
    /// Whether it is owed until acknowledged.
    pub debt: bool,
}

/// Pushes stanzas into the mailboxes of an account's sessions.
pub struct LocalDelivery {
    sessions: Arc<Sessions>,
    ids: Arc<StanzaIds>,
}

impl LocalDelivery {
    /// Delivers among `sessions`, with ids made by `ids`.
    pub fn new(sessions: Arc<Sessions>, ids: Arc<StanzaIds>) -> LocalDelivery {
        LocalDelivery { sessions, ids }
    }

    /// Delivers a message; true where at least one resource took it.
    pub fn message(&self, incoming: &Incoming<'_>) -> bool {
        let stanza = self.identified(incoming.stanza, incoming.to.bare_str(), incoming.stored);
        self.sessions
            .with(incoming.to.bare_str(), |entry| match entry {
                Some(entry) => deliver_to_entry(entry, incoming, &stanza),
                None => false,
            })
    }

    /// A committed message could not be delivered: it is owed to the account, whose best resource reads it.
    pub fn owe(&self, account: &str, position: i64) {
        let heir = self.sessions.with(account, |entry| {
            let entry = entry?;
            entry.ledger.add(position, Holders::new());
            entry.heir()
        });
        if let Some(heir) = heir {
            let _ = heir.mailbox.control(Control::CatchUp);
        }
    }

    /// XEP-0280 §8: copies of what one resource sent for the account's others.
    pub fn sent_carbons(&self, sender: &FullJid, stanza: &Stanza, stored: Option<Stored>) {
        self.sessions.with(sender.bare_str(), |entry| {
            let Some(entry) = entry else { return };
            let mut wrapped: Option<Stanza> = None;
            for handle in entry.sessions.iter().filter(|handle| handle.carbons()) {
                if handle.full == *sender {
                    continue;
                }
                let inner = wrapped
                    .get_or_insert_with(|| self.identified(stanza, sender.bare_str(), stored));
                let copy = carbons::sent(inner, &handle.bare, &handle.full);
                let _ = handle.mailbox.push(Delivery::copy(copy));
            }
            if wrapped.is_some() {
                entry.copied.note(stanza);
            }
        });
    }

    /// The stanza with the owner's stanza-id (XEP-0359 §3), where it is archived.
    pub fn identified(&self, stanza: &Stanza, by: &str, stored: Option<Stored>) -> Stanza {
        let Some(stored) = stored.filter(|stored| stored.archived) else {
            return stanza.clone();
        };
        let id = self.ids.encode(stored.owner, stored.position);
        let element = stanza_id::fragment(by, &id);
        stanza.rewrite().append(&element).build()
    }

    /// Answers a stanza that nobody took: messages but headlines and errors, and iq requests.
    pub fn bounce(&self, stanza: &Stanza, error: &StanzaError) {
        let bounces = match stanza.kind() {
            Kind::Message => !matches!(
                stanza.message_type(),
                MessageType::Headline | MessageType::Error
            ),
            Kind::Iq => matches!(stanza.iq_type(), Ok(IqType::Get | IqType::Set)),
            Kind::Presence => false,
        };
        let Some(reply) = bounces.then(|| error_reply(stanza, error)).flatten() else {
            return;
        };
        let Some(sender) = reply.to().and_then(Jid::to_full) else {
            return;
        };
        self.sessions.with(sender.bare_str(), |entry| {
            let Some(entry) = entry else { return };
            let Some(handle) = entry.find(sender.resource()).cloned() else {
                return;
            };
            let _ = handle.mailbox.push(Delivery::answer(reply.clone()));
            if entry.copied.is_answered_by(&reply) {
                received_carbons(&entry.sessions, &[handle], &reply);
            }
        });
    }

    /// Delivers an iq to the resource it names; false where that is not bound or takes no more.
    pub fn iq(&self, to: &FullJid, stanza: Stanza) -> bool {
        let Some(handle) = self.sessions.find(to) else {
            return false;
        };
        handle.mailbox.push(Delivery::direct(stanza)).is_ok()
    }

    /// Delivers to every resource for which `wanted` holds; how many took it.
    pub fn each(
        &self,
        account: &BareJid,
        stanza: &Stanza,
        wanted: impl Fn(&SessionHandle) -> bool,
    ) -> usize {
        self.sessions.with(account.as_str(), |entry| {
            let sessions = entry
                .map(|entry| entry.sessions.as_slice())
                .unwrap_or_default();
            let wanted = sessions.iter().filter(|handle| wanted(handle));
            wanted
                .filter(|handle| handle.mailbox.push(Delivery::copy(stanza.clone())).is_ok())
                .count()
        })
    }
}

fn deliver_to_entry(entry: &mut Entry, incoming: &Incoming<'_>, stanza: &Stanza) -> bool {
    let debt = incoming
        .stored
        .filter(|stored| stored.debt)
        .map(|stored| stored.position);
    let targets = targets(&entry.sessions, incoming);
    let mut taken = false;
    let mut holders = Holders::new();
    for handle in &targets {
        if debt.is_some_and(|position| entry.ledger.spares(position, handle.key)) {
            taken = true;
            continue;
        }
        let delivery = Delivery {
            stanza: stanza.clone(),
            debt,
            origin: Origin::Direct,
        };
        match handle.mailbox.push(delivery) {
            Ok(()) => {
                taken = true;
                holders.push(handle.key);
            }
            // Its session reads it from storage.
            Err(Refused::Owed) => taken = true,
            Err(Refused::Full | Refused::Closed) => {}
        }
    }
    if let Some(position) = debt {
        entry.ledger.add(position, holders);
    }
    if taken && (incoming.carbons || entry.copied.is_answered_by(stanza)) {
        received_carbons(&entry.sessions, &targets, stanza);
    }
    taken
}

/// The resources of RFC 6121 §8.5 for this message, as they are now.
fn targets(
    sessions: &[Arc<SessionHandle>],
    incoming: &Incoming<'_>,
) -> SmallVec<[Arc<SessionHandle>; 2]> {
    let named = incoming.to.resource();
    if incoming.destination == Destination::Resource
        && let Some(handle) = sessions
            .iter()
            .find(|handle| Some(handle.full.resource()) == named)
    {
        return smallvec![handle.clone()];
    }
    let takers = || sessions.iter().filter(|handle| handle.takes_messages());
    match incoming.destination {
        Destination::Everyone => takers().cloned().collect(),
        // A resource that went away between the verdict and now: its messages go to the account.
        Destination::Resource | Destination::Account => {
            let highest = takers().filter_map(|handle| handle.priority()).max();
            takers()
                .filter(|handle| handle.priority() == highest)
                .cloned()
                .collect()
        }
    }
}

/// XEP-0280 §7: copies for the resources that were not delivered to.
fn received_carbons(
    sessions: &[Arc<SessionHandle>],
    targets: &[Arc<SessionHandle>],
    stanza: &Stanza,
) {
    for handle in sessions.iter().filter(|handle| handle.carbons()) {
        if targets.iter().any(|target| target.key == handle.key) {
            continue;
        }
        let copy = carbons::received(stanza, &handle.bare, &handle.full);
        let _ = handle.mailbox.push(Delivery::copy(copy));
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;
    use crate::account::ledger::{Acknowledged, Ledger};
    use crate::sealed_ids::{KEY_LEN_BYTES, SealedIds};

    const OWNER: AccountId = AccountId(1);

    fn online(sessions: &Sessions, jid: &str) -> Arc<SessionHandle> {
        let full: FullJid = jid.parse().expect("a full JID");
        let handle = SessionHandle::new(full, Some(OWNER), None, SystemTime::UNIX_EPOCH, 10_000);
        let presence = Bytes::from_static(b"<presence/>");
        let presence = Stanza::parse_stored(presence).expect("well-formed");
        handle.set_presence(Some((presence, 0)));
        let handle = Arc::new(handle);
        let inserted = sessions.insert(&handle, Acknowledged::default());
        assert!(inserted.is_ok());
        handle
    }

    fn deliver(delivery: &LocalDelivery, position: i64) -> bool {
        let stanza = Bytes::from_static(b"<message to='a@h'><body>x</body></message>");
        let stanza = Stanza::parse_stored(stanza).expect("well-formed");
        let to = stanza.to().cloned().expect("it has one");
        delivery.message(&Incoming {
            stanza: &stanza,
            to: &to,
            destination: Destination::Account,
            carbons: false,
            stored: Some(Stored {
                owner: OWNER,
                position,
                archived: true,
                debt: true,
            }),
        })
    }

    fn bench() -> (Arc<Sessions>, LocalDelivery) {
        let sessions = Arc::new(Sessions::default());
        let ids = Arc::new(StanzaIds::new(SealedIds::new(&[1; KEY_LEN_BYTES])));
        (sessions.clone(), LocalDelivery::new(sessions, ids))
    }

    #[test]
    fn what_a_catch_up_read_between_commit_and_delivery_comes_once() {
        let (sessions, delivery) = bench();
        let reading = online(&sessions, "a@h/reading");
        let other = online(&sessions, "a@h/other");
        let claim = |entry: Option<&mut Entry>| {
            entry.is_some_and(|entry| entry.ledger.claim(1, reading.key))
        };
        assert!(sessions.with("a@h", claim));
        assert!(deliver(&delivery, 1));
        assert!(deliver(&delivery, 2));
        let queued = |handle: &SessionHandle| handle.mailbox.take_stanzas().len();
        assert_eq!((queued(&reading), queued(&other)), (1, 2));
    }

    #[test]
    fn what_an_ending_session_could_not_take_goes_to_its_heir() {
        let (sessions, delivery) = bench();
        let ending = online(&sessions, "a@h/ending");
        sessions.with("a@h", |entry| {
            if let Some(entry) = entry {
                entry.ledger.caught_up(0, 0);
            }
        });
        ending.mailbox.close();
        assert!(!deliver(&delivery, 1));
        let heir = online(&sessions, "a@h/heir");
        let departure = sessions.remove(&ending, |_| {});
        assert_eq!(departure.heir.map(|handle| handle.key), Some(heir.key));
    }

    #[test]
    fn what_could_not_be_delivered_is_owed_and_read_by_the_best_resource() {
        let (sessions, delivery) = bench();
        let heir = online(&sessions, "a@h/heir");
        let ledger = |look: &dyn Fn(&mut Ledger)| {
            sessions.with("a@h", |entry| {
                look(&mut entry.expect("it has sessions").ledger)
            });
        };
        ledger(&|ledger| assert!(ledger.caught_up(10, 0)));
        delivery.owe("a@h", 11);
        assert!(deliver(&delivery, 12));
        ledger(&|ledger| {
            ledger.pay(12);
            let acknowledged = ledger.take_dirty().map(|acknowledged| acknowledged.up_to);
            assert_eq!(acknowledged, Some(10));
        });
        let controls = heir.mailbox.close().controls;
        assert!(matches!(controls.as_slice(), [Control::CatchUp]));
    }

    #[test]
    fn what_a_session_held_when_its_task_panicked_is_free() {
        let (sessions, delivery) = bench();
        let panicked = online(&sessions, "a@h/panicked");
        assert!(deliver(&delivery, 1));
        // Its task had taken the mail, and is gone with it.
        panicked.mailbox.close();
        let heir = online(&sessions, "a@h/heir");
        assert!(sessions.remove(&panicked, |_| {}).heir.is_some());
        let claim =
            |entry: Option<&mut Entry>| entry.is_some_and(|entry| entry.ledger.claim(1, heir.key));
        assert!(sessions.with("a@h", claim));
    }
}
