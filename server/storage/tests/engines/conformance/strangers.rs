//! Every storage call with another account's key: it sees nothing of the first account's, and changes nothing of it.
//!
//! The calls are listed as the traits have them: one that is not in this table fails the test.

use std::collections::BTreeSet;

use eider_storage::{
    ArchiveDefault, ArchiveFilter, ArchivePage, ArchivePreferences, ArchivedRow, BlockList,
    DebtTotals, Direction, Expect, Keep, LastActivity, LoginRecord, PageRequest, PendingRequest,
    PosRange, PubsubItem, PubsubNode, PubsubRelation, ResendKey, RosterItem, RosterSnapshot,
    SavedSession, SentRow, VCard, Watermark,
};

use super::*;

/// The traits' sources: where the list of calls comes from.
const TRAITS: [&str; 7] = [
    include_str!("../../../src/accounts.rs"),
    include_str!("../../../src/archive.rs"),
    include_str!("../../../src/maintenance.rs"),
    include_str!("../../../src/preferences.rs"),
    include_str!("../../../src/pubsub.rs"),
    include_str!("../../../src/roster.rs"),
    include_str!("../../../src/sessions.rs"),
];

/// Calls that take nobody's key, and why that is right.
const NOBODYS: [(&str, &str); 22] = [
    ("account_create", "makes one"),
    ("account_login", "by name: the login itself"),
    ("account_id", "by name: whom to deliver to"),
    ("account_list", "an administrator's"),
    ("account_show", "an administrator's"),
    ("account_count", "an administrator's"),
    ("archive_resolve", "by the commit's own ticket"),
    ("sessions_take", "the server's own, at a start"),
    ("meta_get", "the server's own"),
    ("meta_init", "the server's own"),
    ("meta_set", "the server's own"),
    ("ping", "the server's own"),
    ("describe", "the server's own"),
    ("fence_register", "the server's own"),
    ("fence_kill", "the server's own"),
    ("prepare_ahead", "the server's own"),
    ("sweep", "the server's own"),
    ("claim", "the server's own"),
    ("archive_forget_paid", "the server's own"),
    ("account_ids", "the server's own"),
    ("backup", "an administrator's"),
    ("counts", "an administrator's"),
];
/// Not a request at all.
const CLOSE: &str = "close";

const ALICE: &str = "alice@example.org";
const EVE: &str = "eve@example.org";
const NODE: &str = "urn:node";

/// Everything of alice's that a call could show or change.
#[derive(Debug, PartialEq)]
struct Everything {
    login: Option<LoginRecord>,
    roster: RosterSnapshot,
    pending: Vec<PendingRequest>,
    blocked: BlockList,
    private: Option<String>,
    vcard: Option<VCard>,
    archive: ArchivePage,
    debts: Vec<ArchivedRow>,
    watermark: Watermark,
    last: Position,
    sent: Vec<SentRow>,
    resends: Vec<ResendKey>,
    nodes: Vec<PubsubNode>,
    items: Vec<PubsubItem>,
    subscriptions: Vec<PubsubRelation>,
    affiliations: Vec<PubsubRelation>,
}

const PAGE: PageRequest = PageRequest {
    direction: Direction::Forward,
    anchor: None,
    limit: 100,
    bytes_max: u64::MAX,
    count_max: 100,
};

async fn everything(s: &Arc<dyn Storage>, alice: AccountId) -> Everything {
    let all = ArchiveFilter::default();
    Everything {
        login: s.account_by_id(alice).await.unwrap(),
        roster: s.roster_items(alice).await.unwrap(),
        pending: s.pending_list(alice).await.unwrap(),
        blocked: s.blocking_list(alice).await.unwrap(),
        private: s.private_get(alice, "urn:p", "p").await.unwrap(),
        vcard: s.vcard_get(alice).await.unwrap(),
        archive: s.archive_query(alice, &all, &PAGE).await.unwrap(),
        debts: s
            .archive_debts(alice, Position(0), 99, 99_999)
            .await
            .unwrap()
            .rows,
        watermark: s.archive_watermark(alice).await.unwrap(),
        last: s.archive_last_position(alice).await.unwrap(),
        sent: s
            .archive_recent_sent(alice, 99, u64::MAX, Timestamp(0))
            .await
            .unwrap(),
        resends: s
            .archive_resend_keys(alice, 99, Timestamp(0))
            .await
            .unwrap(),
        nodes: s.pubsub_nodes(ALICE, None, 99).await.unwrap(),
        items: s.pubsub_items(ALICE, NODE, 99).await.unwrap(),
        subscriptions: s.pubsub_subscriptions(ALICE, None, None).await.unwrap(),
        affiliations: s.pubsub_affiliations(ALICE, None, None).await.unwrap(),
    }
}

