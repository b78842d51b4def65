//! RFC 6121 §4: presence of our sessions, who sees it, and how it ends.
//!
//! A resource's presence changes, and is read to be shown to others, under the lock of its
//! account's entry in `cluster/sessions.rs`: whoever is shown a presence gets the later ones after it.

mod blocked;
mod broadcast;
mod directed;
mod last_activity;
mod subscriptions;

use std::sync::{Arc, OnceLock};

use eider_storage::{AccountId, LastActivity, Storage};
use eider_xmpp::element::Element;
use eider_xmpp::error::{ErrorType, StanzaCondition, StanzaError};
use eider_xmpp::jid::{BareJid, Jid};
use eider_xmpp::ns;
use eider_xmpp::payload::vcard;
use eider_xmpp::stanza::{Child, PresenceType, Stanza, error_reply};
use futures_util::future::BoxFuture;

use crate::account::contacts::Contacts;
use crate::account::facts::{AccountFacts, Facts, Known};
use crate::account::roster::Rosters;
use crate::account::subscription::Request;
use crate::admin::metrics::Metrics;
use crate::c2s::mailbox::Delivery;
use crate::cluster::sessions::{SessionHandle, Sessions};
use crate::config::{Config, ConfigWatch, Feature};
use crate::pipeline::forged_delay;
use crate::router::{After, Step};
use crate::xep::storage_error;

use last_activity::LastActivities;
pub use subscriptions::{Effects, roster_limits, roster_push};

/// Hears of presence: what is sent to resources because of what they are (XEP-0163 §4.3).
/// Called by the session whose presence it is.
pub trait PresenceWatcher: Send + Sync {
    /// An available resource sent a presence; `initial` where it was not available before. Must not wait.
    fn available(&self, session: &Arc<SessionHandle>, presence: &Stanza, initial: bool);
    /// The resource is not available any more. Must not wait.
    fn unavailable(&self, session: &Arc<SessionHandle>);
    /// Some of what was sent to the resource because of what it is was dropped for lack of room, and there is room
    /// again. Must not wait.
    fn missed_events(&self, session: &Arc<SessionHandle>);
    /// From now on, or no longer, `contact` sees the presence of `account`. May wait for storage, not for clients.
    fn subscription_changed<'a>(
        &'a self,
        account: &'a BareJid,
        contact: &'a BareJid,
        sees_presence: bool,
    ) -> BoxFuture<'a, ()>;
}

/// Completes what a client says of itself before others see it (XEP-0398 §4).
pub trait PresenceStamp: Send + Sync {
    /// The presence as others shall see it.
    fn stamp<'a>(&'a self, account: AccountId, presence: &'a Stanza) -> BoxFuture<'a, Stanza>;
}

/// See the module's documentation.
pub struct Presence {
    config: ConfigWatch,
    sessions: Arc<Sessions>,
    facts: Arc<AccountFacts>,
    rosters: Arc<Rosters>,
    storage: Arc<dyn Storage>,
    metrics: Arc<Metrics>,
    last_activities: LastActivities,
    watchers: OnceLock<Vec<Arc<dyn PresenceWatcher>>>,
    stamp: OnceLock<Arc<dyn PresenceStamp>>,
}

/// What an account's own side says of who sees what.
#[derive(Default)]
struct Own {
    facts: Known,
    contacts: Contacts,
}

impl Own {
    fn blocks(&self, jid: &Jid) -> bool {
        self.facts.as_deref().is_some_and(|facts| facts.blocks(jid))
    }
}

impl Presence {
    /// Presence among `sessions`, by what the rosters say.
    pub fn new(
        config: ConfigWatch,
        sessions: Arc<Sessions>,
        facts: Arc<AccountFacts>,
        rosters: Arc<Rosters>,
        storage: Arc<dyn Storage>,
        metrics: Arc<Metrics>,
    ) -> Presence {
        Presence {
            config,
            sessions,
            facts,
            rosters,
            last_activities: LastActivities::new(storage.clone()),
            storage,
            metrics,
            watchers: OnceLock::new(),
            stamp: OnceLock::new(),
        }
    }

    /// Says who hears of presence and who completes it. Once, before any session is served.
    pub fn extend(&self, watchers: Vec<Arc<dyn PresenceWatcher>>, stamp: Arc<dyn PresenceStamp>) {
        let set = self.watchers.set(watchers).is_ok() && self.stamp.set(stamp).is_ok();
        assert!(set, "set once");
    }

