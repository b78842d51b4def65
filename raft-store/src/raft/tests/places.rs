//! What one sender may have with the core at a time.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::world::{LEADER, VOTE, World, pass};
use crate::ids::MemberId;
use crate::link::messages::{Appended, Reply, Request};
use crate::log::{Entry, LogId};

fn append(with_entry: bool) -> Request {
    let id = LogId {
        term: VOTE.term,
        node: LEADER.0,
        index: 0,
    };
    let blank = Entry {
        id,
        body: Bytes::from_static(&[0]),
    };
    Request::Append {
        vote: VOTE,
        previous: None,
        entries: with_entry.then_some(blank).into_iter().collect(),
        committed: None,
    }
}

async fn ended(calls: Vec<JoinHandle<Reply>>) -> Vec<Reply> {
    let mut replies = Vec::new();
    for call in calls.into_iter().filter(JoinHandle::is_finished) {
        replies.push(call.await.expect("it does not panic"));
    }
    replies
}

#[tokio::test(start_paused = true)]
async fn while_the_disk_hangs_the_newest_append_waits_and_older_ones_are_superseded() {
    let mut world = World::new(1);
    world.start(2).await;
    let hang = Duration::from_secs(10);
    world.disks[&MemberId(2)].set_sync_time(hang, hang);
    let inbox = world.inbox(2);
    let send = |with_entry| tokio::spawn(inbox.serve(LEADER, append(with_entry)));
    for with_entry in [true, false] {
        let calls: Vec<_> = (0..6).map(|_| send(with_entry)).collect();
        pass(1_000).await;
        let open = calls.iter().filter(|call| !call.is_finished()).count();
        assert_eq!(open, 2, "one with the core, the newest waits");
        let superseded = Reply::Append(Appended::Superseded);
        assert_eq!(ended(calls).await, vec![superseded; 4]);
    }
    // Given up by whoever asked, it still has its place.
    let last = send(true);
    last.abort();
    pass(100_000).await;
    let after = send(true);
    pass(100_000).await;
    assert_eq!(after.await.expect("no panic"), Reply::Append(Appended::All));
}

#[tokio::test(start_paused = true)]
async fn nobody_speaks_for_another() {
    let mut world = World::new(2);
    world.start(2).await;
    let inbox = world.inbox(2);
    let vote = VOTE;
    let of_another = [
        append(true),
        Request::Vote { vote, last: None },
        Request::Ping { vote },
        Request::Elect { leader: vote, vote },
    ];
    for request in of_another {
        assert_eq!(inbox.serve(MemberId(3), request).await, Reply::Unfit);
    }
    let core = &world.member(2).core;
    assert_eq!((core.term(), core.last()), (0, None));
    let own = inbox.serve(LEADER, append(true)).await;
    assert_eq!(own, Reply::Append(Appended::All));
}
