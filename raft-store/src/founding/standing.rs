//! What others may know of how this member comes to belong: its cluster, what it waits for, an alarm.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::bell::Bell;
use crate::clock::Clock;
use crate::ids::{ClusterId, MemberId};
use crate::link::Refused;
use crate::seldom::Seldom;

/// How a member stands to its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belonging {
    /// `None`: not decided yet.
    pub cluster: Option<ClusterId>,
    /// What is missing before this member can serve.
    pub waiting: Option<Waiting>,
    /// The founding record names this other cluster. Until a person has helped, the member is not ready; it goes on as
    /// before otherwise, and changes its cluster never.
    pub other: Option<ClusterId>,
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub what: String,
    /// For so long.
    pub time: Duration,
}

/// What a person has to know of a refusal. `None`: nothing is wrong here.
fn says(why: Refused) -> Option<&'static str> {
    match why {
        Refused::Reverted => Some(
            "its disk was set back: it has less than it once acknowledged; start with an empty one",
        ),
        Refused::TwoRuns => Some("another run has the same id: its disk was copied"),
        Refused::Certificate => Some("its certificate names another member"),
        Refused::Format => Some("they read no format in common"),
        // Another cluster's address, a removal (which ends the member), a full port.
        Refused::Cluster | Refused::Removed | Refused::Busy => None,
    }
}

/// Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Standing(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    now: Mutex<Now>,
    said: Seldom,
    changed: Bell,
}

#[derive(Default)]
struct Now {
    cluster: Option<ClusterId>,
    waiting: Option<(String, Duration)>,
    other: Option<ClusterId>,
    /// Who has last refused this member, and why.
    refused: Option<(MemberId, Refused)>,
    /// An address where a member is that this one cannot talk to.
    turned_away: Option<String>,
    /// The record of the cluster was looked at, or gave no answer.
    looked: bool,
}

impl Standing {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            clock,
            now: Mutex::default(),
            said: Seldom::default(),
            changed: Bell::default(),
        }))
    }

    pub(crate) fn now(&self) -> Belonging {
        let now = self.0.now.lock();
        let refused = now.refused.and_then(|(by, why)| {
            let why = says(why)?;
            Some(format!("; member {by} refuses this one: {why}"))
        });
        let turned_away = now.turned_away.as_ref().map(|address| {
            format!(
                "; the member at {address} knows another join secret, or is of another cluster than this directory's \
                 certificate: then start with an empty directory"
            )
        });
        let more = [turned_away, refused].into_iter().flatten();
        let more: String = more.collect();
        let waiting = now.waiting.as_ref().map(|(what, since)| Waiting {
            what: format!("{what}{more}"),
            time: self.0.clock.now().saturating_sub(*since),
        });
        Belonging {
            cluster: now.cluster,
            waiting,
            other: now.other,
        }
    }

    /// Waits until the record was looked at and names no other cluster.
    pub(crate) async fn undisputed(&self) {
        let fine = || {
            let now = self.0.now.lock();
            (now.looked && now.other.is_none()).then_some(())
        };
        self.0.changed.wait(fine).await;
    }

    pub(super) fn looked(&self) {
        if !std::mem::replace(&mut self.0.now.lock().looked, true) {
            self.0.changed.ring();
        }
    }

    pub(super) fn belongs(&self, cluster: ClusterId) {
        self.0.now.lock().cluster = Some(cluster);
    }

    /// Says so once; the time counts from there.
    pub(super) fn waits(&self, what: String) {
        let mut now = self.0.now.lock();
        if now
            .waiting
            .as_ref()
            .is_some_and(|(known, _)| *known == what)
        {
            return;
        }
        tracing::info!(what, "waiting");
        now.waiting = Some((what, self.0.clock.now()));
    }

    pub(super) fn waits_no_more(&self) {
        let mut now = self.0.now.lock();
        (now.waiting, now.refused, now.turned_away) = (None, None, None);
    }

    /// The address, of those that were asked, where a member is that this one cannot talk to.
    pub(super) fn turned_away(&self, at: Option<String>) {
        self.0.now.lock().turned_away = at;
    }

    /// A peer does not talk to this member. All of them say so again and again.
    pub(crate) fn refused(&self, by: MemberId, why: Refused) {
        let mut now = self.0.now.lock();
        if why == Refused::Removed && now.refused.is_some() {
            // It may have been removed for just that.
            return;
        }
        now.refused = Some((by, why));
        if let Some(why) = says(why).filter(|_| self.0.said.may(self.0.clock.now())) {
            tracing::error!(%by, why, "a peer refuses this member");
        }
    }

    /// Says so at each change.
    pub(super) fn disputed(&self, own: ClusterId, other: Option<ClusterId>) {
        self.note(own, other);
        self.looked();
    }

    fn note(&self, own: ClusterId, other: Option<ClusterId>) {
        let mut now = self.0.now.lock();
        if now.other == other {
            return;
        }
        now.other = other;
        drop(now);
        self.0.changed.ring();
        match other {
            Some(other) => tracing::error!(
                cluster = %own,
                record = %other,
                "the founding record names another cluster: this member is not ready until a person has decided"
            ),
            None => tracing::info!(cluster = %own, "the founding record names this cluster again"),
        }
    }
}