fn vcard(name: &str) -> VCard {
    VCard {
        xml: format!("<vCard>{name}</vCard>"),
        photo_hash: "aa".into(),
    }
}

fn item(jid: &str) -> RosterItem {
    RosterItem {
        jid: jid.into(),
        name: Some("friend".into()),
        ..RosterItem::default()
    }
}

fn published(id: &str) -> PubsubItem {
    PubsubItem {
        id: id.into(),
        publisher: ALICE.into(),
        payload: Bytes::from_static(b"<secret/>"),
        at: NOW,
    }
}

fn relation(state: &str) -> PubsubRelation {
    PubsubRelation {
        node: NODE.into(),
        jid: "bob@example.org".into(),
        subid: String::new(),
        state: state.into(),
        options: Bytes::new(),
    }
}

fn request(from: &str) -> PendingRequest {
    PendingRequest {
        from: from.into(),
        stanza: Bytes::from_static(b"<presence/>"),
        at: NOW,
    }
}

/// An account with something of everything.
async fn furnished(s: &Arc<dyn Storage>) -> AccountId {
    let alice = account(s, "alice").await;
    let bob = "bob@example.org";
    s.roster_put(FENCE, alice, &item(bob), Expect::Any, 9)
        .await
        .unwrap();
    s.pending_put(FENCE, alice, &request(bob), 9).await.unwrap();
    s.blocking_add(FENCE, alice, &["x@example.org".into()], 9)
        .await
        .unwrap();
    s.private_set(FENCE, alice, "urn:p", "p", "<p/>", 99)
        .await
        .unwrap();
    s.vcard_set(FENCE, alice, Some(&vcard("alice")))
        .await
        .unwrap();
    let preferences = ArchivePreferences {
        default: ArchiveDefault::Roster,
        ..ArchivePreferences::default()
    };
    s.archive_preferences_set(FENCE, alice, &preferences)
        .await
        .unwrap();
    let last = LastActivity {
        at: NOW,
        status: "gone".into(),
    };
    s.account_set_last_activity(FENCE, alice, &last)
        .await
        .unwrap();
    for (n, flags) in [SENT, OWED, OWED_ONLY, OWED].into_iter().enumerate() {
        let row = row(alice, 0, bob, flags, at(n as i64));
        let mut commit = single("common secret", vec![row]);
        commit.resend_keys.push(ResendKey {
            account: alice,
            key: vec![n as u8; 9],
            at: NOW,
        });
        s.archive_commit(commit).await.unwrap();
    }
    s.pubsub_create(FENCE, ALICE, NODE, b"{}", 9, NOW)
        .await
        .unwrap();
    s.pubsub_publish(FENCE, ALICE, NODE, &published("i"), 9, u64::MAX)
        .await
        .unwrap();
    s.pubsub_subscribe(FENCE, ALICE, &relation("subscribed"), 9)
        .await
        .unwrap();
    s.pubsub_set_affiliation(FENCE, ALICE, &relation("owner"))
        .await
        .unwrap();
    let session = SavedSession {
        id: "unguessable".into(),
        account: alice,
        state: Bytes::from_static(b"state"),
        expires_at: at(600),
    };
    s.sessions_save(FENCE, &[session]).await.unwrap();
    alice
}

