//! The archive writer on a real database.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use eider_storage::SqliteConfig;
use eider_xmpp::jid::Jid;
use eider_xmpp::stanza::Stanza;
use smallvec::SmallVec;

use super::*;
use crate::account::message::Row;
use crate::xep::carbons::Copies;

/// Messages after which the load ends in any case.
const LOAD_MESSAGES: u32 = 200;

/// Submits another message with each one delivered, until paid debts were asked for.
#[derive(Default)]
struct EndlessLoad {
    writer: OnceLock<Writer>,
    owner: OnceLock<AccountId>,
    delivered: AtomicU32,
    asked: AtomicU32,
    failed: AtomicU32,
}

impl EndlessLoad {
    fn submit(&self) {
        let (Some(writer), Some(owner)) = (self.writer.get(), self.owner.get()) else {
            return;
        };
        // Nobody waits for this one.
        drop(writer.submit(message(*owner), 1));
    }
}

impl Deliver for EndlessLoad {
    fn committed(&self, _: &Message, _: &[i64]) {
        let delivered = self.delivered.fetch_add(1, Ordering::Relaxed);
        if delivered < LOAD_MESSAGES && self.asked.load(Ordering::Relaxed) == 0 {
            self.submit();
        }
        assert!(delivered > 0, "the first delivery panics");
    }

    fn failed(&self, _: &Message, positions: &[i64]) {
        assert_eq!(positions.len(), 1);
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn paid(&self) -> Vec<(AccountId, Acknowledged)> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    }
}

fn message(owner: AccountId) -> Message {
    let xml = b"<message from='b@h/1' to='a@h' type='chat'><body>x</body></message>";
    let row = Row {
        owner,
        outgoing: false,
        archived: true,
        debt: true,
    };
    Message {
        stanza: Stanza::parse_stored(Bytes::from_static(xml)).expect("well-formed"),
        from: "b@h/1".parse().expect("a full JID"),
        to: Jid::parse("a@h").expect("a JID"),
        destination: None,
        carbons: Copies::default(),
        rows: SmallVec::from_elem(row, 1),
        text: None,
        owed: None,
        over_bound: false,
        resend_key: None,
    }
}

#[tokio::test]
async fn paid_debts_are_written_while_messages_never_stop() {
    let directory = std::env::temp_dir().join(format!("eider-writer-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for the test");
    let config = eider_storage::Config::Sqlite(SqliteConfig::new(directory.join("test.db")));
    let storage = eider_storage::open(&config).await.expect("a new database");
    let nobody = eider_storage::Credentials::default();
    let fence = Fence::single();
    let created = storage.account_create(fence, "h", "a", &nobody, eider_storage::Timestamp(0));
    let load = Arc::new(EndlessLoad::default());
    let owner = created.await.expect("a new account");
    assert!(load.owner.set(owner).is_ok());
    let metrics = Arc::new(Metrics::new());
    let (writer, mut task) = Writer::new(storage, load.clone(), metrics, fence, 10, 1_000_000);
    // Always due.
    task.ledger_period = Duration::ZERO;
    assert!(load.writer.set(writer).is_ok());
    load.submit();
    let running = tokio::spawn(task.run());
    while load.asked.load(Ordering::Relaxed) == 0 || load.failed.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(load.delivered.load(Ordering::Relaxed) < LOAD_MESSAGES);
    assert_eq!(load.failed.load(Ordering::Relaxed), 1);
    running.abort();
    let _ = std::fs::remove_dir_all(&directory);
}
