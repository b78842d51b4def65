//! The core in the order its parts stand on each other: who is bound, what is written, where stanzas go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use eider_storage::{Fence, SavedSession, Storage, Timestamp, Watermark};
use smallvec::smallvec;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Policy;
use crate::account::delivery::LocalDelivery;
use crate::account::facts::AccountFacts;
use crate::account::presence::Presence;
use crate::account::resends::Resends;
use crate::account::roster::Rosters;
use crate::account::stanza_ids::StanzaIds;
use crate::account::writer::{Writer, WriterTask};
use crate::admin::live_sessions::LiveSessions;
use crate::admin::metrics::Metrics;
use crate::admin::trace::Tracer;
use crate::c2s::catch_up::OwedMessages;
use crate::c2s::control::Control;
use crate::c2s::resumable::Resumables;
use crate::c2s::saver::Saver;
use crate::c2s::session::{Session, SessionParts};
use crate::c2s::{bind, saved};
use crate::cluster::sessions::{SessionHandle, Sessions};
use crate::config::ConfigWatch;
use crate::router::{CommittedDelivery, Router, RouterParts};
use crate::sealed_ids::{KEY_LEN_BYTES, SealedIds};
use crate::server::extensions::{ExtensionParts, Extensions};
use crate::xep::blocking::Blocking;
use crate::xep::pep::Watcher;
use crate::xep::{self, Routes};

/// Where the key of stanza-ids is kept: as long as the archive.
const STANZA_ID_KEY: &str = "stanza_id_key";
/// Where the key of the ids of sessions that may be resumed is kept.
const RESUMPTION_ID_KEY: &str = "resumption_id_key";
/// Saved sessions read at once at a start.
const RESTORE_PAGE: u32 = 256;

/// The running core.
pub struct Core {
    /// What sessions reach.
    pub parts: Arc<SessionParts>,
    /// Extensions that streams reach too.
    pub extensions: Extensions,
    facts: Arc<AccountFacts>,
    writer: JoinHandle<()>,
}

impl Core {
    /// Builds the core over `storage` and starts its archive writer.
    ///
    /// # Errors
    /// Storage's.
    pub async fn build(
        config: ConfigWatch,
        storage: Arc<dyn Storage>,
        metrics: Arc<Metrics>,
        tracer: Tracer,
        policy: Arc<Policy>,
    ) -> Result<Core, eider_storage::Error> {
        let ids = stanza_ids(storage.as_ref()).await?;
        let resumption_ids = sealed_ids(storage.as_ref(), RESUMPTION_ID_KEY).await?;
        let sessions = Arc::new(Sessions::default());
        let facts = Arc::new(AccountFacts::new(storage.clone(), config.clone()));
        let delivery = Arc::new(LocalDelivery::new(sessions.clone(), ids.clone()));
        let (writer, task) = archive_writer(&config, &storage, &sessions, &delivery, &metrics);
        let resends = Arc::new(Resends::new(storage.clone(), crate::clock::timestamp()));
        let rosters = rosters_over(&config, &storage);
        let presence = presence_over(&config, &sessions, &facts, &rosters, &storage, &metrics);
        let (extensions, routes) = extend(
            ExtensionParts {
                config: config.clone(),
                storage: storage.clone(),
                sessions: sessions.clone(),
                facts: facts.clone(),
                rosters: rosters.clone(),
                ids,
                policy: policy.clone(),
                live: live(&sessions, &facts, &presence, &storage),
                metrics: metrics.clone(),
                presence: Arc::downgrade(&presence),
                fence: Fence::single(),
            },
            &presence,
        );
        let router = Arc::new(Router::new(RouterParts {
            config: config.clone(),
            sessions: sessions.clone(),
            facts: facts.clone(),
            rosters,
            delivery: delivery.clone(),
            presence: presence.clone(),
            writer: writer.clone(),
            pep: extensions.pep.clone(),
            resends: resends.clone(),
            metrics: metrics.clone(),
            policy: policy.clone(),
            routes,
        }));
        let parts = Arc::new(SessionParts {
            config,
            router,
            sessions,
            resumables: Arc::new(Resumables::new(resumption_ids)),
            presence,
            catch_up: Arc::new(OwedMessages::new(storage.clone(), delivery, facts.clone())),
            saver: Saver::start(storage.clone(), Fence::single()),
            storage,
            writer,
            policy,
            metrics,
            tracer,
            draining: CancellationToken::new(),
            resends,
        });
        tokio::spawn(reconfigure(parts.clone()));
        Ok(Core {
            parts,
            extensions,
            facts,
            writer: tokio::spawn(task.run()),
        })
    }

