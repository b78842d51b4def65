//! Runs of the world: how they begin, what goes wrong meanwhile, and what must hold at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use raft_store::Expect;
use raft_store::gate::Tasks;
use raft_store::random::{Random, Seeded};
use tokio::time::{Instant, sleep, timeout};

use super::client::{Client, Counts};
use super::faults::{self, Fault};
use super::world::{Shape, World};

/// After healing, somebody commits again within this time.
const PROGRESS_LIMIT: Duration = Duration::from_secs(4);
/// And everybody has everything within this.
const EVEN_LIMIT: Duration = Duration::from_secs(30);
/// And everybody hears everybody within this.
const TALK_LIMIT: Duration = Duration::from_secs(10);
/// From the first start to a cluster of all.
const FORMING_LIMIT: Duration = Duration::from_secs(120);

/// A kind of run.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// Sizes of the cluster to draw from.
    pub sizes: &'static [usize],
    pub faults: &'static [Fault],
    /// The term is the same at the end as once the cluster had formed.
    pub steady: bool,
    /// Members talk to each other on channels.
    pub talk: bool,
    /// Seconds of trouble.
    pub trouble_s: u64,
    pub clients: u64,
}

/// What a run came to, for people.
#[derive(Debug, Clone)]
pub struct Report {
    pub hash: blake3::Hash,
    pub steps: u64,
    pub counts: Counts,
    pub elections: u64,
    pub deaths: u64,
    pub entries: u64,
    pub installs: u64,
    pub truncations: u64,
    pub purges: u64,
    /// Proposals of runs that were over when they were committed.
    pub late: u64,
    pub longest_gap: Duration,
}

/// A run that has failed.
pub struct Failure {
    pub what: String,
    pub steps: u64,
    pub tail: String,
}

impl Scenario {
    fn shape(&self, seed: u64) -> Shape {
        let random = Seeded::new(seed, "shape");
        let size = random.below(self.sizes.len() as u64) as usize;
        let most = [1, 3, 10, 30][random.below(4) as usize];
        let late = [2, 5, 20, 60][random.below(4) as usize];
        Shape {
            members: self.sizes[size],
            snapshot_entries: [50, 50, 20, 1_000_000][random.below(4) as usize],
            keep_entries: [0, 3, 30][random.below(3) as usize],
            keep_bytes: [1 << 20, 1 << 20, 500][random.below(3) as usize],
            segment_bytes: [1 << 20, 64 << 10, 32 << 10][random.below(3) as usize],
            watch_bytes: [1 << 20, 2000, 600][random.below(3) as usize],
            sync_ms: (0, most),
            latency_ms: (1, late),
            talk: self.talk,
        }
    }

    /// Runs it with one seed.
    pub async fn run(&self, seed: u64) -> Result<Report, Failure> {
        let world = World::new(seed, self.shape(seed));
        let ran = timeout(Duration::from_secs(3600), self.phases(&world)).await;
        if ran.is_err() {
            world.trace.violated("the run does not end".into());
        }
        world.stop_clients();
        let (what, steps) = (world.trace.violation(), world.trace.steps());
        for number in 0..world.count() {
            world.kill(number, false).await;
        }
        let model = world.model.lock();
        match what {
            Some(what) => Err(Failure {
                what,
                steps,
                tail: world.trace.tail(),
            }),
            None => Ok(Report {
                hash: world.trace.hash(),
                steps,
                counts: world.history.lock().counts,
                elections: model.elections,
                deaths: model.deaths,
                entries: model.committed.len() as u64,
                installs: model.installs,
                truncations: model.truncations,
                purges: model.purges,
                late: model.late,
                longest_gap: model.longest_gap,
            }),
        }
    }

    async fn phases(&self, world: &World) {
        world.look();
        if !world.form().await {
            world
                .trace
                .violated("no cluster of all members came about".into());
            return;
        }
        // Long enough for whoever was elected while the cluster formed.
        sleep(Duration::from_secs(2)).await;
        let term = world.model.lock().term;
        let pause_ms = 20 + world.draw(150);
        for number in 0..self.clients {
            tokio::spawn(Client::new(world, number, pause_ms).run());
        }
        let trouble = Duration::from_secs(self.trouble_s);
        match self.faults {
            [] => sleep(trouble).await,
            kinds => world.trouble(kinds, trouble).await,
        }
        world.heal().await;
        world.progresses().await;
        sleep(Duration::from_secs(2)).await;
        if self.talk {
            world.all_talk(TALK_LIMIT).await;
        }
        world.stop_clients();
        world.becomes_even().await;
        world.rests_at_the_end().await;
        let now = world.model.lock().term;
        if self.steady && now != term {
            let what = format!("term {term} became {now}, for no reason");
            world.trace.violated(what);
        }
    }
}

