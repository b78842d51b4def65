//! One client's stream in the loss test: logs in, resumes or binds, and reads stanzas with a deadline.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::load::client::Clients;
use crate::load::connection::{Connection, Management};
use crate::load::wire::attribute;

/// How long a step of a login may take; the server may be starting.
const STEP: Duration = Duration::from_secs(10);

/// How a client comes back.
#[derive(Debug, Clone)]
pub struct Manner {
    /// The resource it asks for.
    pub resource: &'static str,
    /// Whether it uses stream management.
    pub management: bool,
    /// Whether it wants carbons.
    pub carbons: bool,
    /// The priority it becomes available with; not at all without one.
    pub priority: Option<i8>,
}

/// A stream, and whether it took up its old session.
pub struct Channel {
    /// The stream.
    pub connection: Connection,
    /// Whether the old session goes on.
    pub resumed: bool,
}

/// Logs in; resumes `old` where that is possible.
pub async fn open(
    clients: &Clients,
    account: u32,
    manner: &Manner,
    old: Option<&Management>,
) -> Result<Channel> {
    tokio::time::timeout(STEP, open_now(clients, account, manner, old)).await?
}

async fn open_now(
    clients: &Clients,
    account: u32,
    manner: &Manner,
    old: Option<&Management>,
) -> Result<Channel> {
    let (mut connection, _) = clients.authenticate(account).await?;
    if let Some(old) = old
        && let Some(id) = &old.id
    {
        connection.push(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{}'/>",
            old.received
        ));
        let answer = connection.answer().await?;
        if answer.starts_with(b"<resumed") {
            let mut management = old.clone();
            management.acknowledged = h(&answer)?;
            connection.management = Some(management);
            return Ok(Channel {
                connection,
                resumed: true,
            });
        }
    }
    bind(&mut connection, manner).await?;
    Ok(Channel {
        connection,
        resumed: false,
    })
}

async fn bind(connection: &mut Connection, manner: &Manner) -> Result<()> {
    connection.push(&format!(
        "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{}</resource></bind></iq>",
        manner.resource
    ));
    let bound = connection.answer().await?;
    if attribute(&bound, "type") != Some("result") {
        bail!("bind: {}", String::from_utf8_lossy(&bound));
    }
    if manner.management {
        connection.push("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        let enabled = connection.answer().await?;
        let id = attribute(&enabled, "id").map(str::to_owned);
        connection.management = Some(Management {
            id,
            ..Management::default()
        });
    }
    if manner.carbons {
        connection
            .push_stanza("<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    }
    if let Some(priority) = manner.priority {
        connection.push_stanza(&format!(
            "<presence><priority>{priority}</priority></presence>"
        ));
    }
    connection.flush().await
}

fn h(element: &[u8]) -> Result<u32> {
    let h = attribute(element, "h").context("no h")?;
    Ok(h.parse()?)
}

/// Reads for `time` or until the connection breaks, handing each stanza to `stanza`; answers
/// requests for acknowledgements. False once the connection is broken.
pub async fn listen(
    connection: &mut Connection,
    time: Duration,
    mut stanza: impl FnMut(&[u8]),
) -> bool {
    let until = tokio::time::Instant::now() + time;
    loop {
        let progress = std::future::poll_fn(|context| connection.poll_progress(context));
        match tokio::time::timeout_at(until, progress).await {
            Err(_) => return true,
            Ok(Err(_)) => {
                // What came before the break was received all the same.
                let _ = connection.drain(&mut stanza);
                return false;
            }
            Ok(Ok(())) => {
                if connection.drain(&mut stanza).is_err() || connection.flush().await.is_err() {
                    return false;
                }
            }
        }
    }
}

/// The text of a stanza's body.
pub fn body(stanza: &[u8]) -> Option<&str> {
    crate::load::wire::text_after(stanza, "<body")
}
