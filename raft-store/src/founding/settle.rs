//! Carrying the decision out: reads the record, asks around, notes, claims, until it is settled.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::decide::{Decision, Reason, Row, View, decide};
use super::{Created, Founding, Standing};
use crate::config::Parts;
use crate::discovery::Search;
use crate::error::OpenError;
use crate::identity::{Belongs, Identity, mint};
use crate::ids::ClusterId;
use crate::link::{Hello, Link, LinkError, Refused};

/// One call of the record.
pub(super) const RECORD_LIMIT: Duration = Duration::from_secs(5);
/// Asking one address who is there.
const GREETING_LIMIT: Duration = Duration::from_secs(2);
/// Discovery that has not answered by then is not waited for any more: the record decides.
const LOOKING_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks; doubled each time, and up to half of it more.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How soon a change among peers is seen.
const GLANCE: Duration = Duration::from_millis(50);

/// Where this member belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The log says so.
    Resume(ClusterId),
    /// Consensus is to be initialised.
    Found(ClusterId),
    Join(ClusterId),
}

impl Settled {
    pub(crate) fn cluster(self) -> ClusterId {
        let (Self::Resume(cluster) | Self::Found(cluster) | Self::Join(cluster)) = self;
        cluster
    }
}

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsettled {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A member that does not know yet.
pub(crate) struct Settling {
    pub(crate) parts: Parts,
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    /// The directory holds no vote, no entry and no snapshot.
    pub(crate) log_empty: bool,
    pub(crate) may_found: bool,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) search: Search,
    pub(crate) standing: Standing,
}

/// The cluster of whose log a peer holds some.
fn held(hello: &Hello) -> Option<ClusterId> {
    hello.cluster.filter(|_| hello.last.is_some())
}

impl Settling {
    /// Waits as long as it takes. What it answers is noted in the identity, durably.
    pub(crate) async fn run(mut self) -> Result<Settled, Unsettled> {
        let begun = self.parts.clock.now();
        let mut pause = FIRST_PAUSE;
        let mut claimed = None;
        loop {
            let row = match claimed.take() {
                Some(row) => row,
                None if self.log_empty => self.read().await,
                None => Row::Unknown,
            };
            let (held, looked) = self.look(begun).await;
            match decide(&self.view(row, &held, looked)) {
                Decision::Resume(cluster) => return Ok(self.settled(Settled::Resume(cluster))),
                Decision::Found(cluster) => {
                    self.note(cluster, true).await?;
                    return Ok(self.settled(Settled::Found(cluster)));
                }
                Decision::Join(cluster) => {
                    self.note(cluster, false).await?;
                    return Ok(self.settled(Settled::Join(cluster)));
                }
                Decision::Claim(uuid) => {
                    let uuid = uuid.unwrap_or_else(|| mint(&*self.parts.random));
                    self.note(uuid, true).await?;
                    match self.claim(uuid).await {
                        Row::Unknown => self.wait(Reason::Record, &held, &mut pause).await,
                        row => claimed = Some(row),
                    }
                }
                Decision::Wait(reason) => self.wait(reason, &held, &mut pause).await,
                Decision::Refuse(reason) => return Err(Unsettled::Refused(reason.to_string())),
            }
        }
    }

    fn view(&self, row: Row, held: &BTreeSet<ClusterId>, looked: bool) -> View {
        View {
            member: self.identity.member,
            belongs: self.identity.belongs,
            log_empty: self.log_empty,
            row,
            held: held.clone(),
            looked,
            may_found: self.may_found,
        }
    }

    fn settled(&self, settled: Settled) -> Settled {
        let cluster = settled.cluster();
        tracing::info!(%cluster, ?settled, member = %self.identity.member, "settled");
        self.standing.belongs(cluster);
        self.standing.waits_no_more();
        settled
    }

    async fn read(&self) -> Row {
        let read = timeout(
            self.parts.clock.wait(RECORD_LIMIT),
            self.parts.founding.read(),
        );
        match read.await {
            Ok(Ok(Some(row))) => Row::Read(row),
            Ok(Ok(None)) => Row::Missing,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the founding record was not read");
                Row::Unknown
            }
            Err(_) => Row::Unknown,
        }
    }

    /// Asks the record to put this member's row. Unknown: it may be there.
    async fn claim(&self, uuid: ClusterId) -> Row {
        let founder = self.identity.member;
        let own = Founding { uuid, founder };
        let create = self.parts.founding.create(own);
        match timeout(self.parts.clock.wait(RECORD_LIMIT), create).await {
            Ok(Ok(Created::Yes)) => Row::Sure(own),
            Ok(Ok(Created::Exists(row))) => Row::Sure(row),
            Ok(Err(error)) => {
                tracing::warn!(%error, "whether the founding record has this member's row is unknown");
                Row::Unknown
            }
            Err(_) => Row::Unknown,
        }
    }

    /// Which clusters peers hold, and whether every address was asked; whoever is there must have said what it holds.
    async fn look(&self, begun: Duration) -> (BTreeSet<ClusterId>, bool) {
        if !self.log_empty {
            return (BTreeSet::new(), false);
        }
        let mut held = self.glance();
        let (addresses, answered) = self.search.found();
        // All at once: what does not answer holds up nobody else.
        let greetings: Vec<_> = addresses
            .into_iter()
            .map(|address| {
                let (link, limit) = (self.link.clone(), self.parts.clock.wait(GREETING_LIMIT));
                self.parts.tasks.spawn(async move {
                    let greeted = link.greet(&address, limit).await;
                    (address, greeted)
                })
            })
            .collect();
        let (mut silent, mut turned_away) = (false, None);
        for greeting in greetings {
            match greeting.await {
                Ok((_, Ok(hello))) => held.extend(self::held(&hello)),
                // Somebody is there, and may have a cluster: with a wrong secret, or without a leader there.
                Ok((address, Err(LinkError::Refused(why)))) => {
                    silent = true;
                    turned_away = turned_away.or((why == Refused::Certificate).then_some(address));
                }
                Ok((_, Err(_))) | Err(_) => {}
            }
        }
        self.standing.turned_away(turned_away);
        held.extend(self.glance());
        let waited = self.parts.clock.now().saturating_sub(begun);
        (held, !silent && (answered || waited >= LOOKING_LIMIT))
    }

    /// What connected peers hold.
    fn glance(&self) -> BTreeSet<ClusterId> {
        self.link.peers().iter().filter_map(held).collect()
    }

    async fn note(&mut self, cluster: ClusterId, founder: bool) -> Result<(), OpenError> {
        let belongs = Belongs { cluster, founder };
        let disk = &*self.parts.disk;
        let took = self.identity.belong(disk, &self.dir, belongs)?;
        sleep(took).await;
        Ok(())
    }

    /// Until the pause is over, or peers hold something new.
    async fn wait(&self, reason: Reason, held: &BTreeSet<ClusterId>, pause: &mut Duration) {
        self.standing.waits(reason.to_string());
        let clock = &self.parts.clock;
        let over = clock.now() + *pause + pause.mul_f64(self.parts.random.below(500) as f64 / 1e3);
        *pause = (*pause * 2).min(LAST_PAUSE);
        let looking = !self.search.found().1;
        while clock.now() < over {
            sleep(clock.wait(GLANCE)).await;
            let answered = looking && self.search.found().1;
            if answered || !self.glance().is_subset(held) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
