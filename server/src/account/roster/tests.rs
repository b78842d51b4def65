//! RFC 6121 §2 and §3: rosters in a real database

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use eider_storage::{Credentials, SqliteConfig};

use super::*;
use crate::account::subscription::Deliver;

const LIMITS: Limits = Limits {
    items: 4,
    pending: 2,
    pending_bytes: 1000,
};

struct World {
    rosters: Rosters,
    account: AccountId,
    directory: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn world() -> World {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory =
        std::env::temp_dir().join(format!("eider-roster-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for the test");
    let config = eider_storage::Config::Sqlite(SqliteConfig::new(directory.join("test.db")));
    let storage = eider_storage::open(&config).await.expect("a new database");
    let nobody = Credentials::default();
    let created = storage.account_create(
        Fence::single(),
        "capulet.lit",
        "juliet",
        &nobody,
        Timestamp(0),
    );
    let account = created.await.expect("a new account");
    World {
        rosters: Rosters::new(storage, Fence::single(), 100),
        account,
        directory,
    }
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).expect("test input")
}

fn bare(text: &str) -> BareJid {
    BareJid::parse(text).expect("test input")
}

impl World {
    async fn put(&self, contact: &str) -> Result<Element, Error> {
        self.rosters
            .put(
                self.account,
                &jid(contact),
                Some("N"),
                &["G".to_owned()],
                LIMITS,
            )
            .await
    }

    async fn receive(&self, contact: &str, request: Request) -> Option<(Inbound, Option<Element>)> {
        let kept = Bytes::from_static(b"<presence type='subscribe'/>");
        let contact = bare(contact);
        let inbound =
            self.rosters
                .inbound(self.account, &contact, request, kept, Timestamp(1), LIMITS);
        match inbound.await {
            Ok(done) => Some(done),
            Err(Error::TooManyRequests) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn send(&self, contact: &str, request: Request) -> (Outbound, Option<Element>) {
        let contact = bare(contact);
        let outbound = self
            .rosters
            .outbound(self.account, &contact, request, LIMITS);
        outbound.await.expect("storage works")
    }

    async fn get(&self, version: Option<&str>) -> Got {
        self.rosters
            .get(self.account, version)
            .await
            .expect("storage works")
    }
}

fn xml(element: Option<Element>) -> String {
    element.map(|element| element.to_xml()).unwrap_or_default()
}

#[tokio::test]
async fn versions_tell_what_changed() {
    let world = world().await;
    let Got::Whole(empty) = world.get(None).await else {
        panic!("no version was given")
    };
    assert_eq!(empty.children().count(), 0);
    let start = empty.attr("ver").expect("a version").to_owned();
    world.put("a@x").await.expect("added");
    let pushed = world.put("b@x").await.expect("added");
    world.put("a@x").await.expect("updated");
    let Got::Changes(changes) = world.get(Some(&start)).await else {
        panic!("known")
    };
    assert_eq!(changes.len(), 2, "each item once");
    let between = pushed.attr("ver").expect("a version").to_owned();
    world
        .rosters
        .remove(world.account, &jid("b@x"))
        .await
        .expect("removed");
    let Got::Changes(changes) = world.get(Some(&between)).await else {
        panic!("known")
    };
    let changes: Vec<String> = changes.iter().map(Element::to_xml).collect();
    assert!(changes[0].contains("jid='a@x'") && changes[1].contains("subscription='remove'"));
    assert!(matches!(world.get(Some("")).await, Got::Whole(_)));
    assert!(matches!(world.get(Some("99999")).await, Got::Whole(_)));
}

#[tokio::test]
async fn updates_keep_subscriptions() {
    let world = world().await;
    world.send("a@x", Request::Subscribe).await;
    let pushed = world.put("a@x").await.expect("updated").to_xml();
    assert!(
        pushed.contains("name='N' subscription='none' ask='subscribe'"),
        "{pushed}"
    );
    world
        .receive("a@x", Request::Subscribed)
        .await
        .expect("kept");
    let Got::Whole(roster) = world.get(None).await else {
        panic!("no version was given")
    };
    let roster = roster.to_xml();
    assert!(
        roster.contains("subscription='to'><group>G</group>"),
        "{roster}"
    );
}

#[tokio::test]
async fn a_request_waits_unlisted_until_it_is_answered() {
    let world = world().await;
    let (decision, pushed) = world
        .receive("r@x", Request::Subscribe)
        .await
        .expect("kept");
    assert_eq!((decision.deliver, pushed), (Deliver::Available, None));
    assert_eq!(
        world
            .rosters
            .requests(world.account)
            .await
            .expect("a list")
            .len(),
        1
    );
    let again = world
        .receive("r@x", Request::Subscribe)
        .await
        .expect("ignored");
    assert_eq!(again.0.deliver, Deliver::No);
    let Got::Whole(roster) = world.get(None).await else {
        panic!("no version was given")
    };
    assert_eq!(roster.children().count(), 0);
    let (decision, pushed) = world.send("r@x", Request::Subscribed).await;
    assert!(decision.route && xml(pushed).contains("jid='r@x' subscription='from'"));
    assert!(
        world
            .rosters
            .requests(world.account)
            .await
            .expect("a list")
            .is_empty()
    );
}

#[tokio::test]
async fn requests_and_items_are_bounded() {
    let world = world().await;
    for contact in ["a@x", "b@x"] {
        assert!(world.receive(contact, Request::Subscribe).await.is_some());
    }
    assert!(world.receive("c@x", Request::Subscribe).await.is_none());
    for contact in ["1@x", "2@x", "3@x", "4@x"] {
        world.put(contact).await.expect("within bounds");
    }
    assert!(matches!(world.put("5@x").await, Err(Error::Full)));
}

#[tokio::test]
async fn removal_ends_what_was_between_the_two() {
    let world = world().await;
    world.send("a@x", Request::Subscribe).await;
    world
        .receive("a@x", Request::Subscribed)
        .await
        .expect("kept");
    world
        .receive("a@x", Request::Subscribe)
        .await
        .expect("kept");
    world.send("a@x", Request::Subscribed).await;
    let removal = world
        .rosters
        .remove(world.account, &jid("a@x"))
        .await
        .expect("removed");
    assert_eq!(removal.told, [Request::Unsubscribe, Request::Unsubscribed]);
    assert_eq!(removal.presence, Presence::Unavailable);
    let entry = world
        .rosters
        .entry(world.account, &bare("a@x"))
        .await
        .expect("an entry");
    assert_eq!(entry, Entry::default());
    let again = world.rosters.remove(world.account, &jid("a@x")).await;
    assert!(matches!(again, Err(Error::NotFound)));
}

#[tokio::test]
async fn pre_approval_is_stored_and_used() {
    let world = world().await;
    let (decision, pushed) = world.send("a@x", Request::Subscribed).await;
    assert!(!decision.route && xml(pushed).contains("approved='true'"));
    let (decision, pushed) = world
        .receive("a@x", Request::Subscribe)
        .await
        .expect("kept");
    assert_eq!(decision.reply, Some(Request::Subscribed));
    assert!(xml(pushed).contains("subscription='from' approved='true'"));
    assert!(
        world
            .rosters
            .requests(world.account)
            .await
            .expect("a list")
            .is_empty()
    );
}
