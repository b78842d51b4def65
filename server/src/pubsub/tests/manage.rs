//! XEP-0060 §6.1 to §6.3 and §8: subscriptions, affiliations, configuration.

use super::*;

const ROMEO: &str = "romeo@montague.lit";

fn romeo_online() -> World {
    World::default()
        .contact(ROMEO, true, &["Friends"])
        .online("romeo@montague.lit/o", &[])
}

fn subscribe(node: &str, jid: &str) -> String {
    format!("<subscribe node='{node}' jid='{jid}'/>")
}

#[tokio::test]
async fn subscribers_are_notified_where_they_subscribed() {
    let service = Service::new(romeo_online()).await;
    service
        .publish("n", "1", "access_model=open")
        .await
        .expect("published");
    let answer = service
        .set("x@y/z", &subscribe("n", "x@y"))
        .await
        .expect("subscribed");
    let payload = answer.payload.as_ref().expect("a result").to_xml();
    assert!(
        payload.contains("jid='x@y' subscription='subscribed'"),
        "{payload}"
    );
    assert_eq!(audience(&answer), ["x@y"], "the last item");
    service
        .set("x@y/z", &subscribe("n", "x@y/z"))
        .await
        .expect("subscribed");
    let again = service
        .set("x@y/z", &subscribe("n", "x@y"))
        .await
        .expect("subscribed already");
    assert!(again.notices.is_empty());
    let answer = service.publish("n", "2", "").await.expect("published");
    assert_eq!(audience(&answer), ["x@y", "x@y/z"]);
    assert!(
        !answer.notices[0].message.has("addresses", ns::ADDRESS),
        "no presence, no replyto"
    );
    let listed = service
        .get("x@y/z", "<subscriptions/>")
        .await
        .expect("a list");
    assert_eq!(listed.matches("<subscription ").count(), 2, "{listed}");

    let leave = "<unsubscribe node='n' jid='x@y'/>";
    service.set("x@y/z", leave).await.expect("unsubscribed");
    let refused = refusal(service.set("x@y/z", leave).await);
    assert_eq!(
        refused,
        (StanzaCondition::UnexpectedRequest, "not-subscribed".into())
    );
    let answer = service.publish("n", "3", "").await.expect("published");
    assert_eq!(audience(&answer), ["x@y/z"]);
}

#[tokio::test]
async fn nobody_subscribes_others() {
    let service = Service::new(romeo_online()).await;
    service
        .publish("n", "1", "access_model=open")
        .await
        .expect("published");
    let refused = refusal(service.set("x@y/z", &subscribe("n", ROMEO)).await);
    assert_eq!(refused, (StanzaCondition::BadRequest, "invalid-jid".into()));
    let refused = refusal(service.set("x@y/z", "<subscribe node='n'/>").await);
    assert_eq!(
        refused,
        (StanzaCondition::BadRequest, "jid-required".into())
    );
    let theirs = format!("<unsubscribe node='n' jid='{ROMEO}'/>");
    assert_eq!(
        refusal(service.set("x@y/z", &theirs).await).0,
        StanzaCondition::Forbidden
    );
    let nowhere = service.set("x@y/z", &subscribe("m", "x@y")).await;
    assert_eq!(refusal(nowhere).0, StanzaCondition::ItemNotFound);
}

#[tokio::test]
async fn options_turn_notifications_off() {
    let service = Service::new(World::default()).await;
    service
        .publish("n", "1", "access_model=open")
        .await
        .expect("published");
    let off = submit("options", "deliver=0");
    service
        .set("x@y/z", &(subscribe("n", "x@y") + &off))
        .await
        .expect("subscribed");
    assert!(audience(&service.publish("n", "2", "").await.expect("published")).is_empty());
    let options = "<options node='n' jid='x@y'/>";
    let form = service.get("x@y/z", options).await.expect("a form");
    assert!(form.contains("<value>0</value>"), "{form}");
    let on = "<options node='n' jid='x@y'><x xmlns='jabber:x:data' type='submit'>\
        <field var='pubsub#deliver'><value>true</value></field></x></options>";
    service.set("x@y/z", on).await.expect("changed");
    assert_eq!(
        audience(&service.publish("n", "3", "").await.expect("published")),
        ["x@y"]
    );
    let bad = on.replace("true", "perhaps");
    assert_eq!(
        refusal(service.set("x@y/z", &bad).await),
        (StanzaCondition::BadRequest, "invalid-options".into())
    );
    let other = service.get("a@b/c", "<options node='n' jid='a@b'/>").await;
    assert_eq!(refusal(other).0, StanzaCondition::UnexpectedRequest);
}

