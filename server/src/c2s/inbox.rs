//! The bounded FIFO of everything read from one client (DESIGN §1, promise 6).
//!
//! Items begin in order and end in order. Only messages overlap: a message may begin while
//! others wait for their commit, so that a flood shares commits.

use std::collections::VecDeque;

use eider_xmpp::stanza::{Kind, Stanza};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::account::writer::NotStored;
use crate::c2s::session::End;
use crate::router::After;

/// What one item is doing.
pub enum State {
    /// Read, not begun.
    Unread,
    /// A message that waits for its commit.
    Committing(oneshot::Receiver<Result<(), NotStored>>),
    /// Something that takes its time.
    Running(BoxFuture<'static, After>),
    /// Delivered or answered; waits to be counted.
    Finished,
}

/// One stanza, or the end of the client's stream.
pub enum Item {
    /// A stanza.
    Stanza(Entry),
    /// Nothing more comes: the closing tag, or the connection's end.
    End(End),
}

/// When an item that may begin may also be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// At once: everything before it has been.
    Now,
    /// Behind messages that wait for their commit.
    AfterCommits,
}

/// One stanza in the FIFO.
pub struct Entry {
    /// The stanza as it was read.
    pub stanza: Stanza,
    /// What it is doing.
    pub state: State,
    /// Whether stream management counts it: it was read after `<enable/>` (XEP-0198 §4).
    pub counted: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Inbox {
    items: VecDeque<Item>,
    bytes: usize,
    counted: u32,
}

impl Inbox {
    /// Adds a stanza at the end.
    pub fn push(&mut self, stanza: Stanza, counted: bool) {
        self.bytes += stanza.as_bytes().len();
        self.counted += u32::from(counted);
        self.items.push_back(Item::Stanza(Entry {
            stanza,
            state: State::Unread,
            counted,
        }));
    }

    /// Stanzas waiting that stream management will count.
    pub fn counted(&self) -> u32 {
        self.counted
    }

    /// Adds the end.
    pub fn push_end(&mut self, end: End) {
        self.items.push_back(Item::End(end));
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether reading has to stop.
    pub fn is_full(&self, stanzas: usize, bytes: usize) -> bool {
        self.items.len() >= stanzas || self.bytes >= bytes
    }

    /// The item whose turn it is to end.
    pub fn head(&mut self) -> Option<&mut Item> {
        self.items.front_mut()
    }

    /// Takes the head away.
    pub fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front();
        if let Some(Item::Stanza(entry)) = &item {
            self.bytes -= entry.stanza.as_bytes().len();
            self.counted -= u32::from(entry.counted);
        }
        if self.items.is_empty() {
            self.items = VecDeque::new();
        }
        item
    }

    /// The next item that may begin, and when: the head, or a message behind messages that all have begun.
    pub fn startable(&mut self) -> Option<(&mut Entry, Turn)> {
        let (mut first, mut turn) = (true, Turn::Now);
        for item in &mut self.items {
            let Item::Stanza(entry) = item else {
                return None;
            };
            match entry.state {
                State::Unread => {
                    let may = first || entry.stanza.kind() == Kind::Message;
                    return may.then_some((entry, turn));
                }
                State::Running(_) => return None,
                State::Committing(_) => turn = Turn::AfterCommits,
                State::Finished => {}
            }
            first = false;
        }
        None
    }
}
