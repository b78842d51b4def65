//! A sender: a message at a time to each recipient in turn, sent again until it is acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::channel::{self, Manner};
use super::record::{Fate, Message, Record};
use crate::load::client::Clients;
use crate::load::connection::{Connection, Management};
use crate::load::wire::attribute;

/// Between two tries to reach a server that is starting.
const PAUSE: Duration = Duration::from_millis(50);
/// After sending has stopped, the last acknowledgements are waited for this long.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// One sending account.
pub struct Sender {
    /// How it connects.
    pub clients: Clients,
    /// Its account.
    pub account: u32,
    /// Whom it writes to.
    pub recipients: Vec<u32>,
    /// Whether it uses stream management. Without it nothing is ever acknowledged and nothing sent again: what it sent
    /// is there once or not at all, in its order, and delivered where it is in the recipient's archive.
    pub managed: bool,
    /// Whether its messages carry an origin-id.
    pub origin_ids: bool,
    /// Between two messages.
    pub interval: Duration,
    /// Where it notes what happened.
    pub record: Record,
    /// Set when nothing new is to be sent.
    pub stop: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    /// Sent and not answered for, oldest first, each with its place in the stream's count.
    unanswered: VecDeque<(Message, u32)>,
    next: u32,
    numbers: std::collections::HashMap<u32, u32>,
    management: Option<Management>,
}

impl Sender {
    /// Sends until told to stop, then until everything is answered for.
    pub async fn run(self) {
        let manner = Manner {
            resource: "s",
            management: self.managed,
            carbons: false,
            priority: None,
        };
        let mut state = State::default();
        let mut deadline = None;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                let at = *deadline.get_or_insert_with(|| Instant::now() + LAST_ANSWERS);
                if state.unanswered.is_empty() || Instant::now() > at {
                    return;
                }
            }
            let old = state.management.take();
            let opened = channel::open(&self.clients, self.account, &manner, old.as_ref()).await;
            let Ok(channel) = opened else {
                state.management = old;
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if old.is_some() {
                self.record.came_back(channel.resumed);
            }
            let mut connection = channel.connection;
            if channel.resumed {
                self.answered(&mut state, &connection);
            }
            self.send_again(&mut state, &mut connection);
            self.talk(&mut state, &mut connection).await;
            state.management = connection.management.take();
        }
    }

    /// XEP-0198 §5: what was not acknowledged goes out again, on a resumed stream or a new one.
    fn send_again(&self, state: &mut State, connection: &mut Connection) {
        let again: Vec<Message> = state
            .unanswered
            .drain(..)
            .map(|(message, _)| message)
            .filter(|message| !self.record.is_refused(*message))
            .collect();
        if let Some(management) = &mut connection.management {
            // The count goes on from what the server has handled.
            management.sent = management.acknowledged;
        }
        for message in again {
            self.send(state, connection, message);
        }
    }

    fn send(&self, state: &mut State, connection: &mut Connection, message: Message) {
        let body = message.body();
        let origin = if self.origin_ids {
            format!("<origin-id xmlns='urn:xmpp:sid:0' id='{body}'/>")
        } else {
            String::new()
        };
        let request = if self.managed {
            "<r xmlns='urn:xmpp:sm:3'/>"
        } else {
            ""
        };
        connection.push(&format!(
            "<message to='{}' type='chat' id='{body}'><body>{body}</body>{origin}</message>{request}",
            self.clients.jid(message.recipient)
        ));
        if let Some(management) = &mut connection.management {
            management.sent = management.sent.wrapping_add(1);
            state.unanswered.push_back((message, management.sent));
        }
    }

    async fn talk(&self, state: &mut State, connection: &mut Connection) {
        loop {
            if !self.stop.load(Ordering::Relaxed) {
                let message = self.next(state);
                self.record.sent(message);
                self.send(state, connection, message);
            } else if state.unanswered.is_empty() {
                return;
            }
            if connection.flush().await.is_err() {
                return;
            }
            let mut refused = Vec::new();
            let open = channel::listen(connection, self.interval, |stanza| {
                if attribute(stanza, "type") == Some("error") {
                    refused.extend(attribute(stanza, "id").and_then(Message::parse));
                }
            })
            .await;
            for message in refused {
                self.record.fate(message, Fate::Refused);
            }
            self.answered(state, connection);
            if !open {
                return;
            }
        }
    }

    fn next(&self, state: &mut State) -> Message {
        let recipient = self.recipients[state.next as usize % self.recipients.len()];
        state.next += 1;
        let number = state.numbers.entry(recipient).or_insert(0);
        *number += 1;
        Message {
            sender: self.account,
            recipient,
            number: *number,
        }
    }

    /// The server has answered for all up to its `h`.
    fn answered(&self, state: &mut State, connection: &Connection) {
        let Some(management) = &connection.management else {
            return;
        };
        while let Some((message, place)) = state.unanswered.front().copied() {
            if management.acknowledged.wrapping_sub(place) > u32::MAX / 2 {
                return;
            }
            state.unanswered.pop_front();
            if !self.record.is_refused(message) {
                self.record.fate(message, Fate::Acknowledged);
            }
        }
    }
}
