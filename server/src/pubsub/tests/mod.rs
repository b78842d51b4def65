//! XEP-0060 and XEP-0163: requests against a real database.

mod flow;
mod manage;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use eider_storage::SqliteConfig;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;

use super::*;

const OWNER: &str = "juliet@capulet.lit";

/// The directory of one test's database, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("eider-pubsub-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The account's contacts, and who is online wanting which nodes.
#[derive(Default)]
struct World {
    contacts: Vec<Contact>,
    online: HashMap<String, Vec<&'static str>>,
}

impl World {
    fn contact(mut self, jid: &str, sees_presence: bool, groups: &[&str]) -> World {
        self.contacts.push(Contact {
            jid: bare(jid),
            sees_presence,
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            blocked: false,
        });
        self
    }

    fn online(mut self, full: &str, wants: &[&'static str]) -> World {
        self.online.insert(full.to_owned(), wants.to_vec());
        self
    }

    fn block(mut self, jid: &str) -> World {
        let contact = self.contacts.iter_mut().find(|c| c.jid.as_str() == jid);
        contact.expect("a contact").blocked = true;
        self
    }

    fn resources(&self, entity: &BareJid, wanting: Option<&str>) -> Vec<FullJid> {
        let mut found: Vec<FullJid> = self
            .online
            .iter()
            .filter(|(_, wants)| wanting.is_none_or(|node| wants.contains(&node)))
            .map(|(full, _)| FullJid::parse(full).expect("test input"))
            .filter(|full| full.bare() == *entity)
            .collect();
        found.sort();
        found
    }
}

#[async_trait]
impl Audience for World {
    async fn contact(&self, _: &BareJid, other: &BareJid) -> Result<Contact, eider_storage::Error> {
        let known = self
            .contacts
            .iter()
            .find(|contact| contact.jid == *other)
            .cloned();
        Ok(known.unwrap_or_else(|| Contact {
            jid: other.clone(),
            sees_presence: false,
            groups: Vec::new(),
            blocked: false,
        }))
    }

    async fn contacts(&self, _: &BareJid) -> Result<Vec<Contact>, eider_storage::Error> {
        let seeing = self
            .contacts
            .iter()
            .filter(|c| c.sees_presence && !c.blocked);
        Ok(seeing.cloned().collect())
    }

    fn interested(&self, _: &BareJid, entity: &BareJid, node: &str) -> Vec<FullJid> {
        self.resources(entity, Some(node))
    }

    fn available(&self, _: &BareJid, entity: &BareJid) -> Vec<FullJid> {
        self.resources(entity, None)
    }
}

fn bare(jid: &str) -> BareJid {
    BareJid::parse(jid).expect("test input")
}

/// One account's service.
struct Service {
    engine: Engine,
    next: AtomicU64,
    now: AtomicU64,
    _scratch: Scratch,
}

impl Service {
    async fn new(world: World) -> Service {
        let scratch = Scratch::new();
        let config = SqliteConfig::new(scratch.0.join("test.db"));
        let storage = eider_storage::open(&eider_storage::Config::Sqlite(config)).await;
        let storage = storage.expect("a new database");
        let limits = Limits {
            max_items: 5,
            max_payload_bytes: 2000,
            max_nodes: 20,
            max_bytes: 20_000,
            max_entities: 20,
            max_per_account: 3,
        };
        Service {
            engine: Engine::new(storage, Arc::new(world), Fence::single(), move || limits),
            next: AtomicU64::new(1),
            now: AtomicU64::new(1_000_000_000),
            _scratch: scratch,
        }
    }

    fn token(&self) -> impl Fn() -> String + Send + Sync + '_ {
        || format!("token{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn now(&self) -> Timestamp {
        let now = self.now.fetch_add(1_000_000, Ordering::Relaxed);
        Timestamp(i64::try_from(now).expect("small"))
    }

    async fn send(&self, from: &str, set: bool, xml: &str) -> Result<Answer, StanzaError> {
        let (service, from) = (bare(OWNER), Jid::parse(from).expect("test input"));
        let token = self.token();
        let call = Call {
            service: &service,
            from: &from,
            set,
            now: self.now(),
            token: &token,
        };
        self.engine
            .handle(&call, &Element::parse(xml).expect("test input"))
            .await
    }

    /// An iq set in the namespace of publishers and subscribers.
    async fn set(&self, from: &str, inner: &str) -> Result<Answer, StanzaError> {
        self.send(
            from,
            true,
            &format!("<pubsub xmlns='{}'>{inner}</pubsub>", ns::PUBSUB),
        )
        .await
    }

    /// An iq get in the namespace of publishers and subscribers.
    async fn get(&self, from: &str, inner: &str) -> Result<String, StanzaError> {
        let xml = format!("<pubsub xmlns='{}'>{inner}</pubsub>", ns::PUBSUB);
        let answer = self.send(from, false, &xml).await?;
        Ok(answer
            .payload
            .map(|payload| payload.to_xml())
            .unwrap_or_default())
    }

    /// An iq in the namespace of owners.
    async fn own(&self, from: &str, set: bool, inner: &str) -> Result<Answer, StanzaError> {
        let xml = format!("<pubsub xmlns='{}'>{inner}</pubsub>", ns::PUBSUB_OWNER);
        self.send(from, set, &xml).await
    }

    async fn publish(&self, node: &str, id: &str, options: &str) -> Result<Answer, StanzaError> {
        let item = format!(
            "<publish node='{node}'><item id='{id}'><x xmlns='urn:x'>{id}</x></item></publish>{}",
            submit("publish-options", options)
        );
        self.set("juliet@capulet.lit/balcony", &item).await
    }
}

/// A submission in this element: `access_model=open max_items=max`; empty for none.
fn submit(element: &str, fields: &str) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let mut xml = format!("<{element}><x xmlns='jabber:x:data' type='submit'>");
    for field in fields.split(' ') {
        let (var, value) = field.split_once('=').expect("name=value");
        xml += &format!("<field var='pubsub#{var}'><value>{value}</value></field>");
    }
    xml + &format!("</x></{element}>")
}

/// Condition and pubsub condition of an error.
fn refusal<T: std::fmt::Debug>(result: Result<T, StanzaError>) -> (StanzaCondition, String) {
    let error = result.expect_err("a refusal");
    let name = error
        .application
        .map(|e| e.name().to_owned())
        .unwrap_or_default();
    (error.condition, name)
}

/// Who is told, sorted, and the event's XML, by message.
fn told(answer: &Answer) -> Vec<(Vec<String>, String)> {
    let each = answer.notices.iter().map(|notice| {
        let mut to: Vec<String> = notice
            .to
            .iter()
            .map(|jid| jid.as_str().to_owned())
            .collect();
        to.sort();
        let event = notice.message.child("event", ns::PUBSUB_EVENT);
        (to, event.map(|event| event.to_xml()).unwrap_or_default())
    });
    each.collect()
}

/// Everybody who is told anything.
fn audience(answer: &Answer) -> Vec<String> {
    let mut all: Vec<String> = told(answer).into_iter().flat_map(|(to, _)| to).collect();
    all.sort();
    all
}
