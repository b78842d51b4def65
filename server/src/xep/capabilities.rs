//! XEP-0115: Entity Capabilities: what our clients want to be notified of
//!
//! A client's presence names a hash of what it supports. What a hash stands for is asked
//! once, of the client that shows it first, verified, and remembered for everyone. A
//! client that lies, or whose hash cannot be verified, is believed for itself alone.

use std::sync::{Arc, Weak};

use eider_xmpp::element::Element;
use eider_xmpp::ns;
use eider_xmpp::payload::caps::{Caps, Verdict};
use eider_xmpp::payload::disco::Info;
use eider_xmpp::stanza::{IqType, Stanza};
use quick_cache::sync::Cache;

use crate::c2s::mailbox::Delivery;
use crate::cluster::sessions::SessionHandle;

/// The ending of a feature that asks for a pubsub node's notifications (XEP-0060 §9.2).
const NOTIFY: &str = "+notify";
/// The most such features of one client that are kept.
const MAX_NODES: usize = 256;
/// Ids of our own questions begin so; what follows is the session's key.
const ID_PREFIX: &str = "caps-";
/// Questions that wait for their answers, over all sessions; the oldest give way.
const MAX_QUESTIONS: usize = 10_000;

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
        let mut nodes: Vec<String> = nodes
            .filter(|node| !node.is_empty())
            .take(MAX_NODES)
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

struct Question {
    session: Weak<SessionHandle>,
    caps: Caps,
}

/// See the module's documentation.
pub struct Capabilities {
    known: Cache<String, Arc<Interests>>,
    questions: Cache<u64, Arc<Question>>,
}

impl Capabilities {
    /// A cache of at most `entries` hashes.
    pub fn new(entries: usize) -> Capabilities {
        Capabilities {
            known: Cache::new(entries),
            questions: Cache::new(MAX_QUESTIONS),
        }
    }

    /// A client of ours has sent available presence. `came_online`: it was not available before.
    pub fn presence(
        &self,
        session: &Arc<SessionHandle>,
        presence: &Stanza,
        came_online: bool,
    ) -> Learned {
        let Some(caps) = Caps::of(presence) else {
            session.set_interests(None);
            return Learned::Nothing;
        };
        let key = key(&caps);
        match self.known.get(&key) {
            Some(interests) => learn(session, &interests, came_online),
            None => {
                if came_online {
                    session.set_interests(None);
                }
                self.ask(session, caps);
                Learned::Nothing
            }
        }
    }

    /// Asks the client, on its account's behalf (XEP-0060 §9.2).
    fn ask(&self, session: &Arc<SessionHandle>, caps: Caps) {
        let query = Element::new("query", ns::DISCO_INFO).with_attr("node", caps.disco_node());
        let iq = Element::new("iq", ns::CLIENT)
            .with_attr("type", "get")
            .with_attr("id", format!("{ID_PREFIX}{}", session.key))
            .with_attr("from", session.bare.as_str())
            .with_attr("to", session.full.as_str())
            .with_child(query);
        let question = Question {
            session: Arc::downgrade(session),
            caps,
        };
        self.questions.insert(session.key, Arc::new(question));
        let _ = session
            .mailbox
            .push(Delivery::copy(Stanza::from_element(&iq)));
    }

    /// An iq result or error from a session of ours to its own account or host: `None` where
    /// it answers no question of this kind, else what it told.
    pub fn answered(&self, session: &Arc<SessionHandle>, iq: &Stanza) -> Option<Learned> {
        let id = iq.id()?;
        let asked: u64 = id.strip_prefix(ID_PREFIX)?.parse().ok()?;
        if asked != session.key
            || iq
                .to()
                .is_some_and(|to| to.as_str() != session.bare.as_str())
        {
            return None;
        }
        let question = self.questions.get(&asked)?;
        self.questions.remove(&asked);
        if question
            .session
            .upgrade()
            .is_none_or(|asked| asked.key != session.key)
        {
            return None;
        }
        if iq.iq_type() != Ok(IqType::Result) {
            return Some(Learned::Nothing);
        }
        let info = iq
            .child("query", ns::DISCO_INFO)
            .and_then(|query| Info::parse(&query).ok());
        let Some(info) = info else {
            return Some(Learned::Nothing);
        };
        let interests = Arc::new(Interests::new(&info));
        if question.caps.verify(&info) == Verdict::Valid {
            self.known.insert(key(&question.caps), interests.clone());
        }
        Some(learn(session, &interests, false))
    }
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
