//! RFC 6121 §4.6 and §4.3.2: presence for one entity, and answers to probes.

use std::sync::Arc;

use eider_xmpp::datetime;
use eider_xmpp::element::Element;
use eider_xmpp::error::{ErrorType, StanzaCondition, StanzaError};
use eider_xmpp::jid::Jid;
use eider_xmpp::ns;
use eider_xmpp::stanza::{PresenceType, Stanza};

use super::{Own, Presence, refuses, show};
use crate::account::presence_rules::{Probe, ProbeAnswer};
use crate::account::subscription::{Request, State};
use crate::c2s::mailbox::Delivery;
use crate::cluster::sessions::SessionHandle;
use crate::config::Config;
use crate::pipeline::addressed;
use crate::xep::{blocking, storage_error};

impl Presence {
    /// A presence with an address, other than those that manage subscriptions.
    pub(super) async fn directed(
        self: &Arc<Self>,
        config: &Arc<Config>,
        from: &Arc<SessionHandle>,
        stanza: &Stanza,
        kind: PresenceType,
    ) -> Result<(), StanzaError> {
        let Some(to) = stanza.to() else {
            return Ok(());
        };
        let own = self.own(&from.bare).await.map_err(|e| storage_error(&e))?;
        if own.blocks(to) {
            return Err(blocking::blocked_error());
        }
        if config.host(to.domain()).is_none() {
            return Err(StanzaError::new(StanzaCondition::RemoteServerNotFound));
        }
        match kind {
            PresenceType::Probe => return self.probe(config, from, stanza, to, &own).await,
            PresenceType::Available => {
                let told_anyway =
                    from.priority().is_some() && own.contacts.state(to.bare_str()).from();
                let max = config.limits.directed_presences as usize;
                if !told_anyway && !from.add_directed(to.clone(), max) {
                    return Err(StanzaError::over("directed_presences")
                        .kind(ErrorType::Wait)
                        .text("directed presence to too many entities"));
                }
            }
            PresenceType::Unavailable => from.remove_directed(to),
            _ => {}
        }
        let stamped = match kind {
            PresenceType::Available => self.stamped(config, from, stanza).await,
            _ => stanza.clone(),
        };
        self.deliver(to, &addressed(&stamped, &from.full, to)).await;
        Ok(())
    }

