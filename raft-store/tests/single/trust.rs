//! What a store keeps for its transport: whose key an id is.

use std::sync::{Arc, OnceLock};

use raft_store::discovery::Discovery;
use raft_store::founding::Alone;
use raft_store::gate::{Gate, Tasks};
use raft_store::ids::MemberId;
use raft_store::limits::{UNCLAIMED_IDS, UNCLAIMED_IDS_KEPT};
use raft_store::random::Seeded;
use raft_store::transport::registry::{Bound, Registry};
use raft_store::transport::{BoxFuture, Connected, Nowhere, Transport};
use raft_store::{Parts, open};

use crate::member::{disk, small, soon};

/// A transport that nobody uses, and what it is offered.
#[derive(Default)]
struct Offered(OnceLock<Arc<dyn Registry>>);

impl Transport for Offered {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, std::io::Result<Connected>> {
        Nowhere.connect(address)
    }

    fn accept(&self) -> BoxFuture<'_, std::io::Result<Connected>> {
        Nowhere.accept()
    }

    fn attach(&self, registry: Arc<dyn Registry>) {
        assert!(self.0.set(registry).is_ok(), "called once");
    }
}

#[tokio::test(start_paused = true)]
async fn who_knows_the_secret_ties_only_so_many_ids() {
    let tasks = Tasks::gated(Gate::new(Box::new(Seeded::new(1, "gate"))));
    let disk = Arc::new(disk(1));
    let transport = Arc::new(Offered::default());
    let discovery: [Box<dyn Discovery>; 0] = [];
    let parts = Parts {
        clock: Arc::new(raft_store::clock::RuntimeClock::new(0)),
        transport: transport.clone(),
        founding: Arc::new(Alone::new(disk.clone(), "member")),
        discovery: Arc::new(discovery),
        disk,
        random: Arc::new(Seeded::new(1, "member")),
        spawner: Arc::new(tasks.clone()),
        tasks,
    };
    let (store, _fatal) = open(small(), parts).await.expect("it opens");
    store.ready(soon()).await.expect("registered");
    let own = store.status().expect("open").member;
    let registry = transport.0.get().expect("offered");
    assert_eq!(registry.bind(own, [7; 32]).await.ok(), Some(Bound::Yes));
    let other = |number: usize| MemberId(own.0 ^ (number as u64 + 1));
    let key = |number: usize| [number as u8; 32];
    for number in 0..UNCLAIMED_IDS {
        let bound = registry.bind(other(number), key(number)).await;
        assert_eq!(bound.ok(), Some(Bound::Yes), "{number}");
    }
    assert!(registry.bind(other(UNCLAIMED_IDS), key(0)).await.is_err());
    // Those that are tied stay so.
    assert_eq!(registry.bind(other(0), key(0)).await.ok(), Some(Bound::Yes));
    let again = registry.bind(other(0), key(1)).await;
    assert_eq!(again.ok(), Some(Bound::OtherKey));
    registry.forget_removed().await.expect("it leads");
    // A member's key stays, and so do the newest.
    assert_eq!(
        registry.bind(own, [8; 32]).await.ok(),
        Some(Bound::OtherKey)
    );
    let newest = UNCLAIMED_IDS - UNCLAIMED_IDS_KEPT;
    let kept = registry.bind(other(newest), key(newest + 1)).await;
    assert_eq!(kept.ok(), Some(Bound::OtherKey));
    for number in 0..UNCLAIMED_IDS - UNCLAIMED_IDS_KEPT {
        let bound = registry.bind(other(UNCLAIMED_IDS + number), key(number));
        assert_eq!(bound.await.ok(), Some(Bound::Yes), "{number}");
    }
    store.shutdown().await;
}