/// Names of the calls that were made.
#[derive(Default)]
struct Table(BTreeSet<&'static str>);

impl Table {
    /// One cell: `refused` says that eve saw nothing.
    #[track_caller]
    fn cell(&mut self, call: &'static str, refused: bool) {
        assert!(refused, "{call} shows another account's data");
        self.0.insert(call);
    }
}

/// Names of the functions in the traits.
fn calls() -> BTreeSet<&'static str> {
    let mut calls = BTreeSet::new();
    for source in TRAITS {
        let (_, traits) = source.split_once("pub trait ").expect("a trait");
        let traits = traits.split("\n}").next().expect("its end");
        let after = traits.split("async fn ").skip(1);
        calls.extend(after.filter_map(|rest| rest.split('(').next()));
    }
    calls
}

async fn account_calls(s: &Arc<dyn Storage>, eve: AccountId, table: &mut Table) {
    let login = s.account_by_id(eve).await.unwrap().unwrap();
    let none = login.roster_version == 0
        && login.archive_preferences.is_none()
        && login.block_list.jids.is_empty()
        && login.watermark == Watermark::default()
        && login.pending_requests == 0
        && login.last_activity.is_none();
    table.cell("account_by_id", none);
    table.cell(
        "account_set_keys",
        s.account_set_keys(FENCE, eve, &keys(9)).await.unwrap(),
    );
    table.cell(
        "account_set_disabled",
        s.account_set_disabled(FENCE, eve, true).await.unwrap(),
    );
    let last = LastActivity {
        at: at(9),
        status: "eve".into(),
    };
    s.account_set_last_activity(FENCE, eve, &last)
        .await
        .unwrap();
    table.cell("account_set_last_activity", true);
}

async fn roster_calls(s: &Arc<dyn Storage>, eve: AccountId, table: &mut Table) {
    let bob = "bob@example.org";
    table.cell(
        "roster_items",
        s.roster_items(eve).await.unwrap().items.is_empty(),
    );
    table.cell(
        "roster_item",
        s.roster_item(eve, bob).await.unwrap().is_none(),
    );
    let changes = s.roster_changes(eve, 0).await.unwrap();
    table.cell(
        "roster_changes",
        changes.is_none_or(|changes| changes.is_empty()),
    );
    table.cell(
        "roster_remove",
        s.roster_remove(FENCE, eve, bob).await.unwrap().is_none(),
    );
    table.cell("pending_has", !s.pending_has(eve, bob).await.unwrap());
    table.cell(
        "pending_list",
        s.pending_list(eve).await.unwrap().is_empty(),
    );
    table.cell(
        "pending_remove",
        !s.pending_remove(FENCE, eve, bob).await.unwrap(),
    );
    // What alice has is no expectation that could hold for eve.
    let changed = s
        .roster_put(FENCE, eve, &item(bob), Expect::Version(1), 9)
        .await;
    table.cell("roster_put", changed.is_err());
    s.roster_put(FENCE, eve, &item("carol@example.org"), Expect::Any, 9)
        .await
        .unwrap();
    table.cell(
        "pending_put",
        s.pending_put(FENCE, eve, &request(bob), 9).await.unwrap(),
    );
}

async fn preference_calls(s: &Arc<dyn Storage>, eve: AccountId, table: &mut Table) {
    table.cell(
        "blocking_list",
        s.blocking_list(eve).await.unwrap().jids.is_empty(),
    );
    let list = s.blocking_remove(FENCE, eve, None).await.unwrap();
    table.cell("blocking_remove", list.jids.is_empty());
    let list = s
        .blocking_add(FENCE, eve, &["y@example.org".into()], 9)
        .await
        .unwrap();
    table.cell("blocking_add", list.jids == ["y@example.org"]);
    table.cell(
        "private_get",
        s.private_get(eve, "urn:p", "p").await.unwrap().is_none(),
    );
    s.private_set(FENCE, eve, "urn:p", "p", "<eve/>", 99)
        .await
        .unwrap();
    table.cell("private_set", true);
    table.cell("vcard_get", s.vcard_get(eve).await.unwrap().is_none());
    s.vcard_set(FENCE, eve, None).await.unwrap();
    s.vcard_set(FENCE, eve, Some(&vcard("eve"))).await.unwrap();
    table.cell("vcard_set", true);
    let preferences = ArchivePreferences::default();
    s.archive_preferences_set(FENCE, eve, &preferences)
        .await
        .unwrap();
    table.cell("archive_preferences_set", true);
}