    fn watchers(&self) -> &[Arc<dyn PresenceWatcher>] {
        self.watchers.get().map_or(&[], Vec::as_slice)
    }

    /// A presence stanza that a session of ours sent; what only a host may say is taken out.
    pub fn routed(
        self: &Arc<Self>,
        config: &Arc<Config>,
        from: &Arc<SessionHandle>,
        stanza: &Stanza,
    ) -> Step {
        let Ok(kind) = stanza.presence_type() else {
            return refuse(from, stanza, StanzaCondition::BadRequest);
        };
        if stanza.bad_to() {
            return refuse(from, stanza, StanzaCondition::JidMalformed);
        }
        let host = config.host(from.bare.domain());
        if !host.is_some_and(|host| host.has(Feature::Presence)) {
            return refuse(from, stanza, StanzaCondition::ServiceUnavailable);
        }
        let (this, config) = (self.clone(), config.clone());
        let forged = |child: &Child<'_>| forged_delay(&config, child);
        let (from, stanza) = (from.clone(), stanza.rewrite().strip(&forged).build());
        Step::Run(Box::pin(async move {
            if let Err(error) = this.handle(&config, &from, &stanza, kind).await {
                this.metrics.stanza_error(&error);
                answer(&from, error_reply(&stanza, &error));
            }
            After::Done
        }))
    }

    async fn handle(
        self: &Arc<Self>,
        config: &Arc<Config>,
        from: &Arc<SessionHandle>,
        stanza: &Stanza,
        kind: PresenceType,
    ) -> Result<(), StanzaError> {
        let request = match kind {
            PresenceType::Subscribe => Request::Subscribe,
            PresenceType::Subscribed => Request::Subscribed,
            PresenceType::Unsubscribe => Request::Unsubscribe,
            PresenceType::Unsubscribed => Request::Unsubscribed,
            PresenceType::Available if stanza.to().is_none() => {
                return self.available(config, from, stanza).await;
            }
            PresenceType::Unavailable if stanza.to().is_none() => {
                self.unavailable(from, stanza).await;
                return Ok(());
            }
            _ => return self.directed(config, from, stanza, kind).await,
        };
        let Some(to) = stanza.to() else {
            return Err(StanzaError::new(StanzaCondition::BadRequest));
        };
        self.request(config, from, stanza, request, to.bare()).await
    }

    /// RFC 6121 §4.2.2 and §4.4.2.
    async fn available(
        &self,
        config: &Config,
        from: &Arc<SessionHandle>,
        stanza: &Stanza,
    ) -> Result<(), StanzaError> {
        let priority = priority(stanza)?;
        // Read before anything is said, so that a failure leaves nothing half done.
        self.own(&from.bare).await.map_err(|e| storage_error(&e))?;
        let stamped = self.stamped(config, from, stanza).await;
        let stamped = stamped.rewrite().no_to().build();
        let initial = self.sessions.with(from.bare.as_str(), |_| {
            let initial = from.priority().is_none();
            from.set_presence(Some((stamped.clone(), priority)));
            initial
        });
        // Read again: who was approved meanwhile either finds the presence set or stands here.
        let own = self.own(&from.bare).await.unwrap_or_default();
        self.to_own(from, &stamped);
        self.broadcast(&own, &stamped, None).await;
        if initial {
            self.introduce(from, &own).await;
            self.show_requests(from, own.facts.as_deref()).await;
        }
        for watcher in self.watchers() {
            watcher.available(from, &stamped, initial);
        }
        Ok(())
    }

    /// An available presence as it goes to others: `from` stamped, the avatar's hash put in.
    async fn stamped(&self, config: &Config, from: &SessionHandle, stanza: &Stanza) -> Stanza {
        let stanza = stanza.rewrite().from(from.full.clone()).build();
        let host = config.host(from.bare.domain());
        match (from.account, self.stamp.get()) {
            (Some(account), Some(stamp)) if host.is_some_and(|h| h.has(Feature::Vcard)) => {
                stamp.stamp(account, &stanza).await
            }
            _ => stanza,
        }
    }

