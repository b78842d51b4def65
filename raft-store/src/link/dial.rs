//! Dialling one peer: lane after lane, at a pace, at the addresses that the book knows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::LinkError;
use super::handshake::Failed;
use super::manager::Shared;
use super::messages::Lane;
use super::peer::{Peer, ToDial};

/// Between two dials of one peer, at least: ten a second.
const PACE: Duration = Duration::from_millis(100);
/// Between two dials that nobody waits for, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Until a stream is open. A lost first packet is sent again after a second; another dial does it as well.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How dialling a peer goes.
struct Pace {
    pause: Duration,
    last: Option<Duration>,
    /// Which of the less likely addresses is next.
    next: usize,
}

impl Shared {
    /// Dials a peer as long as somebody needs it.
    pub(super) async fn dial_for(self: Arc<Self>, peer: Arc<Peer>) {
        let mut pace = Pace {
            pause: PACE,
            last: None,
            next: 0,
        };
        loop {
            let (lane, urgent) = match peer.to_dial(self.is_kept(peer.id)) {
                ToDial::Forget if self.forget(&peer) => return,
                ToDial::Forget | ToDial::Nothing => {
                    pace.pause = PACE;
                    peer.kick.notified().await;
                    continue;
                }
                ToDial::Lane { lane, urgent } => (lane, urgent),
            };
            let due = match urgent {
                true => PACE,
                false => pace.pause,
            };
            let since = pace
                .last
                .map_or(due, |last| self.clock().now().saturating_sub(last));
            if since < due {
                tokio::select! {
                    biased;
                    // Something has changed: perhaps there is no need, perhaps it is urgent now.
                    () = peer.kick.notified() => {}
                    () = sleep(self.clock().wait(due - since)) => {}
                }
                continue;
            }
            self.dial(&peer, lane, &mut pace).await;
        }
    }

    /// One dial: the likeliest address, then another one.
    async fn dial(self: &Arc<Self>, peer: &Arc<Peer>, lane: Lane, pace: &mut Pace) {
        peer.dial_begins();
        let known = self.book.of(peer.id);
        let mut tried = known.iter().take(1).collect::<Vec<_>>();
        if known.len() > 1 {
            tried.push(&known[1 + pace.next % (known.len() - 1)]);
            pace.next += 1;
        }
        let mut outcome = Err(LinkError::Unreachable);
        for (at, address) in tried.iter().enumerate() {
            if at > 0 {
                sleep(self.clock().wait(PACE)).await;
            }
            pace.last = Some(self.clock().now());
            let filled = peer.changed.wait(|| peer.live(lane).map(drop));
            outcome = tokio::select! {
                biased;
                () = filled => Ok(()),
                outcome = self.dial_at(peer, lane, address) => outcome,
            };
            if outcome.is_ok() {
                break;
            }
        }
        pace.last = pace.last.or(Some(self.clock().now()));
        pace.pause = match &outcome {
            Ok(()) => PACE,
            Err(LinkError::Refused(_)) => LONGEST_PAUSE,
            Err(_) => {
                let longer = (pace.pause * 2).min(LONGEST_PAUSE);
                // So that two who dial each other do not do so in step for ever.
                longer - longer.mul_f64(self.parts.random.below(256) as f64 / 1024.0)
            }
        };
        peer.dial_ended(outcome.err());
    }

    /// `Ok`: there is a connection, or will be without this dial.
    async fn dial_at(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        lane: Lane,
        address: &str,
    ) -> Result<(), LinkError> {
        let connecting = self.parts.transport.connect(address);
        let connecting = timeout(self.clock().wait(CONNECT_WITHIN), connecting).await;
        let met = match connecting {
            Err(_) => Err(Failed::Late),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(connected)) if connected.member != peer.id => Err(Failed::Another),
            Ok(Ok(connected)) => self.introduce(peer, lane, connected.stream).await,
        };
        match met {
            Ok(_) | Err(Failed::Crossed) => Ok(()),
            Err(failed) => {
                tracing::debug!(peer = %peer.id, address, %failed, "a dial has failed");
                Err(failed.into())
            }
        }
    }
}
