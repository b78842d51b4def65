//! Power cuts, kills and disk errors: what was told to be durable is there afterwards, and nothing that was not asked for.
//!
//! A run makes calls one after another. After the cut the log must be as it was after some number of these calls, not
//! less than were answered and not more than were made.

#[path = "support/model.rs"]
mod model;
mod support;

use model::{Call, Model, make};
use raft_store::disk::{Fault, Keep, SimDisk};
use raft_store::log::{LogId, Settings};
use raft_store::random::{Random, Seeded};
use std::time::Duration;
use support::{Member, Outcome, disk, entry, id, is_durable, small, vote};

/// Calls made so far in the life of one log, over all its restarts.
struct History {
    /// After each number of calls.
    states: Vec<Model>,
    /// Of the calls since the last start.
    outcomes: Vec<Outcome>,
    /// Calls before those.
    earlier: usize,
    /// Commit indexes noted, in order.
    notes: Vec<Option<LogId>>,
    /// For each of `states`: which of `notes` was the newest when its call was made.
    noted: Vec<usize>,
}

impl History {
    fn new() -> Self {
        Self {
            states: vec![Model::default()],
            outcomes: Vec::new(),
            earlier: 0,
            notes: vec![None],
            noted: vec![0],
        }
    }

    fn now(&self) -> &Model {
        self.states.last().expect("the first one is always there")
    }

    /// Makes a call; `false` when the log refuses it, having failed.
    fn call(&mut self, member: &Member, call: &Call) -> bool {
        let Ok(outcome) = make(&member.log, call) else {
            return false;
        };
        let mut next = self.now().clone();
        next.apply(call);
        self.push(next);
        self.outcomes.push(outcome);
        true
    }

    fn push(&mut self, state: Model) {
        self.states.push(state);
        self.noted.push(self.notes.len() - 1);
    }

    /// Calls that were answered, and all before them.
    fn durable(&self) -> usize {
        let answered = self.outcomes.iter().rposition(is_durable);
        self.earlier + answered.map_or(0, |last| last + 1)
    }

    fn settings(&self) -> Settings {
        let mut settings = small();
        settings.must_exist = true;
        settings.published = self.now().published;
        settings
    }

    /// Which note the log has, not one older than the last answered call.
    fn note(&self, member: &Member) -> Result<usize, String> {
        let oldest = self.noted[self.durable()];
        let committed = member.log.committed();
        let newer = (oldest..self.notes.len()).rev();
        let mut fitting = newer.filter(|note| self.notes[*note] == committed);
        fitting
            .next()
            .ok_or_else(|| format!("committed {committed:?}"))
    }

    /// How many calls the log on this disk has kept.
    fn check(&self, disk: &SimDisk) -> Result<(Member, usize), String> {
        let durable = self.durable();
        let settings = self.settings();
        let published = settings.published;
        let member = Member::open(disk, settings).map_err(|error| error.to_string())?;
        let mut reason = String::new();
        for kept in (durable..self.states.len()).rev() {
            let mut state = self.states[kept].clone();
            state.meet(published);
            match state.compare(&member.log) {
                Ok(()) => return self.note(&member).map(|_| (member, kept)),
                Err(what) => reason = what,
            }
        }
        Err(format!(
            "after {durable} answered of {} calls: {reason}",
            self.states.len() - 1
        ))
    }

    /// Goes on from what was kept.
    fn restarted(&mut self, member: &Member, kept: usize) {
        let note = self.note(member).expect("it was checked");
        let published = self.now().published;
        self.states.truncate(kept + 1);
        self.notes.truncate(note + 1);
        self.noted.truncate(kept + 1);
        self.noted
            .iter_mut()
            .for_each(|noted| *noted = note.min(*noted));
        let mut met = self.now().clone();
        met.meet(published);
        self.push(met);
        self.outcomes.clear();
        self.earlier = self.states.len() - 1;
    }
}

