//! Pubsub nodes on either engine.

use eider_storage::{Error, PubsubItem, PubsubRelation};

use super::*;

const PEP: &str = "alice@example.org";

fn item(id: &str, n: i64) -> PubsubItem {
    PubsubItem {
        id: id.into(),
        publisher: "alice@example.org/phone".into(),
        payload: Bytes::from(format!("<tune>{n}</tune>")),
        at: at(n),
    }
}

fn ids(items: &[PubsubItem]) -> Vec<&str> {
    items.iter().map(|item| item.id.as_str()).collect()
}

pub async fn node_life(bench: &mut Bench) {
    let s = &bench.storage;
    s.pubsub_create(FENCE, PEP, "urn:b", b"{\"a\":1}", 2, NOW)
        .await
        .unwrap();
    let conflict = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Conflict(_))));
    conflict(s.pubsub_create(FENCE, PEP, "urn:b", b"{}", 2, NOW).await);
    s.pubsub_create(FENCE, PEP, "urn:a", b"{}", 2, NOW)
        .await
        .unwrap();
    conflict(s.pubsub_create(FENCE, PEP, "urn:c", b"{}", 2, NOW).await);
    let node = s.pubsub_node(PEP, "urn:b").await.unwrap().unwrap();
    assert_eq!(
        (&node.config[..], node.version, node.created_at),
        (&b"{\"a\":1}"[..], 1, NOW)
    );
    let names: Vec<_> = s
        .pubsub_nodes(PEP, None, 9)
        .await
        .unwrap()
        .into_iter()
        .map(|n| n.node)
        .collect();
    assert_eq!(names, ["urn:a", "urn:b"]);
    assert_eq!(
        s.pubsub_nodes(PEP, Some("urn:a"), 9).await.unwrap().len(),
        1
    );
    for n in 0..5 {
        s.pubsub_publish(FENCE, PEP, "urn:b", &item(&n.to_string(), n), 10, u64::MAX)
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(
        s.pubsub_configure(FENCE, PEP, "urn:b", b"{}", 1, 3)
            .await
            .unwrap(),
        ["0", "1"]
    );
    let stale = s.pubsub_configure(FENCE, PEP, "urn:b", b"{}", 1, 3).await;
    assert!(matches!(stale, Err(Error::Conflict(_))));
    assert_eq!(
        s.pubsub_node(PEP, "urn:b").await.unwrap().unwrap().version,
        2
    );
    assert!(s.pubsub_delete(FENCE, PEP, "urn:b").await.unwrap());
    assert!(!s.pubsub_delete(FENCE, PEP, "urn:b").await.unwrap());
    assert_eq!(s.pubsub_items(PEP, "urn:b", 9).await.unwrap(), []);
    assert_eq!(
        s.pubsub_publish(FENCE, PEP, "urn:b", &item("x", 1), 10, u64::MAX)
            .await
            .unwrap(),
        None
    );
}

