//! What goes wrong, by seed: one fault after the other, some at the same time.

use std::io;
use std::path::Path;
use std::time::Duration;

use raft_store::disk::{Disk as _, Fault as DiskFault, Open, SimDisk};
use raft_store::gate::Tasks;
use raft_store::ids::MemberId;
use tokio::time::{Instant, sleep};

use super::model::Number;
use super::talkers;
use super::watcher;
use super::world::{DIR, World};

/// Kinds of faults a scenario may draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL: the disk keeps all that was written.
    Kill,
    /// A power cut: the disk keeps what was synced, and some more.
    PowerCut,
    /// All members at once, some of them by power.
    KillAll,
    /// SIGSTOP, longer than a lease at times.
    Pause,
    /// One member from all others.
    Isolate,
    /// Two groups that hear nothing of each other.
    Split,
    /// Two members do not hear each other, everybody else hears both.
    Partial,
    /// One does not hear another, and nobody else notices.
    OneRoad,
    /// One member sends and is not heard, or hears and is not answered.
    OneWay,
    /// Streams break now and then.
    Loss,
    /// Everything is late.
    Hold,
    /// A link that comes and goes.
    Flap,
    /// All streams between two members are reset.
    Reset,
    SlowDisk,
    FullDisk,
    FailingSync,
    /// A write stops in its middle.
    ShortWrite,
    /// An operation is refused.
    BadDisk,
    /// One that follows hears nobody and is heard by nobody, then all is well again.
    CutOff,
    /// A disk of 150 or 400 ms a sync, for good.
    SlowOne,
    /// A bit of a log or a snapshot flips while its member is down.
    FlippedBit,
    /// The address of a member leads to another for a while.
    MovedAddress,
    /// None by itself: the leader hands over, whatever else goes wrong.
    HandOver,
}

pub const ALL: &[Fault] = &[
    Fault::Kill,
    Fault::PowerCut,
    Fault::KillAll,
    Fault::Pause,
    Fault::Isolate,
    Fault::Split,
    Fault::Partial,
    Fault::OneRoad,
    Fault::OneWay,
    Fault::Loss,
    Fault::Hold,
    Fault::Flap,
    Fault::Reset,
    Fault::SlowDisk,
    Fault::FullDisk,
    Fault::FailingSync,
    Fault::ShortWrite,
    Fault::BadDisk,
    Fault::FlippedBit,
    Fault::MovedAddress,
    Fault::HandOver,
];

