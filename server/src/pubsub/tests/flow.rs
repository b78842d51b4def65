//! XEP-0060 §6 and §7, XEP-0163 §4: publishing, notifying, retrieving.

use super::*;

const TUNE: &str = "http://jabber.org/protocol/tune";

fn verona() -> World {
    World::default()
        .contact("romeo@montague.lit", true, &["Friends"])
        .contact("nurse@capulet.lit", true, &["Servants"])
        .contact("paris@verona.lit", false, &[])
        .online("juliet@capulet.lit/balcony", &[TUNE])
        .online("juliet@capulet.lit/chamber", &[])
        .online("romeo@montague.lit/orchard", &[TUNE])
        .online("nurse@capulet.lit/kitchen", &[])
        .online("paris@verona.lit/palace", &[TUNE])
}

#[tokio::test]
async fn a_publication_reaches_who_may_see_it_and_wants_it() {
    let service = Service::new(verona()).await;
    let answer = service.publish(TUNE, "1", "").await.expect("published");
    let payload = answer.payload.as_ref().expect("a result").to_xml();
    assert!(
        payload.contains("<publish node='http://jabber.org/protocol/tune'>"),
        "{payload}"
    );
    let told = told(&answer);
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].0,
        ["juliet@capulet.lit/balcony", "romeo@montague.lit/orchard"]
    );
    assert!(
        told[0]
            .1
            .contains("<item id='1'><x xmlns='urn:x'>1</x></item>"),
        "{}",
        told[0].1
    );
    let message = &answer.notices[0].message;
    assert_eq!(message.attr("type"), Some("headline"));
    assert_eq!(message.attr("from"), Some(OWNER));
    let addresses = message.child("addresses", ns::ADDRESS).expect("a replyto");
    let address = addresses.child("address", ns::ADDRESS).expect("a replyto");
    assert_eq!(address.attr("jid"), Some("juliet@capulet.lit/balcony"));
}

#[tokio::test]
async fn the_service_names_items_that_come_without_id() {
    let service = Service::new(World::default()).await;
    let answer = service
        .set(
            OWNER,
            "<publish node='n'><item><x xmlns='urn:x'/></item></publish>",
        )
        .await
        .expect("published");
    assert!(
        answer
            .payload
            .expect("a result")
            .to_xml()
            .contains("<item id='token1'/>")
    );
    let items = service
        .get(OWNER, "<items node='n'/>")
        .await
        .expect("items");
    assert!(
        items.contains("<item id='token1'><x xmlns='urn:x'/></item>"),
        "{items}"
    );
}

#[tokio::test]
async fn preconditions_make_the_node_and_then_bind() {
    let service = Service::new(World::default()).await;
    let open = "access_model=open persist_items=1 max_items=max";
    service.publish("n", "1", open).await.expect("made");
    service.publish("n", "2", open).await.expect("met");
    let refused = refusal(service.publish("n", "3", "access_model=whitelist").await);
    assert_eq!(
        refused,
        (StanzaCondition::Conflict, "precondition-not-met".into())
    );
    let refused = refusal(service.publish("n", "3", "color=red").await);
    assert_eq!(
        refused,
        (StanzaCondition::Conflict, "precondition-not-met".into())
    );
    let items = service
        .get("stranger@example.org/x", "<items node='n'/>")
        .await
        .expect("open");
    assert!(
        items.contains("<item id='1'>") && items.contains("<item id='2'>"),
        "{items}"
    );
    assert!(!items.contains("<item id='3'>"));
}

#[tokio::test]
async fn a_single_item_node_keeps_the_newest() {
    let service = Service::new(World::default().online(&format!("{OWNER}/a"), &["n"])).await;
    service.publish("n", "1", "").await.expect("published");
    let answer = service.publish("n", "2", "").await.expect("published");
    assert_eq!(told(&answer).len(), 1, "replacing is not retracting");
    let items = service
        .get(OWNER, "<items node='n'/>")
        .await
        .expect("items");
    assert!(
        !items.contains("<item id='1'>") && items.contains("<item id='2'>"),
        "{items}"
    );
}

#[tokio::test]
async fn what_gives_way_to_a_new_item_is_retracted() {
    let service = Service::new(World::default().online(&format!("{OWNER}/a"), &["n"])).await;
    for id in ["1", "2"] {
        service
            .publish("n", id, "max_items=2")
            .await
            .expect("published");
    }
    let answer = service
        .publish("n", "3", "max_items=2")
        .await
        .expect("published");
    let told = told(&answer);
    assert!(told[1].1.contains("<retract id='1'/>"), "{}", told[1].1);
    let full = "max_items=1 publish_node_full=reject";
    service.publish("m", "1", full).await.expect("published");
    service.publish("m", "1", full).await.expect("replaced");
    let refused = refusal(service.publish("m", "2", full).await);
    assert_eq!(refused, (StanzaCondition::Conflict, "node-full".into()));
}

