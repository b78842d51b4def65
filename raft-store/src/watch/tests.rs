//! Watches: what they tell, laid over a scan, is a scan; over compaction, backlogs and snapshot installs.

use super::*;
use crate::entry::{
    Action, Close, EntryBody, Expect, MemberInfo, Op, Proposal, Registration, Write,
};
use crate::ids::{BootNonce, MemberId, ProposalId};
use crate::limits::Limits;
use crate::snapshot::file;
use crate::state::record::Record;
use crate::state::test_random::Random;
use crate::state::test_world::{World, small_limits};

/// Key, value, revision, owner, orphaned.
type Rows = BTreeMap<Bytes, (Bytes, Revision, Option<Incarnation>, bool)>;

fn scan(state: &State, prefix: &[u8]) -> Rows {
    let items = state.scan(prefix, None, usize::MAX).into_iter();
    let row = |item: state::Item| {
        let is = item.versioned;
        (item.key, (is.value, is.revision, is.owner, is.orphaned))
    };
    items.map(row).collect()
}

/// A watcher as a user would write it.
struct Follower {
    prefix: Vec<u8>,
    watch: Watch,
    rows: Rows,
    last: Revision,
    resyncs: u32,
}

impl Follower {
    fn new(hub: &Hub, state: &State, prefix: &[u8]) -> Self {
        Self {
            prefix: prefix.to_vec(),
            watch: hub.watch(prefix, Some(state.revision())).expect("room"),
            rows: scan(state, prefix),
            last: state.revision(),
            resyncs: 0,
        }
    }

    fn rise(&mut self, revision: Revision) {
        assert!(revision >= self.last, "{revision} after {}", self.last);
        self.last = revision;
    }

    /// Takes at most `limit` events.
    fn follow(&mut self, state: &State, limit: usize) {
        for _ in 0..limit {
            let Some(event) = self.watch.try_next() else {
                return;
            };
            match event {
                Event::Put {
                    key,
                    value,
                    revision,
                    owner,
                } => {
                    self.rise(revision);
                    assert!(key.starts_with(&self.prefix));
                    self.rows.insert(key, (value, revision, owner, false));
                }
                Event::Removed { key, revision } => {
                    self.rise(revision);
                    assert!(key.starts_with(&self.prefix));
                    self.rows.remove(&key);
                }
                Event::Orphaned { owner, revision } => {
                    self.rise(revision);
                    let owned = self.rows.values_mut().filter(|row| row.2 == Some(owner));
                    owned.for_each(|row| row.3 = true);
                }
                Event::Resync { at } => {
                    assert!(at <= state.revision() && at > self.last);
                    assert_eq!(self.watch.try_next(), None, "then nothing");
                    self.rows = scan(state, &self.prefix);
                    self.last = state.revision();
                    self.watch.resume(self.last);
                    self.resyncs += 1;
                }
            }
        }
    }
}

fn restored(state: &State) -> State {
    let mut bytes = Vec::new();
    file::write(state, b"", &mut bytes).expect("a vector takes all");
    file::read(&mut &bytes[..], small_limits())
        .expect("as written")
        .state
}

/// Follows a world, installing a snapshot of its leader now and then instead of the entries between.
fn run(seed: u64, limits: HubLimits, difference_changes: usize) -> u32 {
    let mut world = World::new(seed, small_limits());
    let mut random = Random::new(seed ^ 0xff);
    let mut state = State::new(small_limits());
    let hub = Hub::new(state.revision(), limits);
    let prefixes: [&[u8]; 5] = [b"", b"one/", b"two/", b"session/of/somebody/1", b"none"];
    let mut followers: Vec<_> = prefixes
        .map(|prefix| Follower::new(&hub, &state, prefix))
        .into();
    for _ in 0..300 {
        if random.below(25) == 0 {
            for _ in 0..random.below(40) {
                world.step();
            }
            let new = restored(&world.state);
            let old = std::mem::replace(&mut state, new);
            let events = installed(&old, &state, difference_changes);
            hub.install(events.as_deref(), state.revision());
        } else {
            let (index, body, _) = world.step();
            let applied = state.apply(index, &body).expect("in order");
            hub.publish(&applied.events);
        }
        for follower in &mut followers {
            let limit = [0, 1, 5, 1000][random.below(4) as usize];
            follower.follow(&state, limit);
        }
        if random.below(40) == 0 {
            let at = random.below(5) as usize;
            let prefix = followers[at].prefix.clone();
            followers[at] = Follower::new(&hub, &state, &prefix);
        }
    }
    for follower in &mut followers {
        follower.follow(&state, usize::MAX);
        assert_eq!(follower.rows, scan(&state, &follower.prefix), "seed {seed}");
    }
    followers.iter().map(|follower| follower.resyncs).sum()
}

