//! Talkers beside each process: one for each other member opens a channel to it again and again, sends numbered frames
//! and holds those that come against what it knows: of one opening all are there, in order and once; nothing is of an
//! opening before; nothing of a run that is known to be over; and whoever is not there any more is told to be gone.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_store::gate::Tasks;
use raft_store::ids::{Incarnation, MemberId};
use raft_store::random::{Random, Seeded};
use raft_store::{Channel, ChannelError, ChannelReceiver, ChannelSender, Store};
use tokio::time::{Instant, sleep, timeout};

use super::model::Number;
use super::world::{Running, World};

const NAME: &str = "talk";
/// Between two looks at what is known of the peer, and longest time between two frames.
const LOOK: Duration = Duration::from_millis(500);
const PAUSE_MS: u64 = 300;
/// So many looks may find a channel as it was, although nothing comes, or its run is over: a peer that is silent for 2 s
/// is gone, and what it sends may be held for as long.
const LOOKS: u32 = 16;
/// And so many may pass between two looks at the same news.
const KNOWN: u32 = 2;
/// Longest frame: some bytes say who sends what, the rest is there to be carried.
const FRAME_BYTES: u64 = 3000;

/// Which frame of which opening of which run: frames come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    run: u64,
    opening: u64,
    number: u64,
}

impl Mark {
    fn frame(self, random: &Seeded) -> Vec<u8> {
        let fields = [self.run, self.opening, self.number];
        let mut frame: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        frame.resize(frame.len() + random.below(FRAME_BYTES) as usize, 0);
        frame
    }