async fn archive_reads(s: &Arc<dyn Storage>, eve: AccountId, table: &mut Table) {
    let filters = [
        ArchiveFilter::default(),
        ArchiveFilter {
            ids: Some(positions(&[1, 2, 3, 4])),
            ..ArchiveFilter::default()
        },
        ArchiveFilter {
            text: Some("common".into()),
            ..ArchiveFilter::default()
        },
        ArchiveFilter {
            with: Some(("bob@example.org".into(), None)),
            ..ArchiveFilter::default()
        },
    ];
    for filter in filters {
        let page = s.archive_query(eve, &filter, &PAGE).await.unwrap();
        table.cell(
            "archive_query",
            page.rows.is_empty() && page.count == Some(0),
        );
    }
    let debts = s.archive_debts(eve, Position(0), 9, 9_999).await.unwrap();
    table.cell("archive_debts", debts.rows.is_empty());
    let total = s.archive_debt_total(eve, 99).await.unwrap();
    table.cell("archive_debt_total", total == DebtTotals::default());
    let watermark = s.archive_watermark(eve).await.unwrap();
    table.cell("archive_watermark", watermark == Watermark::default());
    let last = s.archive_last_position(eve).await.unwrap();
    table.cell("archive_last_position", last == Position(0));
    let exist = s.archive_exists(eve, &positions(&[1, 2])).await.unwrap();
    table.cell("archive_exists", exist == [false, false]);
    let metadata = s.archive_metadata(eve).await.unwrap();
    table.cell("archive_metadata", metadata == Default::default());
    let sent = s.archive_recent_sent(eve, 9, u64::MAX, Timestamp(0)).await;
    let sent = sent.unwrap();
    table.cell("archive_recent_sent", sent.is_empty());
    let keys = s.archive_resend_keys(eve, 9, Timestamp(0)).await.unwrap();
    table.cell("archive_resend_keys", keys.is_empty());
}

async fn archive_writes(s: &Arc<dyn Storage>, eve: AccountId, table: &mut Table) {
    let replaced = s.archive_replace(FENCE, eve, Position(1), b"<x/>").await;
    table.cell("archive_replace", !replaced.unwrap());
    let keep = Keep {
        not_before: Some(at(9_999)),
        rows_max: Some(0),
    };
    let retained = s.archive_retain(FENCE, eve, keep, 99).await.unwrap();
    table.cell("archive_retain", retained.rows_deleted == 0);
    // Positions of alice's rows, under eve's key.
    let mut commit = Commit::new(FENCE);
    let all = PosRange {
        first: Position(1),
        last: Position(9),
    };
    let acknowledged = Watermark {
        acked_up_to: Position(9),
        acked_above: vec![all],
    };
    commit.watermarks.push((eve, acknowledged));
    commit.resend_keys.push(ResendKey {
        account: eve,
        key: vec![0; 9],
        at: NOW,
    });
    commit.messages.push(message("eve"));
    commit.rows.push(row(eve, 0, ALICE, OWED, NOW));
    let given = s.archive_commit(commit).await.unwrap();
    table.cell("archive_commit", given == positions(&[1]));
}

async fn pubsub_reads(s: &Arc<dyn Storage>, table: &mut Table) {
    table.cell(
        "pubsub_node",
        s.pubsub_node(EVE, NODE).await.unwrap().is_none(),
    );
    table.cell(
        "pubsub_nodes",
        s.pubsub_nodes(EVE, None, 9).await.unwrap().is_empty(),
    );
    let heads = s.pubsub_item_heads(EVE, NODE, 9).await.unwrap();
    table.cell("pubsub_item_heads", heads.is_empty());
    let found = s
        .pubsub_subscriptions_of(EVE, None, "bob@example.org")
        .await
        .unwrap();
    table.cell("pubsub_subscriptions_of", found.is_empty());
    table.cell(
        "pubsub_items",
        s.pubsub_items(EVE, NODE, 9).await.unwrap().is_empty(),
    );
    let items = s
        .pubsub_items_by_id(EVE, NODE, &["i".into()])
        .await
        .unwrap();
    table.cell("pubsub_items_by_id", items.is_empty());
    let items = s.pubsub_last_items(EVE, &[NODE.into()]).await.unwrap();
    table.cell("pubsub_last_items", items.is_empty());
    let found = s
        .pubsub_subscriptions(EVE, None, Some("bob@example.org"))
        .await
        .unwrap();
    table.cell("pubsub_subscriptions", found.is_empty());
    let found = s.pubsub_affiliations(EVE, Some(NODE), None).await.unwrap();
    table.cell("pubsub_affiliations", found.is_empty());
}

