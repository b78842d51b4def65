//! What senders and receivers saw, noted as it happened.

use std::collections::{BTreeMap, HashMap, HashSet};
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

/// How a message came to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// As it was sent.
    Live,
    /// With the time the server received it (XEP-0203).
    Owed,
    /// As a carbon copy of what another resource got.
    Copied,
}

/// What came to a resource one way, in the order it first came.
pub type Order = BTreeMap<(u32, &'static str, Way), Vec<Message>>;

/// Shared by all actors.
#[derive(Debug, Default, Clone)]
pub struct Record(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    sent: BTreeMap<Message, Fate>,
    /// Per receiving account: messages in the order any of its resources first got them.
    received: HashMap<u32, Vec<Message>>,
    orders: Order,
    /// Per resource: what its present session got.
    sessions: HashMap<(u32, &'static str), HashSet<Message>>,
    repeated: Vec<(u32, &'static str, Message)>,
    returned: u32,
    resumed: u32,
    seen: HashSet<(u32, Message)>,
    seen_so: HashSet<(u32, &'static str, Way, Message)>,
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

    /// A resource got a message. A copy is no delivery: the message itself has to come to someone.
    pub fn received(&self, account: u32, resource: &'static str, message: Message, way: Way) {
        let mut inner = self.0.lock();
        if way != Way::Copied {
            let session = inner.sessions.entry((account, resource)).or_default();
            if !session.insert(message) {
                inner.repeated.push((account, resource, message));
            }
            if inner.seen.insert((account, message)) {
                inner.received.entry(account).or_default().push(message);
            }
        }
        if inner.seen_so.insert((account, resource, way, message)) {
            let order = inner.orders.entry((account, resource, way)).or_default();
            order.push(message);
        }
    }

    /// Whether it was returned as not stored.
    pub fn is_refused(&self, message: Message) -> bool {
        self.0.lock().sent.get(&message) == Some(&Fate::Refused)
    }

    /// A resource was bound anew: what it gets may have come before.
    pub fn bound(&self, account: u32, resource: &'static str) {
        self.0.lock().sessions.remove(&(account, resource));
    }

    /// What came to one session more than once.
    pub fn all_repeated(&self) -> Vec<(u32, &'static str, Message)> {
        self.0.lock().repeated.clone()
    }

    /// A client came back with a session to resume.
    pub fn came_back(&self, resumed: bool) {
        let mut inner = self.0.lock();
        inner.returned += 1;
        inner.resumed += u32::from(resumed);
    }

    /// How many came back, and how many of them resumed.
    pub fn returned(&self) -> (u32, u32) {
        let inner = self.0.lock();
        (inner.returned, inner.resumed)
    }

    /// Everything sent, with its fate.
    pub fn all_sent(&self) -> BTreeMap<Message, Fate> {
        self.0.lock().sent.clone()
    }

    /// What each account got, in the order it first came.
    pub fn all_received(&self) -> HashMap<u32, Vec<Message>> {
        self.0.lock().received.clone()
    }

    /// What each resource got which way.
    pub fn all_orders(&self) -> Order {
        self.0.lock().orders.clone()
    }
}