    fn read(frame: &[u8]) -> Option<Self> {
        let field = |at: usize| {
            let bytes = frame.get(8 * at..8 * at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let (run, opening, number) = (field(0)?, field(1)?, field(2)?);
        Some(Self {
            run,
            opening,
            number,
        })
    }
}

/// When each last heard another: from, to.
pub type Heard = BTreeMap<(Number, Number), Instant>;

/// One inside a process, for one peer.
struct Talker {
    world: World,
    number: Number,
    peer: Number,
    store: Store,
    random: Seeded,
    /// So many openings so far.
    openings: u64,
    /// The last frame that came.
    last: Option<Mark>,
}

/// All of a process, until it ends.
pub fn spawn(world: &World, number: Number, up: &Running) {
    for peer in (0..world.count()).filter(|peer| *peer != number) {
        let stream = format!("talker/{number}/{peer}/{}", up.life);
        let talker = Talker {
            world: world.clone(),
            number,
            peer,
            store: up.store.clone(),
            random: Seeded::new(world.seed, &stream),
            openings: 0,
            last: None,
        };
        Tasks::gated(up.gate.clone()).spawn(talker.run());
    }
}

impl Talker {
    async fn run(mut self) {
        let peer = self.world.id(self.peer);
        while self.world.trace.violation().is_none() {
            let deadline = Instant::now() + Duration::from_secs(5);
            match self.store.channel(NAME, peer, deadline).await {
                Ok(channel) => self.talk(channel).await,
                Err(ChannelError::Unreachable | ChannelError::NotRegistered) => {}
                Err(other) => self.violated(format!("no channel: {other}")),
            }
            sleep(Duration::from_millis(self.random.below(PAUSE_MS))).await;
        }
    }

    fn violated(&self, what: String) {
        let (number, peer) = (self.number, self.peer);
        self.world
            .trace
            .violated(format!("channel of {number} with {peer}: {what}"));
    }

    /// Until the channel ends, in both directions.
    async fn talk(&mut self, channel: Channel) {
        let Channel { sender, receiver } = channel;
        self.openings += 1;
        let run = self.store.incarnation().map_or(0, |run| run.0);
        let mark = Mark {
            run,
            opening: self.openings,
            number: 0,
        };
        let stream = format!("{}/{}/{}/{run}", self.number, self.peer, self.openings);
        let random = Seeded::new(self.world.seed, &stream);
        let sending = send(sender, mark, random);
        tokio::join!(biased; sending, self.listen(receiver));
    }

    async fn listen(&mut self, mut receiver: ChannelReceiver) {
        let mut of = Opening::default();
        let peer = receiver.peer();
        let mut look_at = Instant::now() + LOOK;
        loop {
            let came = timeout(look_at - Instant::now(), receiver.receive()).await;
            match came {
                Ok(Ok(frame)) => self.came(&mut of, Mark::read(&frame)),
                Ok(Err(gone)) => {
                    let run = of.last.map(|mark| Incarnation(mark.run));
                    if run.is_some() && gone.incarnation != run {
                        self.violated(format!("{run:?} is gone, told is {gone:?}"));
                    }
                    return self.world.history.lock().counts.told_gone += 1;
                }
                Err(_) => {}
            }
            if Instant::now() >= look_at {
                of.look(&self.store, peer);
                look_at = Instant::now() + LOOK;
            }
            let late = of.silent > LOOKS || of.over > LOOKS;
            // Nobody tells a run that is over anything; whoever keeps its daemon has yet to see that it ended.
            if late && !self.world.should_end(self.number) {
                return self.violated(format!("nobody is told that {:?} is gone", of.last));
            }
        }
    }

    fn came(&mut self, of: &mut Opening, mark: Option<Mark>) {
        let Some(mark) = mark else {
            return self.violated("a frame that nobody sends".into());
        };
        let last = self.last.replace(mark);
        let first = of.last.replace(mark);
        let follows = match first {
            Some(first) => {
                let number = first.number + 1;
                mark == Mark { number, ..first }
            }
            None => mark.number == 0 && last < Some(mark),
        };
        if !follows {
            self.violated(format!("{mark:?} came behind {first:?}, {last:?} before"));
        }
        if of.over >= KNOWN {
            self.violated(format!("{mark:?} is of a run that is over"));
        }
        of.silent = 0;
        self.world.history.lock().counts.frames += 1;
        let heard = (self.peer, self.number);
        self.world.heard.lock().insert(heard, Instant::now());
    }
}

/// Frames now and then, some at once.
async fn send(sender: ChannelSender, mut mark: Mark, random: Seeded) {
    loop {
        for _ in 0..1 + random.below(4) {
            if sender.send(&mark.frame(&random)).await.is_err() {
                return;
            }
            mark.number += 1;
        }
        sleep(Duration::from_millis(random.below(PAUSE_MS))).await;
    }
}

/// What has come on one channel.
#[derive(Default)]
struct Opening {
    last: Option<Mark>,
    /// Looks since the last frame.
    silent: u32,
    /// Looks since the run of the peer is known to be over.
    over: u32,
}

impl Opening {
    /// Before the first frame the peer may not have opened the channel yet.
    fn look(&mut self, store: &Store, peer: MemberId) {
        let Some(Mark { run, .. }) = self.last else {
            return;
        };
        self.silent += 1;
        let status = store.status();
        let members = status.into_iter().flat_map(|status| status.members);
        let known = members
            .filter(|member| member.member == peer)
            .find_map(|member| member.run);
        let counts = known.is_none_or(|(known, live)| known.0 < run || known.0 == run && live);
        self.over = if counts { 0 } else { self.over + 1 };
    }
}

impl World {
    /// Everybody hears everybody again.
    pub async fn all_talk(&self, limit: Duration) {
        let since = Instant::now();
        let count = self.count();
        let pairs = || (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let silent = || {
            let heard = self.heard.lock();
            let is_heard = |pair: &(Number, Number)| heard.get(pair) > Some(&since);
            pairs().find(|pair| pair.0 != pair.1 && !is_heard(pair))
        };
        if !self.wait(limit, || silent().is_none()).await {
            let what = format!("not heard for {limit:?}: from, to {:?}", silent());
            self.trace.violated(what);
        }
    }
}