    /// Live sessions, for administration.
    pub fn live_sessions(&self) -> Arc<LiveSessions> {
        let parts = &self.parts;
        live(
            &parts.sessions,
            &self.facts,
            &parts.presence,
            &parts.storage,
        )
    }

    /// Takes up the sessions that a drained run saved, so that their clients find them (XEP-0198 §5).
    ///
    /// # Errors
    /// Storage's.
    pub async fn restore_sessions(&self, now: Timestamp) -> Result<usize, eider_storage::Error> {
        let storage = &self.parts.storage;
        let mut restored = 0;
        let mut expired = Vec::new();
        loop {
            let page = storage.sessions_take(Fence::single(), RESTORE_PAGE).await?;
            if page.is_empty() {
                break;
            }
            for (saved, watermark) in &page {
                if saved.expires_at > now {
                    restored += usize::from(self.restore(saved, watermark));
                } else {
                    expired.extend(saved::restore(saved, 0).map(|saved| saved.handle));
                }
            }
        }
        if restored > 0 {
            // Those that were taken up have seen their presence.
            let presence = self.parts.presence.clone();
            tokio::spawn(async move {
                for handle in expired {
                    presence.lost(&handle).await;
                }
            });
        }
        Ok(restored)
    }

    fn restore(&self, saved: &SavedSession, watermark: &Watermark) -> bool {
        let limit = self.parts.config.borrow().limits.session_queue_bytes as usize;
        let Some(restored) = saved::restore(saved, limit) else {
            tracing::error!("a saved session cannot be read; its client will log in anew");
            return false;
        };
        let handle = restored.handle.clone();
        let acknowledged = bind::acknowledged(watermark);
        if self.parts.sessions.insert(&handle, acknowledged).is_err() {
            return false;
        }
        self.parts.sessions.with(handle.bare.as_str(), |entry| {
            if let Some(entry) = entry {
                let debts = restored.debts.iter();
                debts.for_each(|position| entry.ledger.add(*position, smallvec![handle.key]));
            }
        });
        self.parts.resumables.restore(saved.id.clone(), &handle);
        self.parts.metrics.sessions.inc();
        self.parts.metrics.sessions_waiting.inc();
        tracing::info!(jid = %handle.full, "session restored");
        let session = Session::restored(self.parts.clone(), restored);
        tokio::spawn(bind::run(self.parts.clone(), session));
        true
    }

    /// Ends every session, resumable ones so that they resume after the restart, within `grace`.
    pub async fn drain(&self, grace: Duration) {
        // Before the list is made: who binds later sees it.
        self.parts.draining.cancel();
        let sessions = self.parts.sessions.all();
        let (saved, ended): (Vec<_>, Vec<_>) = sessions
            .into_iter()
            .partition(|handle| handle.about.resumable.load(Ordering::Relaxed));
        // First those that end for good: the others are to be saved with the news of it.
        let _ = tokio::time::timeout(grace / 2, ended_all(&ended)).await;
        let all = async { tokio::join!(ended_all(&ended), ended_all(&saved)) };
        if tokio::time::timeout(grace / 2, all).await.is_err() {
            tracing::warn!("not every session ended in time");
        }
    }

    /// Waits until the archive writer has written everything. To be called once nothing else
    /// holds the core's parts.
    pub async fn stop(self) {
        let Core { parts, writer, .. } = self;
        // Told so by the drain, unless that was cut off before it began.
        parts.draining.cancel();
        drop(parts);
        if tokio::time::timeout(Duration::from_secs(10), writer)
            .await
            .is_err()
        {
            tracing::warn!("the archive writer did not end in time");
        }
    }
}

