//! What senders and receivers saw, noted as it happened.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

/// One message: who sent it, and the how many-th it was for this recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// Number of the sender's account.
    pub sender: u32,
    /// Number of the recipient's account.
    pub recipient: u32,
    /// Counted per sender and recipient.
    pub number: u32,
}

impl Message {
    /// The body that carries it.
    pub fn body(self) -> String {
        format!("m-{}-{}-{}", self.sender, self.recipient, self.number)
    }

    /// Reads it back.
    pub fn parse(body: &str) -> Option<Message> {
        let mut parts = body
            .strip_prefix("m-")?
            .split('-')
            .map(|part| part.parse().ok());
        let message = Message {
            sender: parts.next()??,
            recipient: parts.next()??,
            number: parts.next()??,
        };
        parts.next().is_none().then_some(message)
    }
}

/// How a message fared at its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Sent, no answer yet.
    Sent,
    /// The server has answered for it.
    Acknowledged,
    /// The server returned it as not stored: no promise was made.
    Refused,
}

/// Shared by all actors.
#[derive(Debug, Default, Clone)]
pub struct Record(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    sent: BTreeMap<Message, Fate>,
    /// Per receiving resource: messages in the order they first came.
    received: HashMap<String, Vec<Message>>,
    /// How often each came, per resource.
    times: HashMap<(String, Message), u32>,
}

impl Record {
    /// A message goes out for the first time.
    pub fn sent(&self, message: Message) {
        self.0.lock().sent.entry(message).or_insert(Fate::Sent);
    }

    /// What became of it.
    pub fn fate(&self, message: Message, fate: Fate) {
        self.0.lock().sent.insert(message, fate);
    }

    /// A resource got a message.
    pub fn received(&self, resource: &str, message: Message) {
        let mut inner = self.0.lock();
        let times = inner
            .times
            .entry((resource.to_owned(), message))
            .or_insert(0);
        *times += 1;
        if *times == 1 {
            inner
                .received
                .entry(resource.to_owned())
                .or_default()
                .push(message);
        }
    }

    /// Everything sent, with its fate.
    pub fn all_sent(&self) -> BTreeMap<Message, Fate> {
        self.0.lock().sent.clone()
    }

    /// What each resource got, in the order it first came.
    pub fn all_received(&self) -> HashMap<String, Vec<Message>> {
        self.0.lock().received.clone()
    }
}
