//! XEP-0198 §5: a stream that wants a session which ends at that moment is told, in whatever order the two meet

use std::sync::Arc;

use eider_storage::AccountId;

use super::*;
use crate::access::Policy;
use crate::admin::metrics::Metrics;
use crate::admin::trace::Tracer;
use crate::c2s::control::Kick;
use crate::server::core::Core;
use crate::stream::tests::client::{Client, HEADER, PASSWORD, Server};

type Tls = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;

/// A client that has logged in, and the server's side of its stream.
async fn log_in(server: &mut Server) -> (Client<Tls>, Authenticated) {
    let mut client = server.connect_tls().await;
    let success = client.auth("PLAIN", &format!("\0juliet\0{PASSWORD}")).await;
    assert!(success.starts_with("<success"), "{success}");
    client.send(HEADER).await;
    client.until("</stream:features>").await;
    let authenticated = server.logins.recv().await.expect("it logged in");
    (client, authenticated)
}

async fn core(server: &Server) -> Core {
    let config = server.parts.config.clone();
    let policy = Arc::new(Policy::new(&config.borrow()));
    let storage = server.parts.storage.clone();
    let metrics = Arc::new(Metrics::new());
    let core = Core::build(config, storage, metrics, Tracer::new(), policy);
    core.await.expect("a core over a new database")
}

/// A session whose client has gone, and its id.
async fn session_that_waits(server: &mut Server, core: &Core) -> (Arc<SessionHandle>, String) {
    let (mut client, authenticated) = log_in(server).await;
    tokio::spawn(serve(core.parts.clone(), authenticated));
    client
        .send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        .await;
    client.until("</iq>").await;
    client
        .send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        .await;
    client.until("<enabled").await;
    let enabled = client.until("/>").await;
    let id = enabled
        .split(" id='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    let id = id.expect("an id").to_owned();
    let handle = core.parts.sessions.all().pop().expect("a session");
    drop(client);
    while core.parts.metrics.sessions_waiting.get() == 0 {
        tokio::task::yield_now().await;
    }
    (handle, id)
}

/// The session's task runs on this thread: it finds both orders at once.
async fn meets(resume_first: bool, end: impl Fn() -> Control) {
    let mut server = Server::start(|_| {}).await;
    let core = core(&server).await;
    let (handle, previd) = session_that_waits(&mut server, &core).await;
    assert_eq!(handle.account, Some::<AccountId>(server.account));
    let (mut client, authenticated) = log_in(&mut server).await;
    let resume = Resume { previd, h: 0 };
    let resume = Control::Resume(Box::new((wire(authenticated), resume)));
    let mut orders = vec![end(), resume];
    if resume_first {
        orders.reverse();
    }
    for order in orders {
        assert!(handle.mailbox.control(order).is_ok(), "it still waits");
    }
    let told = client.rest().await;
    assert!(
        told.starts_with("<failed") && told.contains("<item-not-found"),
        "{told}"
    );
    assert!(told.ends_with("</stream:stream>"), "{told}");
    handle.ended().cancelled().await;
    assert!(core.parts.sessions.all().is_empty());
}

#[tokio::test]
async fn a_resumption_behind_a_kick_is_told() {
    meets(false, || Control::Kick(Kick::Administrator)).await;
}

#[tokio::test]
async fn a_resumption_before_a_kick_is_told() {
    meets(true, || Control::Kick(Kick::Administrator)).await;
}

#[tokio::test]
async fn a_resumption_beside_a_new_session_of_the_resource_is_told() {
    meets(false, || Control::Replaced).await;
    meets(true, || Control::Replaced).await;
}
