//! Extensions: the one list of what is supported, and the routes of iq requests.
//!
//! An extension is one file here. It says in `SPEC` what it supports; service discovery,
//! the README's table and the DOAP file are made from these.

pub mod archive;
pub mod avatar;
pub mod blocking;
pub mod capabilities;
pub mod carbons;
pub mod commands;
pub mod disco;
pub mod error_codes;
pub mod hints;
pub mod last_activity;
pub mod offline;
pub mod pep;
pub mod ping;
pub mod private;
pub mod published;
pub mod register;
pub mod result_sets;
pub mod roster;
pub mod session;
pub mod time;
pub mod vcard;
pub mod version;

use std::collections::HashMap;
use std::sync::Arc;

use eider_xmpp::element::Element;
use eider_xmpp::error::{ErrorType, StanzaCondition, StanzaError};
use eider_xmpp::jid::{BareJid, Jid};
use eider_xmpp::stanza::{Child, IqType, Stanza};
use foldhash::fast::RandomState;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::account::stanza_ids;
use crate::c2s::{client_state, stream_management};
use crate::cluster::sessions::SessionHandle;
use crate::config::{Config, Feature, Host};

/// How much of a specification is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All of it that concerns a server.
    Complete,
    /// Some of it; the note says what.
    Partial,
}

/// Whom a request or a disco feature concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host itself.
    Server,
    /// An account, by its bare JID.
    Account,
}

/// One supported specification.
#[derive(Debug)]
pub struct Spec {
    /// XEP number.
    pub number: u16,
    /// Title as published.
    pub name: &'static str,
    /// Version implemented.
    pub version: &'static str,
    /// See [`Status`].
    pub status: Status,
    /// What is left out, or why it is here.
    pub note: &'static str,
    /// Disco features, by whom they are announced for.
    pub features: &'static [(Target, &'static str)],
    /// The switch that takes it away from a host.
    pub switch: Option<Feature>,
}

/// Everything supported, by number.
pub const SPECS: &[&Spec] = &[
    &last_activity::SPEC,
    &disco::SPEC,
    &private::SPEC,
    &commands::SPEC,
    &vcard::SPEC,
    &result_sets::SPEC,
    &pep::PUBSUB_SPEC,
    &register::SPEC,
    &avatar::AVATAR_SPEC,
    &error_codes::SPEC,
    &version::SPEC,
    &pep::CAPABILITIES_SPEC,
    &disco::EXTENSIONS_SPEC,
    &commands::ADMINISTRATION_SPEC,
    &avatar::UPDATE_SPEC,
    &disco::CONTACT_SPEC,
    &disco::SOFTWARE_SPEC,
    &offline::SPEC,
    &pep::SPEC,
    &pep::NICK_SPEC,
    &blocking::SPEC,
    &ping::SPEC,
    &time::SPEC,
    &stream_management::SPEC,
    &carbons::SPEC,
    &archive::SPEC,
    &hints::SPEC,
    &client_state::SPEC,
    &stanza_ids::SPEC,
    &pep::OMEMO_SPEC,
    &avatar::SPEC,
    &pep::BOOKMARKS_SPEC,
    &archive::FULLTEXT_SPEC,
    &archive::PREFERENCES_SPEC,
    &pep::DISPLAYED_SPEC,
];

/// Whether a host serves this: its switch, and the options that take it away.
fn is_served(spec: &Spec, config: &Config, host: &Host) -> bool {
    spec.switch.is_none_or(|feature| host.has(feature))
        && match spec.number {
            160 => host.offline_messages,
            398 => host.has(Feature::Pep),
            431 => archive::has_fulltext(config, host),
            _ => true,
        }
}

/// Features that `host` announces for `target`, in order and once each.
pub fn features(config: &Config, host: &Host, target: Target) -> Vec<&'static str> {
    let mut features: Vec<&str> = SPECS
        .iter()
        .filter(|spec| is_served(spec, config, host))
        .flat_map(|spec| spec.features.iter())
        .filter(|(of, _)| *of == target)
        .map(|(_, feature)| *feature)
        .collect();
    features.sort_unstable();
    features.dedup();
    features
}

/// An iq of type get or set for the server or one of its accounts.
pub struct Request {
    /// The whole stanza, `from` stamped.
    pub stanza: Stanza,
    /// Its one payload.
    pub payload: Element,
    /// Whether it is of type set.
    pub set: bool,
    /// Who asks.
    pub from: Jid,
    /// Whom: a host's domain or an account's bare JID.
    pub to: BareJid,
    /// The asking session, where it is one of ours.
    pub session: Option<Arc<SessionHandle>>,
    /// The configuration valid when it was read.
    pub config: Arc<Config>,
    /// What is to happen after the answer.
    pub afterwards: Afterwards,
}

