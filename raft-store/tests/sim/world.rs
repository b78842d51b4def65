//! The world: members with a disk, a clock and a gate each, on one simulated network, and what is done to them.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use raft_store::clock::RuntimeClock;
use raft_store::discovery::Fixed;
use raft_store::disk::{Keep, SimDisk};
use raft_store::gate::{Gate, Tasks};
use raft_store::ids::MemberId;
use raft_store::observe::{Observe, Observer, Seen};
use raft_store::random::{Random, Seeded};
use raft_store::transport::sim::{self, Network};
use raft_store::{Error, Lease, OpenError, Parts, Settings, Store, open};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::client::History;
use super::model::{Model, Number};
use super::record::Record;
use super::talkers::Heard;
use super::trace::Trace;

/// Directory of a member on its own disk.
pub const DIR: &str = "member";
/// Longest that a start may take: reading is instant, syncs of the slowest disk are not.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Calls that all clients together may have under way at one member: far more than there are clients.
const MOST_CALLS: usize = 40;

/// How members are set up; drawn by seed.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub members: usize,
    pub snapshot_entries: u64,
    pub keep_entries: u64,
    /// Kept for those that lag behind.
    pub keep_bytes: u64,
    pub segment_bytes: u64,
    /// What a watcher may have waiting, and what is kept for those that begin late.
    pub watch_bytes: usize,
    pub sync_ms: (u64, u64),
    pub latency_ms: (u64, u64),
    /// Members talk to each other on channels.
    pub talk: bool,
}

impl Shape {
    /// Gives a disk its time, and syncs that are durable at some moment of it.
    pub fn equip(&self, disk: &SimDisk) {
        let (least, most) = self.sync_ms;
        disk.set_sync_time(Duration::from_millis(least), Duration::from_millis(most));
        disk.set_clock(Arc::new(RuntimeClock::new(0)));
    }
}

/// One member, running or not.
pub struct Member {
    pub id: MemberId,
    pub address: String,
    pub disk: SimDisk,
    rate_ppm: i32,
    pub lives: u64,
    pub running: Option<Running>,
    /// Its disk is damaged on purpose: it must refuse to start.
    pub damaged: bool,
    /// Its disk is slow, full or about to fail.
    pub ill: bool,
    /// The highest revision a local read has given, over all lives.
    pub read: Arc<Mutex<raft_store::ids::Revision>>,
    /// How often its process was stopped, ended, or lost a good disk.
    pub disturbed: u64,
}

/// A process.
#[derive(Clone)]
pub struct Running {
    pub gate: Arc<Gate>,
    pub store: Store,
    pub life: u64,
    pub paused: bool,
    /// Its store has ended by itself, with this reason.
    pub fatal: Arc<Mutex<Option<String>>>,
}

/// Clones are handles to the same.
#[derive(Clone)]
pub struct World(Arc<Inner>);

pub struct Inner {
    pub seed: u64,
    pub shape: Shape,
    pub trace: Trace,
    pub random: Seeded,
    pub network: Network,
    pub model: Arc<Mutex<Model>>,
    pub history: Mutex<History>,
    pub members: Mutex<Vec<Member>>,
    pub record: Record,
    /// Something was shown: whoever looks at each step looks.
    pub stepped: Notify,
    /// When who heard whom last on a channel.
    pub heard: Mutex<Heard>,
    /// No member has more calls under way than clients make.
    pub most_calls: AtomicUsize,
    /// What a scenario sets otherwise, for starts from here on.
    tune: Mutex<Option<Tune>>,
}

/// Changes the settings of a member.
type Tune = Arc<dyn Fn(Number, &mut Settings) + Send + Sync>;

