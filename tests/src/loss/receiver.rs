//! Receivers of every kind: online, flapping, offline, without stream management, without an archive,
//! with two resources. None of them ever asks an archive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::Instant;

use super::channel::{self, Manner};
use super::record::{Message, Record, Way};
use crate::load::client::Clients;
use crate::load::connection::{Connection, Management};

const PAUSE: Duration = Duration::from_millis(50);
/// What was written before it leaves comes within this.
const REST: Duration = Duration::from_secs(1);
/// A collecting receiver leaves when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(4);
/// At the longest it collects for.
const COLLECT_MAX: Duration = Duration::from_secs(90);

/// How a receiver behaves while messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Stays, and resumes when the connection breaks.
    Online,
    /// Comes and goes; half the time it resumes, half the time it starts anew.
    Flapping,
    /// Comes only at the end.
    Offline,
    /// Stays, without stream management.
    Unmanaged,
    /// Two resources with carbons: one gets what is sent, the other a copy (XEP-0280).
    Pair,
    /// Stays, and its account does not archive.
    Unarchived,
}

impl Habit {
    /// All of them, in order of their accounts.
    pub const ALL: [Habit; 6] = [
        Habit::Online,
        Habit::Flapping,
        Habit::Offline,
        Habit::Unmanaged,
        Habit::Pair,
        Habit::Unarchived,
    ];

    /// Its resources, each with its priority.
    pub fn resources(self) -> &'static [(&'static str, i8)] {
        match self {
            Habit::Pair => &[("one", 1), ("two", 0)],
            _ => &[("one", 0)],
        }
    }
}

/// One receiving resource.
#[derive(Clone)]
pub struct Receiver {
    /// How it connects.
    pub clients: Clients,
    /// Its account.
    pub account: u32,
    /// How it behaves.
    pub habit: Habit,
    /// Its resource.
    pub resource: &'static str,
    /// Its priority.
    pub priority: i8,
    /// Where it notes what came.
    pub record: Record,
    /// Set when it shall leave.
    pub stop: Arc<AtomicBool>,
}

impl Receiver {
    fn manner(&self) -> Manner {
        Manner {
            resource: self.resource,
            management: self.habit != Habit::Unmanaged,
            carbons: self.habit == Habit::Pair,
            priority: Some(self.priority),
        }
    }

    fn note(&self, stanza: &[u8]) {
        if stanza.starts_with(b"<message")
            && let Some(message) = channel::body(stanza).and_then(Message::parse)
        {
            let way = if crate::load::wire::contains(stanza, "urn:xmpp:carbons:2") {
                Way::Copied
            } else if crate::load::wire::contains(stanza, "urn:xmpp:delay") {
                Way::Owed
            } else {
                Way::Live
            };
            self.record
                .received(self.account, self.resource, message, way);
        }
    }

    /// Receives until told to leave.
    pub async fn run(self) {
        if self.habit == Habit::Offline {
            return;
        }
        let mut old: Option<Management> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let opened =
                channel::open(&self.clients, self.account, &self.manner(), old.as_ref()).await;
            let Ok(mut channel) = opened else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if old.is_some() {
                self.record.came_back(channel.resumed);
            }
            if !channel.resumed {
                self.record.bound(self.account, self.resource);
            }
            let mut open = true;
            let leave_at = Instant::now() + Duration::from_millis(200 + random(800));
            while open && !self.stop.load(Ordering::Relaxed) {
                if self.habit == Habit::Flapping && Instant::now() > leave_at {
                    break;
                }
                let slice = Duration::from_millis(50);
                open = channel::listen(&mut channel.connection, slice, |stanza| self.note(stanza))
                    .await;
            }
            if open && self.habit == Habit::Unmanaged {
                self.read_rest(&mut channel.connection).await;
            }
            old = channel.connection.management.take();
            if self.habit == Habit::Flapping {
                if random(2) == 0 {
                    old = None;
                }
                drop(channel);
                tokio::time::sleep(Duration::from_millis(random(500))).await;
            }
        }
    }

    /// Without stream management what was written is delivered: a client that leaves has read it.
    async fn read_rest(&self, connection: &mut Connection) {
        let mut came = true;
        while came {
            came = false;
            let open = channel::listen(connection, REST, |stanza| {
                came = true;
                self.note(stanza);
            })
            .await;
            came &= open;
        }
    }

    /// After all is over: takes what is still owed.
    pub async fn collect(self) {
        let until = Instant::now() + COLLECT_MAX;
        let manner = Manner {
            management: true,
            ..self.manner()
        };
        while Instant::now() < until {
            let opened = channel::open(&self.clients, self.account, &manner, None).await;
            let Ok(mut channel) = opened else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            self.record.bound(self.account, self.resource);
            loop {
                let mut came = false;
                let open = channel::listen(&mut channel.connection, QUIET, |stanza| {
                    came |= stanza.starts_with(b"<message");
                    self.note(stanza);
                })
                .await;
                if open && !came {
                    let _ = channel.connection.close().await;
                    return;
                }
                if !open || Instant::now() > until {
                    break;
                }
            }
        }
    }
}

/// A number below `bound`.
pub fn random(bound: u64) -> u64 {
    let mut bytes = [0u8; 8];
    rand::fill(&mut bytes).expect("the system has randomness");
    u64::from_be_bytes(bytes) % bound
}
