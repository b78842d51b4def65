//! Holder and leaders' ledgers together, over many schedules: what a run believes ends before anybody is told that it
//! is dead. Consensus is what it promises here: who leads, when a quorum answered, which entries survive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::holder::{Holder, Lease};
use super::ledger::{Ledger, Noted};
use crate::ids::Incarnation;
use crate::random::{Random, Seeded};

const RUN: Incarnation = Incarnation(4);
const MEMBERS: u64 = 3;

/// A clock with a rate and a beginning of its own; real time in microseconds.
#[derive(Clone, Copy)]
struct Skewed {
    rate_ppm: i64,
    start: u64,
}

impl Skewed {
    fn at(self, real: u64) -> Duration {
        let drift = real as i64 * self.rate_ppm / 1_000_000;
        Duration::from_micros((self.start + real).saturating_add_signed(drift))
    }

    /// When it shows `time`, rounded up.
    fn real(self, time: Duration) -> u64 {
        let passed = time.as_micros() as u64 - self.start;
        passed * 1_000_000 / (1_000_000 + self.rate_ppm) as u64 + 2
    }
}

/// Who leads when. It learns of it late, and of its end later still.
struct Term {
    leader: u64,
    from: u64,
    upto: u64,
    knows: u64,
    forgets: u64,
}

enum Happens {
    /// The holder asks whom it takes for the leader.
    Send,
    Arrive {
        sent: u64,
        member: u64,
    },
    /// What a quorum has answered by now, or not.
    Answer {
        sent: u64,
        term: usize,
    },
    Granted {
        sent: u64,
    },
    Look {
        term: usize,
    },
}

struct World {
    random: Seeded,
    clocks: Vec<Skewed>,
    of_holder: Skewed,
    terms: Vec<Term>,
    ledgers: Vec<Ledger>,
    holder: Holder,
    /// Real times between which the holder believes in its lease.
    held: Vec<(u64, u64)>,
    /// The entry that ends the run, if one survives: its term, when it was proposed, when it is applied.
    dead: Option<(usize, u64, u64)>,
    stopped: Vec<(u64, u64)>,
    events: BTreeMap<(u64, u64), Happens>,
    number: u64,
}

const SECOND: u64 = 1_000_000;

impl World {
    fn new(seed: u64) -> Self {
        let random = Seeded::new(seed, "leases");
        let clock = || Skewed {
            rate_ppm: (random.below(3) as i64 - 1) * 10_000,
            start: random.below(1000) * SECOND,
        };
        let clocks = (0..MEMBERS).map(|_| clock()).collect();
        let of_holder = clock();
        let mut from = 0;
        let terms = (0..1 + random.below(5)).map(|_| {
            let upto = from + 300_000 + random.below([2, 8, 30][random.below(3) as usize] * SECOND);
            let knows = from + random.below(300_000);
            let forgets = upto + random.below(8 * SECOND);
            let leader = random.below(MEMBERS);
            let term = Term {
                leader,
                from,
                upto,
                knows,
                forgets,
            };
            from = upto + random.below(SECOND);
            term
        });
        let terms: Vec<_> = terms.collect();
        let stopped = (0..random.below(3)).map(|_| random.below(40 * SECOND));
        let stopped = stopped.map(|from| (from, from + random.below(12 * SECOND)));
        let stopped = stopped.collect();
        Self {
            clocks,
            of_holder,
            terms,
            ledgers: (0..MEMBERS).map(|_| Ledger::default()).collect(),
            holder: Holder::new(),
            held: Vec::new(),
            dead: None,
            stopped,
            events: BTreeMap::new(),
            number: 0,
            random,
        }
    }

    fn plan(&mut self, at: u64, event: Happens) {
        self.number += 1;
        // Leaders that are stopped do everything when they go on.
        let end = match event {
            Happens::Send | Happens::Granted { .. } => None,
            _ => self
                .stopped
                .iter()
                .find(|(from, upto)| (*from..*upto).contains(&at)),
        };
        let at = end.map_or(at, |(_, upto)| *upto);
        self.events.insert((at, self.number), event);
    }