impl std::ops::Deref for World {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Shows the world what a member does.
struct Eye {
    number: Number,
    world: Weak<Inner>,
    trace: Trace,
    model: Arc<Mutex<Model>>,
}

impl Observe for Eye {
    fn seen(&self, what: Seen<'_>) {
        let number = self.number;
        match &what {
            Seen::Appended(entries) => {
                let (first, last) = (entries.first(), entries.last());
                let of = |entry: Option<&raft_store::log::Entry>| entry.map(|entry| entry.id.index);
                let (first, last) = (of(first), of(last));
                let term = entries.last().map(|entry| entry.id.term);
                self.trace.note(format_args!(
                    "{number} appends {first:?}..={last:?} of {term:?}"
                ));
            }
            Seen::Opened { vote, entries, .. } => {
                let count = entries.len();
                self.trace.note(format_args!(
                    "{number} opens with {vote:?} and {count} entries"
                ));
            }
            other => self.trace.note(format_args!("{number} {other:?}")),
        }
        let checked = self.model.lock().seen(number, &what);
        if let Err(violation) = checked {
            self.trace.violated(format!("member {number}: {violation}"));
        }
        let Some(world) = self.world.upgrade().map(World) else {
            return;
        };
        world.stepped.notify_one();
        if matches!(what, Seen::Committed(_)) {
            // At this very moment: somebody else may act from here on.
            world.dead_hold_nothing();
        }
    }
}

/// What the network tells, into the trace.
fn watch(network: &Network, trace: &Trace, numbers: Vec<MemberId>) {
    let trace = trace.clone();
    let number = move |id: &MemberId| numbers.iter().position(|known| known == id);
    network.observe(Box::new(move |seen| match seen {
        sim::Seen::Delivered {
            from,
            to,
            stream,
            bytes,
        } => {
            let (from, to) = (number(from), number(to));
            trace.bytes(&stream.to_le_bytes());
            trace.bytes(bytes);
            let _ = (from, to);
        }
        sim::Seen::Dialled { from, to } => {
            let (from, to) = (number(from), number(to));
            trace.note(format_args!("net {from:?} dials {to:?}"));
        }
        sim::Seen::Opened { from, to, stream } => {
            let (from, to) = (number(from), number(to));
            trace.note(format_args!("net {from:?} to {to:?} opens {stream}"));
        }
        sim::Seen::Reset { at, stream } => {
            let at = number(at);
            trace.note(format_args!("net {at:?} is told of the reset of {stream}"));
        }
    }));
}

impl World {
    /// Nobody runs yet. Needs a runtime around it.
    pub fn new(seed: u64, shape: Shape) -> World {
        let trace = Trace::new();
        let mut limits = Settings::new(DIR).limits;
        // The world reads whatever comes.
        limits.format_known = u16::MAX;
        let model = Arc::new(Mutex::new(Model::new(limits)));
        let random = Seeded::new(seed, "world");
        let network = Network::new(Arc::new(Seeded::new(seed, "net")));
        let (least, most) = shape.latency_ms;
        network.set_latency(Duration::from_millis(least), Duration::from_millis(most));
        let members: Vec<_> = (0..shape.members)
            .map(|number| Member::new(seed, number, &shape, &random))
            .collect();
        let ids: Vec<_> = members.iter().map(|member| member.id).collect();
        ids.iter().for_each(|id| {
            model.lock().add(id.0);
        });
        watch(&network, &trace, ids);
        trace.note(format_args!("seed {seed}, {shape:?}"));
        World(Arc::new(Inner {
            seed,
            shape,
            trace,
            random,
            network,
            model,
            history: Mutex::new(History::default()),
            members: Mutex::new(members),
            record: Record::new(seed),
            stepped: Notify::new(),
            heard: Mutex::default(),
            most_calls: AtomicUsize::new(MOST_CALLS),
            tune: Mutex::new(None),
        }))
    }

    pub fn count(&self) -> usize {
        self.shape.members
    }

    pub fn id(&self, number: Number) -> MemberId {
        self.members.lock()[number].id
    }

    pub fn draw(&self, limit: u64) -> u64 {
        self.random.below(limit)
    }

    /// True in `one` of `of` cases.
    pub fn chance(&self, one: u64, of: u64) -> bool {
        self.random.below(of) < one
    }

    /// The process of a member, if it runs and nothing holds it.
    pub fn up(&self, number: Number) -> Option<Running> {
        let members = self.members.lock();
        let running = members[number].running.as_ref();
        running.filter(|running| !running.paused).cloned()
    }

    /// Members whose process is there, paused or not.
    pub fn running(&self) -> Vec<Number> {
        let members = self.members.lock();
        (0..members.len())
            .filter(|number| members[*number].running.is_some())
            .collect()
    }

    /// Who leads the highest term, by what running members say of themselves.
    pub fn leader(&self) -> Option<Number> {
        let up = self.running().into_iter().filter_map(|number| {
            let seen = self.up(number)?.store.inspect();
            seen.leading.then_some((seen.term, number))
        });
        up.max().map(|(_, number)| number)
    }

