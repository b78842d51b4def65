//! Restarts, copied disks, refusals.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_restart_is_let_in_at_once() {
    for (seed, says_so) in (0..20).flat_map(|seed| [(seed, true), (seed, false)]) {
        let (network, a, b) = two(seed);
        assert_eq!(a.ask(B, SECOND).await, pong());
        match says_so {
            true => network.crash(B),
            false => network.power_off(B),
        }
        b.gate.kill();
        let b = Node::start(&network, B, 21, "b:1");
        b.knows(&[(A, "a:1"), (B, "b:1")]);
        assert_eq!(b.ask(A, 2 * SECOND).await, pong(), "seed {seed}");
        assert_eq!(a.ask(B, SECOND).await, pong(), "seed {seed}");
        assert_eq!(a.link.peers(), [b.serve.hello()]);
        sleep(SECOND).await;
        assert_eq!(network.streams(A, B), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn two_live_runs_are_both_refused_until_one_is_gone() {
    for seed in 0..10 {
        let (network, a, b) = two(seed);
        assert_eq!(a.ask(B, SECOND).await, pong());
        let copy = Node::start(&network, B, 21, "copy:1");
        copy.knows(&[(A, "a:1")]);
        sleep(3 * SECOND).await;
        let refused = Err(LinkError::Refused(Refused::TwoRuns));
        for _ in 0..20 {
            assert_eq!(copy.ask(A, 2 * SECOND).await, refused, "seed {seed}");
            assert_eq!(b.ask(A, 2 * SECOND).await, refused, "seed {seed}");
            assert!(a.link.peers().is_empty());
            sleep(SECOND).await;
        }
        // Which of both is to be kept is not for us to say.
        let (gone, stays) = match seed % 2 {
            0 => (&b, &copy),
            _ => (&copy, &b),
        };
        gone.gate.close();
        sleep(10 * SECOND).await;
        assert_eq!(stays.ask(A, 2 * SECOND).await, pong(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_stopped_and_replaced_finds_the_other_there() {
    let (network, a, b) = two(1);
    assert_eq!(a.ask(B, SECOND).await, pong());
    b.gate.close();
    sleep(SECOND).await;
    let other = Node::start(&network, B, 21, "copy:1");
    other.knows(&[(A, "a:1")]);
    assert_eq!(
        other.ask(A, 2 * SECOND).await,
        pong(),
        "the old run does not answer"
    );
    sleep(5 * SECOND).await;
    b.gate.open();
    sleep(3 * SECOND).await;
    assert!(a.link.peers().is_empty(), "now both live");
}

#[test]
fn a_run_that_is_over_changes_nothing_any_more() {
    use super::super::connection::Connection;
    use super::super::peer::Peer;
    let peer = Peer::new(B);
    let connection = |nonce| Connection::new(B, BootNonce(nonce), Lane::Calls);
    let (old, new) = (connection(20), connection(21));
    let installed = peer.install(&old, hello(B, 20, "b:1"), None);
    assert_eq!(installed, Ok(()));
    peer.renew(&old, hello(B, 20, "b:2"));
    assert_eq!(peer.hello(), Some(hello(B, 20, "b:2")));
    assert_eq!(peer.install(&new, hello(B, 21, "b:1"), None), Ok(()));
    // Read from its connection after it was closed.
    peer.renew(&old, hello(B, 20, "b:3"));
    assert_eq!(peer.hello(), Some(hello(B, 21, "b:1")));
}

#[tokio::test(start_paused = true)]
async fn another_cluster_is_refused_with_a_reason() {
    let (_network, a, b) = two(1);
    a.serve.hello.lock().cluster = Some(ClusterId([2; 16]));
    let refused = Err(LinkError::Refused(Refused::Cluster));
    assert_eq!(a.ask(B, SECOND).await, refused);
    assert_eq!(b.ask(A, SECOND).await, refused);
    assert!(a.link.peers().is_empty() && b.link.peers().is_empty());
    sleep(3 * SECOND).await;
    let told = |node: &Node, by| {
        node.serve
            .told
            .lock()
            .contains(&(by, Refused::Cluster as u8))
    };
    assert!(told(&a, B) || told(&b, A));
}

#[tokio::test(start_paused = true)]
async fn who_is_judged_otherwise_is_told_so() {
    let (network, a, b) = two(1);
    assert_eq!(a.ask(B, SECOND).await, pong());
    b.serve.refuses.lock().insert(A, Refused::Removed);
    let waits = a.link.call(B, append(10), SECOND);
    let told = async {
        sleep(SECOND / 10).await;
        b.link.renew();
    };
    let (reply, ()) = tokio::join!(waits, told);
    let refused = Err(LinkError::Refused(Refused::Removed));
    assert!(a.serve.told.lock().contains(&(B, Refused::Removed as u8)));
    assert_eq!(reply, refused.clone());
    assert_eq!(a.ask(B, SECOND).await, refused);
    sleep(2 * SECOND).await;
    assert!(b.link.peers().is_empty());
    assert!(
        network.streams(A, B) <= 1,
        "at most one that is being refused"
    );
    b.serve.refuses.lock().clear();
    sleep(2 * SECOND).await;
    assert_eq!(a.ask(B, SECOND).await, pong());
}

#[tokio::test(start_paused = true)]
async fn an_address_of_another_is_no_harm() {
    let network = network(1);
    let a = Node::start(&network, A, 10, "a:1");
    let b = Node::start(&network, B, 20, "b:1");
    let c = Node::start(&network, C, 30, "c:1");
    // Swapped.
    a.knows(&[(B, "c:1"), (C, "b:1")]);
    assert_eq!(a.ask(B, SECOND).await, Err(LinkError::Unreachable));
    assert!(b.serve.served.lock().is_empty() && c.serve.served.lock().is_empty());
    // A hint helps, once it is nobody's.
    a.knows(&[(C, "c:1")]);
    a.book.hint("b:1");
    assert_eq!(a.ask(B, SECOND).await, pong());
    assert_eq!(a.ask(C, SECOND).await, pong());
}