async fn pubsub_writes(s: &Arc<dyn Storage>, table: &mut Table) {
    let configured = s.pubsub_configure(FENCE, EVE, NODE, b"{1}", 0, 1).await;
    table.cell("pubsub_configure", configured.is_err());
    let published = s
        .pubsub_publish(FENCE, EVE, NODE, &published("i"), 9, u64::MAX)
        .await
        .unwrap();
    table.cell("pubsub_publish", published.is_none());
    let retracted = s
        .pubsub_retract(FENCE, EVE, NODE, &["i".into()])
        .await
        .unwrap();
    table.cell("pubsub_retract", retracted.is_empty());
    table.cell(
        "pubsub_purge",
        s.pubsub_purge(FENCE, EVE, NODE).await.unwrap() == 0,
    );
    table.cell(
        "pubsub_delete",
        !s.pubsub_delete(FENCE, EVE, NODE).await.unwrap(),
    );
    let subscribed = s
        .pubsub_subscribe(FENCE, EVE, &relation("subscribed"), 9)
        .await;
    table.cell("pubsub_subscribe", subscribed.is_err());
    let gone = s
        .pubsub_unsubscribe(FENCE, EVE, NODE, "bob@example.org", None)
        .await;
    table.cell("pubsub_unsubscribe", !gone.unwrap());
    let affiliated = s
        .pubsub_set_affiliation(FENCE, EVE, &relation("owner"))
        .await;
    table.cell("pubsub_set_affiliation", affiliated.is_err());
    // A node of the same name is another node.
    s.pubsub_create(FENCE, EVE, NODE, b"{}", 9, NOW)
        .await
        .unwrap();
    table.cell(
        "pubsub_create",
        s.pubsub_items(EVE, NODE, 9).await.unwrap().is_empty(),
    );
    s.pubsub_delete(FENCE, EVE, NODE).await.unwrap();
}

pub async fn every_call(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = furnished(s).await;
    let eve = account(s, "eve").await;
    let before = everything(s, alice).await;
    let full = before.archive.rows.len() == 3
        && before.debts.len() == 3
        && before.resends.len() == 4
        && before.sent.len() == 1
        && before.subscriptions.len() == 1
        && before.affiliations.len() == 1;
    assert!(full, "{before:?}");
    let mut table = Table::default();
    account_calls(s, eve, &mut table).await;
    archive_reads(s, eve, &mut table).await;
    roster_calls(s, eve, &mut table).await;
    preference_calls(s, eve, &mut table).await;
    archive_writes(s, eve, &mut table).await;
    pubsub_reads(s, &mut table).await;
    pubsub_writes(s, &mut table).await;
    let session = SavedSession {
        id: "another".into(),
        account: eve,
        state: Bytes::from_static(b"eve"),
        expires_at: at(600),
    };
    s.sessions_save(FENCE, &[session]).await.unwrap();
    table.cell("sessions_save", true);
    table.cell(
        "account_remove",
        s.account_remove(FENCE, eve).await.unwrap(),
    );
    while s.sweep(FENCE, Timestamp(0)).await.unwrap() > 0 {}
    assert_eq!(everything(s, alice).await, before);
    let saved = s.sessions_take(FENCE, 9).await.unwrap();
    let owners: Vec<_> = saved.iter().map(|(session, _)| session.account).collect();
    assert_eq!(owners, [alice]);

    let mut listed = table.0;
    listed.extend(NOBODYS.iter().map(|(call, _)| *call));
    listed.insert(CLOSE);
    assert_eq!(listed, calls(), "the table and the traits differ");
}