#[tokio::test]
async fn an_owner_decides_on_requests_by_message() {
    let service = Service::new(World::default()).await;
    service
        .publish("n", "1", "access_model=authorize")
        .await
        .expect("published");
    let answer = service
        .set("x@y/z", &subscribe("n", "x@y"))
        .await
        .expect("pending");
    let payload = answer.payload.as_ref().expect("a result").to_xml();
    assert!(payload.contains("subscription='pending'"), "{payload}");
    assert_eq!(audience(&answer), [OWNER]);
    let form = answer.notices[0]
        .message
        .child("x", ns::DATA_FORMS)
        .expect("a form")
        .to_xml();
    assert!(
        form.contains("pubsub#allow") && form.contains("<value>x@y</value>"),
        "{form}"
    );
    let refused = refusal(service.set("x@y/z", &subscribe("n", "x@y")).await);
    assert_eq!(
        refused,
        (
            StanzaCondition::NotAuthorized,
            "pending-subscription".into()
        )
    );
    assert!(audience(&service.publish("n", "2", "").await.expect("published")).is_empty());

    let reply = form
        .replace("type='form'", "type='submit'")
        .replace("false", "true");
    let reply = Element::parse(&reply).expect("our own form");
    let decide = async |from: &str| {
        let (owner, from) = (bare(OWNER), Jid::parse(from).expect("test input"));
        let token = service.token();
        let call = Call {
            service: &owner,
            from: &from,
            set: true,
            now: service.now(),
            token: &token,
        };
        service
            .engine
            .authorization(&call, &reply)
            .await
            .expect("decided")
    };
    assert!(decide("x@y/z").await.is_none(), "nobody approves oneself");
    let answer = decide("juliet@capulet.lit/balcony")
        .await
        .expect("a decision");
    let told = told(&answer);
    assert!(
        told[0].1.contains("subscription='subscribed'"),
        "{}",
        told[0].1
    );
    assert!(told[1].1.contains("<item id='2'>"), "{}", told[1].1);
    assert!(service.get("x@y/z", "<items node='n'/>").await.is_ok());
    assert_eq!(
        audience(&service.publish("n", "3", "").await.expect("published")),
        ["x@y"]
    );
}

#[tokio::test]
async fn configuration_is_read_changed_and_defended() {
    let service = Service::new(romeo_online()).await;
    service
        .publish("n", "1", "max_items=max")
        .await
        .expect("published");
    service.publish("n", "2", "").await.expect("published");
    let form = service
        .own(OWNER, false, "<configure node='n'/>")
        .await
        .expect("a form");
    let form = form.payload.expect("a form").to_xml();
    assert!(form.contains("pubsub#access_model") && form.contains("<value>presence</value>"));
    let configure =
        |fields: &str| submit("configure", fields).replace("<configure>", "<configure node='n'>");
    service
        .own(OWNER, true, &configure("max_items=1 title=T"))
        .await
        .expect("configured");
    let items = service
        .get(OWNER, "<items node='n'/>")
        .await
        .expect("items");
    assert!(!items.contains("<item id='1'>"), "trimmed at once: {items}");
    let bad = service
        .own(OWNER, true, &configure("access_model=friends"))
        .await;
    assert_eq!(
        refusal(bad),
        (
            StanzaCondition::NotAcceptable,
            "unsupported-access-model".into()
        )
    );
    let stranger = service
        .own("romeo@montague.lit/o", false, "<configure node='n'/>")
        .await;
    assert_eq!(refusal(stranger).0, StanzaCondition::Forbidden);
    let cancel = "<configure node='n'><x xmlns='jabber:x:data' type='cancel'/></configure>";
    service
        .own(OWNER, true, cancel)
        .await
        .expect("nothing happens");
    let default = service
        .own(OWNER, false, "<default/>")
        .await
        .expect("defaults");
    assert!(
        default
            .payload
            .expect("a form")
            .to_xml()
            .contains("on_sub_and_presence")
    );
}

#[tokio::test]
async fn who_loses_access_loses_the_subscription() {
    let service = Service::new(World::default()).await;
    service
        .publish("n", "1", "access_model=open")
        .await
        .expect("published");
    service
        .set("x@y/z", &subscribe("n", "x@y"))
        .await
        .expect("subscribed");
    let close = submit("configure", "access_model=whitelist")
        .replace("<configure>", "<configure node='n'>");
    let answer = service.own(OWNER, true, &close).await.expect("configured");
    assert!(told(&answer)[0].1.contains("jid='x@y' subscription='none'"));
    assert!(audience(&service.publish("n", "2", "").await.expect("published")).is_empty());
}

