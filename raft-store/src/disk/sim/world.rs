//! What a simulated disk holds: images of files, changes since their last sync, names, faults to come.

use crate::clock::Clock;
use crate::random::Random;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What goes wrong at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error before anything happened.
    Refused,
    /// A write stops in the middle, then an error.
    ShortWrite,
    /// A sync fails; half of what it was to write is on the disk, the rest never will be, though it can be read.
    FailedSync,
    /// The power goes before this operation: it and all later ones fail.
    PowerCut,
}

/// What a power cut leaves of one unsynced change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Whole,
    Nothing,
    /// Its first bytes.
    First(usize),
    /// All but its first bytes.
    AllBut(usize),
}

#[derive(Debug, Clone)]
pub struct Change {
    pub at: usize,
    pub bytes: Vec<u8>,
    /// The file is at least this long behind it.
    pub length: usize,
}

impl Change {
    pub fn apply(&self, image: &mut Vec<u8>, keep: Keep) {
        let bytes = match keep {
            Keep::Nothing => return,
            Keep::Whole => 0..self.bytes.len(),
            Keep::First(count) => 0..count.min(self.bytes.len()),
            Keep::AllBut(count) => count.min(self.bytes.len())..self.bytes.len(),
        };
        let needed = self.length.max(self.at + bytes.end);
        if image.len() < needed {
            image.resize(needed, 0);
        }
        image[self.at + bytes.start..self.at + bytes.end].copy_from_slice(&self.bytes[bytes]);
    }
}

#[derive(Debug, Clone, Default)]
pub struct Node {
    pub seen: Vec<u8>,
    pub durable: Vec<u8>,
    pub unsynced: Vec<Change>,
    /// Syncs under way: when each is there, and how many of the unsynced changes it makes durable.
    pub syncing: Vec<(Duration, usize)>,
}

impl Node {
    /// What syncs have made durable by now is so.
    fn settle(&mut self, now: Duration) {
        let due = self.syncing.iter().filter(|(there, _)| *there <= now);
        let Some(count) = due.map(|(_, count)| *count).max() else {
            return;
        };
        for change in self.unsynced.drain(..count) {
            change.apply(&mut self.durable, Keep::Whole);
        }
        self.syncing.retain_mut(|(_, left)| {
            *left = left.saturating_sub(count);
            *left > 0
        });
    }
}

pub type Names = BTreeMap<PathBuf, usize>;

#[derive(Debug, Clone)]
pub enum Naming {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Naming {
    pub fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

pub struct World {
    pub random: Arc<dyn Random>,
    pub nodes: Vec<Node>,
    pub names: Names,
    pub durable_names: Names,
    pub unsynced_names: Vec<Naming>,
    /// Files opened in an earlier life are dead.
    pub life: u64,
    pub operations: u64,
    pub faults: BTreeMap<u64, Fault>,
    pub power_is_off: bool,
    pub sync_off: bool,
    pub sync_time: (Duration, Duration),
    pub clock: Option<Arc<dyn Clock>>,
    pub capacity_bytes: u64,
}

impl World {
    /// Empty, without limits or faults; syncs take no time.
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self {
            random,
            nodes: Vec::new(),
            names: Names::new(),
            durable_names: Names::new(),
            unsynced_names: Vec::new(),
            life: 0,
            operations: 0,
            faults: BTreeMap::new(),
            power_is_off: false,
            sync_off: false,
            sync_time: (Duration::ZERO, Duration::ZERO),
            clock: None,
            capacity_bytes: u64::MAX,
        }
    }

    /// Counts an operation that changes something; its fault, if one is due.
    pub fn operation(&mut self) -> io::Result<Option<Fault>> {
        let fault = self.faults.remove(&self.operations);
        self.operations += 1;
        if fault == Some(Fault::PowerCut) {
            self.settle();
            self.nodes.iter_mut().for_each(|node| node.syncing.clear());
            self.power_is_off = true;
        }
        if self.power_is_off {
            return Err(io::Error::other("the power is off"));
        }
        match fault {
            Some(Fault::Refused) => Err(io::Error::other("simulated I/O error")),
            other => Ok(other),
        }
    }

    pub fn used_bytes(&self) -> u64 {
        let named = self.names.values();
        named.map(|node| self.nodes[*node].seen.len() as u64).sum()
    }

    /// Refuses a file growing to `length` when the disk is full.
    pub fn fits(&self, node: usize, length: usize) -> io::Result<()> {
        let grows = length.saturating_sub(self.nodes[node].seen.len()) as u64;
        if grows > 0 && self.used_bytes() + grows > self.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub fn change(&mut self, node: usize, change: Change) -> io::Result<()> {
        self.fits(node, change.length.max(change.at + change.bytes.len()))?;
        let node = &mut self.nodes[node];
        change.apply(&mut node.seen, Keep::Whole);
        node.unsynced.push(change);
        Ok(())
    }

    pub fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced_names.push(naming);
    }

    pub fn keep_by_chance(&self, length: usize) -> Keep {
        let cut = self.random.below(length as u64 + 1) as usize;
        // Half of the cuts fall on sectors.
        let cut = if self.random.below(2) == 0 {
            cut & !511
        } else {
            cut
        };
        match self.random.below(4) {
            0 => Keep::Whole,
            1 => Keep::Nothing,
            2 => Keep::First(cut),
            _ => Keep::AllBut(cut),
        }
    }

    /// Syncs that are there by now have done what they were for.
    pub fn settle(&mut self) {
        if let Some(now) = self.clock.as_ref().map(|clock| clock.now()) {
            self.nodes.iter_mut().for_each(|node| node.settle(now));
        }
    }

    /// Begins a sync that takes `time`, and is there at some moment until then.
    pub fn begin_sync(&mut self, node: usize, time: Duration) {
        let Some(clock) = self.clock.as_ref().filter(|_| !time.is_zero()) else {
            return self.sync(node, false);
        };
        let after = self.random.below((time.as_micros() as u64).max(1));
        let there = clock.now() + Duration::from_micros(after);
        let node = &mut self.nodes[node];
        let count = node.unsynced.len();
        node.syncing.push((there, count));
    }

    /// All at once; what a sync under way was to do is done with it.
    pub fn sync(&mut self, node: usize, fails: bool) {
        self.settle();
        self.nodes[node].syncing.clear();
        let unsynced = std::mem::take(&mut self.nodes[node].unsynced);
        for change in unsynced {
            let lost = fails && self.random.below(2) == 0;
            let keep = if lost { Keep::Nothing } else { Keep::Whole };
            change.apply(&mut self.nodes[node].durable, keep);
        }
    }

    pub fn cut(&mut self, names_kept: usize, keep: &mut dyn FnMut(&Self, usize, usize) -> Keep) {
        self.settle();
        for naming in std::mem::take(&mut self.unsynced_names)
            .iter()
            .take(names_kept)
        {
            naming.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        let mut number = 0;
        for at in 0..self.nodes.len() {
            self.nodes[at].syncing.clear();
            for change in std::mem::take(&mut self.nodes[at].unsynced) {
                let kept = keep(self, number, change.bytes.len());
                change.apply(&mut self.nodes[at].durable, kept);
                number += 1;
            }
            self.nodes[at].seen = self.nodes[at].durable.clone();
        }
        self.life += 1;
        self.power_is_off = false;
    }
}