/// What a handler wants done once the answer is on its way: pushes and notices that must not
/// come before it. Done without an answer where the asking session has ended by then.
#[derive(Clone, Default)]
pub struct Afterwards(Arc<Pending>);

#[derive(Default)]
struct Pending(Mutex<Option<BoxFuture<'static, ()>>>);

impl Drop for Pending {
    /// Whoever would have answered is gone.
    fn drop(&mut self) {
        if let Some(work) = self.0.get_mut().take() {
            tokio::spawn(work);
        }
    }
}

impl Afterwards {
    /// Has `work` done after the answer.
    pub fn set(&self, work: impl Future<Output = ()> + Send + 'static) {
        *self.0.0.lock() = Some(Box::pin(work));
    }

    /// Does it. To be called by whoever has sent the answer.
    pub async fn run(&self) {
        let work = self.0.0.lock().take();
        if let Some(work) = work {
            to_its_end(work).await;
        }
    }
}

impl Request {
    /// The settings of the host asked, or of the account asked.
    pub fn host(&self) -> &Host {
        self.config
            .host(self.to.domain())
            .expect("routed only for hosts that are served")
    }

    /// Whether an account asks for what is its own.
    pub fn is_own(&self) -> bool {
        self.session.is_some() && self.from.bare_str() == self.to.as_str()
    }

    /// The asking session of an account of ours.
    ///
    /// # Errors
    /// `not-allowed` where someone else asks.
    pub fn own_session(&self) -> Result<&Arc<SessionHandle>, StanzaError> {
        self.session
            .as_ref()
            .ok_or_else(|| StanzaError::new(StanzaCondition::NotAllowed))
    }
}

/// The result's payload, or the error.
pub type Answer = Result<Option<Element>, StanzaError>;

/// What answers a request.
pub enum Handler {
    /// An empty result, whatever the request holds: nothing has to be made of it.
    Empty,
    /// This.
    By(Box<dyn Fn(Request) -> BoxFuture<'static, Answer> + Send + Sync>),
}

impl Handler {
    /// A handler that knows its answer at once.
    pub fn at_once(answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> Handler {
        Handler::By(Box::new(move |request| {
            Box::pin(std::future::ready(answer(request)))
        }))
    }
}

/// A handler that gives each request, with a clone of the parts it needs, to `answer`.
pub fn handler<P, F>(parts: &P, answer: impl Fn(P, Request) -> F + Send + Sync + 'static) -> Handler
where
    P: Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let parts = parts.clone();
    Handler::By(Box::new(move |request| {
        Box::pin(answer(parts.clone(), request))
    }))
}

/// Who may ask an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The account itself.
    Own,
    /// Anyone; the handler looks closer.
    Anyone,
}

/// One route.
pub struct Route {
    /// Whom it concerns.
    pub target: Target,
    /// The payload's namespace.
    pub ns: &'static str,
    /// The payload's name.
    pub name: &'static str,
    /// Who may ask; for the server itself always anyone who reached it.
    pub access: Access,
    /// The switch that takes it away from a host.
    pub switch: Option<Feature>,
    /// What answers.
    pub handler: Handler,
}

impl Route {
    fn is(&self, target: Target, name: &str) -> bool {
        self.target == target && self.name == name
    }

    fn serves(&self, target: Target, is_own: bool) -> bool {
        target == Target::Server || self.access == Access::Anyone || is_own
    }
}

/// All routes, by the payload's namespace.
pub struct Routes {
    routes: HashMap<&'static str, Vec<Route>, RandomState>,
}

impl Routes {
    /// Takes the routes of every extension. Two of one key are a programming error.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Routes {
        let mut map: HashMap<&str, Vec<Route>, RandomState> = HashMap::default();
        for route in routes {
            let of_namespace = map.entry(route.ns).or_default();
            let (target, name) = (route.target, route.name);
            let same = of_namespace.iter().any(|other| other.is(target, name));
            assert!(!same, "two routes for {name} of {} to {target:?}", route.ns);
            of_namespace.push(route);
        }
        Routes { routes: map }
    }

    fn find(&self, target: Target, ns: &str, name: &str, host: &Host) -> Option<&Route> {
        let mut of_namespace = self.routes.get(ns)?.iter();
        let found = of_namespace.find(|route| route.is(target, name));
        found.filter(|route| route.switch.is_none_or(|feature| host.has(feature)))
    }

    /// Whether a request with this payload is answered with an empty result, whatever it holds. `is_own`:
    /// an account asks for what is its own.
    pub fn answers_empty(
        &self,
        target: Target,
        payload: &Child<'_>,
        host: &Host,
        is_own: bool,
    ) -> bool {
        let found = self.find(target, &payload.ns, payload.name, host);
        found.is_some_and(|route| {
            matches!(route.handler, Handler::Empty) && route.serves(target, is_own)
        })
    }

    /// Every route, for tests and tables.
    pub fn all(&self) -> impl Iterator<Item = &Route> {
        self.routes.values().flatten()
    }

    /// Answers a request: `service-unavailable` where nothing does (RFC 6121 §8.5.1, RFC 6120 §8.4),
    /// `forbidden` where somebody else's account is asked for what is its own. A change, once begun,
    /// goes on to its end also where the session ends meanwhile.
    pub fn answer(&self, target: Target, request: Request) -> BoxFuture<'static, Answer> {
        let unavailable = || StanzaError::new(StanzaCondition::ServiceUnavailable);
        let (ns, name) = (request.payload.ns(), request.payload.name());
        let found = self.find(target, ns, name, request.host());
        let Some(route) = found.filter(|route| route.serves(target, request.is_own())) else {
            return Box::pin(std::future::ready(Err(unavailable())));
        };
        let Handler::By(handler) = &route.handler else {
            return Box::pin(std::future::ready(Ok(None)));
        };
        let set = request.set;
        let answer = handler(request);
        if set {
            return Box::pin(async move { to_its_end(answer).await });
        }
        answer
    }
}