#[test]
fn what_is_told_over_a_scan_is_a_scan() {
    for seed in 0..40 {
        let resyncs = run(seed, HubLimits::default(), 10_000);
        assert_eq!(resyncs, 0, "nothing had to be given up");
    }
}

#[test]
fn also_when_backlogs_overflow_and_differences_are_too_large() {
    let limits = HubLimits {
        watches: 10,
        backlog_bytes: 900,
        recent_bytes: 600,
    };
    let resyncs: u32 = (0..40).map(|seed| run(seed, limits, 20)).sum();
    assert!(resyncs > 40, "{resyncs}");
}

fn put(key: &str, revision: u64) -> state::Event {
    state::Event::Put(Record::new(key.as_bytes(), b"v", Revision(revision), None))
}

fn revisions(watch: &mut Watch) -> Vec<u64> {
    let revision = |event| match event {
        Event::Put { revision, .. }
        | Event::Removed { revision, .. }
        | Event::Orphaned { revision, .. } => revision.0,
        Event::Resync { at } => 1000 + at.0,
    };
    std::iter::from_fn(|| watch.try_next())
        .map(revision)
        .collect()
}

#[test]
fn a_watch_begins_behind_its_scan() {
    let limits = HubLimits {
        recent_bytes: 3 * 67,
        ..HubLimits::default()
    };
    let hub = Hub::new(Revision(10), limits);
    hub.publish(&[put("a1", 11), put("b2", 12), put("a3", 13), put("a4", 14)]);
    let from = |from: Option<u64>| {
        let mut watch = hub.watch(b"a", from.map(Revision)).expect("room");
        revisions(&mut watch)
    };
    assert_eq!(from(Some(12)), [13, 14]);
    assert_eq!(
        from(Some(11)),
        [13, 14],
        "12 is another's, and still known to be"
    );
    assert_eq!(from(Some(10)), [1014], "11 is gone");
    assert_eq!(from(Some(14)), [0u64; 0]);
    assert_eq!(from(None), [0u64; 0]);
    // A caller that scanned ahead, on another member, is told nothing twice.
    let mut ahead = hub.watch(b"a", Some(Revision(15))).expect("room");
    hub.publish(&[put("a5", 15), put("a6", 16)]);
    assert_eq!(revisions(&mut ahead), [16]);
}

#[test]
fn resync_comes_once_and_ends_the_telling() {
    let limits = HubLimits {
        backlog_bytes: 2 * 67,
        ..HubLimits::default()
    };
    let hub = Hub::new(Revision(0), limits);
    let mut slow = hub.watch(b"", None).expect("room");
    let mut quick = hub.watch(b"", None).expect("room");
    for at in 1..=5 {
        hub.publish(&[put("k", at)]);
        assert_eq!(revisions(&mut quick), [at]);
    }
    assert_eq!(revisions(&mut slow), [1003]);
    hub.publish(&[put("k", 6)]);
    hub.install(None, Revision(9));
    assert_eq!(revisions(&mut slow), [0u64; 0]);
    slow.resume(Revision(9));
    hub.publish(&[put("k", 10)]);
    assert_eq!(revisions(&mut slow), [10]);
    assert_eq!(revisions(&mut quick), [1009]);
    // A resync that waits while a snapshot is installed leads behind it.
    slow.resume(Revision(3));
    hub.install(Some(&[put("k", 20)]), Revision(20));
    assert_eq!(revisions(&mut slow), [1020]);
    // A revision left out is noticed.
    let mut watch = hub.watch(b"x", None).expect("room");
    hub.publish(&[put("k", 22), put("x", 23)]);
    assert_eq!(revisions(&mut watch), [1022]);
}

#[test]
fn nothing_is_told_from_before_an_install() {
    let hub = Hub::new(Revision(0), HubLimits::default());
    hub.publish(&[put("k", 1), put("k", 2)]);
    hub.install(Some(&[put("k", 7)]), Revision(9));
    hub.publish(&[put("k", 10)]);
    let from = |from| revisions(&mut hub.watch(b"k", Some(Revision(from))).expect("room"));
    assert_eq!(from(1), [1010]);
    assert_eq!(from(8), [1010]);
    assert_eq!(from(9), [10]);
}

