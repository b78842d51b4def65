//! Messages owed to an account, read page by page for a session that takes them (DESIGN §1, XEP-0160).

use std::sync::Arc;

use eider_storage::{AccountId, ArchivedRow, Position, Storage};
use eider_xmpp::payload::delay;
use eider_xmpp::stanza::Stanza;
use futures_util::future::BoxFuture;

use crate::account::delivery::{LocalDelivery, Stored};
use crate::account::facts::AccountFacts;

/// Messages read at once.
const PAGE_MESSAGES: u32 = 100;
/// Bytes read at once.
const PAGE_BYTES: u64 = 64 * 1024;

/// One owed message.
pub struct Owed {
    /// Its position.
    pub position: i64,
    /// The stanza with its stanza-id and the time it was received (XEP-0203).
    pub stanza: Stanza,
}

/// A page read.
pub struct OwedPage {
    /// Its messages but those that cannot be read.
    pub messages: Vec<Owed>,
    /// Everything owed up to here was read.
    pub up_to: i64,
    /// Nothing more is owed.
    pub ends: bool,
}

/// A page read, or none where storage failed.
pub type Page = Result<OwedPage, eider_storage::Error>;

/// A session's way through what is owed.
#[derive(Default)]
pub struct CatchUp {
    /// Everything up to here was read.
    pub cursor: i64,
    /// See [`crate::account::ledger::Ledger::drops`]; when it began.
    pub drops: u64,
    /// The page being read.
    pub reading: Option<BoxFuture<'static, Page>>,
    /// The page read, until what is queued has been taken.
    pub page: Option<Page>,
    /// Another session has given debts back meanwhile: they may lie behind the cursor.
    pub again: bool,
}

/// Reads owed messages.
pub struct OwedMessages {
    storage: Arc<dyn Storage>,
    delivery: Arc<LocalDelivery>,
    facts: Arc<AccountFacts>,
}

impl OwedMessages {
    /// Reads from `storage`; `delivery` gives the stanza-ids, `facts` counts what is owed.
    pub fn new(
        storage: Arc<dyn Storage>,
        delivery: Arc<LocalDelivery>,
        facts: Arc<AccountFacts>,
    ) -> OwedMessages {
        OwedMessages {
            storage,
            delivery,
            facts,
        }
    }

    /// The account has left, and everything it was owed is paid.
    pub fn settled(&self, bare: &str) {
        if let Some(Some(facts)) = self.facts.cached(bare) {
            facts.owed.settle(tokio::time::Instant::now());
        }
    }

    /// The page after `cursor`.
    pub fn page(
        self: &Arc<Self>,
        owner: AccountId,
        bare: String,
        cursor: i64,
    ) -> BoxFuture<'static, Page> {
        if let Some(Some(facts)) = self.facts.cached(&bare) {
            facts.owed.forget();
        }
        let this = self.clone();
        Box::pin(async move {
            let page = this
                .storage
                .archive_debts(owner, Position(cursor), PAGE_MESSAGES, PAGE_BYTES)
                .await?;
            Ok(OwedPage {
                up_to: page.up_to.0,
                ends: page.complete && page.rows.is_empty(),
                messages: page
                    .rows
                    .iter()
                    .filter_map(|row| this.owed(owner, &bare, row))
                    .collect(),
            })
        })
    }

    /// A row that cannot be read is logged and left: it must not keep the others back.
    fn owed(&self, owner: AccountId, bare: &str, row: &ArchivedRow) -> Option<Owed> {
        let stanza = match Stanza::parse_stored(row.bytes.clone()) {
            Ok(stanza) => stanza,
            Err(error) => {
                tracing::error!(account = bare, position = row.pos.0, %error, "stored message cannot be read");
                return None;
            }
        };
        let domain = bare.split_once('@').map_or(bare, |(_, domain)| domain);
        let delay = delay::fragment(domain, row.at.0);
        let stanza = stanza.rewrite().append(&delay).build();
        let stored = Stored {
            owner,
            position: row.pos.0,
            archived: row.flags.archived,
            debt: true,
        };
        let stanza = self.delivery.identified(&stanza, bare, Some(stored));
        Some(Owed {
            position: row.pos.0,
            stanza,
        })
    }
}
