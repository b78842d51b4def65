//! Saved sessions on either engine.

use eider_storage::SavedSession;

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
    assert_eq!(s.sessions_list().await.unwrap().len(), 50);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let s = s.clone();
            tokio::spawn(async move { s.session_take(FENCE, "s7", NOW).await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await.unwrap());
    }
    assert_eq!(taken, [session("s7", alice, 600)]);
    assert_eq!(s.session_take(FENCE, "no such", NOW).await.unwrap(), None);
    assert_eq!(s.sessions_list().await.unwrap().len(), 49);
}

pub async fn expiry(bench: &mut Bench) {
    let s = &bench.storage;
    let alice = account(s, "alice").await;
    s.sessions_save(
        FENCE,
        &[session("old", alice, 10), session("new", alice, 20)],
    )
    .await
    .unwrap();
    assert_eq!(s.session_take(FENCE, "old", at(10)).await.unwrap(), None);
    assert_eq!(
        s.sessions_expired(FENCE, at(10), 9).await.unwrap(),
        [session("old", alice, 10)]
    );
    assert_eq!(s.sessions_expired(FENCE, at(10), 9).await.unwrap(), []);
    assert_eq!(
        s.session_take(FENCE, "new", at(19)).await.unwrap(),
        Some(session("new", alice, 20))
    );
}