fn appended(model: &Model, term: u64, count: u64, bytes: usize) -> Call {
    let next = model.next();
    let entries = (next..next + count).map(|index| entry(term, index, bytes));
    Call::Append(entries.collect())
}

/// The calls of the exhaustive test: every kind, over a few segments.
fn script() -> Vec<Call> {
    let mut model = Model::default();
    let mut calls = Vec::new();
    let mut add = |model: &mut Model, call: Call| {
        model.apply(&call);
        calls.push(call);
    };
    add(&mut model, Call::Vote(vote(1)));
    for count in [1, 3, 2, 3] {
        let call = appended(&model, 1, count, 250);
        add(&mut model, call);
    }
    add(&mut model, Call::Vote(vote(2)));
    for count in [3, 3] {
        let call = appended(&model, 2, count, 250);
        add(&mut model, call);
    }
    add(&mut model, Call::Truncate(11));
    for count in [1, 3, 3, 3] {
        let call = appended(&model, 3, count, 250);
        add(&mut model, call);
    }
    add(&mut model, Call::Snapshot(id(1, 8)));
    let call = appended(&model, 3, 2, 250);
    add(&mut model, call);
    add(&mut model, Call::Snapshot(id(5, 40)));
    add(&mut model, Call::Vote(vote(5)));
    let call = appended(&model, 5, 3, 250);
    add(&mut model, call);
    calls
}

/// Runs the script; two calls at a time are queued before the jobs run.
fn run_script(disk: &SimDisk) -> Option<(Member, History)> {
    let mut history = History::new();
    let member = Member::open(disk, small()).ok()?;
    for calls in script().chunks(2) {
        let accepted = calls.iter().all(|call| history.call(&member, call));
        member.jobs.run();
        if !accepted {
            break;
        }
    }
    Some((member, history))
}

/// Ways in which the changes that are unsynced may be left.
fn ways(unsynced: &[usize]) -> Vec<Vec<Keep>> {
    let mut ways: Vec<Vec<Keep>> = vec![Vec::new()];
    for length in unsynced {
        let mut keeps = vec![Keep::Nothing, Keep::Whole];
        let cuts = [8, 40, length / 2, length.saturating_sub(8), length & !511];
        for cut in cuts.into_iter().filter(|cut| (1..*length).contains(cut)) {
            keeps.extend([Keep::First(cut), Keep::AllBut(cut)]);
        }
        ways = ways
            .iter()
            .flat_map(|way| {
                keeps
                    .iter()
                    .map(|keep| way.iter().copied().chain([*keep]).collect())
            })
            .collect();
    }
    ways
}

#[test]
fn power_cut_at_every_write() {
    let whole = disk(1);
    let (member, history) = run_script(&whole).expect("nothing fails");
    assert_eq!(history.durable(), script().len(), "all were answered");
    let operations = member.disk.operations();
    let mut cuts = 0;
    for operation in 0..=operations {
        let disk = disk(1);
        disk.fail_at(operation, Fault::PowerCut);
        let Some((member, history)) = run_script(&disk) else {
            continue; // Before there was a log.
        };
        member.jobs.kill();
        let unsynced = disk.unsynced();
        // A frame or some filling, and the seals of segments that are full.
        assert!(unsynced.len() <= 5, "{unsynced:?}");
        for names in 0..=disk.unsynced_names() {
            for way in ways(&unsynced) {
                let left = disk.after_power_cut(names, &|change| way[change]);
                let checked = history.check(&left);
                let (member, kept) = checked.unwrap_or_else(|what| {
                    panic!("operation {operation}, {names}, {way:?}: {what}")
                });
                goes_on(member, history.states[kept].clone(), &history);
                cuts += 1;
            }
        }
    }
    assert!(cuts > 1000, "{cuts} cuts");
}