fn closing(close: Close, proposals: Vec<Proposal>) -> EntryBody {
    EntryBody {
        proposals,
        close: Some(close),
    }
}

#[test]
fn an_install_tells_of_owners_that_came_and_went() {
    let registration = |latest| {
        Close::Register(Registration {
            member: MemberId(1),
            nonce: BootNonce(latest),
            latest: (latest > 0).then_some(Incarnation(latest)),
            info: MemberInfo::default(),
        })
    };
    let mut state = State::new(Limits::default());
    let mut apply = |index, body| state.apply(index, &body).map(|_| state.clone());
    let old = apply(1, closing(registration(0), Vec::new())).expect("in order");
    apply(2, closing(registration(1), Vec::new())).expect("in order");
    let (value, owner) = (Bytes::new(), Some(Incarnation(2)));
    let write = Write {
        key: Bytes::from_static(b"k"),
        expect: Expect::Absent,
        action: Action::Put { value, owner },
    };
    let id = ProposalId {
        incarnation: Incarnation(2),
        sequence: 1,
    };
    let proposal = Proposal {
        id,
        lowest_unanswered: 1,
        op: Op::Write(write),
    };
    let new = apply(3, closing(registration(2), vec![proposal])).expect("in order");
    let events = installed(&old, &new, 10).expect("few changes");
    let orphaned = |run| state::Event::Orphaned {
        owner: Incarnation(run),
        revision: new.revision(),
    };
    assert_eq!(events[0].key(), Some(&b"k"[..]));
    assert_eq!(events[1..], [orphaned(1), orphaned(2)]);
}

#[test]
fn watches_are_counted_and_end() {
    let limits = HubLimits {
        watches: 2,
        ..HubLimits::default()
    };
    let hub = Hub::new(Revision(0), limits);
    let one = hub.watch(b"a", None).expect("room");
    let mut two = hub.watch(b"a", None).expect("room");
    assert!(matches!(
        hub.watch(b"b", None),
        Err(Error::TooMany { limit: 2 })
    ));
    drop(one);
    assert_eq!(hub.watches(), 1);
    let _three = hub.watch(b"bb", None).expect("room");
    hub.publish(&[put("a", 1)]);
    hub.close();
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(
        two.poll_next(&mut context),
        Poll::Ready(Some(Event::Put { .. }))
    ));
    assert!(matches!(two.poll_next(&mut context), Poll::Ready(None)));
    assert!(matches!(hub.watch(b"b", None), Err(Error::Closed)));
    drop(two);
    drop(_three);
    let inner = hub.0.lock();
    assert!(inner.watchers.is_empty() && inner.lengths.is_empty());
}

#[test]
fn a_waiting_watcher_is_woken() {
    use std::sync::atomic::{AtomicU32, Ordering};
    struct Count(AtomicU32);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(AtomicU32::new(0)));
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    let hub = Hub::new(Revision(0), HubLimits::default());
    let mut watch = hub.watch(b"a", None).expect("room");
    let woken = || count.0.load(Ordering::Relaxed);
    assert!(watch.poll_next(&mut context).is_pending());
    hub.publish(&[put("b", 1)]);
    assert_eq!(woken(), 0, "not for others' keys");
    hub.publish(&[put("a", 2), put("a", 3)]);
    assert_eq!(woken(), 1);
    assert!(watch.poll_next(&mut context).is_ready() && watch.poll_next(&mut context).is_ready());
    assert!(watch.poll_next(&mut context).is_pending());
    hub.install(None, Revision(9));
    assert_eq!(woken(), 2);
    assert!(watch.poll_next(&mut context).is_ready() && watch.poll_next(&mut context).is_pending());
    hub.close();
    assert_eq!(woken(), 3);
    assert_eq!(watch.poll_next(&mut context), Poll::Ready(None));
}

#[test]
fn an_older_state_installed_is_a_resync() {
    let mut world = World::new(1, Limits::default());
    let old = world.state.clone();
    while world.state.revision() == old.revision() {
        world.step();
    }
    assert_eq!(installed(&world.state, &old, 100), None);
    assert_eq!(
        installed(&world.state, &world.state.clone(), 0),
        Some(Vec::new())
    );
    assert!(!world.state.members().is_removed(MemberId(1)));
}
