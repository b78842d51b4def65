//! RFC 6121 §3: subscriptions between accounts, one effect after another.
//!
//! Each change of a roster happens under that roster's lock, and no two are held at once: what
//! the other account is told is an effect of its own, carried out after the lock is given back.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use eider_storage::AccountId;
use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::jid::BareJid;
use eider_xmpp::ns;
use eider_xmpp::stanza::Stanza;

use super::{Presence, push, refuses};
use crate::account::roster::{Limits, Removal};
use crate::account::subscription::{
    Deliver, Entry, Inbound, Kept, Presence as Shown, Request, removal,
};
use crate::c2s::mailbox::Delivery;
use crate::clock;
use crate::cluster::sessions::SessionHandle;
use crate::config::Config;
use crate::xep::{blocking, storage_error};

/// What is still to be done between two accounts, in order.
#[derive(Default)]
pub struct Effects(VecDeque<Effect>);

enum Effect {
    /// A stanza that manages a subscription, on its way to the other account.
    Told {
        from: BareJid,
        to: BareJid,
        request: Request,
        stanza: Stanza,
    },
    /// `to` is shown the presence of `from`, or with `gone` that it is unavailable.
    Shown {
        from: BareJid,
        to: BareJid,
        gone: bool,
    },
}

impl Effects {
    fn show(&mut self, from: &BareJid, to: &BareJid, shown: Shown) {
        if shown != Shown::Nothing {
            self.0.push_back(Effect::Shown {
                from: from.clone(),
                to: to.clone(),
                gone: shown == Shown::Unavailable,
            });
        }
    }

    /// What follows from a stanza of `from` that the account `to` has received. A reply of type
    /// subscribed comes before the presence it lets see, one of type unsubscribed after the
    /// unavailable presence.
    fn follow(&mut self, from: &BareJid, to: &BareJid, decision: &Inbound) {
        if decision.presence == Shown::Unavailable {
            self.show(to, from, decision.presence);
        }
        if let Some(reply) = decision.reply {
            self.tell(to, from, reply);
        }
        if decision.presence == Shown::Current {
            self.show(to, from, decision.presence);
        }
    }

    fn tell(&mut self, from: &BareJid, to: &BareJid, request: Request) {
        let stanza = Element::new("presence", ns::CLIENT)
            .with_attr("from", from.as_str())
            .with_attr("to", to.as_str())
            .with_attr("type", request.as_str());
        self.0.push_back(Effect::Told {
            from: from.clone(),
            to: to.clone(),
            request,
            stanza: Stanza::from_element(&stanza),
        });
    }
}

/// The bounds of a roster, as configured.
pub fn roster_limits(config: &Config) -> Limits {
    Limits {
        items: config.limits.roster_items,
        pending: config.limits.pending_requests,
        pending_bytes: config.limits.pending_request_bytes,
    }
}

impl Presence {
    /// A subscription stanza from a session of ours (RFC 6121 §A.2). Goes on to its end also
    /// where the session ends meanwhile.
    pub(super) async fn request(
        self: &Arc<Self>,
        config: &Arc<Config>,
        from: &Arc<SessionHandle>,
        stanza: &Stanza,
        request: Request,
        to: BareJid,
    ) -> Result<(), StanzaError> {
        if !self.has_rosters(&from.bare) {
            return Err(StanzaError::new(StanzaCondition::ServiceUnavailable));
        }
        let Some(account) = from.account else {
            return Err(StanzaError::new(StanzaCondition::NotAllowed));
        };
        // An account sees its own presence always (RFC 6121 §4.2.2).
        if to == from.bare {
            return Ok(());
        }
        let own = self.own(&from.bare).await.map_err(|e| storage_error(&e))?;
        if own.blocks(&to.to_jid()) {
            return Err(blocking::blocked_error());
        }
        let stamped = stanza.rewrite();
        let stanza = stamped.from(from.bare.clone()).to(to.clone()).build();
        let (this, config) = (self.clone(), config.clone());
        let from = from.bare.clone();
        let task =
            tokio::spawn(
                async move { this.send(&config, account, from, to, request, stanza).await },
            );
        match task.await {
            Ok(done) => done,
            Err(_) => Err(StanzaError::new(StanzaCondition::InternalServerError)),
        }
    }

    async fn send(
        self: &Arc<Self>,
        config: &Arc<Config>,
        account: AccountId,
        from: BareJid,
        to: BareJid,
        request: Request,
        stanza: Stanza,
    ) -> Result<(), StanzaError> {
        let limits = roster_limits(config);
        let lock = self.rosters.lock(account).await;
        let done = self.rosters.outbound(account, &to, request, limits).await;
        let (decision, pushed) = done.map_err(|e| e.to_error())?;
        self.requests_changed(&from, decision.kept);
        if let Some(pushed) = pushed {
            self.push_roster(&from, &pushed);
        }
        drop(lock);
        let mut effects = Effects::default();
        // Unavailable while the contact is still subscribed, current once it is (RFC 6121 §3.2.2, §3.1.5).
        if decision.presence == Shown::Unavailable {
            effects.show(&from, &to, decision.presence);
        }
        if decision.route {
            effects.0.push_back(Effect::Told {
                from: from.clone(),
                to: to.clone(),
                request,
                stanza,
            });
        }
        if decision.presence == Shown::Current {
            effects.show(&from, &to, decision.presence);
        }
        self.carry_out(config, effects).await;
        if decision.route && config.host(to.domain()).is_none() {
            return Err(StanzaError::new(StanzaCondition::RemoteServerNotFound));
        }
        Ok(())
    }

    /// One stanza from account to account that the server sends by itself.
    pub(super) fn told(&self, from: &BareJid, to: &BareJid, request: Request) -> Effects {
        let mut effects = Effects::default();
        effects.tell(from, to, request);
        effects
    }

