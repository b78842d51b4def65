//! XEP-0115: Entity Capabilities: what our clients want to be notified of
//!
//! A client's presence names a hash of what it supports. What a hash stands for is asked
//! once, of the client that shows it first, verified, and remembered for everyone; others
//! who show it wait for that answer. A client that lies, or whose hash cannot be verified,
//! is believed for itself alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use eider_xmpp::element::Element;
use eider_xmpp::jid::Jid;
use eider_xmpp::ns;
use eider_xmpp::payload::caps::{Caps, Hash, Verdict};
use eider_xmpp::payload::disco::Info;
use eider_xmpp::stanza::{IqType, Stanza};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::c2s::mailbox::Delivery;
use crate::cluster::sessions::SessionHandle;

/// The ending of a feature that asks for a pubsub node's notifications (XEP-0060 §9.2).
const NOTIFY: &str = "+notify";
/// The most such features of one client that are kept.
const MAX_NODES: usize = 256;
/// Bytes of their names.
const MAX_NODES_BYTES: usize = 8 * 1024;
/// Ids of our own questions begin so; a number follows.
const ID_PREFIX: &str = "caps-";
/// Questions that wait for their answers; beyond, clients are not asked.
const MAX_QUESTIONS: usize = 10_000;
/// Clients that wait for the answer of another.
const MAX_WAITING: usize = 100_000;
/// A client that does not answer in this time is passed over.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Pubsub nodes that a client wants to hear of, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Interests(Box<[String]>);

impl Interests {
    /// Of a client's features.
    fn new(info: &Info) -> Interests {
        let nodes = info
            .features
            .iter()
            .filter_map(|feature| feature.strip_suffix(NOTIFY));
        let mut bytes = 0;
        let mut nodes: Vec<String> = nodes
            .filter(|node| !node.is_empty())
            .take(MAX_NODES)
            .take_while(|node| {
                bytes += node.len();
                bytes <= MAX_NODES_BYTES
            })
            .map(str::to_owned)
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        Interests(nodes.into())
    }

    /// Whether the node is among them.
    pub fn include(&self, node: &str) -> bool {
        self.0
            .binary_search_by(|known| known.as_str().cmp(node))
            .is_ok()
    }

    /// All of them.
    pub fn nodes(&self) -> &[String] {
        &self.0
    }
}

/// What a presence told about the client's interests.
#[derive(Debug, PartialEq, Eq)]
pub enum Learned {
    /// Nothing new: as before, or the client has been asked.
    Nothing,
    /// These nodes are newly of interest; for a client that just came online all.
    New(Vec<String>),
}

/// What clients are asked: one of those who show the same at a time.
#[derive(Default)]
struct Questions {
    last_id: u64,
    /// By id.
    asked: HashMap<u64, Question>,
    /// By what was shown: everyone else who shows it.
    waiting: HashMap<String, VecDeque<Weak<SessionHandle>>>,
    waiting_count: usize,
}

struct Question {
    session: Weak<SessionHandle>,
    caps: Caps,
    key: String,
}

/// See the module's documentation.
pub struct Capabilities {
    known: Cache<String, Arc<Interests>>,
    questions: Mutex<Questions>,
}

impl Capabilities {
    /// A cache of at most `entries` hashes.
    pub fn new(entries: usize) -> Capabilities {
        Capabilities {
            known: Cache::new(entries),
            questions: Mutex::default(),
        }
    }

    /// A client of ours has sent available presence. `came_online`: it was not available before.
    pub fn presence(
        self: &Arc<Self>,
        session: &Arc<SessionHandle>,
        presence: &Stanza,
        came_online: bool,
    ) -> Learned {
        let Some(caps) = Caps::of(presence) else {
            session.set_interests(None);
            return Learned::Nothing;
        };
        let known = self.known.get(&key(&caps));
        match known.or_else(|| self.known.get(&own_key(&caps, session))) {
            Some(interests) => learn(session, &interests, came_online),
            None => {
                if came_online {
                    session.set_interests(None);
                }
                self.wonder(session, caps);
                Learned::Nothing
            }
        }
    }

    /// Asks the client, or has it wait for the answer of another who shows the same.
    fn wonder(self: &Arc<Self>, session: &Arc<SessionHandle>, caps: Caps) {
        let key = match caps.hash.as_deref().and_then(Hash::from_name) {
            Some(_) => key(&caps),
            None => own_key(&caps, session),
        };
        let mut questions = self.questions.lock();
        let full = questions.waiting_count >= MAX_WAITING;
        if let Some(waiting) = questions.waiting.get_mut(&key) {
            let same = |other: &Weak<SessionHandle>| other.as_ptr() == Arc::as_ptr(session);
            // A client that shows it again and again stands in line once.
            if !full && waiting.back().is_none_or(|last| !same(last)) {
                waiting.push_back(Arc::downgrade(session));
                questions.waiting_count += 1;
            }
            return;
        }
        if questions.asked.len() < MAX_QUESTIONS && !full {
            questions.waiting.insert(key.clone(), VecDeque::new());
            self.ask(&mut questions, session, caps, key);
        }
    }