/// Up to its last byte that is not zero.
fn used_bytes(disk: &SimDisk, path: &Path) -> io::Result<u64> {
    let file = disk.open(path, Open::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(&mut bytes, 0)?;
    let last = bytes.iter().rposition(|byte| *byte != 0);
    Ok(last.map_or(0, |last| last as u64 + 1))
}

impl World {
    fn someone(&self) -> Number {
        // The leader more often than others: it has more to lose.
        match self.leader() {
            Some(leader) if self.chance(1, 2) => leader,
            _ => self.draw(self.count() as u64) as usize,
        }
    }

    fn others(&self, number: Number) -> Vec<MemberId> {
        let all = (0..self.count()).filter(|other| *other != number);
        all.map(|other| self.id(other)).collect()
    }

    fn pair(&self) -> Option<(MemberId, MemberId)> {
        let one = self.someone();
        let others = self.others(one);
        let other = others.get(self.draw(others.len().max(1) as u64) as usize)?;
        Some((self.id(one), *other))
    }

    /// Starts a process, with watchers and talkers beside it.
    pub async fn up_again(&self, number: Number) {
        if self.members.lock()[number].running.is_some() {
            return;
        }
        if self.start(number).await
            && let Some(up) = self.up(number)
        {
            watcher::spawn(self, number, &up);
            if self.shape.talk {
                talkers::spawn(self, number, &up);
            }
        }
    }

    /// Begins faults out of `kinds` until `time` has passed. They end with [`World::heal`] at the latest.
    pub async fn trouble(&self, kinds: &[Fault], time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && self.trace.violation().is_none() {
            let pause = 200 + self.draw(2500);
            sleep(Duration::from_millis(pause)).await;
            self.keep().await;
            let kind = kinds[self.draw(kinds.len() as u64) as usize];
            self.begin(kind).await;
            // Now and then something heals by itself.
            if self.chance(1, 3) {
                let number = self.draw(self.count() as u64) as usize;
                self.network_heals(number);
            }
            if self.chance(1, 2) {
                self.go_on().await;
            }
        }
    }

    fn network_heals(&self, number: Number) {
        let id = self.id(number);
        self.trace.note(format_args!("{number} is reachable again"));
        for other in self.others(number) {
            self.network.heal(id, other);
        }
    }

    /// One that does not run, or not as it should, does again.
    async fn go_on(&self) {
        let number = self.draw(self.count() as u64) as usize;
        self.pause(number, false);
        self.mend_disk(number);
        self.up_again(number).await;
    }

    fn mend_disk(&self, number: Number) {
        let disk = {
            let member = &mut self.members.lock()[number];
            member.ill = false;
            member.disk.clone()
        };
        let (least, most) = self.shape.sync_ms;
        disk.set_sync_time(Duration::from_millis(least), Duration::from_millis(most));
        disk.set_capacity_bytes(u64::MAX);
        disk.forgive();
    }

    async fn begin(&self, kind: Fault) {
        let number = self.someone();
        let id = self.id(number);
        self.trace.note(format_args!("fault {kind:?} of {number}"));
        match kind {
            Fault::Kill | Fault::PowerCut => {
                self.kill(number, kind == Fault::PowerCut).await;
                let down = self.draw(3000);
                if self.chance(3, 4) {
                    sleep(Duration::from_millis(down)).await;
                    self.up_again(number).await;
                }
            }
            Fault::KillAll => self.kill_all().await,
            Fault::Pause => self.pause_for_a_while(number),
            Fault::Isolate => self.network.cut_groups(&[id], &self.others(number)),
            Fault::Split => self.split(),
            Fault::Partial => {
                if let Some((one, other)) = self.pair() {
                    self.network.cut(one, other);
                }
            }
            Fault::OneRoad => {
                if let Some((one, other)) = self.pair() {
                    let (from, to) = match self.chance(1, 2) {
                        true => (one, other),
                        false => (other, one),
                    };
                    self.network.black_hole(from, to);
                }
            }
            Fault::OneWay => self.one_way(number),
            Fault::Loss => {
                for other in self.others(number) {
                    let loss = self.draw(100_000) as u32;
                    self.network.set_loss(id, other, loss);
                }
            }
            Fault::Hold => {
                for other in self.others(number) {
                    let time = Duration::from_millis(self.draw(2000));
                    self.network.hold(id, other, time);
                    self.network.hold(other, id, time);
                }
            }
            Fault::Flap => self.flap(),
            Fault::Reset => {
                if let Some((one, other)) = self.pair() {
                    self.network.reset(one, other);
                }
            }
            Fault::SlowDisk
            | Fault::FullDisk
            | Fault::FailingSync
            | Fault::ShortWrite
            | Fault::BadDisk => self.disk(kind, number),
            Fault::CutOff => self.cut_off().await,
            Fault::SlowOne => self.slow_one(number),
            Fault::FlippedBit => self.flip_bit(number).await,
            Fault::MovedAddress => self.move_address(number),
            Fault::HandOver => self.hand_over(),
        }
    }

    fn pause_for_a_while(&self, number: Number) {
        self.pause(number, true);
        let most = if self.chance(1, 4) { 12_000 } else { 2500 };
        let time = Duration::from_millis(self.draw(most));
        let world = self.clone();
        tokio::spawn(async move {
            sleep(time).await;
            world.pause(number, false);
        });
    }

    async fn kill_all(&self) {
        for number in 0..self.count() {
            let power = self.chance(1, 2);
            self.kill(number, power).await;
        }
        sleep(Duration::from_millis(self.draw(2000))).await;
        for number in 0..self.count() {
            self.up_again(number).await;
            sleep(Duration::from_millis(self.draw(300))).await;
        }
    }

    fn split(&self) {
        let (mut some, mut others) = (Vec::new(), Vec::new());
        for number in 0..self.count() {
            let side = if self.chance(1, 2) {
                &mut some
            } else {
                &mut others
            };
            side.push(self.id(number));
        }
        self.network.cut_groups(&some, &others);
    }

    fn one_way(&self, number: Number) {
        self.cut_off_one_way(number, self.chance(1, 2));
    }

    /// What it says is heard, and it hears nothing; or the other way round.
    fn cut_off_one_way(&self, number: Number, sends: bool) {
        let id = self.id(number);
        for other in self.others(number) {
            match sends {
                true => self.network.black_hole(other, id),
                false => self.network.black_hole(id, other),
            }
        }
    }

    fn flap(&self) {
        let Some((one, other)) = self.pair() else {
            return;
        };
        let times: Vec<_> = (0..12).map(|_| self.draw(700)).collect();
        let world = self.clone();
        tokio::spawn(async move {
            for (turn, time) in times.into_iter().enumerate() {
                sleep(Duration::from_millis(time)).await;
                match turn % 2 {
                    0 => world.network.cut(one, other),
                    _ => world.network.heal(one, other),
                }
            }
        });
    }

    fn disk(&self, kind: Fault, number: Number) {
        let disk = {
            let member = &mut self.members.lock()[number];
            member.ill = true;
            member.disk.clone()
        };
        let soon = || disk.operations() + self.draw(20);
        match kind {
            Fault::SlowDisk => {
                let most = if self.chance(1, 2) { 150 } else { 400 };
                disk.set_sync_time(Duration::from_millis(most / 2), Duration::from_millis(most));
            }
            Fault::FullDisk => disk.set_capacity_bytes(0),
            Fault::ShortWrite => disk.fail_at(soon(), DiskFault::ShortWrite),
            Fault::BadDisk => disk.fail_at(soon(), DiskFault::Refused),
            _ => disk.fail_at(soon(), DiskFault::FailedSync),
        }
    }

    async fn cut_off(&self) {
        let Some(leader) = self.leader() else {
            return;
        };
        let number = (leader + 1 + self.draw(self.count() as u64 - 1) as usize) % self.count();
        let id = self.id(number);
        match self.draw(3) {
            0 => self.cut_off_one_way(number, true),
            1 => self.cut_off_one_way(number, false),
            _ => self.network.cut_groups(&[id], &self.others(number)),
        }
        sleep(Duration::from_millis(500 + self.draw(8000))).await;
        self.network_heals(number);
    }

    /// Of one member at most, and only where a majority stays.
    async fn flip_bit(&self, number: Number) {
        let damaged = self.members.lock().iter().any(|member| member.damaged);
        if damaged || self.count() < 3 || self.up(number).is_none() {
            return;
        }
        self.kill(number, false).await;
        let disk = self.members.lock()[number].disk.clone();
        let dirs = ["log", "snapshots"].map(|dir| Path::new(DIR).join(dir));
        let paths = dirs.iter().filter_map(|dir| disk.list(dir).ok()).flatten();
        let paths: Vec<_> = paths.collect();
        let path = &paths[self.draw(paths.len() as u64) as usize];
        let used = used_bytes(&disk, path).unwrap_or(0);
        if used >= 2 {
            // In the first half: the last frame of a log cannot be told from a torn one.
            let at = self.draw(used / 2) as usize;
            disk.flip(path, at, 1 << self.draw(8));
            self.trace
                .note(format_args!("{number}: byte {at} of {path:?} is damaged"));
            self.members.lock()[number].damaged = true;
        }
        self.up_again(number).await;
    }

    fn slow_one(&self, number: Number) {
        let disk = self.members.lock()[number].disk.clone();
        let time = Duration::from_millis(if self.chance(1, 2) { 150 } else { 400 });
        disk.set_sync_time(time, time);
        self.members.lock()[number].ill = true;
    }

    fn move_address(&self, number: Number) {
        let other = (number + 1) % self.count();
        let (address, host) = {
            let members = self.members.lock();
            (
                members[number].address.clone(),
                members[other].address.clone(),
            )
        };
        self.network.move_address(&address, &host);
        let (world, time) = (self.clone(), 500 + self.draw(3000));
        tokio::spawn(async move {
            sleep(Duration::from_millis(time)).await;
            world.network.move_address(&address, &address);
        });
    }

    fn hand_over(&self) {
        let Some(leader) = self.leader() else {
            return;
        };
        let Some(up) = self.up(leader) else {
            return;
        };
        let (trace, store) = (self.trace.clone(), up.store.clone());
        Tasks::gated(up.gate).spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(1);
            let handed = store.hand_over(None, deadline).await;
            trace.note(format_args!("{leader} hands over: {handed:?}"));
        });
    }

    /// Everything runs again and reaches everything.
    pub async fn heal(&self) {
        self.trace.note(format_args!("all is healed"));
        // What heals by itself has done so, and nothing begins any more.
        for number in 0..self.count() {
            self.mend_disk(number);
            self.pause(number, false);
        }
        self.network.heal_all();
        sleep(Duration::from_secs(13)).await;
        self.network.heal_all();
        for number in 0..self.count() {
            self.pause(number, false);
        }
        self.keep().await;
        for number in 0..self.count() {
            self.up_again(number).await;
        }
    }
}