impl World {
    /// Starts the founder, then all others, until all are voters.
    async fn form(&self) -> bool {
        self.up_again(0).await;
        let alone = self.wait(FORMING_LIMIT, || {
            self.up(0)
                .is_some_and(|up| up.store.incarnation().is_some())
        });
        if !alone.await {
            return false;
        }
        for number in 1..self.count() {
            self.up_again(number).await;
        }
        self.wait(FORMING_LIMIT, || self.is_formed()).await
    }

    fn is_formed(&self) -> bool {
        let ids: BTreeSet<u64> = (0..self.count()).map(|number| self.id(number).0).collect();
        let model = self.model.lock();
        let Some((_, membership)) = model.memberships.last() else {
            return false;
        };
        let rests = membership.voters.len() == 1;
        let ready = || {
            let up = |number| {
                self.up(number)
                    .is_some_and(|up| up.store.incarnation().is_some())
            };
            (0..self.count()).all(up)
        };
        // Two, four … members are one voter less: resting numbers are odd.
        let voters = membership.voters.first().map_or(0, BTreeSet::len);
        let wanted = match ids.len() {
            0..=2 => 1,
            3..=7 => 3,
            _ => 5,
        };
        rests && voters >= wanted && membership.all == ids && ready()
    }

    /// Somebody commits within four seconds.
    async fn progresses(&self) {
        let began = Instant::now();
        let mut turn = 0u64;
        while began.elapsed() < PROGRESS_LIMIT {
            turn += 1;
            let number = self.leader().unwrap_or(turn as usize % self.count());
            let Some(up) = self.up(number) else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let store = up.store.clone();
            let value: Bytes = format!("progress.{turn}").into();
            let deadline = Instant::now() + Duration::from_millis(500);
            let put = async move {
                let put = store.put_if(b"progress", value, Expect::Any, None, deadline);
                put.await.is_ok()
            };
            let put = Tasks::gated(up.gate.clone()).spawn(put);
            if timeout(Duration::from_secs(2), put)
                .await
                .is_ok_and(|ok| ok.unwrap_or(false))
            {
                self.trace
                    .note(format_args!("committed again after {:?}", began.elapsed()));
                return;
            }
            self.keep().await;
            sleep(Duration::from_millis(20)).await;
        }
        self.trace.violated(format!(
            "nothing is committed {PROGRESS_LIMIT:?} after healing"
        ));
    }

    /// A change of members that was begun is finished, and so is the removal of what the dead owned.
    async fn rests_at_the_end(&self) {
        let rests = || {
            let model = self.model.lock();
            let last = model.memberships.last();
            last.is_some_and(|(_, membership)| membership.voters.len() == 1)
        };
        if !self.wait(EVEN_LIMIT, rests).await {
            self.trace.violated("a joint configuration stays".into());
        }
        let clean = || self.model.lock().state().orphaned_owners().next().is_none();
        if !self.wait(EVEN_LIMIT, clean).await {
            self.trace.violated("keys of the dead stay".into());
        }
    }

    /// It does not start, since its disk is damaged.
    fn is_refused(&self, number: usize) -> bool {
        let members = self.members.lock();
        members[number].damaged && members[number].running.is_none()
    }

    /// Everybody has applied everything.
    async fn becomes_even(&self) {
        let even = || {
            let model = self.model.lock();
            let last = model.committed.last_key_value().map(|(index, _)| *index);
            let applied = |number| model.applied(number) == last;
            (0..self.count()).all(|number| applied(number) || self.is_refused(number))
        };
        if !self.wait(EVEN_LIMIT, even).await {
            let model = self.model.lock();
            let applied: Vec<_> = (0..self.count())
                .map(|number| model.applied(number))
                .collect();
            let last = model.committed.len();
            drop(model);
            self.trace.violated(format!(
                "of {last} entries members have applied {applied:?}"
            ));
        }
    }
}

