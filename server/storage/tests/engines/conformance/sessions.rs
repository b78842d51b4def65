//! Saved sessions on either engine.

use eider_storage::{SavedSession, Watermark};

use super::*;

fn session(id: &str, account: AccountId, expires: i64) -> SavedSession {
    SavedSession {
        id: id.into(),
        account,
        state: Bytes::from(vec![0, 1, 255]),
        expires_at: at(expires),
    }
}

pub async fn taken_once(bench: &mut Bench) {
    let alice = account(&bench.storage, "alice").await;
    let sessions: Vec<_> = (0..50)
        .map(|n| session(&format!("s{n}"), alice, 600))
        .collect();
    bench.storage.sessions_save(FENCE, &sessions).await.unwrap();
    bench.reopen().await;
    let s = &bench.storage;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let s = s.clone();
            tokio::spawn(async move { s.sessions_take(FENCE, 7).await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await.unwrap());
    }
    taken.extend(s.sessions_take(FENCE, 7).await.unwrap());
    taken.sort_by_key(|(session, _)| session.id[1..].parse::<u32>().unwrap());
    let all: Vec<_> = sessions
        .into_iter()
        .map(|session| (session, Watermark::default()))
        .collect();
    assert_eq!(taken, all);
    assert_eq!(s.sessions_take(FENCE, 7).await.unwrap(), []);
}

pub async fn taken_with_watermark(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    let row = row(alice, 0, "bob@example.org", OWED, at(1));
    s.archive_commit(single("m", vec![row])).await.unwrap();
    let watermark = Watermark {
        acked_up_to: Position(1),
        acked_above: Vec::new(),
    };
    let mut commit = Commit::new(FENCE);
    commit.watermarks.push((alice, watermark.clone()));
    s.archive_commit(commit).await.unwrap();
    s.sessions_save(FENCE, &[session("s", alice, 10)])
        .await
        .unwrap();
    let sessions = [session("s", alice, 15), session("t", alice, 20)];
    s.sessions_save(FENCE, &sessions).await.unwrap();
    let gone = AccountId(alice.0 + 99);
    s.sessions_save(FENCE, &[session("u", gone, 20)])
        .await
        .unwrap();
    let expected = sessions.map(|session| (session, watermark.clone()));
    assert_eq!(s.sessions_take(FENCE, 9).await.unwrap(), expected);
}