    /// The account's avatar has changed: every presence it has out is said again, completed anew.
    pub async fn announce_again(&self, account: &BareJid) {
        let config = self.config.borrow().clone();
        for session in self.sessions.of(account.as_str()) {
            let Some((said, priority)) = session.presence().zip(session.priority()) else {
                continue;
            };
            let update = said.child("x", ns::VCARD_UPDATE);
            if vcard::parse_update(update.as_ref()) == vcard::Update::NoPhoto {
                continue;
            }
            let bare = said
                .rewrite()
                .strip(&|child| child.is("x", ns::VCARD_UPDATE))
                .build();
            let stamped = self.stamped(&config, &session, &bare).await;
            let is_news = self.sessions.with(account.as_str(), |_| {
                let is_news = session.presence().as_ref() == Some(&said) && stamped != said;
                if is_news {
                    session.set_presence(Some((stamped.clone(), priority)));
                }
                is_news
            });
            if is_news {
                let own = self.own(account).await.unwrap_or_default();
                self.to_own(&session, &stamped);
                self.broadcast(&own, &stamped, Some(&session)).await;
            }
        }
    }

    /// RFC 6121 §4.5.2, as the client said it.
    async fn unavailable(&self, from: &Arc<SessionHandle>, stanza: &Stanza) {
        let stamped = stanza.rewrite().from(from.full.clone()).no_to().build();
        let addressed = stamped.rewrite().to(from.full.clone()).build();
        answer(from, Some(addressed));
        self.gone(from, &stamped).await;
    }

    /// A session has ended: unavailable to everyone who saw it (RFC 6121 §4.5.2).
    pub async fn ended(&self, handle: &Arc<SessionHandle>) {
        self.gone(handle, &unavailable_of(&handle.full.to_jid()))
            .await;
    }

    /// `stanza` is the unavailable presence, without `to`.
    async fn gone(&self, from: &Arc<SessionHandle>, stanza: &Stanza) {
        let (was_shown, was_available, is_last) = self.sessions.with(from.bare.as_str(), |entry| {
            let was_available = from.priority().is_some();
            let was_shown = from.presence().is_some();
            from.set_presence(None);
            let others = entry.is_some_and(|entry| {
                let mut sessions = entry.sessions.iter();
                sessions.any(|other| other.key != from.key && other.priority().is_some())
            });
            (was_shown, was_available, !others)
        });
        if was_available
            && is_last
            && let Some(account) = from.account
        {
            let status = stanza.child("status", ns::CLIENT);
            let status = status.map(|status| status.text()).unwrap_or_default();
            self.last_activities.note(account, status);
        }
        if was_shown || from.has_any_directed() {
            self.tell_gone(from, stanza, was_shown).await;
        }
    }

    /// A session of an earlier run that is not taken up: whoever saw it learns of its end.
    pub async fn lost(&self, handle: &Arc<SessionHandle>) {
        let was_shown = handle.presence().is_some();
        let stanza = unavailable_of(&handle.full.to_jid());
        self.tell_gone(handle, &stanza, was_shown).await;
    }

    /// A session of an earlier run has its client again: what is sent to it because of what the
    /// client is (XEP-0163 §4.3) has to be learnt anew.
    pub fn resumed(&self, handle: &Arc<SessionHandle>) {
        if let Some(presence) = handle.presence().filter(|_| handle.interests().is_none()) {
            for watcher in self.watchers() {
                watcher.available(handle, &presence, false);
            }
        }
    }

    async fn tell_gone(&self, from: &Arc<SessionHandle>, stanza: &Stanza, was_shown: bool) {
        // Whatever the configuration says by now: who was shown its presence is to learn of the end.
        let own = match self.stored(&from.bare).await {
            Ok(own) => own,
            Err(error) => {
                tracing::warn!(jid = %from.full, %error, "contacts are not told of the end of a presence");
                Own::default()
            }
        };
        if was_shown {
            self.to_own(from, stanza);
            self.broadcast(&own, stanza, None).await;
        }
        for to in from.take_directed() {
            let told = was_shown && own.contacts.state(to.bare_str()).from();
            if !told && !own.blocks(&to) {
                self.deliver(&to, stanza).await;
            }
        }
        for watcher in self.watchers() {
            watcher.unavailable(from);
        }
    }