    /// Asks the client, on its account's behalf (XEP-0060 §9.2).
    fn ask(
        self: &Arc<Self>,
        questions: &mut Questions,
        session: &Arc<SessionHandle>,
        caps: Caps,
        key: String,
    ) {
        questions.last_id += 1;
        let id = questions.last_id;
        let query = Element::new("query", ns::DISCO_INFO).with_attr("node", caps.disco_node());
        let iq = Element::new("iq", ns::CLIENT)
            .with_attr("type", "get")
            .with_attr("id", format!("{ID_PREFIX}{id}"))
            .with_attr("from", session.bare.as_str())
            .with_attr("to", session.full.as_str())
            .with_child(query);
        let question = Question {
            session: Arc::downgrade(session),
            caps,
            key,
        };
        questions.asked.insert(id, question);
        let _ = session
            .mailbox
            .push(Delivery::copy(Stanza::from_element(&iq)));
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(ANSWER_TIME).await;
            if let Some(this) = this.upgrade() {
                let unanswered = this.questions.lock().asked.remove(&id);
                if let Some(question) = unanswered {
                    this.ask_another(question);
                }
            }
        });
    }

    /// The one who was asked did not tell: the next who shows the same is asked.
    fn ask_another(self: &Arc<Self>, question: Question) {
        let mut questions = self.questions.lock();
        let Some(mut waiting) = questions.waiting.remove(&question.key) else {
            return;
        };
        while let Some(next) = waiting.pop_front() {
            questions.waiting_count -= 1;
            if let Some(session) = next.upgrade().filter(|next| shows(next, &question.caps)) {
                questions.waiting.insert(question.key.clone(), waiting);
                return self.ask(&mut questions, &session, question.caps, question.key);
            }
        }
    }

    /// An iq result or error from a session of ours to its own account: what it told, about whom.
    /// Nothing where it answers no question.
    pub fn answered(
        self: &Arc<Self>,
        session: &Arc<SessionHandle>,
        iq: &Stanza,
    ) -> Vec<(Arc<SessionHandle>, Learned)> {
        let Some(question) = self.question(session, iq) else {
            return Vec::new();
        };
        let query = iq.child("query", ns::DISCO_INFO);
        let info = query.and_then(|query| Info::parse(&query).ok());
        let Some(info) = info.filter(|_| iq.iq_type() == Ok(IqType::Result)) else {
            self.ask_another(question);
            return Vec::new();
        };
        let interests = Arc::new(Interests::new(&info));
        let mut learned = Vec::new();
        if shows(session, &question.caps) {
            learned.push((session.clone(), learn(session, &interests, false)));
        }
        if question.caps.verify(&info) != Verdict::Valid {
            let own = own_key(&question.caps, session);
            self.known.insert(own, interests);
            self.ask_another(question);
            return learned;
        }
        self.known.insert(question.key.clone(), interests.clone());
        for other in self.no_longer_waiting(&question.key) {
            if shows(&other, &question.caps) {
                let new = learn(&other, &interests, false);
                learned.push((other, new));
            }
        }
        learned
    }

    fn question(&self, session: &Arc<SessionHandle>, iq: &Stanza) -> Option<Question> {
        let id: u64 = iq.id()?.strip_prefix(ID_PREFIX)?.parse().ok()?;
        let elsewhere = |to: &Jid| to.as_str() != session.bare.as_str();
        if iq.to().is_some_and(elsewhere) {
            return None;
        }
        let mut questions = self.questions.lock();
        let asked = questions.asked.get(&id)?;
        if asked.session.as_ptr() != Arc::as_ptr(session) {
            return None;
        }
        questions.asked.remove(&id)
    }

    fn no_longer_waiting(&self, key: &str) -> Vec<Arc<SessionHandle>> {
        let mut questions = self.questions.lock();
        let waiting = questions.waiting.remove(key).unwrap_or_default();
        questions.waiting_count -= waiting.len();
        waiting.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Whether the session's presence is still one with these capabilities.
fn shows(session: &SessionHandle, caps: &Caps) -> bool {
    let shown = session.presence().and_then(|presence| Caps::of(&presence));
    shown.is_some_and(|shown| key(&shown) == key(caps))
}

fn learn(session: &SessionHandle, interests: &Arc<Interests>, came_online: bool) -> Learned {
    let before = session.set_interests(Some(interests.clone()));
    let is_new =
        |node: &&String| came_online || before.as_ref().is_none_or(|before| !before.include(node));
    let new: Vec<String> = interests.nodes().iter().filter(is_new).cloned().collect();
    if new.is_empty() {
        Learned::Nothing
    } else {
        Learned::New(new)
    }
}

fn key(caps: &Caps) -> String {
    format!("{}\n{}", caps.hash.as_deref().unwrap_or_default(), caps.ver)
}

/// What is true of one session alone.
fn own_key(caps: &Caps, session: &SessionHandle) -> String {
    format!("{}\n{}", key(caps), session.key)
}