#[tokio::test]
async fn items_must_fit_the_node() {
    let service = Service::new(World::default()).await;
    let publish = async |inner: &str| service.set(OWNER, inner).await;
    let cases = [
        ("<publish node='n'/>", "item-required"),
        ("<publish node='n'><item/></publish>", "payload-required"),
        (
            "<publish node='n'><item><a xmlns='a'/><b xmlns='b'/></item></publish>",
            "invalid-payload",
        ),
    ];
    for (inner, specific) in cases {
        assert_eq!(
            refusal(publish(inner).await),
            (StanzaCondition::BadRequest, specific.into())
        );
    }
    let big = format!(
        "<publish node='n'><item><a xmlns='a'>{}</a></item></publish>",
        "x".repeat(2000)
    );
    assert_eq!(
        refusal(publish(&big).await),
        (StanzaCondition::NotAcceptable, "payload-too-big".into())
    );
    let bell = submit("configure", "persist_items=0 deliver_payloads=0");
    publish(&format!("<create node='bell'/>{bell}"))
        .await
        .expect("made");
    publish("<publish node='bell'/>").await.expect("rung");
    let item = "<publish node='bell'><item/></publish>";
    assert_eq!(
        refusal(publish(item).await),
        (StanzaCondition::BadRequest, "item-forbidden".into())
    );
}

#[tokio::test]
async fn others_publish_only_where_they_may() {
    let service = Service::new(verona()).await;
    let item = "<publish node='n'><item id='1'><x xmlns='urn:x'/></item></publish>";
    let romeo = "romeo@montague.lit/orchard";
    assert_eq!(
        refusal(service.set(romeo, item).await).0,
        StanzaCondition::ItemNotFound
    );
    service.publish("n", "0", "").await.expect("made");
    assert_eq!(
        refusal(service.set(romeo, item).await).0,
        StanzaCondition::Forbidden
    );
    let create = service.set(romeo, "<create node='m'/>").await;
    assert_eq!(refusal(create).0, StanzaCondition::Forbidden);
}

#[tokio::test]
async fn access_models_say_what_is_missing() {
    let service = Service::new(verona()).await;
    for model in ["open", "presence", "roster", "whitelist", "authorize"] {
        let options = format!("access_model={model} roster_groups_allowed=Friends");
        service
            .publish(model, "1", &options)
            .await
            .expect("published");
    }
    let read =
        async |from: &str, node: &str| service.get(from, &format!("<items node='{node}'/>")).await;
    let (romeo, nurse, paris) = (
        "romeo@montague.lit/o",
        "nurse@capulet.lit/k",
        "paris@verona.lit/p",
    );
    for (from, node) in [
        (paris, "open"),
        (romeo, "presence"),
        (nurse, "presence"),
        (romeo, "roster"),
    ] {
        assert!(read(from, node).await.is_ok(), "{from} {node}");
    }
    let cases = [
        (
            paris,
            "presence",
            StanzaCondition::NotAuthorized,
            "presence-subscription-required",
        ),
        (
            nurse,
            "roster",
            StanzaCondition::NotAuthorized,
            "not-in-roster-group",
        ),
        (
            romeo,
            "whitelist",
            StanzaCondition::NotAllowed,
            "closed-node",
        ),
        (
            romeo,
            "authorize",
            StanzaCondition::NotAuthorized,
            "not-subscribed",
        ),
        (romeo, "nowhere", StanzaCondition::ItemNotFound, ""),
    ];
    for (from, node, condition, specific) in cases {
        assert_eq!(
            refusal(read(from, node).await),
            (condition, specific.into()),
            "{from} {node}"
        );
    }
    let service_jid = bare(OWNER);
    let from = Jid::parse(nurse).expect("test input");
    let token = service.token();
    let call = Call {
        service: &service_jid,
        from: &from,
        set: false,
        now: service.now(),
        token: &token,
    };
    let list = service
        .engine
        .node_list(&call)
        .await
        .expect("a list")
        .to_xml();
    for (node, seen) in [
        ("open", true),
        ("presence", true),
        ("roster", false),
        ("whitelist", false),
    ] {
        assert_eq!(
            list.contains(&format!("node='{node}'")),
            seen,
            "{node}: {list}"
        );
    }
}