#[tokio::test]
async fn nodes_are_created_once_and_deleted_loudly() {
    let service = Service::new(World::default().online(&format!("{OWNER}/a"), &["n"])).await;
    service
        .set(OWNER, "<create node='n'/>")
        .await
        .expect("created");
    let again = service.set(OWNER, "<create node='n'/>").await;
    assert_eq!(refusal(again).0, StanzaCondition::Conflict);
    let instant = service.set(OWNER, "<create/>").await.expect("created");
    assert!(
        instant
            .payload
            .expect("its name")
            .to_xml()
            .contains("<create node='token")
    );
    let stranger = service.own("x@y/z", true, "<delete node='n'/>").await;
    assert_eq!(refusal(stranger).0, StanzaCondition::Forbidden);
    let delete = "<delete node='n'><redirect uri='xmpp:a@b?;node=m'/></delete>";
    let answer = service.own(OWNER, true, delete).await.expect("deleted");
    assert!(
        told(&answer)[0]
            .1
            .contains("<redirect uri='xmpp:a@b?;node=m'/>")
    );
    let gone = service.own(OWNER, true, delete).await;
    assert_eq!(refusal(gone).0, StanzaCondition::ItemNotFound);
    for number in 0..30 {
        let made = service
            .set(OWNER, &format!("<create node='m{number}'/>"))
            .await;
        if number >= 19 {
            assert_eq!(refusal(made).0, StanzaCondition::ResourceConstraint);
        }
    }
}

#[tokio::test]
async fn affiliations_open_and_shut() {
    let service = Service::new(World::default()).await;
    service
        .publish("n", "1", "access_model=whitelist")
        .await
        .expect("published");
    let affiliate = async |jid: &str, affiliation: &str| {
        let entry = format!("<affiliation jid='{jid}' affiliation='{affiliation}'/>");
        let change = format!("<affiliations node='n'>{entry}</affiliations>");
        service.own(OWNER, true, &change).await
    };
    affiliate("x@y", "member").await.expect("affiliated");
    assert!(service.get("x@y/z", "<items node='n'/>").await.is_ok());
    affiliate("x@y", "publisher").await.expect("affiliated");
    let item = "<publish node='n'><item id='2'><x xmlns='urn:x'/></item></publish>";
    service.set("x@y/z", item).await.expect("published");
    let list = service
        .own(OWNER, false, "<affiliations node='n'/>")
        .await
        .expect("a list");
    let list = list.payload.expect("a list").to_xml();
    assert!(list.contains("jid='x@y' affiliation='publisher'"), "{list}");
    let own = service
        .get("x@y/z", "<affiliations/>")
        .await
        .expect("a list");
    assert!(own.contains("affiliation='publisher' node='n'"), "{own}");
    affiliate("x@y", "outcast").await.expect("affiliated");
    assert_eq!(
        refusal(service.get("x@y/z", "<items node='n'/>").await).0,
        StanzaCondition::Forbidden
    );
    for (jid, affiliation) in [(OWNER, "none"), ("x@y", "owner"), ("x@y", "king")] {
        let refused = affiliate(jid, affiliation).await;
        assert_eq!(
            refusal(refused).0,
            StanzaCondition::NotAcceptable,
            "{jid} {affiliation}"
        );
    }
}

#[tokio::test]
async fn owners_manage_subscriptions() {
    let service = Service::new(World::default()).await;
    service
        .publish("n", "1", "access_model=open")
        .await
        .expect("published");
    let change = "<subscriptions node='n'>\
        <subscription jid='x@y' subscription='subscribed'/></subscriptions>";
    let answer = service.own(OWNER, true, change).await.expect("changed");
    assert!(told(&answer)[0].1.contains("subscription='subscribed'"));
    let list = service
        .own(OWNER, false, "<subscriptions node='n'/>")
        .await
        .expect("a list");
    assert!(list.payload.expect("a list").to_xml().contains("jid='x@y'"));
    let bad = change.replace("subscription='subscribed'", "subscription='perhaps'");
    let refused = service.own(OWNER, true, &bad).await;
    assert_eq!(refusal(refused).0, StanzaCondition::NotAcceptable);
    let stranger = service.own("x@y/z", true, change).await;
    assert_eq!(refusal(stranger).0, StanzaCondition::Forbidden);
}

#[tokio::test]
async fn metadata_shows_the_node() {
    let service = Service::new(World::default()).await;
    service
        .publish("n", "1", "access_model=open title=Musings")
        .await
        .expect("published");
    let (owner, from) = (bare(OWNER), Jid::parse("x@y/z").expect("test input"));
    let token = service.token();
    let call = Call {
        service: &owner,
        from: &from,
        set: false,
        now: service.now(),
        token: &token,
    };
    let info = service
        .engine
        .node_info(&call, "n")
        .await
        .expect("info")
        .to_xml();
    for part in [
        "category='pubsub' type='leaf' name='Musings'",
        "pubsub#meta-data",
        "pubsub#creation_date",
    ] {
        assert!(info.contains(part), "{part}: {info}");
    }
    let items = service
        .engine
        .item_list(&call, "n", None)
        .await
        .expect("items")
        .to_xml();
    assert!(items.contains("name='1'"), "{items}");
}
