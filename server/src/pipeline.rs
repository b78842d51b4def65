//! The ordered stages every stanza passes (DESIGN §3). The order is the order of lines.

use std::sync::Arc;

use eider_storage::ArchiveDefault as Preference;
use eider_xmpp::error::{ErrorType, StanzaCondition, StanzaError};
use eider_xmpp::jid::{BareJid, FullJid, Jid};
use eider_xmpp::ns;
use eider_xmpp::stanza::{Child, MessageType, Stanza, error_reply};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::account::delivery::{Destination, Verdict, message_verdict};
use crate::account::facts::{AccountFacts, Bound, Counted, Facts, Known};
use crate::account::message::{Message, Row};
use crate::account::resends::resend_key;
use crate::account::roster::Rosters;
use crate::cluster::sessions::Sessions;
use crate::config::{ArchiveDefault, ArchiveForce, Config, Feature, Host};
use crate::xep::carbons::Copies;
use crate::xep::{blocking, hints, offline};

/// What becomes of a message after its stages.
pub enum Next {
    /// Facts of these accounts are not in memory: load them and ask again.
    Load(SmallVec<[BareJid; 2]>),
    /// How much waits for this account is not in memory: read it and ask again.
    LoadOwed(BareJid),
    /// The contacts of this account are not in memory: read them and ask again.
    LoadContacts(BareJid),
    /// Goes on now; nothing is to be written.
    Deliver(Message),
    /// Goes on once its rows are committed.
    Commit(Message),
    /// Ends here, with or without an answer for the sender.
    End(Option<Stanza>),
}

/// The stages of messages. Holds what they read.
pub struct Pipeline {
    sessions: Arc<Sessions>,
    facts: Arc<AccountFacts>,
    rosters: Arc<Rosters>,
}

impl Pipeline {
    /// Stages that look at `sessions`, `facts` and `rosters`.
    pub fn new(
        sessions: Arc<Sessions>,
        facts: Arc<AccountFacts>,
        rosters: Arc<Rosters>,
    ) -> Pipeline {
        Pipeline {
            sessions,
            facts,
            rosters,
        }
    }

    /// Stops 2 to 5 for a message from a session of ours.
    pub fn message(&self, config: &Config, from: &FullJid, stanza: &Stanza) -> Next {
        let to = match stanza.to() {
            Some(to) => to.clone(),
            None => Jid::from(from.bare()),
        };
        let (sender, recipient) = match self.facts_of(config, from, &to) {
            Ok(known) => known,
            Err(missing) => return Next::Load(missing),
        };
        let outgoing = Outgoing {
            config,
            from,
            to: &to,
            sender: sender.as_deref(),
        };
        let stanza = match outgoing.stages(stanza) {
            Ok(stanza) => stanza,
            Err(error) => return Next::End(error_reply(&addressed(stanza, from, &to), &error)),
        };
        let Some(host) = config.host(to.domain()) else {
            let error = StanzaError::new(StanzaCondition::RemoteServerNotFound);
            return Next::End(error_reply(&stanza, &error));
        };
        self.incoming(host, &outgoing, recipient, stanza)
    }

    /// Facts of both ends, or who has to be loaded first.
    fn facts_of(
        &self,
        config: &Config,
        from: &FullJid,
        to: &Jid,
    ) -> Result<(Known, Known), SmallVec<[BareJid; 2]>> {
        let mut missing = SmallVec::new();
        let mut look = |bare: &str, load: &dyn Fn() -> BareJid| match self.facts.cached(bare) {
            Some(known) => known,
            None => {
                missing.push(load());
                None
            }
        };
        let sender = look(from.bare_str(), &|| from.bare());
        let local = to.localpart().is_some() && config.host(to.domain()).is_some();
        let recipient = if local {
            look(to.bare_str(), &|| to.bare())
        } else {
            None
        };
        if missing.is_empty() {
            Ok((sender, recipient))
        } else {
            Err(missing)
        }
    }

