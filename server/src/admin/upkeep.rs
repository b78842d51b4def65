//! Upkeep: what has to be done now and then: retention and quotas of archives (XEP-0313 §3.2), partitions
//! for the next weeks, the rest of interrupted removals. All in small steps, so that nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use eider_storage::{AccountId, Error, Fence, Keep, Storage, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{Config, ConfigWatch, Host};

/// Accounts looked at in one step.
const ACCOUNTS_PER_STEP: u32 = 200;
/// Archived messages removed in one step.
const ROWS_PER_STEP: u32 = 500;
/// Pause between two steps that changed something.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at what has been delivered.
const DELIVERED_INTERVAL: Duration = Duration::from_secs(60);
/// Keys by which messages sent again are recognised are kept for so long: longer than they are looked at.
const RESEND_KEYS_SECONDS: u64 = 24 * 60 * 60;

/// Steps of a round of [`forget_paid`] that may find nothing: 64 accounts each. Those of a large server that wait for
/// longer have their turn in the next round.
const IDLE_STEPS_PER_ROUND: u32 = 200;

/// Does everything in turn, every `archive.cleaning_interval_hours`, and deletes every minute what was stored only until it
/// was delivered, until the token is cancelled.
pub async fn run(storage: Arc<dyn Storage>, config: ConfigWatch, stop: CancellationToken) {
    let mut due = Instant::now();
    let mut walk = AccountId(0);
    loop {
        let now = config.borrow().clone();
        let work = async {
            let time = clock::timestamp();
            if due > Instant::now() {
                return delivered(&*storage, time, &mut walk).await;
            }
            let rows = once(&*storage, &now, time, &mut walk).await;
            let hours = u64::from(now.archive.cleaning_interval_hours);
            due = Instant::now() + Duration::from_secs(hours * 3_600);
            if rows > 0 {
                tracing::info!(rows, "removed what is past retention or quota");
            }
            rows
        };
        tokio::select! {
            _rows = work => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(DELIVERED_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Does everything once; answers how many rows were removed. What fails is tried again the next time and keeps nothing
/// else from being done.
async fn once(storage: &dyn Storage, config: &Config, now: Timestamp, walk: &mut AccountId) -> u64 {
    let prepared = storage.prepare_ahead(now).await.map(|()| 0);
    done("preparing the tables of the next weeks", prepared);
    let mut rows = delivered(storage, now, walk).await;
    for host in &config.hosts {
        let keep = keep(config, host, now);
        if keep != Keep::default() {
            let retained = retain_host(storage, &host.name, keep).await;
            rows += done("deleting what is past retention or quota", retained);
        }
    }
    rows
}

fn done(what: &str, result: Result<u64, Error>) -> u64 {
    result.unwrap_or_else(|error| {
        tracing::warn!(%error, "upkeep of the database: {what} broke off");
        0
    })
}

/// Deletes what accounts without an archive were owed and have got, and what is left over otherwise.
async fn delivered(storage: &dyn Storage, now: Timestamp, walk: &mut AccountId) -> u64 {
    let forgotten = forget_paid(storage, walk, IDLE_STEPS_PER_ROUND).await;
    let swept = sweep(storage, now).await;
    done("deleting what was delivered", forgotten) + done("deleting what is left over", swept)
}

/// Deletes what has been delivered, from where the last round stopped, once through all accounts or until it has
/// found nothing for so many steps.
async fn forget_paid(
    storage: &dyn Storage,
    walk: &mut AccountId,
    idle_steps_max: u32,
) -> Result<u64, Error> {
    let (mut rows, mut idle_steps, mut passed_end) = (0, 0, walk.0 == 0);
    loop {
        let step = storage.archive_forget_paid(Fence::single(), *walk, ROWS_PER_STEP);
        let step = step.await?;
        rows += step.rows_deleted;
        idle_steps += u32::from(step.rows_deleted == 0);
        *walk = step.next.unwrap_or(AccountId(0));
        if idle_steps >= idle_steps_max || (step.next.is_none() && passed_end) {
            return Ok(rows);
        }
        passed_end |= step.next.is_none();
        tokio::time::sleep(PAUSE).await;
    }
}

async fn sweep(storage: &dyn Storage, now: Timestamp) -> Result<u64, Error> {
    let (mut rows, before) = (0, now.minus_seconds(RESEND_KEYS_SECONDS));
    loop {
        match storage.sweep(Fence::single(), before).await? {
            0 => return Ok(rows),
            swept => rows += swept,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What an account of the host may keep.
fn keep(config: &Config, host: &Host, now: Timestamp) -> Keep {
    let days = host
        .archive_retention_days
        .unwrap_or(config.archive.retention_days);
    let quota = config.archive.quota_messages;
    Keep {
        not_before: (days > 0).then(|| now.minus_seconds(u64::from(days) * 86_400)),
        rows_max: (quota > 0).then(|| quota.into()),
    }
}

async fn retain_host(storage: &dyn Storage, host: &str, keep: Keep) -> Result<u64, Error> {
    let mut rows = 0;
    let mut after: Option<String> = None;
    loop {
        let page = storage
            .account_list(host, after.as_deref(), None, ACCOUNTS_PER_STEP)
            .await?;
        let Some(last) = page.last() else {
            return Ok(rows);
        };
        after = Some(last.localpart.clone());
        for account in &page {
            match retain(storage, account.id, keep).await {
                // One account that cannot be read keeps no other from its turn.
                Err(error) if !error.is_transient() => {
                    tracing::warn!(%error, account = %account.localpart, host, "the archive cannot be cleaned");
                }
                retained => rows += retained?,
            }
        }
    }
}

async fn retain(storage: &dyn Storage, account: AccountId, keep: Keep) -> Result<u64, Error> {
    let mut rows = 0;
    loop {
        let step = storage
            .archive_retain(Fence::single(), account, keep, ROWS_PER_STEP)
            .await?;
        rows += step.rows_deleted;
        if !step.more {
            return Ok(rows);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eider_storage::{
        ArchiveFilter, Commit, Credentials, Direction, MessageKind, NewMessage, OwnerRow,
        PageRequest, Position, RowFlags, Watermark,
    };

    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    async fn archive(storage: &dyn Storage, owner: AccountId, days: std::ops::Range<i64>) {
        let mut commit = Commit::new(Fence::single());
        for day in days {
            commit.rows.push(OwnerRow {
                owner,
                at: Timestamp(day * DAY_US),
                message: commit.messages.len(),
                own_bytes: None,
                peer: "bert@localhost".to_owned(),
                peer_resource: None,
                flags: RowFlags {
                    archived: true,
                    debt: false,
                    outgoing: true,
                },
                kind: MessageKind::Chat,
            });
            let bytes = Bytes::from_static(b"<message/>");
            commit.messages.push(NewMessage { bytes, text: None });
        }
        storage.archive_commit(commit).await.unwrap();
    }

    async fn archived(storage: &dyn Storage, owner: AccountId) -> usize {
        let page = PageRequest {
            direction: Direction::Forward,
            anchor: None,
            limit: 5_000,
            bytes_max: u64::MAX,
            count_max: 0,
        };
        storage
            .archive_query(owner, &ArchiveFilter::default(), &page)
            .await
            .unwrap()
            .rows
            .len()
    }

    /// A storage in a folder of its own, and an account in it.
    async fn with_an_account(name: &str) -> (Config, Arc<dyn Storage>, AccountId) {
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let config = Config {
            data_directory: folder,
            ..Config::default()
        };
        let storage = eider_storage::open(&config.storage_config()).await.unwrap();
        let none = Credentials::default();
        let account =
            storage.account_create(Fence::single(), "localhost", "anna", &none, Timestamp(0));
        let anna = account.await.unwrap();
        (config, storage, anna)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn retention_and_quota_remove_the_oldest() {
        let (mut config, storage, anna) = with_an_account("eider-upkeep").await;
        archive(&*storage, anna, 1_000..2_000).await;
        let now = Timestamp(2_000 * DAY_US);

        assert_eq!(once(&*storage, &config, now, &mut AccountId(0)).await, 0);
        assert_eq!(archived(&*storage, anna).await, 1_000);
        config.archive.retention_days = 200;
        once(&*storage, &config, now, &mut AccountId(0)).await;
        assert_eq!(archived(&*storage, anna).await, 200);
        config.hosts[0].archive_retention_days = Some(100);
        once(&*storage, &config, now, &mut AccountId(0)).await;
        assert_eq!(archived(&*storage, anna).await, 100);
        config.archive.quota_messages = 10;
        once(&*storage, &config, now, &mut AccountId(0)).await;
        assert_eq!(archived(&*storage, anna).await, 10);
        storage.close().await;
        std::fs::remove_dir_all(&config.data_directory).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_stored_for_delivery_goes_once_delivered() {
        let (config, storage, anna) = with_an_account("eider-paid").await;
        let mut commit = Commit::new(Fence::single());
        for message in 0..1_200 {
            let bytes = Bytes::from_static(b"<message/>");
            commit.messages.push(NewMessage { bytes, text: None });
            commit.rows.push(OwnerRow {
                owner: anna,
                at: Timestamp(0),
                message,
                own_bytes: None,
                peer: "bert@localhost".to_owned(),
                peer_resource: None,
                flags: RowFlags {
                    archived: false,
                    debt: true,
                    outgoing: false,
                },
                kind: MessageKind::Chat,
            });
        }
        storage.archive_commit(commit).await.unwrap();
        let now = Timestamp(2_000 * DAY_US);
        assert_eq!(once(&*storage, &config, now, &mut AccountId(0)).await, 0);
        let mut commit = Commit::new(Fence::single());
        let got = Watermark {
            acked_up_to: Position(1_199),
            acked_above: Vec::new(),
        };
        commit.watermarks.push((anna, got));
        storage.archive_commit(commit).await.unwrap();
        assert_eq!(delivered(&*storage, now, &mut AccountId(0)).await, 1_199);
        let counts = storage.counts(&|_, _| {}).await.unwrap();
        let left = counts.iter().find(|count| count.table == "message");
        assert_eq!(left.unwrap().rows, 1);
        // What a round does not come to, a later one does, from where it stopped.
        let (mut walk, mut rounds) = (AccountId(0), 0);
        while rounds == 0 || walk != AccountId(0) {
            assert_eq!(forget_paid(&*storage, &mut walk, 1).await.unwrap(), 0);
            rounds += 1;
        }
        assert!(rounds <= 2);
        storage.close().await;
        std::fs::remove_dir_all(&config.data_directory).unwrap();
    }
}