    /// Mostly milliseconds, sometimes seconds.
    fn delay(&mut self) -> u64 {
        match self.random.below(6) {
            0 => self.random.below(9 * SECOND),
            _ => self.random.below(SECOND / 20),
        }
    }

    fn run(mut self) -> Self {
        self.plan(0, Happens::Send);
        for term in 0..self.terms.len() {
            self.plan(self.terms[term].knows, Happens::Look { term });
        }
        while let Some(((now, _), event)) = self.events.pop_first() {
            if now > 60 * SECOND {
                break;
            }
            match event {
                Happens::Send => self.send(now),
                Happens::Arrive { sent, member } => self.arrive(now, sent, member),
                Happens::Answer { sent, term } => self.answer(now, sent, term),
                Happens::Granted { sent } => self.granted(now, sent),
                Happens::Look { term } => self.look(now, term),
            }
        }
        self
    }

    fn send(&mut self, now: u64) {
        if self.holder.at(self.of_holder.at(now)) == Lease::Lost {
            return;
        }
        let led = self.terms.iter().rfind(|term| term.from <= now);
        let leader = led.map_or(0, |term| term.leader);
        let member = match self.random.below(4) {
            0 => self.random.below(MEMBERS),
            _ => leader,
        };
        let at = now + self.delay();
        self.plan(at, Happens::Arrive { sent: now, member });
        let pause = match self.random.below(30) {
            0 => 7 * SECOND,
            _ => SECOND / 2 + self.random.below(SECOND),
        };
        self.plan(now + pause, Happens::Send);
    }

    fn arrive(&mut self, now: u64, sent: u64, member: u64) {
        let leads =
            |term: &Term| term.leader == member && (term.knows..term.forgets).contains(&now);
        let Some(term) = self.terms.iter().rposition(leads) else {
            return;
        };
        let clock = self.clocks[member as usize].at(now);
        let noted = self.ledgers[member as usize].received(term as u64 + 1, RUN, clock);
        if noted == Noted::Received {
            let at = now + self.random.below(SECOND);
            self.plan(at, Happens::Answer { sent, term });
        }
    }

    /// A quorum that has answered after the receipt has not elected anybody since.
    fn answer(&mut self, now: u64, sent: u64, term: usize) {
        let seen = self
            .dead
            .is_some_and(|(of, _, applied)| of < term || applied <= now);
        if now <= self.terms[term].upto && !seen {
            let at = now + self.delay();
            self.plan(at, Happens::Granted { sent });
        }
    }

    fn granted(&mut self, now: u64, sent: u64) {
        let clock = self.of_holder;
        self.holder.granted(clock.at(sent), clock.at(now));
        if let Lease::Held { until } = self.holder.at(clock.at(now)) {
            self.held.push((now, clock.real(until)));
        }
    }

    fn look(&mut self, now: u64, term: usize) {
        let Term {
            leader,
            upto,
            forgets,
            ..
        } = self.terms[term];
        if now >= forgets {
            return;
        }
        let live = match self.dead {
            Some((of, _, applied)) if of < term || applied <= now => BTreeSet::new(),
            _ => BTreeSet::from([RUN]),
        };
        let clock = self.clocks[leader as usize].at(now);
        let dead = self.ledgers[leader as usize].dead(term as u64 + 1, &live, clock);
        // What is proposed by one who leads no more never is an entry; else it survives, or is lost with its leader.
        if !dead.is_empty() && now <= upto && self.dead.is_none() && self.random.below(3) > 0 {
            let applied = (now + self.random.below(SECOND / 2)).max(now);
            self.dead = Some((term, now, applied));
        }
        self.plan(now + 250_000, Happens::Look { term });
    }
}

#[test]
fn what_a_run_believes_ends_before_it_is_called_dead() {
    let (mut grants, mut died) = (0, 0);
    for seed in 0..6000 {
        let world = World::new(seed).run();
        grants += world.held.len();
        let Some((_, proposed, _)) = world.dead else {
            continue;
        };
        died += u64::from(!world.held.is_empty());
        for (from, until) in world.held {
            assert!(
                until < proposed,
                "seed {seed}: held from {from} to {until} µs, called dead at {proposed}"
            );
        }
    }
    assert!(
        grants > 20_000 && died > 1000,
        "{grants} grants, {died} died"
    );
}
