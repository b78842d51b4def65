//! The extensions, composed: what answers which iq request.

use std::sync::{Arc, Weak};
use std::time::Instant;

use eider_storage::{Fence, Storage};

use crate::access::Policy;
use crate::account::facts::AccountFacts;
use crate::account::presence::Presence;
use crate::account::roster::Rosters;
use crate::account::stanza_ids::StanzaIds;
use crate::admin::metrics::Metrics;
use crate::admin::sessions::SessionsAdmin;
use crate::cluster::sessions::Sessions;
use crate::config::ConfigWatch;
use crate::pubsub::Engine;
use crate::xep::archive::Archives;
use crate::xep::avatar::{AvatarParts, Avatars};
use crate::xep::capabilities::Capabilities;
use crate::xep::commands::{Administration, Commands};
use crate::xep::disco::Disco;
use crate::xep::last_activity::LastActivities;
use crate::xep::pep::audience::Accounts;
use crate::xep::pep::{self, Pep, PepParts};
use crate::xep::register::{Registration, RegistrationParts};
use crate::xep::vcard::VCards;
use crate::xep::{self, Route};

/// What extensions are built over.
pub struct ExtensionParts {
    /// The configuration valid now.
    pub config: ConfigWatch,
    /// The database.
    pub storage: Arc<dyn Storage>,
    /// Bound sessions.
    pub sessions: Arc<Sessions>,
    /// Account facts.
    pub facts: Arc<AccountFacts>,
    /// Rosters.
    pub rosters: Arc<Rosters>,
    /// Ids of archived messages.
    pub ids: Arc<StanzaIds>,
    /// Access rules.
    pub policy: Arc<Policy>,
    /// Sessions as administrators end them.
    pub live: Arc<dyn SessionsAdmin>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Says again what has changed; it knows the extensions, hence the weak handle.
    pub presence: Weak<Presence>,
    /// On whose behalf is written.
    pub fence: Fence,
}

/// Extensions that are more than their routes.
pub struct Extensions {
    /// Pubsub on accounts, and what clients want of it.
    pub pep: Arc<Pep>,
    /// The avatar's hash in presence.
    pub avatars: Arc<Avatars>,
    /// Registration before login.
    pub registration: Arc<Registration>,
}

impl Extensions {
    /// Builds every extension; with the routes of all.
    pub fn build(parts: &ExtensionParts) -> (Extensions, Vec<Route>) {
        let (storage, fence) = (parts.storage.clone(), parts.fence);
        let limits = parts.config.borrow().limits.clone();
        let config = parts.config.clone();
        let accounts = Arc::new(Accounts {
            facts: parts.facts.clone(),
            rosters: parts.rosters.clone(),
            sessions: parts.sessions.clone(),
        });
        let pep = Arc::new(Pep::new(PepParts {
            config: parts.config.clone(),
            engine: Engine::new(storage.clone(), accounts.clone(), fence, move || {
                pep::limits(&config.borrow().limits)
            }),
            capabilities: Arc::new(Capabilities::new(limits.caps_cache_entries as usize)),
            facts: parts.facts.clone(),
            rosters: parts.rosters.clone(),
            sessions: parts.sessions.clone(),
        }));
        let avatars = Arc::new(Avatars::new(AvatarParts {
            storage: storage.clone(),
            pep: pep.clone(),
            presence: parts.presence.clone(),
            fence,
            entries: limits.facts_cache_entries as usize,
        }));
        let registration = Arc::new(Registration::new(RegistrationParts {
            config: parts.config.clone(),
            storage: storage.clone(),
            live: parts.live.clone(),
            policy: parts.policy.clone(),
            metrics: parts.metrics.clone(),
        }));
        let mut routes = plain_routes(parts);
        routes.extend(pep.routes(&avatars));
        routes.extend(registration.routes());
        routes.extend(account_routes(parts, &accounts, &avatars));
        routes.extend(discovery_routes(parts, &accounts, &pep));
        (
            Extensions {
                pep,
                avatars,
                registration,
            },
            routes,
        )
    }
}

/// Extensions that need nothing or the database alone.
fn plain_routes(parts: &ExtensionParts) -> Vec<Route> {
    let mut routes = xep::ping::routes();
    routes.extend(xep::carbons::routes());
    routes.extend(xep::session::routes());
    routes.extend(xep::version::routes());
    routes.extend(xep::time::routes());
    routes.extend(xep::private::routes(&parts.storage, parts.fence));
    routes
}

fn account_routes(
    parts: &ExtensionParts,
    accounts: &Arc<Accounts>,
    avatars: &Arc<Avatars>,
) -> Vec<Route> {
    let vcards = Arc::new(VCards {
        storage: parts.storage.clone(),
        facts: parts.facts.clone(),
        avatars: avatars.clone(),
        fence: parts.fence,
    });
    let last = Arc::new(LastActivities {
        presence: parts.presence.clone(),
        sessions: parts.sessions.clone(),
        accounts: accounts.clone(),
        started: Instant::now(),
    });
    let archives = Arc::new(Archives::new(
        parts.storage.clone(),
        parts.facts.clone(),
        parts.ids.clone(),
        parts.fence,
    ));
    let mut routes = vcards.routes();
    routes.extend(last.routes());
    routes.extend(archives.routes());
    routes
}

fn discovery_routes(
    parts: &ExtensionParts,
    accounts: &Arc<Accounts>,
    pep: &Arc<Pep>,
) -> Vec<Route> {
    let administration = Administration {
        storage: parts.storage.clone(),
        live: parts.live.clone(),
        sessions: parts.sessions.clone(),
        policy: parts.policy.clone(),
    };
    let commands = Arc::new(Commands::new(administration.commands()));
    let disco = Arc::new(Disco {
        pep: pep.clone(),
        accounts: accounts.clone(),
        commands: commands.clone(),
    });
    let mut routes = commands.routes();
    routes.extend(disco.routes());
    routes
}
