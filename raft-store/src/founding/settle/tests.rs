//! Many empty directories at once, a record that misbehaves, and power cuts: one cluster, or none yet.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::*;
use crate::clock::RuntimeClock;
use crate::discovery::{Discovery, Fixed};
use crate::disk::SimDisk;
use crate::founding::{FoundingRecord, RecordError};
use crate::gate::{Gate, Tasks};
use crate::ids::{BootNonce, MemberId};
use crate::link::messages::{Reply, Request};
use crate::link::{AddressBook, LinkError, Refused};
use crate::log::LogId;
use crate::random::{Random, Seeded};
use crate::transport::{BoxFuture, Nowhere};

const MEMBERS: usize = 10;
const DIR: &str = "member";

/// What goes wrong with one call in how many; 0: nothing.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// The reply is lost, before or after it took effect.
    lost: u64,
    /// A reading shows an earlier row.
    stale: u64,
    /// The row goes.
    forgets: u64,
}

/// A record with faults by seed.
struct Shaky {
    rows: Mutex<Vec<Option<Founding>>>,
    random: Seeded,
    faults: Faults,
}

impl Shaky {
    fn new(seed: u64, faults: Faults) -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::new(vec![None]),
            random: Seeded::new(seed, "record"),
            faults,
        })
    }

    fn happens(&self, one_in: u64) -> bool {
        one_in > 0 && self.random.below(one_in) == 0
    }

    fn now(&self) -> Option<Founding> {
        *self.rows.lock().last().expect("the first")
    }

    async fn call<T>(&self, effect: impl FnOnce() -> T) -> Result<T, RecordError> {
        sleep(Duration::from_millis(self.random.below(40))).await;
        let lost = || Err(RecordError::Unknown("lost".into()));
        if self.happens(self.faults.lost) {
            return lost();
        }
        let result = effect();
        sleep(Duration::from_millis(self.random.below(40))).await;
        match self.happens(self.faults.lost) {
            true => lost(),
            false => Ok(result),
        }
    }

    fn put(&self, new: Option<Founding>) {
        self.rows.lock().push(new);
    }
}

impl FoundingRecord for Shaky {
    fn read(&self) -> BoxFuture<'_, Result<Option<Founding>, RecordError>> {
        Box::pin(self.call(|| {
            if self.happens(self.faults.forgets) {
                self.put(None);
            }
            let rows = self.rows.lock();
            let last = rows.len() - 1;
            match self.happens(self.faults.stale) {
                true => rows[self.random.below(last as u64 + 1) as usize],
                false => rows[last],
            }
        }))
    }

    fn create(&self, founding: Founding) -> BoxFuture<'_, Result<Created, RecordError>> {
        Box::pin(self.call(move || match self.now() {
            Some(row) => Created::Exists(row),
            None => {
                self.put(Some(founding));
                Created::Yes
            }
        }))
    }

    fn replace(&self, old: ClusterId, new: Founding) -> BoxFuture<'_, Result<bool, RecordError>> {
        Box::pin(self.call(move || {
            let is = self.now().is_some_and(|row| row.uuid == old);
            if is {
                self.put(Some(new));
            }
            is
        }))
    }
}

/// Who answers where, and why they do not let anybody in.
#[derive(Default)]
struct Net(Mutex<BTreeMap<String, Hello>>, Mutex<Option<Refused>>);

impl Link for Net {
    fn call(
        &self,
        _to: MemberId,
        _request: Request,
        _limit: Duration,
    ) -> BoxFuture<'_, Result<Reply, LinkError>> {
        Box::pin(std::future::ready(Err(LinkError::Unreachable)))
    }

    fn peers(&self) -> Vec<Hello> {
        Vec::new()
    }

    fn connected(&self, _to: MemberId) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn greet<'a>(
        &'a self,
        address: &'a str,
        _limit: Duration,
    ) -> BoxFuture<'a, Result<Hello, LinkError>> {
        Box::pin(async move {
            sleep(Duration::from_millis(3)).await;
            let known = self.0.lock().get(address).cloned();
            let refused = self.1.lock().map(LinkError::Refused);
            match (known, refused) {
                (Some(_), Some(refused)) => Err(refused),
                (known, _) => known.ok_or(LinkError::Unreachable),
            }
        })
    }

    fn renew(&self) {}

    fn close(&self) {}
}

fn address(at: usize) -> String {
    format!("member-{at}:1")
}

fn addresses() -> Vec<String> {
    (0..MEMBERS).map(address).collect()
}