/// A log that came back takes more, and keeps it.
fn goes_on(member: Member, mut model: Model, history: &History) {
    let settings = history.settings();
    model.meet(settings.published);
    let call = appended(&model, 9, 2, 100);
    let outcome = make(&member.log, &call).expect("it takes more");
    member.jobs.run();
    assert!(is_durable(&outcome));
    model.apply(&call);
    member.jobs.kill();
    let left = member.disk.after_power_cut(9, &|_| Keep::Nothing);
    let again = Member::open(&left, settings).expect("it opens");
    model.compare(&again.log).expect("all is there");
}

/// One seeded life: calls, kills, power cuts, failing disks. `Err` says what was lost or made up.
fn life(seed: u64, steps: usize, sync_off: bool) -> Result<usize, String> {
    let random = Seeded::new(seed, "life");
    let disk = disk(seed);
    let mut history = History::new();
    let mut member = Member::open(&disk, small()).map_err(|error| error.to_string())?;
    if sync_off {
        disk.switch_sync_off();
    }
    if seed.is_multiple_of(2) {
        disk.set_sync_time(Duration::from_micros(100), Duration::from_millis(400));
    }
    let mut ends = 0;
    for _ in 0..steps {
        if random.below(12) > 0 {
            let call = some_call(&random, history.now());
            let _ = history.call(&member, &call);
            note_committed(&random, &member, &mut history);
            if random.below(3) > 0 {
                run(&random, &member);
            }
            continue;
        }
        if random.below(3) == 0 {
            let faults = [
                Fault::FailedSync,
                Fault::ShortWrite,
                Fault::Refused,
                Fault::PowerCut,
            ];
            let fault = faults[random.below(4) as usize];
            disk.fail_at(disk.operations() + random.below(6), fault);
            continue;
        }
        member.jobs.kill();
        drop(member);
        match random.below(3) {
            0 => disk.kill(),
            _ => disk.power_cut(),
        }
        disk.forgive();
        let (opened, kept) = history.check(&disk)?;
        history.restarted(&opened, kept);
        member = opened;
        ends += 1;
    }
    Ok(ends)
}

/// All that can be done, or just some steps.
fn run(random: &Seeded, member: &Member) {
    if random.below(4) > 0 {
        member.jobs.run();
        return;
    }
    for _ in 0..random.below(5) {
        member.jobs.step_once();
    }
}

fn note_committed(random: &Seeded, member: &Member, history: &mut History) {
    let next = history.now().next();
    if next > 0 && random.below(4) == 0 {
        let at = history.now().entries.get(&random.below(next));
        let committed = at.map(|entry| entry.id);
        history.notes.push(committed);
        member.log.save_committed(committed);
    }
}

fn some_call(random: &Seeded, model: &Model) -> Call {
    let term = model.vote.map_or(1, |vote| vote.term);
    let floor = model.published.map_or(0, |id| id.index + 1);
    let next = model.next();
    match random.below(20) {
        0..2 => Call::Vote(vote(term + 1)),
        2..4 if next > floor => Call::Truncate(floor + random.below(next - floor)),
        4..7 if next > floor => {
            let index = floor + random.below(next - floor);
            Call::Snapshot(model.entries[&index].id)
        }
        7 if random.below(4) == 0 => Call::Snapshot(id(term, next + random.below(30))),
        _ => {
            let count = 1 + random.below(4);
            appended(model, term, count, random.below(200) as usize)
        }
    }
}

/// `SEEDS` says how many lives, 300 without it.
#[test]
fn random_lives() {
    let seeds = std::env::var("SEEDS").ok();
    let seeds: u64 = seeds.map_or(300, |seeds| seeds.parse().expect("SEEDS is a number"));
    let ends: usize = (0..seeds)
        .map(|seed| life(seed, 250, false).unwrap_or_else(|what| panic!("seed {seed}: {what}")))
        .sum();
    assert!(ends as u64 > 6 * seeds, "{ends} restarts");
}

/// The test of this test: a disk that says yes and syncs nothing is found out, by nearly every seed.
#[test]
fn without_syncs_it_is_noticed() {
    let found = (0..50).filter(|seed| life(*seed, 250, true).is_err());
    let found = found.count();
    assert!(found >= 48, "{found} of 50");
}