/// Tells every session of each new configuration, until they are being ended.
async fn reconfigure(parts: Arc<SessionParts>) {
    let mut config = parts.config.clone();
    loop {
        tokio::select! {
            changed = config.changed() => if changed.is_err() { return },
            () = parts.draining.cancelled() => return,
        }
        for handle in parts.sessions.all() {
            let _ = handle.mailbox.control(Control::Reconfigured);
        }
    }
}

/// Has sessions end because the server does.
async fn ended_all(sessions: &[Arc<SessionHandle>]) {
    for handle in sessions {
        let _ = handle.mailbox.control(Control::Drain);
    }
    for handle in sessions {
        handle.ended().cancelled().await;
    }
}

/// Live sessions, as administration reaches them.
fn live(
    sessions: &Arc<Sessions>,
    facts: &Arc<AccountFacts>,
    presence: &Arc<Presence>,
    storage: &Arc<dyn Storage>,
) -> Arc<LiveSessions> {
    Arc::new(LiveSessions {
        sessions: sessions.clone(),
        facts: facts.clone(),
        presence: presence.clone(),
        storage: storage.clone(),
    })
}

fn rosters_over(config: &ConfigWatch, storage: &Arc<dyn Storage>) -> Arc<Rosters> {
    let accounts_max = config.borrow().limits.facts_cache_entries as usize;
    Arc::new(Rosters::new(storage.clone(), Fence::single(), accounts_max))
}

/// Presence and subscriptions over these parts.
fn presence_over(
    config: &ConfigWatch,
    sessions: &Arc<Sessions>,
    facts: &Arc<AccountFacts>,
    rosters: &Arc<Rosters>,
    storage: &Arc<dyn Storage>,
    metrics: &Arc<Metrics>,
) -> Arc<Presence> {
    Arc::new(Presence::new(
        config.clone(),
        sessions.clone(),
        facts.clone(),
        rosters.clone(),
        storage.clone(),
        metrics.clone(),
    ))
}

/// The two ends of the archive's queue.
fn archive_writer(
    config: &ConfigWatch,
    storage: &Arc<dyn Storage>,
    sessions: &Arc<Sessions>,
    delivery: &Arc<LocalDelivery>,
    metrics: &Arc<Metrics>,
) -> (Writer, WriterTask) {
    let committed = Arc::new(CommittedDelivery {
        sessions: sessions.clone(),
        delivery: delivery.clone(),
    });
    let limits = config.borrow().limits.clone();
    Writer::new(
        storage.clone(),
        committed,
        metrics.clone(),
        Fence::single(),
        limits.archive_queue_stanzas as usize,
        limits.archive_queue_bytes,
    )
}

/// The extensions, tied to presence, and every route.
fn extend(parts: ExtensionParts, presence: &Arc<Presence>) -> (Extensions, Arc<Routes>) {
    let (extensions, mut routes) = Extensions::build(&parts);
    routes.extend(xep::roster::routes(&parts.rosters, presence));
    let blocking = Arc::new(Blocking {
        storage: parts.storage,
        facts: parts.facts,
        presence: presence.clone(),
        sessions: parts.sessions,
        fence: parts.fence,
    });
    routes.extend(blocking.routes());
    let watcher = Arc::new(Watcher(extensions.pep.clone()));
    presence.extend(vec![watcher], extensions.avatars.clone());
    (extensions, Arc::new(Routes::new(routes)))
}

async fn stanza_ids(storage: &dyn Storage) -> Result<Arc<StanzaIds>, eider_storage::Error> {
    let ids = sealed_ids(storage, STANZA_ID_KEY).await?;
    Ok(Arc::new(StanzaIds::new(ids)))
}

/// Ids under a key that is made with the first start.
async fn sealed_ids(storage: &dyn Storage, name: &str) -> Result<SealedIds, eider_storage::Error> {
    let mut fresh = [0u8; KEY_LEN_BYTES];
    SystemRandom::new()
        .fill(&mut fresh)
        .expect("the system has randomness");
    let stored = storage.meta_init(Fence::single(), name, &fresh).await?;
    let key = stored.as_slice().try_into();
    let key = key.map_err(|_| eider_storage::Error::Corrupt(format!("{name} has a wrong length")));
    Ok(SealedIds::new(key?))
}
