//! One message between its collection (stops 2 to 5 of DESIGN §3) and its delivery.

use eider_storage::{AccountId, MessageKind, OwnerRow, ResendKey, RowFlags, Timestamp};
use eider_xmpp::jid::{FullJid, Jid};
use eider_xmpp::stanza::{MessageType, Stanza};
use smallvec::SmallVec;

use crate::account::delivery::Destination;
use crate::account::facts::Counted;
use crate::xep::carbons::Copies;

/// A message that passed every stage, with what is to be written before it goes on.
#[derive(Debug)]
pub struct Message {
    /// As recipients get it, without stanza-ids.
    pub stanza: Stanza,
    /// The session it came from.
    pub from: FullJid,
    /// The address it was sent to.
    pub to: Jid,
    /// Where it goes in a local account; `None` where there is nobody to deliver to.
    pub destination: Option<Destination>,
    /// For whom XEP-0280 lets copies be made.
    pub carbons: Copies,
    /// Rows to commit, sender's before recipient's.
    pub rows: SmallVec<[Row; 2]>,
    /// The words a search may find (XEP-0431).
    pub text: Option<String>,
    /// Where it counts against what may wait for an account that is away.
    pub owed: Option<Counted>,
    /// Whether that is more than is kept: refused, unless it was stored before and is sent again.
    pub over_bound: bool,
    /// How the sender's account recognises it when it is sent again without an archive.
    pub resend_key: Option<ResendKey>,
}

/// One owner's row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Whose row.
    pub owner: AccountId,
    /// Whether the owner sent it.
    pub outgoing: bool,
    /// Whether archive queries see it.
    pub archived: bool,
    /// Whether it is owed to the owner until acknowledged.
    pub debt: bool,
}

impl Row {
    /// The row as storage takes it; `message` is the index of the message's bytes in the commit.
    pub fn owner_row(&self, of: &Message, message: usize, at: Timestamp) -> OwnerRow {
        let from: Jid = of.from.clone().into();
        let peer = if self.outgoing { &of.to } else { &from };
        OwnerRow {
            owner: self.owner,
            at,
            message,
            own_bytes: None,
            peer: peer.bare_str().to_owned(),
            peer_resource: peer.resource().map(str::to_owned),
            flags: RowFlags {
                archived: self.archived,
                debt: self.debt,
                outgoing: self.outgoing,
            },
            kind: kind(&of.stanza),
        }
    }
}

fn kind(stanza: &Stanza) -> MessageKind {
    match stanza.message_type() {
        MessageType::Normal => MessageKind::Normal,
        MessageType::Chat => MessageKind::Chat,
        MessageType::Groupchat => MessageKind::Groupchat,
        MessageType::Headline => MessageKind::Headline,
        MessageType::Error => MessageKind::Error,
    }
}