/// One member's machine.
struct Machine {
    at: usize,
    disk: SimDisk,
    random: Arc<Seeded>,
    net: Arc<Net>,
    record: Arc<dyn FoundingRecord>,
    lives: u64,
    /// The cluster of its log.
    log: Option<ClusterId>,
}

impl Machine {
    fn new(seed: u64, at: usize, net: &Arc<Net>, record: &Arc<dyn FoundingRecord>) -> Self {
        let random = Arc::new(Seeded::new(seed, &format!("machine/{at}")));
        Self {
            at,
            disk: SimDisk::new(random.clone()),
            random,
            net: net.clone(),
            record: record.clone(),
            lives: 0,
            log: None,
        }
    }

    fn settling(&self) -> Settling {
        let gate = Gate::new(Box::new(Seeded::new(self.random.u64(), "gate")));
        let tasks = Tasks::gated(gate);
        let ways: Vec<Box<dyn Discovery>> = vec![Box::new(Fixed(addresses()))];
        let parts = Parts {
            disk: Arc::new(self.disk.clone()),
            random: self.random.clone(),
            clock: Arc::new(RuntimeClock::new(0)),
            transport: Arc::new(Nowhere),
            founding: self.record.clone(),
            discovery: ways.into(),
            spawner: Arc::new(tasks.clone()),
            tasks,
        };
        let dir = PathBuf::from(DIR);
        let identity = Identity::open(&self.disk, &dir, &*self.random).expect("it opens");
        Settling {
            search: Search::start(&parts, &AddressBook::default()),
            standing: Standing::new(parts.clock.clone()),
            parts,
            dir,
            identity,
            log_empty: self.log.is_none(),
            may_found: true,
            link: self.net.clone(),
        }
    }

    /// Lives until it belongs somewhere; the first few lives may end in a power cut at any moment.
    async fn live(mut self) -> (ClusterId, bool) {
        loop {
            self.lives += 1;
            let limit = match self.lives {
                1..=3 => Duration::from_millis(self.random.below(400)),
                _ => Duration::from_secs(3600),
            };
            let settling = self.settling();
            let member = settling.identity.member;
            match timeout(limit, settling.run()).await {
                Ok(Ok(settled)) => {
                    let cluster = settled.cluster();
                    // Killed before the first entry, now and then.
                    if self.lives < 4 && self.random.below(2) == 0 {
                        self.disk.power_cut();
                        continue;
                    }
                    self.log = Some(cluster);
                    self.answer(member, cluster);
                    return (cluster, matches!(settled, Settled::Found(_)));
                }
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => self.disk.power_cut(),
            }
        }
    }

    fn answer(&self, member: MemberId, cluster: ClusterId) {
        let hello = Hello {
            cluster: Some(cluster),
            member,
            nonce: BootNonce(1),
            formats: (1, 1),
            vote: None,
            last: Some(LogId::default()),
            addresses: Vec::new(),
        };
        self.net.0.lock().insert(address(self.at), hello);
    }
}

/// What became of all, and the record behind it.
async fn ten(seed: u64, faults: Faults) -> (Vec<(ClusterId, bool)>, Arc<Shaky>) {
    let (net, shaky) = (Arc::new(Net::default()), Shaky::new(seed, faults));
    let record: Arc<dyn FoundingRecord> = shaky.clone();
    let machines = (0..MEMBERS).map(|at| Machine::new(seed, at, &net, &record));
    let lives: Vec<_> = machines.map(|one| tokio::spawn(one.live())).collect();
    let mut ends = Vec::new();
    for life in lives {
        let ended = timeout(Duration::from_secs(7200), life).await;
        let ended = ended.unwrap_or_else(|_| panic!("seed {seed}: somebody waits for ever"));
        ends.push(ended.expect("it does not panic"));
    }
    (ends, shaky)
}