    fn settings(&self, number: Number) -> Settings {
        let mut settings = Settings::new(DIR);
        settings.info.addresses = vec![format!("m{number}:1")];
        settings.may_found = number == 0;
        settings.segment_bytes = self.shape.segment_bytes;
        settings.watches.backlog_bytes = self.shape.watch_bytes;
        settings.watches.recent_bytes = self.shape.watch_bytes;
        settings.tail_cache_bytes = 16 << 10;
        settings.snapshot_interval = Duration::ZERO;
        settings.snapshot_entries = self.shape.snapshot_entries;
        settings.snapshot_check = Duration::from_millis(150);
        settings.log_keep_entries = self.shape.keep_entries;
        settings.log_keep_bytes = self.shape.keep_bytes;
        settings.rules.steady = Duration::from_secs(1);
        settings.rules.lost = Duration::from_secs(3);
        settings.observer = Observer::new(Arc::new(Eye {
            number,
            world: Arc::downgrade(&self.0),
            trace: self.trace.clone(),
            model: self.model.clone(),
        }));
        if let Some(tune) = &*self.tune.lock() {
            tune(number, &mut settings);
        }
        self.model.lock().set_rules(&settings.rules);
        settings
    }

    fn parts(&self, number: Number, gate: &Arc<Gate>) -> Parts {
        let members = self.members.lock();
        let member = &members[number];
        let tasks = Tasks::gated(gate.clone());
        // The first draw of the first life is the member's id: see `Member::new`.
        let stream = match member.lives {
            0 => format!("member/{number}"),
            life => format!("member/{number}/{life}"),
        };
        let others = members.iter().map(|member| member.address.clone());
        Parts {
            disk: Arc::new(member.disk.clone()),
            random: Arc::new(Seeded::new(self.seed, &stream)),
            clock: Arc::new(RuntimeClock::new(member.rate_ppm)),
            transport: self.network.transport(member.id, &member.address),
            founding: Arc::new(self.record.clone()),
            discovery: Arc::new([Box::new(Fixed(others.collect()))]),
            spawner: Arc::new(tasks.clone()),
            tasks,
        }
    }

    /// Starts the process of a member. `false`: it did not start, for a reason that is none to complain about.
    pub async fn start(&self, number: Number) -> bool {
        let stream = format!("gate/{number}/{}", self.members.lock()[number].lives);
        let gate = Gate::new(Box::new(Seeded::new(self.seed, &stream)));
        let (settings, parts) = (self.settings(number), self.parts(number, &gate));
        self.trace.note(format_args!("{number} starts"));
        self.model.lock().is_down(number, false);
        let life = {
            let mut members = self.members.lock();
            members[number].lives += 1;
            members[number].lives
        };
        let opening = parts.tasks.spawn(open(settings, parts.clone()));
        let opened = match timeout(START_LIMIT, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(ended)) => {
                self.trace
                    .violated(format!("member {number}: start {ended}"));
                return false;
            }
            Err(_) => {
                gate.kill();
                self.trace
                    .violated(format!("member {number}: the start hangs"));
                return false;
            }
        };
        match opened {
            Ok((store, mut told)) => {
                let fatal = Arc::new(Mutex::new(None));
                let (noted, trace) = (fatal.clone(), self.trace.clone());
                parts.tasks.spawn(async move {
                    if let Some(fatal) = told.wait().await {
                        trace.note(format_args!("{number} has failed: {}", fatal.reason));
                        *noted.lock() = Some(fatal.reason);
                    }
                });
                let running = Running {
                    gate,
                    store,
                    life,
                    paused: false,
                    fatal,
                };
                self.members.lock()[number].running = Some(running);
                true
            }
            Err(error) => {
                gate.kill();
                self.network.crash(self.id(number));
                self.not_started(number, &error);
                false
            }
        }
    }

    fn not_started(&self, number: Number, error: &Error) {
        self.trace
            .note(format_args!("{number} does not start: {error}"));
        let io = matches!(
            error,
            Error::Open(
                OpenError::Io { .. }
                    | OpenError::Log(raft_store::log::Error::Io { .. })
                    | OpenError::Snapshot(raft_store::snapshot::file::Error::Io(_))
            )
        );
        let (ill, damaged) = {
            let member = &self.members.lock()[number];
            (member.ill, member.damaged)
        };
        let expected = damaged || (io && ill);
        if !expected {
            self.trace
                .violated(format!("member {number} does not start: {error}"));
        }
    }

