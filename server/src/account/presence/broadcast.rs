//! RFC 6121 §4.2 to §4.5: who is told of a presence, and whose presence a new resource is told.
//!
//! No storage call per contact: contacts without sessions here are passed over at once, and for
//! the others what is needed is in memory since they came online.

use std::sync::Arc;

use eider_xmpp::jid::{BareJid, Jid};
use eider_xmpp::stanza::Stanza;

use super::{Own, Presence, push, refuses, show, unavailable_of};
use crate::account::facts::Facts;
use crate::c2s::mailbox::Missed;
use crate::cluster::sessions::SessionHandle;

/// Contacts told in one go before others get their turn on this thread.
const CONTACTS_AT_ONCE: usize = 128;

/// What is said of a contact before its presence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// That there is none, where that is so.
    GoneIfNone,
    /// That there is none: all that was shown of it before is over.
    Gone,
}

fn show_gone(from: &Jid, viewer: &SessionHandle) {
    let gone = unavailable_of(from);
    show(viewer, gone.rewrite().to(viewer.full.clone()).build());
}

impl Presence {
    /// To every available resource of the account, the sender included (RFC 6121 §4.2.2): what it hears of itself
    /// answers what it said.
    pub(super) fn to_own(&self, from: &SessionHandle, stanza: &Stanza) {
        self.sessions.with(from.bare.as_str(), |entry| {
            let sessions = entry.map(|entry| entry.sessions.as_slice());
            for handle in sessions.unwrap_or_default() {
                let addressed = || stanza.rewrite().to(handle.full.clone()).build();
                if handle.priority().is_none() {
                    continue;
                }
                if handle.key == from.key {
                    show(handle, addressed());
                } else {
                    push(handle, addressed());
                }
            }
        });
    }

    /// To every contact who is subscribed to the account; where it is not the session itself that
    /// says it, only `while_current`: what the session says meanwhile must not be overtaken.
    pub(super) async fn broadcast(
        &self,
        own: &Own,
        stanza: &Stanza,
        while_current: Option<&SessionHandle>,
    ) {
        let Some(from) = stanza.from() else { return };
        let mut unknown = Vec::new();
        let subscribed = own.contacts.iter().filter(|contact| contact.state.from());
        for (number, contact) in subscribed.enumerate() {
            if number % CONTACTS_AT_ONCE == CONTACTS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            if !own.blocks(&contact.jid.to_jid())
                && !self.tell(&contact.jid, from, stanza, while_current)
            {
                unknown.push(&contact.jid);
            }
        }
        for contact in unknown {
            match self.facts.load(contact).await {
                Ok(_) => drop(self.tell(contact, from, stanza, while_current)),
                Err(error) => tracing::warn!(%error, "a contact is not told of a presence"),
            }
        }
    }

    /// To every available resource of an account that does not block the sender. False where
    /// that is not in memory.
    fn tell(
        &self,
        to: &BareJid,
        from: &Jid,
        stanza: &Stanza,
        while_current: Option<&SessionHandle>,
    ) -> bool {
        self.sessions.with(to.as_str(), |entry| {
            let Some(entry) = entry else { return true };
            let Some(known) = self.facts.cached(to.as_str()) else {
                return false;
            };
            let is_current = |session: &SessionHandle| session.presence().as_ref() == Some(stanza);
            if refuses(known.as_deref(), from) || !while_current.is_none_or(is_current) {
                return true;
            }
            let mut addressed: Option<Stanza> = None;
            for handle in entry.sessions.iter().filter(|h| h.priority().is_some()) {
                let stanza =
                    addressed.get_or_insert_with(|| stanza.rewrite().to(to.clone()).build());
                push(handle, stanza.clone());
            }
            true
        })
    }

    /// RFC 6121 §4.3: a resource that has come online is shown the presence of the account's
    /// other resources and of the contacts the account is subscribed to.
    pub(super) async fn introduce(&self, viewer: &SessionHandle, own: &Own) {
        self.show_others_of_own(viewer);
        let mut unknown = Vec::new();
        let seen = own.contacts.iter().filter(|contact| contact.state.to());
        for (number, contact) in seen.enumerate() {
            if number % CONTACTS_AT_ONCE == CONTACTS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            if !self.show(&contact.jid, viewer, own, Before::Nothing) {
                unknown.push(&contact.jid);
            }
            viewer.mailbox.taken().await;
        }
        for contact in unknown {
            self.load_and_show(contact, viewer, own, Before::Nothing)
                .await;
            viewer.mailbox.taken().await;
        }
    }

    /// The presence of the account's other resources.
    fn show_others_of_own(&self, viewer: &SessionHandle) {
        self.show_own(viewer, |other| other.key != viewer.key);
    }

    fn show_own(&self, viewer: &SessionHandle, which: impl Fn(&SessionHandle) -> bool) {
        self.sessions.with(viewer.bare.as_str(), |entry| {
            let sessions = entry.map(|entry| entry.sessions.as_slice());
            for handle in sessions.unwrap_or_default() {
                if which(handle)
                    && let Some(presence) = handle.presence()
                {
                    show(viewer, presence.rewrite().to(viewer.full.clone()).build());
                }
            }
        });
    }

