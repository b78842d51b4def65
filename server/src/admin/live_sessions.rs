//! Live sessions as administration sees them: the registry of sessions behind [`SessionsAdmin`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use eider_storage::{Fence, Storage};
use eider_xmpp::jid::{BareJid, Jid};
use tokio::sync::watch;

use super::accounts::{self, Account, Change};
use super::metrics::Metrics;
use super::protocol::Failure;
use super::sessions::{SessionInfo, SessionsAdmin};
use crate::account::facts::AccountFacts;
use crate::account::presence::Presence;
use crate::account::roster::Rosters;
use crate::c2s::control::{Control, Kick};
use crate::clock;
use crate::cluster::sessions::{SessionHandle, Sessions};
use crate::config::Config;
use crate::xep::to_its_end;

/// See the module's documentation.
#[derive(Clone)]
pub struct LiveSessions {
    /// Who is bound.
    pub sessions: Arc<Sessions>,
    /// What is remembered of accounts.
    pub facts: Arc<AccountFacts>,
    /// Tells contacts of accounts that are removed.
    pub presence: Arc<Presence>,
    /// Where accounts are.
    pub storage: Arc<dyn Storage>,
}

impl LiveSessions {
    /// What a command reaches where no server runs: nobody is bound.
    pub fn of_no_server(storage: Arc<dyn Storage>, config: Arc<Config>) -> LiveSessions {
        let accounts_max = config.limits.facts_cache_entries as usize;
        let (_, config) = watch::channel(config);
        let sessions = Arc::new(Sessions::default());
        let facts = Arc::new(AccountFacts::new(storage.clone(), config.clone()));
        let rosters = Rosters::new(storage.clone(), Fence::single(), accounts_max);
        let presence = Presence::new(
            config,
            sessions.clone(),
            facts.clone(),
            Arc::new(rosters),
            storage.clone(),
            Arc::new(Metrics::new()),
        );
        LiveSessions {
            sessions,
            facts,
            presence: Arc::new(presence),
            storage,
        }
    }
}

#[async_trait]
impl SessionsAdmin for LiveSessions {
    async fn list(&self, account: Option<&str>) -> Vec<SessionInfo> {
        let handles = match account {
            Some(account) => self.sessions.of(account),
            None => self.sessions.all(),
        };
        let mut infos: Vec<SessionInfo> = handles.iter().map(|handle| info(handle)).collect();
        infos.sort_by(|a, b| a.jid.cmp(&b.jid));
        infos
    }

    async fn kick(&self, jid: &str, reason: Kick) -> usize {
        let Ok(jid) = Jid::parse(jid) else { return 0 };
        let mut handles = self.sessions.of(jid.bare_str());
        handles.retain(|handle| {
            jid.resource()
                .is_none_or(|named| handle.full.resource() == named)
        });
        end(&handles, reason).await
    }

    async fn change(
        &self,
        config: Arc<Config>,
        account: Account,
        change: Change,
        asking: Option<Arc<SessionHandle>>,
    ) -> Result<usize, Failure> {
        let this = self.clone();
        to_its_end(async move {
            this.changed(&config, &account, &change, asking.as_deref())
                .await
        })
        .await
    }

    fn count(&self) -> usize {
        self.sessions.count()
    }
}

impl LiveSessions {
    async fn changed(
        &self,
        config: &Config,
        account: &Account,
        change: &Change,
        asking: Option<&SessionHandle>,
    ) -> Result<usize, Failure> {
        let jid = account.jid();
        if matches!(change, Change::Remove) {
            self.leaving(&jid).await;
        }
        let done = accounts::change(self.storage.as_ref(), config, account, change).await;
        // Also where the outcome is not known: storage has the word.
        self.facts.forget(&jid);
        if let Err(failure) = done {
            if !self.is_usable(account).await {
                self.kick(&jid, Kick::AccountGone).await;
            }
            return Err(failure);
        }
        let Some(reason) = change.ends() else {
            return Ok(0);
        };
        let mut handles = self.sessions.of(&jid);
        handles.retain(|handle| asking.is_none_or(|asking| asking.key != handle.key));
        Ok(end(&handles, reason).await)
    }

    async fn leaving(&self, account: &str) {
        let Ok(bare) = account.parse::<BareJid>() else {
            return;
        };
        if let Err(error) = self.presence.leaving(&bare).await {
            tracing::warn!(account, %error, "contacts are not told that the account is removed");
        }
    }

    /// False where the account surely is not there or barred: nobody is thrown out for a
    /// database that does not answer.
    async fn is_usable(&self, account: &Account) -> bool {
        let found = self
            .storage
            .account_login(&account.host, &account.localpart)
            .await;
        found.map_or(true, |found| found.is_some_and(|account| !account.disabled))
    }
}

async fn end(handles: &[Arc<SessionHandle>], kick: Kick) -> usize {
    let mut ended = 0;
    for handle in handles {
        if handle.mailbox.control(Control::Kick(kick)).is_ok() {
            handle.ended().cancelled().await;
            ended += 1;
        }
    }
    ended
}

fn info(handle: &SessionHandle) -> SessionInfo {
    let about = &handle.about;
    let age_seconds = handle.since.elapsed().unwrap_or_default().as_secs();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let now = clock::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let waits_until = count(&about.waits_until);
    let waiting = waits_until > 0;
    let (queued, held) = handle.mailbox.waiting_bytes();
    SessionInfo {
        jid: handle.full.as_str().to_owned(),
        address: handle
            .peer()
            .filter(|_| !waiting)
            .map(|address| address.to_string()),
        listener: None,
        tls: about
            .tls
            .lock()
            .map(|(version, suite)| format!("{version:?} {suite}")),
        mechanism: (*about.mechanism.lock()).to_owned(),
        age_seconds,
        idle_seconds: age_seconds.saturating_sub(count(&about.read_at_seconds)),
        waiting_seconds: waiting.then(|| waits_until.saturating_sub(now)),
        priority: handle.priority(),
        stream_management: about.stream_management.load(Ordering::Relaxed),
        carbons: handle.carbons(),
        inactive: about.inactive.load(Ordering::Relaxed),
        queue_bytes: (queued + held) as u64,
        stanzas_in: count(&about.stanzas_in),
        stanzas_out: count(&about.stanzas_out),
    }
}
