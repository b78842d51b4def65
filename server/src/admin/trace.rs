//! Trace of one account: the headers of its stanzas as they come and go, never their bodies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Which way a stanza went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Read from the client.
    In,
    /// Written to the client.
    Out,
}

/// The header of one stanza.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// Microseconds since 1970.
    pub at_us: i64,
    /// Which way it went.
    pub direction: Direction,
    /// The session: its full JID.
    pub session: String,
    /// The element: `message`, `presence`, `iq`, or another of the stream's.
    pub kind: String,
    /// The `type` attribute.
    pub stanza_type: Option<String>,
    /// The `id` attribute.
    pub id: Option<String>,
    /// The `from` attribute.
    pub from: Option<String>,
    /// The `to` attribute.
    pub to: Option<String>,
    /// Names and namespaces of the payloads: `body jabber:client`; never what is in them.
    pub payloads: Vec<String>,
    /// Bytes of the whole stanza.
    pub bytes: usize,
}

/// Events that a slow reader may be behind by; further ones are left out.
const EVENTS_WAITING: usize = 1_024;

/// Who is traced, and who reads along. Cheap to clone; costs one load of an atomic where nobody is traced.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    readers: AtomicUsize,
    accounts: RwLock<HashMap<String, Vec<mpsc::Sender<TraceEvent>>>>,
}

impl Tracer {
    /// Nobody is traced.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether anyone is traced at all.
    pub fn is_active(&self) -> bool {
        self.0.readers.load(Ordering::Relaxed) != 0
    }

    /// Hands an event to who traces this account (bare JID). `event` is made only where someone does.
    pub fn record(&self, account: &str, event: impl FnOnce() -> TraceEvent) {
        if !self.is_active() {
            return;
        }
        let accounts = self.0.accounts.read();
        if let Some(readers) = accounts.get(account) {
            let event = event();
            for reader in readers {
                // A reader that is behind misses events; the server never waits for it.
                let _ = reader.try_send(event.clone());
            }
        }
    }

    /// Begins a trace of an account (bare JID); it ends when the reader is dropped.
    pub fn follow(&self, account: &str) -> TraceReader {
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING);
        self.0
            .accounts
            .write()
            .entry(account.to_owned())
            .or_default()
            .push(sender);
        self.0.readers.fetch_add(1, Ordering::Relaxed);
        TraceReader {
            tracer: self.clone(),
            account: account.to_owned(),
            receiver: Some(receiver),
        }
    }
}

/// One who reads a trace.
#[derive(Debug)]
pub struct TraceReader {
    tracer: Tracer,
    account: String,
    receiver: Option<mpsc::Receiver<TraceEvent>>,
}

impl TraceReader {
    /// The next event; pending while nothing happens.
    pub async fn next(&mut self) -> Option<TraceEvent> {
        self.receiver.as_mut()?.recv().await
    }
}

impl Drop for TraceReader {
    fn drop(&mut self) {
        // Closes the channel first, so that its sender is the one found closed.
        self.receiver = None;
        let inner = &self.tracer.0;
        let mut accounts = inner.accounts.write();
        if let Some(readers) = accounts.get_mut(&self.account) {
            readers.retain(|reader| !reader.is_closed());
            if readers.is_empty() {
                accounts.remove(&self.account);
            }
        }
        inner.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str) -> TraceEvent {
        TraceEvent {
            at_us: 0,
            direction: Direction::In,
            session: "anna@localhost/phone".to_owned(),
            kind: "message".to_owned(),
            stanza_type: Some("chat".to_owned()),
            id: Some(id.to_owned()),
            from: None,
            to: None,
            payloads: vec!["body jabber:client".to_owned()],
            bytes: 100,
        }
    }

    #[tokio::test]
    async fn only_the_account_followed_is_traced_and_only_while_it_is() {
        let tracer = Tracer::new();
        tracer.record("anna@localhost", || panic!("nobody is traced"));
        let mut reader = tracer.follow("anna@localhost");
        tracer.record("bert@localhost", || panic!("bert is not traced"));
        tracer.record("anna@localhost", || event("1"));
        assert_eq!(reader.next().await, Some(event("1")));
        drop(reader);
        assert!(!tracer.is_active());
        tracer.record("anna@localhost", || panic!("nobody is traced any more"));
    }

    #[tokio::test]
    async fn a_slow_reader_costs_a_bounded_amount() {
        let tracer = Tracer::new();
        let mut reader = tracer.follow("anna@localhost");
        for _ in 0..EVENTS_WAITING + 10 {
            tracer.record("anna@localhost", || event("1"));
        }
        let mut got = 0;
        while reader.receiver.as_mut().unwrap().try_recv().is_ok() {
            got += 1;
        }
        assert_eq!(got, EVENTS_WAITING);
    }
}