#[tokio::test]
async fn a_resource_that_comes_online_gets_last_items_it_wants() {
    let service = Service::new(verona()).await;
    service.publish(TUNE, "1", "").await.expect("published");
    service
        .publish("private", "1", "access_model=whitelist")
        .await
        .expect("published");
    service
        .publish("quiet", "1", "send_last_published_item=never")
        .await
        .expect("published");
    let wanted: Vec<String> = [TUNE, "private", "quiet", "missing"]
        .map(str::to_owned)
        .into();
    let last = async |to: &str| {
        let (owner, to) = (bare(OWNER), FullJid::parse(to).expect("test input"));
        let token = service.token();
        let sent = service.engine.last_items(&owner, &to, &wanted, &token);
        sent.await
            .expect("last items")
            .iter()
            .map(|n| n.message.to_xml())
            .collect::<Vec<_>>()
    };
    let romeo = last("romeo@montague.lit/orchard").await;
    assert_eq!(romeo.len(), 1);
    assert!(romeo[0].contains(TUNE) && romeo[0].contains("<delay xmlns='urn:xmpp:delay'"));
    assert_eq!(last("juliet@capulet.lit/chamber").await.len(), 2);
    assert!(last("paris@verona.lit/palace").await.is_empty());
}

#[tokio::test]
async fn retraction_and_purge_are_told() {
    let service = Service::new(World::default().online(&format!("{OWNER}/a"), &["n"])).await;
    let options = "max_items=max notify_retract=0";
    for id in ["1", "2", "3"] {
        service.publish("n", id, options).await.expect("published");
    }
    let retract = async |from: &str, inner: &str| service.set(from, inner).await;
    let quiet = retract(OWNER, "<retract node='n'><item id='1'/></retract>")
        .await
        .expect("gone");
    assert!(told(&quiet).is_empty());
    let loud = "<retract node='n' notify='true'><item id='2'/></retract>";
    let loud_answer = retract(OWNER, loud).await.expect("gone");
    assert!(told(&loud_answer)[0].1.contains("<retract id='2'/>"));
    assert_eq!(
        refusal(retract(OWNER, loud).await).0,
        StanzaCondition::ItemNotFound
    );
    let stranger = retract("x@y/z", "<retract node='n'><item id='3'/></retract>").await;
    assert_eq!(refusal(stranger).0, StanzaCondition::Forbidden);
    assert_eq!(
        refusal(service.own("x@y/z", true, "<purge node='n'/>").await).0,
        StanzaCondition::Forbidden
    );
    service
        .own(OWNER, true, "<purge node='n'/>")
        .await
        .expect("purged");
    let items = service
        .get(OWNER, "<items node='n'/>")
        .await
        .expect("items");
    assert!(items.contains("<items node='n'/>"), "{items}");
}

#[tokio::test]
async fn items_come_by_id_by_number_and_by_page() {
    let service = Service::new(World::default()).await;
    for id in ["1", "2", "3", "4"] {
        service
            .publish("n", id, "max_items=max")
            .await
            .expect("published");
    }
    let ids = async |inner: &str| -> Vec<String> {
        let xml = service.get(OWNER, inner).await.expect("items");
        let items = Element::parse(&xml)
            .expect("our own")
            .child("items", ns::PUBSUB)
            .cloned();
        let items = items.expect("items");
        items
            .children()
            .filter_map(|item| item.attr("id").map(str::to_owned))
            .collect()
    };
    assert_eq!(ids("<items node='n'/>").await, ["1", "2", "3", "4"]);
    assert_eq!(ids("<items node='n' max_items='2'/>").await, ["3", "4"]);
    let named = "<items node='n'><item id='3'/><item id='9'/><item id='1'/></items>";
    assert_eq!(ids(named).await, ["3", "1"]);
    let page = "<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max>\
        <after>1</after></set>";
    assert_eq!(ids(page).await, ["2", "3"]);
    let xml = service.get(OWNER, page).await.expect("items");
    assert!(
        xml.contains("<first index='1'>2</first><last>3</last><count>4</count>"),
        "{xml}"
    );
    let lost =
        "<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><after>x</after></set>";
    assert_eq!(
        refusal(service.get(OWNER, lost).await).0,
        StanzaCondition::ItemNotFound
    );
}

#[tokio::test]
async fn items_expire() {
    let service = Service::new(World::default()).await;
    service
        .publish("n", "1", "item_expire=60 max_items=max")
        .await
        .expect("published");
    service.now.fetch_add(61_000_000, Ordering::Relaxed);
    service.publish("n", "2", "").await.expect("published");
    let items = service
        .get(OWNER, "<items node='n'/>")
        .await
        .expect("items");
    assert!(
        !items.contains("<item id='1'>") && items.contains("<item id='2'>"),
        "{items}"
    );
}

#[tokio::test]
async fn whom_the_account_blocks_hears_and_reads_nothing() {
    let service = Service::new(verona().block("romeo@montague.lit")).await;
    let answer = service
        .publish(TUNE, "1", "access_model=open")
        .await
        .expect("published");
    assert_eq!(audience(&answer), ["juliet@capulet.lit/balcony"]);
    let read = service
        .get("romeo@montague.lit/o", &format!("<items node='{TUNE}'/>"))
        .await;
    assert_eq!(refusal(read).0, StanzaCondition::Forbidden);
}