    /// Stops 3 to 5 where the recipient is a local account.
    fn incoming(&self, host: &Host, out: &Outgoing<'_>, recipient: Known, stanza: Stanza) -> Next {
        let kind = stanza.message_type();
        let anonymous_here =
            recipient.is_none() && self.sessions.with(out.to.bare_str(), |e| e.is_some());
        if recipient.is_none() && !anonymous_here {
            return refuse(&stanza, StanzaCondition::ServiceUnavailable);
        }
        let known = recipient;
        let recipient = known.as_deref();
        if recipient
            .is_some_and(|facts| host.has(Feature::Blocking) && blocking::refuses(facts, out.from))
        {
            return refuse(&stanza, StanzaCondition::ServiceUnavailable);
        }
        let kept = recipient.is_some() && host.offline_messages && offline::storable(&stanza, kind);
        let (verdict, reachable) = self.verdict(out.to, kind, kept);
        let destination = match verdict {
            Verdict::Deliver(destination) => destination,
            Verdict::Refuse => return refuse(&stanza, StanzaCondition::ServiceUnavailable),
            Verdict::Drop => return Next::End(None),
        };
        let rows = match self.rows(host, out, recipient, &stanza, kept) {
            Ok(rows) => rows,
            Err(account) => return Next::LoadContacts(account),
        };
        // What a bound resource takes does not wait, whether it takes its account's messages or not (RFC 6121 §8.5.3.1).
        let taken = reachable || destination == Destination::Resource;
        let waits = rows.iter().find(|row| row.debt).filter(|_| !taken);
        let waiting = waits.and_then(|row| Some((known?, row.archived)));
        let mut over_bound = false;
        if let Some((facts, archived)) = &waiting {
            match within_offline_bounds(out.config, facts, *archived, &stanza) {
                Some(within) => over_bound = !within,
                None => return Next::LoadOwed(out.to.bare()),
            }
        }
        let text = (out.config.archive.full_text && rows.iter().any(|row| row.archived))
            .then(|| hints::body_text(&stanza))
            .flatten();
        let sender_keeps = rows.iter().any(|row| row.outgoing);
        let resend_key = out
            .sender
            .filter(|_| !rows.is_empty() && !sender_keeps)
            .and_then(|facts| resend_key(facts.id, &stanza, crate::clock::timestamp()));
        let message = Message {
            carbons: copies(host, out, &stanza),
            from: out.from.clone(),
            to: out.to.clone(),
            destination: Some(destination),
            rows,
            text,
            resend_key,
            owed: waiting.filter(|_| !over_bound).map(|(facts, archived)| {
                Counted::new(facts, archived, stanza.as_bytes().len() as u64)
            }),
            over_bound,
            stanza,
        };
        if message.rows.is_empty() {
            Next::Deliver(message)
        } else {
            Next::Commit(message)
        }
    }

    /// The rows to be committed: the sender's before the recipient's; one row for a note to oneself.
    /// Or whose contacts have to be read first.
    fn rows(
        &self,
        host: &Host,
        out: &Outgoing<'_>,
        recipient: Option<&Facts>,
        stanza: &Stanza,
        kept: bool,
    ) -> Result<SmallVec<[Row; 2]>, BareJid> {
        let mut rows = SmallVec::new();
        let worthy = hints::archivable(stanza);
        let to_self = recipient.is_some() && out.from.bare_str() == out.to.bare_str();
        if let (Some(sender), Some(sender_host)) = (out.sender, out.config.host(out.from.domain()))
            && !to_self
            && worthy
            && self.archives(sender_host, sender, out.to)?
        {
            rows.push(Row {
                owner: sender.id,
                outgoing: true,
                archived: true,
                debt: false,
            });
        }
        if let Some(facts) = recipient {
            let from = Jid::from(out.from.clone());
            let archived = worthy && self.archives(host, facts, &from)?;
            if archived || kept {
                rows.push(Row {
                    owner: facts.id,
                    outgoing: false,
                    archived,
                    debt: kept,
                });
            }
        }
        Ok(rows)
    }

    /// Whether an account archives what it exchanges with `peer`, or whose contacts say so and
    /// have to be read first.
    fn archives(&self, host: &Host, facts: &Facts, peer: &Jid) -> Result<bool, BareJid> {
        match archiving(host, facts, peer) {
            Archiving::All => Ok(true),
            Archiving::Nothing => Ok(false),
            Archiving::Contacts if !host.has(Feature::Roster) => Ok(false),
            Archiving::Contacts => match self.rosters.cached_contacts(facts.id) {
                Some(contacts) => Ok(contacts.find(peer.bare_str()).is_some()),
                None => Err(facts.bare().clone()),
            },
        }
    }

    /// What RFC 6121 §8.5 says, and whether any resource takes the account's messages.
    fn verdict(&self, to: &Jid, kind: MessageType, kept: bool) -> (Verdict, bool) {
        self.sessions.with(to.bare_str(), |entry| {
            let sessions = entry
                .map(|entry| entry.sessions.as_slice())
                .unwrap_or_default();
            let reachable = sessions.iter().any(|handle| handle.takes_messages());
            let bound = to
                .resource()
                .map(|named| sessions.iter().any(|s| s.full.resource() == named));
            (message_verdict(kind, bound, reachable, kept), reachable)
        })
    }
}

