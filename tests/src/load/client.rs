//! A client of the load generator: from connecting to an available session.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::connection::{Connection, Endpoint, Management, connect};
use super::scram::{Exchange, Hash, KeyCache};
use super::wire::{attribute, contains, text_after};

/// What a client does once it is logged in.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// Stream management with resumption.
    pub management: bool,
    /// Carbons.
    pub carbons: bool,
}

impl Wishes {
    /// What clients do today.
    pub const ALL: Self = Self {
        management: true,
        carbons: true,
    };
    /// What the login row of DESIGN §7 counts: TLS, SASL, bind, roster, presence.
    pub const LOGIN: Self = Self {
        management: false,
        carbons: false,
    };
}

/// What all clients of a run share.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Where they connect.
    pub endpoint: Endpoint,
    /// Derived keys.
    pub keys: Arc<KeyCache>,
}

/// The localpart of the account with this number.
pub fn localpart(index: u32) -> String {
    format!("u{index}")
}

impl Clients {
    /// The same clients with TLS from the first byte at another port.
    pub fn direct(&self, port: u16) -> Self {
        let mut direct = self.clone();
        direct.endpoint.direct = true;
        direct.endpoint.address.set_port(port);
        direct
    }

    /// The bare JID of an account.
    pub fn jid(&self, index: u32) -> String {
        format!("{}@{}", localpart(index), self.endpoint.host)
    }

    /// Logs in, binds, asks for the roster and becomes available.
    pub async fn login(&self, index: u32, wishes: Wishes) -> Result<Connection> {
        let (mut connection, features) = self.authenticate(index).await?;
        self.bind(&mut connection, &features, wishes).await?;
        Ok(connection)
    }

    /// Up to the features after SASL.
    pub async fn authenticate(&self, index: u32) -> Result<(Connection, Vec<u8>)> {
        let host = &self.endpoint.host;
        let mut connection = connect(&self.endpoint, index).await?;
        let features = connection.open(host).await?;
        let hash = [Hash::Sha256, Hash::Sha1].into_iter();
        let hash = hash
            .into_iter()
            .find(|h| contains(&features, &format!(">{}<", h.mechanism())));
        let hash =
            hash.with_context(|| format!("no SCRAM in {}", String::from_utf8_lossy(&features)))?;
        let (exchange, first) = Exchange::begin(hash, &localpart(index))?;
        let mechanism = hash.mechanism();
        connection.push(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{first}</auth>"
        ));
        let challenge = connection.answer().await?;
        let challenge = text_after(&challenge, "<challenge").with_context(|| shown(&challenge))?;
        let response = exchange.answer(challenge, &self.keys)?;
        connection.push(&format!(
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>"
        ));
        let outcome = connection.answer().await?;
        ensure!(
            outcome.starts_with(b"<success"),
            "login: {}",
            shown(&outcome)
        );
        let features = connection.open(host).await?;
        Ok((connection, features))
    }

    async fn bind(
        &self,
        connection: &mut Connection,
        features: &[u8],
        wishes: Wishes,
    ) -> Result<()> {
        connection.push(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>load</resource></bind></iq>",
        );
        let bound = connection.answer().await?;
        ensure!(
            attribute(&bound, "type") == Some("result"),
            "bind: {}",
            shown(&bound)
        );
        if wishes.management && contains(features, "urn:xmpp:sm:3") {
            connection.push("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
            let enabled = connection.answer().await?;
            ensure!(
                enabled.starts_with(b"<enabled"),
                "stream management: {}",
                shown(&enabled)
            );
            let id = attribute(&enabled, "id").map(str::to_owned);
            connection.management = Some(Management {
                id,
                ..Management::default()
            });
        }
        connection.push_stanza("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
        if wishes.carbons {
            connection
                .push_stanza("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
        }
        connection.push_stanza("<presence/>");
        let own = format!("{}/", self.endpoint.host);
        connection
            .wait_for(|e| {
                e.starts_with(b"<presence")
                    && attribute(e, "from").is_some_and(|f| f.contains(&own) && is_to_self(f, e))
            })
            .await?;
        Ok(())
    }

    /// Resumes the session where the server still has it, else logs in anew. Whether it resumed.
    pub async fn resume(&self, index: u32, old: &Management) -> Result<(Connection, bool)> {
        let (mut connection, features) = self.authenticate(index).await?;
        if let Some(id) = &old.id {
            let h = old.received;
            connection.push(&format!(
                "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>"
            ));
            if connection.answer().await?.starts_with(b"<resumed") {
                connection.management = Some(old.clone());
                return Ok((connection, true));
            }
        }
        self.bind(&mut connection, &features, Wishes::ALL).await?;
        Ok((connection, false))
    }

    /// Logs in the accounts `range`, at most `at_once` at a time, in order of their number. Those that
    /// are in go on reading until all are.
    pub async fn login_all(
        &self,
        range: Range<u32>,
        at_once: usize,
        wishes: Wishes,
        limit: Duration,
    ) -> Result<Vec<Connection>> {
        let (first, count) = (range.start, range.len());
        let (release, released) = watch::channel(false);
        let in_turn = Arc::new(Semaphore::new(at_once));
        let ready = Arc::new(Semaphore::new(0));
        let mut tasks = JoinSet::new();
        for index in range {
            let (clients, in_turn, ready) = (self.clone(), in_turn.clone(), ready.clone());
            let released = released.clone();
            tasks.spawn(async move {
                let turn = in_turn.acquire().await?;
                let connection = clients.login(index, wishes).await;
                drop(turn);
                let connection = connection.with_context(|| format!("account {index}"))?;
                ready.add_permits(1);
                let connection = hold(connection, released).await;
                connection
                    .map(|c| (index, c))
                    .with_context(|| format!("account {index}"))
            });
        }
        let all = u32::try_from(count)?;
        tokio::select! {
            _ = ready.acquire_many(all) => {}
            Some(failed) = tasks.join_next() => {
                failed??;
            }
            () = tokio::time::sleep(limit) => {
                let there = ready.available_permits();
                bail!("after {limit:?} only {there} of {count} had logged in");
            }
        }
        release.send_replace(true);
        let mut connections: Vec<Option<Connection>> = (0..count).map(|_| None).collect();
        while let Some(held) = tasks.join_next().await {
            let (index, connection) = held??;
            connections[(index - first) as usize] = Some(connection);
        }
        let connections = connections.into_iter();
        connections.map(|c| c.context("a login failed")).collect()
    }
}

/// Reads what comes until released.
async fn hold(
    mut connection: Connection,
    mut released: watch::Receiver<bool>,
) -> Result<Connection> {
    loop {
        connection.drain(|_| ())?;
        tokio::select! {
            read = poll_fn(|context| connection.poll_progress(context)) => read?,
            _ = released.wait_for(|r| *r) => return Ok(connection),
        }
    }
}

/// Whether a presence is the reflection of the client's own: the same bare JID on both sides.
fn is_to_self(from: &str, presence: &[u8]) -> bool {
    let bare = |jid: &str| jid.split('/').next().map(str::to_owned);
    attribute(presence, "to").is_none_or(|to| bare(to) == bare(from))
}

fn shown(element: &[u8]) -> String {
    String::from_utf8_lossy(element).into_owned()
}