    /// RFC 6121 §8.5: a presence of type available, unavailable or error for an account or
    /// resource of ours; dropped in silence where nobody is to get it.
    pub(super) async fn deliver(&self, to: &Jid, stanza: &Stanza) {
        let Some(from) = stanza.from().cloned() else {
            return;
        };
        let here = self.sessions.with(to.bare_str(), |entry| entry.is_some());
        if !here {
            return;
        }
        let known = match self.facts.load(&to.bare()).await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(%error, "a directed presence is not delivered");
                return;
            }
        };
        if refuses(known.as_deref(), &from) {
            return;
        }
        let kind = stanza.presence_type();
        let stanza = stanza.rewrite().to(to.clone()).build();
        self.sessions.with(to.bare_str(), |entry| {
            let sessions = entry.map(|entry| entry.sessions.as_slice());
            for handle in sessions.unwrap_or_default() {
                let gets = match to.resource() {
                    Some(resource) => handle.full.resource() == resource,
                    None => kind != Ok(PresenceType::Error) && handle.priority().is_some(),
                };
                if gets {
                    if kind == Ok(PresenceType::Unavailable) {
                        handle.remove_directed(&from);
                    }
                    let _ = handle.mailbox.push(Delivery::direct(stanza.clone()));
                }
            }
        });
    }

    /// RFC 6121 §4.3: a client asks by itself; only it gets the answer.
    async fn probe(
        self: &Arc<Self>,
        config: &Arc<Config>,
        from: &Arc<SessionHandle>,
        probe: &Stanza,
        to: &Jid,
        own: &Own,
    ) -> Result<(), StanzaError> {
        let account = to.bare();
        let theirs = self.own(&account).await.map_err(|e| storage_error(&e))?;
        let prober = from.full.to_jid();
        if to.localpart().is_none() || theirs.blocks(&prober) {
            return Ok(());
        }
        let state = match &theirs.facts {
            Some(facts) => {
                let entry = self.rosters.entry(facts.id, &from.bare).await;
                Some(entry.map_err(|e| e.to_error())?.state)
            }
            None => None,
        };
        // A request that waits for its answer is not answered by asking.
        let waits = state.is_some_and(State::pending_in);
        match self.probe_answer(from, to, state) {
            ProbeAnswer::Unsubscribed if waits => {}
            ProbeAnswer::Unsubscribed => self.unsubscribed(config, from, probe, to, own).await,
            ProbeAnswer::Offline => self.answer_offline(from, probe, to, &theirs).await,
            ProbeAnswer::All => self.sessions.with(account.as_str(), |entry| {
                let sessions = entry.map(|entry| entry.sessions.as_slice());
                let presences = sessions
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|h| h.presence());
                presences.for_each(|p| show(from, p.rewrite().to(prober.clone()).build()));
            }),
            ProbeAnswer::Mere {
                resource,
                available,
            } => {
                if let Ok(full) = account.with_resource(&resource) {
                    let kind = (!available).then_some("unavailable");
                    show(from, reply(&full.to_jid(), from, kind, None));
                }
            }
        }
        Ok(())
    }

    fn probe_answer(&self, from: &SessionHandle, to: &Jid, state: Option<State>) -> ProbeAnswer {
        self.sessions.with(to.bare_str(), |entry| {
            let sessions = entry.map(|entry| entry.sessions.as_slice());
            let sessions = sessions.unwrap_or_default();
            let available = sessions.iter().filter(|h| h.priority().is_some());
            let available: Vec<&str> = available.map(|h| h.full.resource()).collect();
            let directed = sessions.iter().any(|h| {
                Some(h.full.resource()) == to.resource() && h.has_directed(from.bare.as_str())
            });
            let probe = Probe {
                state: state.or((!sessions.is_empty()).then_some(State::None)),
                own: from.bare.as_str() == to.bare_str(),
                resource: to.resource(),
                available: &available,
                directed,
            };
            probe.answer()
        })
    }

    /// The subscription that the prober believes in is not there: it ends (RFC 6121 §4.3.2, rule 1).
    async fn unsubscribed(
        self: &Arc<Self>,
        config: &Arc<Config>,
        from: &Arc<SessionHandle>,
        probe: &Stanza,
        to: &Jid,
        own: &Own,
    ) {
        let id = probe.id();
        if own.contacts.state(to.bare_str()).to() {
            let effects = self.told(&to.bare(), &from.bare, Request::Unsubscribed);
            self.carry_out(config, effects).await;
        } else {
            let kind = Some("unsubscribed");
            show(from, reply(&to.bare().to_jid(), from, kind, id.as_deref()));
        }
    }

    async fn answer_offline(&self, from: &SessionHandle, probe: &Stanza, to: &Jid, theirs: &Own) {
        let mut gone = reply_element(
            &to.bare().to_jid(),
            from,
            Some("unavailable"),
            probe.id().as_deref(),
        );
        if let Some(facts) = &theirs.facts
            && let Ok(Some(last)) = self.last_activity(facts.id).await
        {
            gone.push(
                Element::new("delay", ns::DELAY)
                    .with_attr("stamp", datetime::format_seconds(last.at.0)),
            );
        }
        show(from, Stanza::from_element(&gone));
    }
}

fn reply(about: &Jid, to: &SessionHandle, kind: Option<&str>, id: Option<&str>) -> Stanza {
    Stanza::from_element(&reply_element(about, to, kind, id))
}

fn reply_element(about: &Jid, to: &SessionHandle, kind: Option<&str>, id: Option<&str>) -> Element {
    Element::new("presence", ns::CLIENT)
        .with_attr("from", about.as_str())
        .with_attr("to", to.full.as_str())
        .with_attr_opt("id", id)
        .with_attr_opt("type", kind)
}