/// XEP-0280: copies on either side, where its host makes any.
fn copies(host: &Host, out: &Outgoing<'_>, stanza: &Stanza) -> Copies {
    let sender_host = out.config.host(out.from.domain());
    let copies = Copies::of(stanza);
    Copies {
        sent: copies.sent && sender_host.is_some_and(|host| host.has(Feature::Carbons)),
        received: copies.received && host.has(Feature::Carbons),
    }
}

/// XEP-0160 §2: so much waits for an account that is away, and no more. What waits is never deleted, so that nothing else
/// bounds the archive of who never comes back.
fn within_offline_bounds(
    config: &Config,
    facts: &Facts,
    archived: bool,
    stanza: &Stanza,
) -> Option<bool> {
    let bytes = stanza.as_bytes().len() as u64;
    let limits = &config.limits;
    let (rows_max, bytes_max) = if archived {
        let quota = config.archive.quota_messages;
        let quota = if quota > 0 { quota } else { u32::MAX };
        let rows_max = limits.offline_archived_messages.min(quota);
        (rows_max, limits.offline_archived_bytes)
    } else {
        (limits.offline_messages, limits.offline_bytes)
    };
    let bound = Bound {
        archived,
        rows_max: rows_max.into(),
        bytes_max,
    };
    facts.owed.has_room(bytes, &bound, Instant::now())
}

/// The sender's side of a message.
struct Outgoing<'a> {
    config: &'a Config,
    from: &'a FullJid,
    to: &'a Jid,
    sender: Option<&'a Facts>,
}

impl Outgoing<'_> {
    /// The sender's stages: blocking, then what only the server may assert is stripped.
    fn stages(&self, stanza: &Stanza) -> Result<Stanza, StanzaError> {
        if stanza.bad_to() || stanza.bad_from() {
            return Err(StanzaError::new(StanzaCondition::JidMalformed).kind(ErrorType::Modify));
        }
        let to_self = self.to.bare_str() == self.from.bare_str();
        if !to_self && self.sender.is_some_and(|facts| facts.blocks(self.to)) {
            return Err(blocking::blocked_error());
        }
        Ok(self.stamped(stanza))
    }

    /// `from` is stamped always, `to` made explicit; elements that the sender may not assert go (DESIGN §8).
    fn stamped(&self, stanza: &Stanza) -> Stanza {
        let strip = |child: &Child<'_>| self.forged(child);
        stanza
            .rewrite()
            .from(self.from.clone())
            .to(self.to.clone())
            .strip(&strip)
            .build()
    }

    /// What only its owner may assert: stanza-ids by either account here, carbons, delays by a host of ours.
    fn forged(&self, child: &Child<'_>) -> bool {
        match (child.ns.as_ref(), child.name) {
            (ns::STANZA_ID, "stanza-id") => child.element().attr("by").is_none_or(|by| {
                Jid::parse(by).is_ok_and(|by| {
                    by.as_str() == self.from.bare_str() || by.as_str() == self.to.bare_str()
                })
            }),
            (ns::CARBONS, "sent" | "received") => true,
            _ => forged_delay(self.config, child),
        }
    }
}

/// A delay by a host of ours, which only the host may assert (DESIGN §8).
pub fn forged_delay(config: &Config, child: &Child<'_>) -> bool {
    let says = |child: &Child<'_>| {
        let element = child.element();
        let from = element.attr("from").map(Jid::parse);
        from.is_some_and(|from| from.is_ok_and(|from| config.host(from.domain()).is_some()))
    };
    child.is("delay", ns::DELAY) && says(child)
}

/// The stanza with both addresses as they are meant.
pub fn addressed(stanza: &Stanza, from: &FullJid, to: &Jid) -> Stanza {
    stanza.rewrite().from(from.clone()).to(to.clone()).build()
}

fn refuse(stanza: &Stanza, condition: StanzaCondition) -> Next {
    Next::End(error_reply(stanza, &StanzaError::new(condition)))
}

/// What an account archives of what it exchanges with one peer.
enum Archiving {
    All,
    Nothing,
    /// Everything where the peer is in the roster.
    Contacts,
}

/// XEP-0441; the host may decide for all.
fn archiving(host: &Host, facts: &Facts, peer: &Jid) -> Archiving {
    if !host.has(Feature::Archive) {
        return Archiving::Nothing;
    }
    match host.archive_force {
        ArchiveForce::On => return Archiving::All,
        ArchiveForce::Off => return Archiving::Nothing,
        ArchiveForce::None => {}
    }
    match facts.archive_choice(peer) {
        Some(Preference::Always) => Archiving::All,
        Some(Preference::Never) => Archiving::Nothing,
        Some(Preference::Roster) => Archiving::Contacts,
        None => match host.archive {
            ArchiveDefault::Always => Archiving::All,
            ArchiveDefault::Never => Archiving::Nothing,
            ArchiveDefault::Roster => Archiving::Contacts,
        },
    }
}