    /// A resource had no room for what others sent: it gets what is so now.
    pub fn make_good(self: &Arc<Self>, viewer: &Arc<SessionHandle>, missed: Missed) {
        if missed.presence {
            self.show_again(viewer);
        }
        if missed.events {
            for watcher in self.watchers() {
                watcher.missed_events(viewer);
            }
        }
    }

    /// Who has gone unavailable, then the presence of the account's other resources and of every contact as it is
    /// now, of contacts also where it is none, as the client takes it. Where more have gone than are remembered,
    /// an account's bare JID goes before its resources come.
    fn show_again(self: &Arc<Self>, viewer: &Arc<SessionHandle>) {
        let (this, to) = (self.clone(), viewer.clone());
        viewer.shows_again.start(viewer.ended(), async move {
            to.mailbox.half_empty().await;
            let gone = to.mailbox.take_gone();
            for jid in &gone.from {
                show_gone(jid, &to);
            }
            let own = match this.own(&to.bare).await {
                Ok(own) => own,
                Err(error) => {
                    tracing::warn!(%error, "presence is not shown again");
                    return;
                }
            };
            if to.priority().is_some() && gone.more > 0 {
                show_gone(&to.bare.to_jid(), &to);
                this.show_own(&to, |_| true);
            } else if to.priority().is_some() {
                this.show_others_of_own(&to);
            }
            let gone_before = match gone.more {
                0 => Before::GoneIfNone,
                _ => Before::Gone,
            };
            for contact in own.contacts.iter().filter(|contact| contact.state.to()) {
                to.mailbox.half_empty().await;
                if to.priority().is_none() {
                    break;
                }
                if !this.show(&contact.jid, &to, &own, gone_before) {
                    this.load_and_show(&contact.jid, &to, &own, gone_before)
                        .await;
                }
            }
            to.mailbox.gone_are_told(gone.more);
        });
    }

    async fn load_and_show(
        &self,
        contact: &BareJid,
        viewer: &SessionHandle,
        own: &Own,
        before: Before,
    ) {
        match self.own(contact).await {
            Ok(_) => drop(self.show(contact, viewer, own, before)),
            Err(error) => tracing::warn!(%error, "the presence of a contact is not shown"),
        }
    }

    /// Shows a contact's presence, where the contact's own roster lets it be seen. False where that is not in
    /// memory.
    fn show(&self, contact: &BareJid, viewer: &SessionHandle, own: &Own, before: Before) -> bool {
        let viewer_jid = viewer.full.to_jid();
        self.sessions.with(contact.as_str(), |entry| {
            let is_none = entry.as_ref().is_none_or(|entry| !entry.is_available());
            if before == Before::Gone || (is_none && before == Before::GoneIfNone) {
                show_gone(&contact.to_jid(), viewer);
            }
            let Some(entry) = entry else { return true };
            let Some(known) = self.facts.cached(contact.as_str()) else {
                return false;
            };
            let Some(facts) = known.filter(|facts| !facts.blocks(&viewer_jid)) else {
                return true;
            };
            let Some(contacts) = self.rosters.cached_contacts(facts.id) else {
                return false;
            };
            if !contacts.state(viewer.bare.as_str()).from() {
                return true;
            }
            for handle in &entry.sessions {
                if let Some(presence) = handle.presence()
                    && !own.blocks(&handle.full.to_jid())
                {
                    show(viewer, presence.rewrite().to(viewer.full.clone()).build());
                }
            }
            true
        })
    }

    /// RFC 6121 §3.1.3: the requests that wait for an answer, to a resource that came online.
    pub(super) async fn show_requests(&self, to: &SessionHandle, facts: Option<&Facts>) {
        let Some(facts) = facts.filter(|facts| facts.pending_requests > 0) else {
            return;
        };
        match self.rosters.requests(facts.id).await {
            Ok(requests) => {
                let kept = requests.into_iter().map(|request| request.stanza);
                let kept = kept.filter_map(|bytes| Stanza::parse_stored(bytes).ok());
                for stanza in kept {
                    show(to, stanza);
                    to.mailbox.taken().await;
                }
            }
            Err(error) => tracing::warn!(%error, "subscription requests are not shown"),
        }
    }

    /// The presence of each available resource of `from`, to the available resources of `to`:
    /// as it is, or, with `gone`, as unavailable.
    pub(super) fn show_account(&self, from: &BareJid, to: &BareJid, gone: bool) {
        // The viewers are taken first: two entries are never locked at once.
        let viewers: Vec<Arc<SessionHandle>> = self.sessions.of(to.as_str());
        if viewers.is_empty() {
            return;
        }
        self.sessions.with(from.as_str(), |entry| {
            let sessions = entry.map(|entry| entry.sessions.as_slice());
            for handle in sessions.unwrap_or_default() {
                let Some(mut presence) = handle.presence() else {
                    continue;
                };
                if gone {
                    handle.remove_directed_account(to.as_str());
                    presence = unavailable_of(&handle.full.to_jid());
                }
                let presence = presence.rewrite().to(to.clone()).build();
                for viewer in viewers.iter().filter(|v| v.priority().is_some()) {
                    push(viewer, presence.clone());
                }
            }
        });
    }
}