/// What a client is told beside `resource-constraint` where a change may have been made all the same.
pub const UNKNOWN: &str =
    "whether this was done is not known: ask what holds before doing it again";

/// The error for a request that storage could not serve (DESIGN §6): `resource-constraint`, try again.
pub fn storage_error(error: &eider_storage::Error) -> StanzaError {
    match error {
        eider_storage::Error::Conflict(_) => StanzaError::new(StanzaCondition::Conflict),
        eider_storage::Error::Full(_) => StanzaError::new(StanzaCondition::ResourceConstraint),
        eider_storage::Error::Unavailable(_) => {
            StanzaError::new(StanzaCondition::ResourceConstraint).kind(ErrorType::Wait)
        }
        eider_storage::Error::Unknown(_) => StanzaError::new(StanzaCondition::ResourceConstraint)
            .kind(ErrorType::Wait)
            .text(UNKNOWN),
        error => {
            tracing::error!(%error, "storage failed a request");
            StanzaError::new(StanzaCondition::InternalServerError)
        }
    }
}

/// Runs work to its end, also where whoever waits for it is dropped meanwhile: a session that
/// ends drops what it was doing, and a change must not be left half done.
pub fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send {
    let task = tokio::spawn(work);
    async move {
        match task.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime stops, and whoever waits with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// A request's kind, where the stanza is a request.
pub fn request_kind(stanza: &Stanza) -> Option<bool> {
    match stanza.iq_type() {
        Ok(IqType::Get) => Some(false),
        Ok(IqType::Set) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use eider_xmpp::ns;
    use tokio::sync::Notify;

    use super::*;

    fn set() -> Request {
        let payload = Element::new("query", ns::ROSTER);
        let iq = Element::new("iq", ns::CLIENT)
            .with_attr("type", "set")
            .with_attr("id", "1")
            .with_child(payload.clone());
        Request {
            stanza: Stanza::from_element(&iq),
            payload,
            set: true,
            from: Jid::parse("localhost").unwrap(),
            to: BareJid::parse("localhost").unwrap(),
            session: None,
            config: Arc::new(Config::default()),
            afterwards: Afterwards::default(),
        }
    }

    #[test]
    fn who_may_have_changed_something_is_not_told_that_it_failed() {
        use eider_storage::Error;
        let told = storage_error(&Error::Unknown("commit".into()));
        assert_eq!(told.text.as_deref(), Some(UNKNOWN));
        assert_eq!(storage_error(&Error::Unavailable("gone".into())).text, None);
        let problem = crate::pubsub::Problem::Storage(Error::Unknown("commit".into()));
        assert_eq!(problem.to_error().text.as_deref(), Some(UNKNOWN));
    }

    /// A session that is replaced or kicked drops what it was doing, half way.
    #[tokio::test]
    async fn a_change_goes_on_to_its_end_without_who_asked() {
        let (storage, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (wrote, tells) = (storage.clone(), told.clone());
        let routes = Routes::new([Route {
            target: Target::Server,
            ns: ns::ROSTER,
            name: "query",
            access: Access::Own,
            switch: None,
            handler: handler(&(wrote, tells), |(wrote, tells), request| async move {
                wrote.notified().await;
                request.afterwards.set(async move { tells.notify_one() });
                Ok(None)
            }),
        }]);
        let mut answer = routes.answer(Target::Server, set());
        assert!(futures_util::poll!(&mut answer).is_pending());
        drop(answer);
        storage.notify_one();
        told.notified().await;
    }
}