    /// Ends a process: with `power`, its machine too.
    pub async fn kill(&self, number: Number, power: bool) {
        let Some(running) = self.members.lock()[number].running.take() else {
            return;
        };
        let what = if power {
            "loses its power"
        } else {
            "is killed"
        };
        self.trace.note(format_args!("{number} {what}"));
        let (id, disk) = {
            let mut members = self.members.lock();
            members[number].disturbed += 1;
            (members[number].id, members[number].disk.clone())
        };
        match power {
            true => self.network.power_off(id),
            false => self.network.crash(id),
        }
        running.gate.kill();
        drop(running);
        self.model.lock().is_down(number, true);
        // Its tasks are dropped when the runtime comes to them.
        sleep(Duration::from_millis(1)).await;
        match power {
            true => disk.power_cut(),
            false => disk.kill(),
        }
        disk.forgive();
    }

    /// From the next start of each on.
    pub fn tune(&self, tune: impl Fn(Number, &mut Settings) + Send + Sync + 'static) {
        *self.tune.lock() = Some(Arc::new(tune));
    }

    /// Ends a member for ever and puts a machine with an empty disk in its place, under its address.
    pub async fn wipe(&self, number: Number) {
        self.kill(number, false).await;
        let mut members = self.members.lock();
        let member = &mut members[number];
        let stream = format!("member/{number}/{}", member.lives);
        member.id = MemberId(Seeded::new(self.seed, &stream).u64());
        let disk = format!("disk/{number}/{}", member.lives);
        member.disk = SimDisk::new(Arc::new(Seeded::new(self.seed, &disk)));
        self.shape.equip(&member.disk);
        member.read = Arc::default();
        self.model.lock().replace(number, member.id.0);
        self.trace.note(format_args!("{number} is another now"));
    }

    /// What is on a member's disk, as after a power cut at this moment: to be put back some day.
    pub fn backup(&self, number: Number) -> SimDisk {
        let disk = self.members.lock()[number].disk.clone();
        disk.after_power_cut(usize::MAX, &|_| Keep::Whole)
    }

    /// Ends a member and puts an earlier disk of it in the place of its own.
    pub async fn set_back(&self, number: Number, backup: &SimDisk) {
        self.kill(number, false).await;
        let mut members = self.members.lock();
        let member = &mut members[number];
        member.disk = backup.copy();
        self.shape.equip(&member.disk);
        member.read = Arc::default();
        self.model.lock().set_back(number);
        self.trace.note(format_args!("{number} is set back"));
    }

    /// Stops a process where it stands, or lets it go on.
    pub fn pause(&self, number: Number, paused: bool) {
        let mut members = self.members.lock();
        let member = &mut members[number];
        let Some(running) = member.running.as_mut() else {
            return;
        };
        if running.paused == paused {
            return;
        }
        running.paused = paused;
        member.disturbed += 1;
        let what = if paused { "is stopped" } else { "goes on" };
        self.trace.note(format_args!("{number} {what}"));
        match paused {
            true => running.gate.close(),
            false => running.gate.open(),
        }
    }

    /// Whether a process should end: its store has failed, or its run is dead.
    pub fn should_end(&self, number: Number) -> bool {
        let up = self.up(number);
        up.is_some_and(|up| up.fatal.lock().is_some() || up.store.lease().state() == Lease::Lost)
    }

    /// Ends and starts those that should be, as whoever keeps the daemon running does.
    pub async fn keep(&self) {
        for number in 0..self.count() {
            if self.should_end(number) {
                self.kill(number, false).await;
                self.up_again(number).await;
            }
        }
    }

    /// Waits until `holds`, at most `limit`.
    pub async fn wait(&self, limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + limit;
        while !holds() {
            if Instant::now() >= until || self.trace.violation().is_some() {
                return false;
            }
            sleep(Duration::from_millis(10)).await;
        }
        true
    }
}

impl Member {
    fn new(seed: u64, number: Number, shape: &Shape, random: &Seeded) -> Member {
        let disk = SimDisk::new(Arc::new(Seeded::new(seed, &format!("disk/{number}"))));
        shape.equip(&disk);
        // A directory's first draw from its member's stream is the member's id.
        let id = MemberId(Seeded::new(seed, &format!("member/{number}")).u64());
        let rate_ppm = random.below(20_001) as i32 - 10_000;
        Member {
            id,
            address: format!("m{number}:1"),
            disk,
            rate_ppm,
            lives: 0,
            running: None,
            damaged: false,
            ill: false,
            disturbed: 0,
            read: Arc::default(),
        }
    }
}