async fn one_cluster(seeds: std::ops::Range<u64>, faults: Faults) {
    for seed in seeds {
        let (ends, shaky) = ten(seed, faults).await;
        let founded = ends.iter().filter(|(_, founded)| *founded).count();
        assert_eq!(founded, 1, "seed {seed}");
        let clusters: BTreeSet<_> = ends.iter().map(|(cluster, _)| *cluster).collect();
        assert_eq!(clusters.len(), 1, "seed {seed}: {clusters:?}");
        let row = shaky.now().map(|row| row.uuid);
        assert_eq!(row, clusters.first().copied(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_at_once_found_one_cluster() {
    one_cluster(0..50, Faults::default()).await;
}

#[tokio::test(start_paused = true)]
async fn ten_at_once_with_lost_replies() {
    let (lost, faults) = (3, Faults::default());
    one_cluster(100..200, Faults { lost, ..faults }).await;
}

#[tokio::test(start_paused = true)]
async fn ten_at_once_with_stale_readings() {
    let (stale, faults) = (2, Faults::default());
    one_cluster(200..300, Faults { stale, ..faults }).await;
}

#[tokio::test(start_paused = true)]
async fn ten_at_once_with_everything_but_forgetting() {
    let faults = Faults {
        lost: 3,
        stale: 2,
        forgets: 0,
    };
    one_cluster(300..400, faults).await;
}

#[tokio::test(start_paused = true)]
async fn where_a_peer_answers_a_record_that_forgets_founds_nothing() {
    for seed in 400..450 {
        let (net, shaky) = (
            Arc::new(Net::default()),
            Shaky::new(seed, Faults::default()),
        );
        let record: Arc<dyn FoundingRecord> = shaky.clone();
        let (cluster, founded) = Machine::new(seed, 0, &net, &record).live().await;
        assert!(founded);
        for at in 1..MEMBERS {
            shaky.put(None);
            let end = Machine::new(seed, at, &net, &record).live().await;
            assert_eq!(end, (cluster, false), "seed {seed}");
            assert_eq!(shaky.now(), None, "nobody but a leader puts it again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_peer_answers_and_says_nothing_a_record_that_forgets_founds_nothing() {
    let (net, shaky) = (Arc::new(Net::default()), Shaky::new(1, Faults::default()));
    let record: Arc<dyn FoundingRecord> = shaky.clone();
    let (cluster, _) = Machine::new(1, 0, &net, &record).live().await;
    // Its leader is gone, the joiner's secret is wrong, its build is too old.
    for refused in [Refused::Busy, Refused::Certificate, Refused::Format] {
        shaky.put(None);
        *net.1.lock() = Some(refused);
        let joiner = Machine::new(2, 1, &net, &record);
        let waits = timeout(Duration::from_secs(600), joiner.settling().run()).await;
        assert!(waits.is_err(), "{refused:?}: {waits:?}");
        assert_eq!(shaky.now(), None);
        *net.1.lock() = None;
        let settled = joiner.settling().run().await;
        assert_eq!(settled.expect("it joins"), Settled::Join(cluster));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wiped_disk_joins_and_a_lone_one_waits_until_it_is_replaced() {
    let (net, shaky) = (Arc::new(Net::default()), Shaky::new(1, Faults::default()));
    let record: Arc<dyn FoundingRecord> = shaky.clone();
    let (cluster, _) = Machine::new(1, 0, &net, &record).live().await;
    let joins = Machine::new(2, 0, &net, &record).live().await;
    assert_eq!(joins, (cluster, false), "its row names who it was");
    net.0.lock().clear();
    let alone = Machine::new(3, 0, &net, &record);
    let settling = alone.settling();
    let standing = settling.standing.clone();
    let waits = timeout(Duration::from_secs(600), settling.run()).await;
    assert!(waits.is_err(), "nobody founds in a lost founder's place");
    let waiting = standing.now().waiting.expect("it says what for");
    assert!(waiting.what.contains(&cluster.to_string()), "{waiting:?}");
    assert!(waiting.time > Duration::from_secs(500), "{waiting:?}");
}

#[tokio::test(start_paused = true)]
async fn a_founder_set_back_to_before_its_first_entry_is_refused() {
    let (net, shaky) = (Arc::new(Net::default()), Shaky::new(1, Faults::default()));
    let record: Arc<dyn FoundingRecord> = shaky.clone();
    let machine = Machine::new(1, 0, &net, &record);
    let settled = machine.settling().run().await.expect("it founds");
    let backup = machine.disk.copy();
    let Settled::Found(cluster) = settled else {
        panic!("{settled:?}");
    };
    // Others go on with what it has founded.
    let other = Machine::new(2, 1, &net, &record);
    other.answer(MemberId(99), cluster);
    let restored = Machine {
        disk: backup.copy(),
        ..Machine::new(3, 0, &net, &record)
    };
    let refused = restored.settling().run().await;
    assert!(matches!(refused, Err(Unsettled::Refused(_))), "{refused:?}");
    // Nobody answers, and a leader has put the row that names nobody: it waits.
    net.0.lock().clear();
    shaky.put(Some(super::super::decide::over(cluster)));
    let waits = timeout(Duration::from_secs(600), restored.settling().run()).await;
    assert!(waits.is_err());
}