/// Everything that can go wrong.
pub const RANDOM: Scenario = Scenario {
    name: "random",
    sizes: &[1, 2, 3, 3, 3, 5, 7],
    faults: faults::ALL,
    ..BASE
};

const BASE: Scenario = Scenario {
    name: "",
    sizes: &[3, 3, 3, 5],
    faults: &[],
    steady: false,
    talk: false,
    trouble_s: 20,
    clients: 4,
};

pub const ALONE: Scenario = Scenario {
    name: "alone",
    sizes: &[1],
    faults: &[
        Fault::Kill,
        Fault::PowerCut,
        Fault::Pause,
        Fault::SlowDisk,
        Fault::FullDisk,
        Fault::FailingSync,
        Fault::ShortWrite,
        Fault::BadDisk,
    ],
    ..BASE
};

/// Nothing goes wrong.
pub const CALM: Scenario = Scenario {
    name: "calm",
    sizes: &[2, 3, 5],
    steady: true,
    ..BASE
};

/// Two members and one fault.
pub const TWO: Scenario = Scenario {
    name: "two",
    sizes: &[2],
    faults: &[Fault::Isolate],
    ..BASE
};

/// Five voters out of eight.
pub const FIVE: Scenario = Scenario {
    name: "five",
    sizes: &[8],
    faults: &[
        Fault::Kill,
        Fault::PowerCut,
        Fault::Isolate,
        Fault::Split,
        Fault::OneWay,
        Fault::Pause,
        Fault::Hold,
        Fault::Flap,
    ],
    ..BASE
};

pub const PARTITIONS: Scenario = Scenario {
    name: "partitions",
    faults: &[
        Fault::Isolate,
        Fault::Split,
        Fault::Partial,
        Fault::OneRoad,
        Fault::OneWay,
        Fault::Loss,
        Fault::Hold,
        Fault::Flap,
        Fault::Reset,
        Fault::MovedAddress,
    ],
    ..BASE
};

pub const CRASHES: Scenario = Scenario {
    name: "crashes",
    faults: &[Fault::Kill, Fault::PowerCut, Fault::KillAll],
    ..BASE
};

pub const PAUSES: Scenario = Scenario {
    name: "pauses",
    faults: &[Fault::Pause, Fault::Pause, Fault::Isolate],
    ..BASE
};

/// What ends connections and runs, while members talk.
pub const CHANNELS: Scenario = Scenario {
    name: "channels",
    faults: &[
        Fault::Kill,
        Fault::PowerCut,
        Fault::Pause,
        Fault::Isolate,
        Fault::Partial,
        Fault::OneRoad,
        Fault::OneWay,
        Fault::Hold,
        Fault::Flap,
        Fault::Reset,
        Fault::MovedAddress,
    ],
    talk: true,
    ..BASE
};

pub const DISKS: Scenario = Scenario {
    name: "disks",
    faults: &[
        Fault::SlowDisk,
        Fault::FullDisk,
        Fault::FailingSync,
        Fault::ShortWrite,
        Fault::BadDisk,
        Fault::PowerCut,
    ],
    ..BASE
};

/// What is damaged is refused, not served.
pub const BITS: Scenario = Scenario {
    name: "bits",
    faults: &[Fault::FlippedBit, Fault::Kill, Fault::PowerCut],
    ..BASE
};

/// One that was cut off and comes back changes no term.
pub const HAND_OVERS: Scenario = Scenario {
    name: "hand_overs",
    faults: &[
        Fault::HandOver,
        Fault::HandOver,
        Fault::HandOver,
        Fault::Kill,
        Fault::Pause,
        Fault::Partial,
        Fault::Hold,
    ],
    ..BASE
};

pub const CUT_OFF: Scenario = Scenario {
    name: "cut_off",
    faults: &[Fault::CutOff],
    steady: true,
    ..BASE
};

/// A slow disk changes no term.
pub const SLOW_DISK: Scenario = Scenario {
    name: "slow_disk",
    faults: &[Fault::SlowOne],
    steady: true,
    ..BASE
};

pub const SCENARIOS: &[Scenario] = &[
    ALONE, CALM, TWO, FIVE, PARTITIONS, CRASHES, PAUSES, CHANNELS, DISKS, BITS, HAND_OVERS,
    CUT_OFF, SLOW_DISK, RANDOM,
];