pub async fn items_are_trimmed(bench: &mut Bench) {
    let s = &bench.storage;
    s.pubsub_create(FENCE, PEP, "n", b"{}", 9, NOW)
        .await
        .unwrap();
    for (n, id) in ["a", "b", "c"].iter().enumerate() {
        let outcome = s
            .pubsub_publish(FENCE, PEP, "n", &item(id, n as i64), 3, u64::MAX)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((outcome.replaced, outcome.trimmed.len()), (false, 0));
    }
    let outcome = s
        .pubsub_publish(FENCE, PEP, "n", &item("a", 7), 3, u64::MAX)
        .await
        .unwrap()
        .unwrap();
    assert!(outcome.replaced && outcome.trimmed.is_empty());
    let outcome = s
        .pubsub_publish(FENCE, PEP, "n", &item("d", 8), 3, u64::MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(outcome.trimmed, ["b"]);
    let items = s.pubsub_items(PEP, "n", 9).await.unwrap();
    assert_eq!(items, [item("c", 2), item("a", 7), item("d", 8)]);
    assert_eq!(ids(&s.pubsub_items(PEP, "n", 1).await.unwrap()), ["d"]);
    let heads = s.pubsub_item_heads(PEP, "n", 2).await.unwrap();
    let shown: Vec<_> = heads
        .iter()
        .map(|head| (head.id.as_str(), head.bytes, head.at))
        .collect();
    let expected = [item("a", 7), item("d", 8)];
    let expected: Vec<_> = expected
        .iter()
        .map(|item| (item.id.as_str(), item.payload.len() as u64, item.at))
        .collect();
    assert_eq!(shown, expected);
    let asked = ["d", "zz", "c"].map(String::from);
    assert_eq!(
        ids(&s.pubsub_items_by_id(PEP, "n", &asked).await.unwrap()),
        ["d", "c"]
    );
    let last = s
        .pubsub_last_items(PEP, &["none".into(), "n".into()])
        .await
        .unwrap();
    assert_eq!(last, [("n".to_owned(), item("d", 8))]);
    assert_eq!(
        s.pubsub_retract(FENCE, PEP, "n", &asked).await.unwrap(),
        ["d", "c"]
    );
    assert_eq!(s.pubsub_purge(FENCE, PEP, "n").await.unwrap(), 1);
    let outcome = s
        .pubsub_publish(FENCE, PEP, "n", &item("gone", 9), 0, u64::MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(outcome.trimmed, ["gone"]);
}

pub async fn items_of_a_service_are_bounded_in_bytes(bench: &mut Bench) {
    let s = &bench.storage;
    for node in ["n", "m"] {
        s.pubsub_create(FENCE, PEP, node, b"{}", 9, NOW)
            .await
            .unwrap();
    }
    let one = item("a", 1).payload.len() as u64;
    let publish = async |node, id, bytes_max| {
        s.pubsub_publish(FENCE, PEP, node, &item(id, 1), 9, bytes_max)
            .await
    };
    assert!(publish("n", "a", one).await.unwrap().is_some());
    let over = publish("m", "b", 2 * one - 1).await;
    assert!(matches!(over, Err(Error::Full(_))), "{over:?}");
    assert_eq!(s.pubsub_items(PEP, "m", 9).await.unwrap(), []);
    assert!(publish("m", "b", 2 * one).await.unwrap().is_some());
    // What takes no more than before fits into any bound.
    assert!(publish("m", "b", 1).await.unwrap().is_some());
    assert!(s.pubsub_delete(FENCE, PEP, "m").await.unwrap());
    assert!(publish("n", "c", 2 * one).await.unwrap().is_some());
    s.pubsub_retract(FENCE, PEP, "n", &["a".into()])
        .await
        .unwrap();
    assert!(publish("n", "d", 2 * one).await.unwrap().is_some());
}

fn relation(node: &str, jid: &str, subid: &str, state: &str) -> PubsubRelation {
    PubsubRelation {
        node: node.into(),
        jid: jid.into(),
        subid: subid.into(),
        state: state.into(),
        options: Bytes::from("{}"),
    }
}

pub async fn subscriptions(bench: &mut Bench) {
    let s = &bench.storage;
    for node in ["n", "m"] {
        s.pubsub_create(FENCE, PEP, node, b"{}", 9, NOW)
            .await
            .unwrap();
    }
    s.pubsub_subscribe(FENCE, PEP, &relation("n", "bob@x", "1", "pending"), 2)
        .await
        .unwrap();
    s.pubsub_subscribe(FENCE, PEP, &relation("n", "bob@x", "1", "subscribed"), 2)
        .await
        .unwrap();
    s.pubsub_subscribe(FENCE, PEP, &relation("n", "bob@x", "2", "subscribed"), 2)
        .await
        .unwrap();
    let over = s
        .pubsub_subscribe(FENCE, PEP, &relation("n", "carol@x", "", "subscribed"), 2)
        .await;
    assert!(matches!(over, Err(Error::Conflict(_))));
    let lost = s
        .pubsub_subscribe(
            FENCE,
            PEP,
            &relation("none", "carol@x", "", "subscribed"),
            2,
        )
        .await;
    assert!(matches!(lost, Err(Error::Conflict(_))));
    s.pubsub_subscribe(FENCE, PEP, &relation("m", "carol@x", "", "subscribed"), 2)
        .await
        .unwrap();
    assert_eq!(
        s.pubsub_subscriptions(PEP, None, None).await.unwrap().len(),
        3
    );
    assert_eq!(
        s.pubsub_subscriptions(PEP, Some("n"), Some("carol@x"))
            .await
            .unwrap()
            .len(),
        0
    );
    let bobs = s
        .pubsub_subscriptions(PEP, None, Some("bob@x"))
        .await
        .unwrap();
    assert_eq!(bobs[0], relation("n", "bob@x", "1", "subscribed"));
    assert!(
        s.pubsub_unsubscribe(FENCE, PEP, "n", "bob@x", Some("1"))
            .await
            .unwrap()
    );
    assert!(
        s.pubsub_unsubscribe(FENCE, PEP, "n", "bob@x", None)
            .await
            .unwrap()
    );
    assert!(
        !s.pubsub_unsubscribe(FENCE, PEP, "n", "bob@x", None)
            .await
            .unwrap()
    );
}

pub async fn subscriptions_of_all_resources(bench: &mut Bench) {
    let s = &bench.storage;
    for (node, jid, subid) in [
        ("n", "bob@x", "1"),
        ("n", "bob@x", "2"),
        ("m", "carol@x", ""),
    ] {
        // Made by the first that needs it.
        let _ = s.pubsub_create(FENCE, PEP, node, b"{}", 9, NOW).await;
        s.pubsub_subscribe(FENCE, PEP, &relation(node, jid, subid, "subscribed"), 2)
            .await
            .unwrap();
    }
    s.pubsub_subscribe(FENCE, PEP, &relation("m", "bob@x/r", "", "subscribed"), 2)
        .await
        .unwrap();
    let bobs = s.pubsub_subscriptions_of(PEP, None, "bob@x").await.unwrap();
    let jids: Vec<&str> = bobs.iter().map(|found| found.jid.as_str()).collect();
    assert_eq!(jids, ["bob@x/r", "bob@x", "bob@x"]);
    let bobs = s.pubsub_subscriptions_of(PEP, Some("m"), "bob@x").await;
    assert_eq!(bobs.unwrap().len(), 1);
    let none = s.pubsub_subscriptions_of(PEP, None, "bob@").await.unwrap();
    assert_eq!(none, []);
}

pub async fn affiliations(bench: &mut Bench) {
    let s = &bench.storage;
    s.pubsub_create(FENCE, PEP, "n", b"{}", 9, NOW)
        .await
        .unwrap();
    s.pubsub_set_affiliation(FENCE, PEP, &relation("n", "bob@x", "", "owner"))
        .await
        .unwrap();
    s.pubsub_set_affiliation(FENCE, PEP, &relation("n", "bob@x", "", "member"))
        .await
        .unwrap();
    let found = s.pubsub_affiliations(PEP, Some("n"), None).await.unwrap();
    assert_eq!(found, [relation("n", "bob@x", "", "member")]);
    s.pubsub_set_affiliation(FENCE, PEP, &relation("n", "bob@x", "", "none"))
        .await
        .unwrap();
    assert_eq!(s.pubsub_affiliations(PEP, None, None).await.unwrap(), []);
}

pub async fn services_are_apart(bench: &mut Bench) {
    let s = &bench.storage;
    for service in [PEP, "bob@example.org"] {
        s.pubsub_create(FENCE, service, "n", service.as_bytes(), 9, NOW)
            .await
            .unwrap();
        s.pubsub_publish(FENCE, service, "n", &item(service, 1), 9, u64::MAX)
            .await
            .unwrap();
    }
    s.pubsub_purge(FENCE, PEP, "n").await.unwrap();
    assert_eq!(
        ids(&s.pubsub_items("bob@example.org", "n", 9).await.unwrap()),
        ["bob@example.org"]
    );
    let asked = [PEP.to_owned()];
    assert_eq!(
        s.pubsub_items_by_id("bob@example.org", "n", &asked)
            .await
            .unwrap(),
        []
    );
    s.pubsub_delete(FENCE, PEP, "n").await.unwrap();
    assert!(
        s.pubsub_node("bob@example.org", "n")
            .await
            .unwrap()
            .is_some()
    );
}