    /// RFC 6121 §2.5.2: what follows from the removal of an item.
    pub fn removed(&self, account: &BareJid, contact: &BareJid, removal: &Removal) -> Effects {
        let mut effects = Effects::default();
        self.requests_changed(account, Kept::Drop);
        effects.show(account, contact, removal.presence);
        for request in &removal.told {
            effects.tell(account, contact, *request);
        }
        effects
    }

    /// Carries out effects and what follows from them. What storage fails to take is logged: the
    /// two sides of a subscription can differ, and meet again with the next request.
    pub async fn carry_out(self: &Arc<Self>, config: &Arc<Config>, mut effects: Effects) {
        while let Some(effect) = effects.0.pop_front() {
            match effect {
                Effect::Shown { from, to, gone } => {
                    self.show_account(&from, &to, gone);
                    for watcher in self.watchers() {
                        watcher.subscription_changed(&from, &to, !gone).await;
                    }
                }
                Effect::Told {
                    from,
                    to,
                    request,
                    stanza,
                } => {
                    let received = self.receive(config, &from, &to, request, &stanza);
                    match received.await {
                        Ok(Some(decision)) => {
                            effects.follow(&from, &to, &decision);
                        }
                        Ok(None) => {}
                        Err(error) => tracing::warn!(%error, "a subscription stanza is lost"),
                    }
                }
            }
        }
    }

    /// RFC 6121 §A.3: a subscription stanza for an account of ours; `None` where it is ignored.
    async fn receive(
        &self,
        config: &Arc<Config>,
        from: &BareJid,
        to: &BareJid,
        request: Request,
        stanza: &Stanza,
    ) -> Result<Option<Inbound>, crate::account::roster::Error> {
        if !self.has_rosters(to) {
            return Ok(None);
        }
        let Some(facts) = self.facts.load(to).await? else {
            return Ok(None);
        };
        if refuses(Some(&facts), &from.to_jid()) {
            return Ok(None);
        }
        let limits = roster_limits(config);
        let kept = kept_bytes(stanza, limits.pending_bytes);
        let now = clock::timestamp();
        let _lock = self.rosters.lock(facts.id).await;
        let done = self
            .rosters
            .inbound(facts.id, from, request, kept, now, limits);
        let (decision, pushed) = match done.await {
            Ok(done) => done,
            // In silence: an answer would tell a stranger that there is such an account.
            Err(crate::account::roster::Error::TooManyRequests) => {
                self.metrics.refused("pending_requests");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.requests_changed(to, decision.kept);
        self.sessions.with(to.as_str(), |entry| {
            let sessions = entry.map(|entry| entry.sessions.as_slice());
            for handle in sessions.unwrap_or_default() {
                let gets = match decision.deliver {
                    Deliver::No => false,
                    Deliver::Available => handle.priority().is_some(),
                    Deliver::Interested => handle.interested(),
                };
                if gets {
                    push(handle, stanza.clone());
                }
            }
        });
        if let Some(pushed) = pushed {
            self.push_roster(to, &pushed);
        }
        Ok(Some(decision))
    }

    /// An account of ours is about to be removed: those who see its presence and those whose
    /// presence it sees are told, as if it had removed them itself (RFC 6121 §2.5.2).
    ///
    /// # Errors
    /// Storage's.
    pub async fn leaving(self: &Arc<Self>, account: &BareJid) -> Result<(), eider_storage::Error> {
        let own = self.own(account).await?;
        let Some(facts) = &own.facts else {
            return Ok(());
        };
        let mut effects = Effects::default();
        for contact in own.contacts.iter() {
            let entry = Entry {
                state: contact.state,
                ..Entry::default()
            };
            let (told, presence) = removal(entry);
            effects.show(account, &contact.jid, presence);
            for request in told {
                effects.tell(account, &contact.jid, request);
            }
        }
        for request in self.rosters.requests(facts.id).await? {
            if let Ok(from) = BareJid::parse(&request.from) {
                effects.tell(account, &from, Request::Unsubscribed);
            }
        }
        let config = self.config.borrow().clone();
        self.carry_out(&config, effects).await;
        self.rosters.forget(facts.id);
        Ok(())
    }

    fn requests_changed(&self, account: &BareJid, kept: Kept) {
        if kept != Kept::Unchanged {
            self.facts.forget(account.as_str());
        }
    }

    /// RFC 6121 §2.1.6: a push of `query` to every interested resource of the account. To be
    /// called under the roster's lock.
    pub fn push_roster(&self, account: &BareJid, query: &Element) {
        self.sessions.with(account.as_str(), |entry| {
            let sessions = entry.map(|entry| entry.sessions.as_slice());
            for handle in sessions.unwrap_or_default() {
                if handle.interested() {
                    let push = roster_push(handle, query.clone());
                    let _ = handle.mailbox.push(Delivery::push(push));
                }
            }
        });
    }
}

/// One push (RFC 6121 §2.1.6); the version makes its id unique.
pub fn roster_push(to: &SessionHandle, query: Element) -> Stanza {
    let id = format!("roster-{}", query.attr("ver").unwrap_or_default());
    let push = Element::new("iq", ns::CLIENT)
        .with_attr("type", "set")
        .with_attr("id", id)
        .with_attr("to", to.full.as_str())
        .with_child(query);
    Stanza::from_element(&push)
}

/// What is kept of a request: all of it, or where that is too much its start tag alone.
fn kept_bytes(stanza: &Stanza, max_bytes: u32) -> Bytes {
    if stanza.as_bytes().len() <= max_bytes as usize {
        return stanza.as_bytes().clone();
    }
    stanza.rewrite().strip(&|_| true).build().as_bytes().clone()
}