    /// What the account's own side says; nothing for anonymous users and hosts without rosters.
    async fn own(&self, account: &BareJid) -> Result<Own, eider_storage::Error> {
        let facts = self.facts.load(account).await?;
        let contacts = match &facts {
            Some(facts) if self.has_rosters(account) => self.rosters.contacts(facts.id).await?,
            _ => Contacts::default(),
        };
        Ok(Own { facts, contacts })
    }

    /// The same also where the host's rosters, or the host itself, have been taken away.
    async fn stored(&self, account: &BareJid) -> Result<Own, eider_storage::Error> {
        let facts = self.facts.load(account).await?;
        let contacts = match &facts {
            Some(facts) => self.rosters.contacts(facts.id).await?,
            None => Contacts::default(),
        };
        Ok(Own { facts, contacts })
    }

    fn has_rosters(&self, account: &BareJid) -> bool {
        let config = self.config.borrow();
        let host = config.host(account.domain());
        host.is_some_and(|host| host.has(Feature::Roster))
    }

    /// The contacts of an account of ours; none where it does not exist.
    ///
    /// # Errors
    /// Storage's.
    pub async fn contacts(&self, account: &BareJid) -> Result<Contacts, eider_storage::Error> {
        Ok(self.own(account).await?.contacts)
    }

    /// XEP-0012: when an account was last available, and its last words.
    ///
    /// # Errors
    /// Storage's.
    pub async fn last_activity(
        &self,
        account: AccountId,
    ) -> Result<Option<LastActivity>, eider_storage::Error> {
        if let Some(last) = self.last_activities.waiting(account) {
            return Ok(Some(last));
        }
        let record = self.storage.account_by_id(account).await?;
        Ok(record.and_then(|record| record.last_activity))
    }

    /// Whether `viewer` may see the presence of `owner`: itself, subscribed to it, or shown
    /// directed presence. `None` where that is not in memory: [`Presence::contacts`] reads it.
    pub fn may_see(&self, owner: &BareJid, viewer: &BareJid) -> Option<bool> {
        if owner == viewer {
            return Some(true);
        }
        let shown = self.sessions.with(owner.as_str(), |entry| {
            entry.is_some_and(|entry| {
                let mut sessions = entry.sessions.iter();
                sessions.any(|handle| handle.has_directed(viewer.as_str()))
            })
        });
        if shown {
            return Some(true);
        }
        let Some(facts) = self.facts.cached(owner.as_str())? else {
            return Some(false);
        };
        let contacts = self.rosters.cached_contacts(facts.id)?;
        Some(contacts.state(viewer.as_str()).from())
    }
}

/// Whether a known account refuses what comes from `jid`.
fn refuses(facts: Option<&Facts>, jid: &Jid) -> bool {
    facts.is_some_and(|facts| facts.blocks(jid))
}

/// RFC 6121 §4.7.2.3: -128 to 127, 0 where absent.
fn priority(stanza: &Stanza) -> Result<i8, StanzaError> {
    match stanza.child("priority", ns::CLIENT) {
        None => Ok(0),
        Some(element) => element.text().trim().parse().map_err(|_| {
            StanzaError::new(StanzaCondition::BadRequest)
                .kind(ErrorType::Modify)
                .text("a priority is an integer from -128 to 127")
        }),
    }
}

/// A presence of type unavailable and nothing else.
fn unavailable_of(from: &Jid) -> Stanza {
    let gone = Element::new("presence", ns::CLIENT)
        .with_attr("from", from.as_str())
        .with_attr("type", "unavailable");
    Stanza::from_element(&gone)
}

fn refuse(from: &SessionHandle, stanza: &Stanza, condition: StanzaCondition) -> Step {
    answer(from, error_reply(stanza, &StanzaError::new(condition)));
    Step::Done
}

fn answer(to: &SessionHandle, reply: Option<Stanza>) {
    if let Some(reply) = reply {
        show(to, reply);
    }
}

/// What the session itself asked for, by its own presence or a probe.
fn show(to: &SessionHandle, stanza: Stanza) {
    let _ = to.mailbox.push(Delivery::answer(stanza));
}

/// Presence that a session has no room for is dropped; once it has, it is shown what is so then
/// (DESIGN §3, [`Presence::make_good`]).
fn push(to: &SessionHandle, stanza: Stanza) {
    let _ = to.mailbox.push(Delivery::copy(stanza));
}
