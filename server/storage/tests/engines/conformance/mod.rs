//! One suite for both engines. Every case gets a database of its own.

pub mod accounts;
pub mod archive;
pub mod debts;
pub mod maintenance;
pub mod preferences;
pub mod pubsub;
pub mod roster;
pub mod search;
pub mod sessions;
pub mod strangers;

pub use maintenance::fill;

use std::sync::Arc;

use bytes::Bytes;
use eider_storage::{
    AccountId, Commit, Config, Credentials, Fence, MessageKind, NewMessage, OwnerRow, Position,
    RowFlags, ScramKeys, Storage, Timestamp,
};

/// A database under test, and how to open it again.
pub struct Bench {
    pub storage: Arc<dyn Storage>,
    pub config: Config,
}

impl Bench {
    /// Closes and opens again: what a restart of the server does.
    pub async fn reopen(&mut self) {
        self.storage.close().await;
        self.storage = eider_storage::open(&self.config)
            .await
            .expect("opens again");
    }
}

pub const FENCE: Fence = Fence::single();
pub const NOW: Timestamp = Timestamp(1_790_000_000_000_000);

pub fn keys(seed: u8) -> Credentials {
    let keys = |length: usize| ScramKeys {
        salt: vec![seed; 16],
        iterations: 10_000,
        stored_key: vec![seed.wrapping_add(1); length],
        server_key: vec![seed.wrapping_add(2); length],
    };
    Credentials {
        sha1: Some(keys(20)),
        sha256: Some(keys(32)),
        sha512: Some(keys(64)),
    }
}

pub async fn account(storage: &Arc<dyn Storage>, localpart: &str) -> AccountId {
    storage
        .account_create(FENCE, "example.org", localpart, &keys(1), NOW)
        .await
        .expect("creates an account")
}

pub const ARCHIVED: RowFlags = RowFlags {
    archived: true,
    debt: false,
    outgoing: false,
};
pub const SENT: RowFlags = RowFlags {
    archived: true,
    debt: false,
    outgoing: true,
};
pub const OWED: RowFlags = RowFlags {
    archived: true,
    debt: true,
    outgoing: false,
};
pub const OWED_ONLY: RowFlags = RowFlags {
    archived: false,
    debt: true,
    outgoing: false,
};

/// Seconds after [`NOW`].
pub fn at(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1_000_000)
}

pub fn row(
    owner: AccountId,
    message: usize,
    peer: &str,
    flags: RowFlags,
    at: Timestamp,
) -> OwnerRow {
    OwnerRow {
        owner,
        at,
        message,
        own_bytes: None,
        peer: peer.into(),
        peer_resource: Some("phone".into()),
        flags,
        kind: MessageKind::Chat,
    }
}

pub fn message(text: &str) -> NewMessage {
    NewMessage {
        bytes: Bytes::from(format!("<message><body>{text}</body></message>")),
        text: Some(text.into()),
    }
}

/// A batch of one message with these rows.
pub fn single(text: &str, rows: Vec<OwnerRow>) -> Commit {
    let mut commit = Commit::new(FENCE);
    commit.messages.push(message(text));
    commit.rows = rows;
    commit
}

pub fn positions(list: &[i64]) -> Vec<Position> {
    list.iter().map(|pos| Position(*pos)).collect()
}

/// The same cases for an engine; `$start` gives a [`Bench`] and what must live as long.
#[macro_export]
macro_rules! conformance {
    ($start:path: $($module:ident :: $case:ident),* $(,)?) => {
        mod cases {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (mut bench, _keep) = $start().await;
                    $crate::conformance::$module::$case(&mut bench).await;
                    bench.storage.close().await;
                }
            )*
        }
    };
    ($start:path) => {
        $crate::conformance! { $start:
            accounts::account_life, accounts::login_record, accounts::listing, accounts::removal_takes_everything,
            roster::roster_life, roster::roster_versions, roster::roster_expectations, roster::pending_requests,
            preferences::blocking, preferences::private_and_vcard, preferences::archive_preferences,
            archive::positions_are_dense, archive::positions_survive, archive::time_is_monotone, archive::pages, archive::pages_of_bytes,
            search::filters, search::full_text, search::full_text_follows_deletions, archive::own_bytes_and_replace, archive::retention,
            archive::unknown_owners_are_left_out, archive::sent_rows, archive::concurrent_commits,
            archive::metadata_and_existence, search::hostile_text,
            debts::debts_follow_the_watermark, debts::unarchived_debts, debts::watermark_never_falls,
            debts::messages_go_with_their_last_owner, debts::limits, debts::debts_among_sent_rows,
            debts::paid_debts_of_many_accounts,
            pubsub::node_life, pubsub::items_are_trimmed, pubsub::items_of_a_service_are_bounded_in_bytes, pubsub::subscriptions, pubsub::subscriptions_of_all_resources, pubsub::affiliations, pubsub::services_are_apart,
            sessions::taken_once, sessions::taken_with_watermark,
            maintenance::meta_is_made_once, maintenance::fences, maintenance::description, maintenance::backup_is_whole,
            maintenance::closed_is_unavailable, strangers::every_call,
        }
    };
}
