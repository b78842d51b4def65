//! Listeners: they accept sockets, decide nothing but limits, and start streams
//!
//! One task per connection: negotiation is a boxed future that is gone before the
//! session begins.

pub mod proxy_protocol;
mod tcp;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::access::{ConnectionPermit, ListenerLimits, Refusal, Subject, within};
use crate::admin::metrics::Level;
use crate::config::{Action, C2sListener};
use crate::stream::{self, Accepted, Authenticated, StreamParts};

pub use tcp::{Bound, bind};

/// Why a connection did not become a stream.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("over the limit {}", .0.as_str())]
    Limit(Refusal),
    #[error("no access rule allows it")]
    Rule,
    #[error("PROXY protocol: {0}")]
    Proxy(#[from] proxy_protocol::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Refused::Limit(refusal)
    }
}

/// Accepts connections until `parts.stop` is cancelled. Each is negotiated and,
/// once it is logged in, handed to `serve`; its task is one of `tasks`.
pub async fn serve<S, F>(bound: Bound, parts: Arc<StreamParts>, tasks: TaskTracker, serve: S)
where
    S: Fn(Authenticated) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let limits = Arc::new(ListenerLimits::default());
    let stop = parts.stop.clone();
    let rate = || {
        let config = parts.config.borrow();
        let now = config.listeners.c2s.get(bound.place);
        now.unwrap_or(&bound.settings).connections_per_second
    };
    let accepting = bound.accept(rate, |socket, peer| {
        let settings = current(&parts, &bound);
        let permit = match limits.accept(&settings) {
            Ok(permit) => permit,
            Err(refusal) => {
                parts.metrics.refused(refusal.as_str());
                return;
            }
        };
        let connection = Connection {
            socket,
            peer,
            permit,
            at: Instant::now(),
        };
        let open = Counted::new(&parts.metrics.connections);
        let (parts, serve) = (parts.clone(), serve.clone());
        // What is boxed here, before the task is made, is gone before the session runs: an idle
        // connection's task holds the session and nothing of how it began.
        let session = Box::pin(async move {
            parts.metrics.connections_accepted.inc();
            let negotiating = AssertUnwindSafe(connection.negotiate(&parts, &settings));
            match negotiating.catch_unwind().await {
                Ok(negotiated) => negotiated.map(|stream| Box::pin(serve(stream))),
                Err(_) => {
                    parts.metrics.panics.inc();
                    None
                }
            }
        });
        tasks.spawn(async move {
            let _open = open;
            if let Some(session) = session.await {
                session.await;
            }
        });
    });
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
}

/// One more on a level, until dropped: also where a panic ends the connection.
struct Counted(Level);

impl Counted {
    fn new(level: &Level) -> Self {
        level.inc();
        Counted(level.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The listener's section as it is after reloads, which take none away and move none.
fn current(parts: &StreamParts, bound: &Bound) -> C2sListener {
    let config = parts.config.borrow();
    let now = config.listeners.c2s.get(bound.place);
    now.unwrap_or(&bound.settings).clone()
}

/// A connection just accepted.
struct Connection {
    socket: TcpStream,
    peer: SocketAddr,
    permit: ConnectionPermit,
    at: Instant,
}

impl Connection {
    async fn negotiate(self, parts: &StreamParts, settings: &C2sListener) -> Option<Authenticated> {
        let peer = self.peer;
        match self.admit(parts, settings).await {
            Ok(accepted) => {
                let _before = Counted::new(&parts.metrics.connections_before_login);
                stream::negotiate(parts, accepted).await
            }
            Err(refused) => {
                if let Refused::Limit(refusal) = &refused {
                    parts.metrics.refused(refusal.as_str());
                }
                tracing::debug!(%peer, "connection refused: {refused}");
                None
            }
        }
    }

    /// Finds out who connects, then asks rules and limits.
    async fn admit(
        mut self,
        parts: &StreamParts,
        settings: &C2sListener,
    ) -> Result<Accepted, Refused> {
        self.socket.set_nodelay(true)?;
        let mut peer = self.peer;
        if within(&settings.proxy_networks, peer.ip()) {
            let client = proxy_protocol::read(&mut self.socket, self.at).await?;
            peer = client.unwrap_or(peer);
        }
        self.permit.from_address(peer.ip(), settings, self.at)?;
        let subject = Subject {
            address: Some(peer.ip()),
            ..Subject::default()
        };
        if !parts.policy.allows(Action::Connect, &subject) {
            return Err(Refused::Rule);
        }
        let limits = &parts.config.borrow().limits.clone();
        let before_login = parts.admission.connect(peer.ip(), limits)?;
        Ok(Accepted {
            socket: self.socket,
            peer,
            mode: settings.tls,
            at: self.at,
            connection: self.permit,
            before_login,
        })
    }
}
