//! A disk in memory that can lose what was not synced, tear, flip, fill up and fail, all by seed or on command.
//!
//! Each file is a durable image and a list of changes since; names likewise, in the order they were made. A power cut
//! keeps any subset of the changes of each file, whole or torn, and the first few changes of the names: file systems
//! order those by a journal. A kill keeps everything. A sync has done its work at some moment between its beginning and
//! its end, if the disk has a clock; before it, all of it is unsynced.

mod world;

pub use world::{Fault, Keep};

use super::{Disk, File, Open};
use crate::clock::Clock;
use crate::random::Random;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use world::{Change, Naming, Node, World};

/// See the module. Cloning gives another handle to the same disk.
#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

impl SimDisk {
    /// An empty disk without limits or faults, whose syncs take no time.
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new(random))),
        }
    }

    /// Operations that changed something, or tried to, since the disk was made.
    pub fn operations(&self) -> u64 {
        self.world.lock().operations
    }

    /// Has the operation with this number (from 0, see `operations`) go wrong.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.world.lock().faults.insert(operation, fault);
    }

    /// Takes back the faults that have not come yet.
    pub fn forgive(&self) {
        self.world.lock().faults.clear();
    }

    /// Syncs say yes and do nothing: what a test of durability must notice.
    pub fn switch_sync_off(&self) {
        self.world.lock().sync_off = true;
    }

    /// Between what times each sync takes, drawn by seed.
    pub fn set_sync_time(&self, least: Duration, most: Duration) {
        self.world.lock().sync_time = (least, most.max(least));
    }

    /// From here on a sync that takes time is durable at a moment until its end, drawn by seed, on this clock, on which
    /// that time is waited for too. Without a clock it is so at its beginning.
    pub fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.world.lock().clock = Some(clock);
    }

    /// What all files may hold together.
    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.world.lock().capacity_bytes = bytes;
    }

    /// Ends the process that uses the disk: open files are dead, everything written stays, synced or not.
    pub fn kill(&self) {
        let mut world = self.world.lock();
        world.life += 1;
        world.power_is_off = false;
    }

    /// A power cut; what stays of unsynced changes is drawn by seed.
    pub fn power_cut(&self) {
        let mut world = self.world.lock();
        let names = world.unsynced_names.len() as u64 + 1;
        let names_kept = world.random.below(names) as usize;
        world.cut(names_kept, &mut |world, _number, length| {
            world.keep_by_chance(length)
        });
    }

    /// Lengths in bytes of the unsynced changes of files, in the order `after_power_cut` asks for them.
    pub fn unsynced(&self) -> Vec<usize> {
        let world = self.world.lock();
        let changes = world.nodes.iter().flat_map(|node| &node.unsynced);
        changes.map(|change| change.bytes.len()).collect()
    }

    /// How many changes of names are unsynced.
    pub fn unsynced_names(&self) -> usize {
        self.world.lock().unsynced_names.len()
    }

    /// Another disk as this one would be after a power cut that keeps the first `names_kept` changes of names, and of
    /// the change with each number what `keep(number)` says. Faults and limits are not taken over.
    pub fn after_power_cut(&self, names_kept: usize, keep: &dyn Fn(usize) -> Keep) -> Self {
        let copy = self.copy();
        copy.world
            .lock()
            .cut(names_kept, &mut |_world, number, _length| keep(number));
        copy
    }

    /// Another disk with the same contents, synced and not, without faults, limits and clock; no sync is under way.
    pub fn copy(&self) -> Self {
        let mut world = self.world.lock();
        world.settle();
        let copy = Self::new(world.random.clone());
        {
            let mut into = copy.world.lock();
            into.nodes.clone_from(&world.nodes);
            into.nodes.iter_mut().for_each(|node| node.syncing.clear());
            into.names.clone_from(&world.names);
            into.durable_names.clone_from(&world.durable_names);
            into.unsynced_names.clone_from(&world.unsynced_names);
        }
        copy
    }

    /// Flips bits of one byte at rest; says whether the file has such a byte.
    pub fn flip(&self, path: &Path, at: usize, mask: u8) -> bool {
        let mut world = self.world.lock();
        let Some(node) = world.names.get(path).copied() else {
            return false;
        };
        let node = &mut world.nodes[node];
        for image in [&mut node.seen, &mut node.durable] {
            let Some(byte) = image.get_mut(at) else {
                return false;
            };
            *byte ^= mask;
        }
        true
    }

    /// Cuts a file short at rest, or lengthens it with zeros; says whether it exists.
    pub fn set_len(&self, path: &Path, length: usize) -> bool {
        let mut world = self.world.lock();
        let Some(node) = world.names.get(path).copied() else {
            return false;
        };
        let node = &mut world.nodes[node];
        node.seen.resize(length, 0);
        node.durable.resize(length, 0);
        true
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut world = self.world.lock();
        let known = world.names.get(path).copied();
        let node = match (how, known) {
            (Open::Create, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Open::Create, None) => {
                world.operation()?;
                world.nodes.push(Node::default());
                let node = world.nodes.len() - 1;
                world.name(Naming::Link(path.to_owned(), node));
                node
            }
            (_, Some(node)) => node,
            (_, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(SimFile {
            world: self.world.clone(),
            life: world.life,
            node,
            writable: how != Open::Read,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.operation()?;
        if !world.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.name(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.operation()?;
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.name(Naming::Remove(path.to_owned()));
        Ok(())
    }

    /// Directories are not simulated: each path is there.
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let world = self.world.lock();
        let inside = |path: &&PathBuf| path.parent() == Some(dir);
        Ok(world.names.keys().filter(inside).cloned().collect())
    }

    /// Makes all changes of names durable, also those of other directories.
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        if world.operation()? == Some(Fault::FailedSync) {
            return Err(io::Error::other("simulated failing sync"));
        }
        if !world.sync_off {
            world.durable_names = world.names.clone();
            world.unsynced_names.clear();
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let world = self.world.lock();
        Ok(world.capacity_bytes.saturating_sub(world.used_bytes()))
    }
}

struct SimFile {
    world: Arc<Mutex<World>>,
    life: u64,
    node: usize,
    writable: bool,
}

impl SimFile {
    fn alive(&self, world: &World) -> io::Result<()> {
        if self.life == world.life {
            return Ok(());
        }
        Err(io::Error::other("a file of an earlier life"))
    }

    fn begin(&self, world: &mut World) -> io::Result<Option<Fault>> {
        self.alive(world)?;
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        world.operation()
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let world = self.world.lock();
        self.alive(&world)?;
        let seen = &world.nodes[self.node].seen;
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(seen.len());
        let count = buf.len().min(seen.len() - from);
        buf[..count].copy_from_slice(&seen[from..from + count]);
        Ok(count)
    }

    fn write_at(&mut self, buf: &[u8], at: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        let fault = self.begin(&mut world)?;
        let short = fault == Some(Fault::ShortWrite);
        let length = if short { buf.len() / 2 } else { buf.len() };
        let change = Change {
            at: at as usize,
            bytes: buf[..length].to_vec(),
            length: 0,
        };
        world.change(self.node, change)?;
        if short {
            return Err(io::Error::other("simulated short write"));
        }
        Ok(())
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        self.begin(&mut world)?;
        let change = Change {
            at: 0,
            bytes: Vec::new(),
            length: len as usize,
        };
        world.change(self.node, change)
    }

    fn sync_data(&mut self) -> io::Result<Duration> {
        let mut world = self.world.lock();
        if self.begin(&mut world)? == Some(Fault::FailedSync) {
            world.sync(self.node, true);
            return Err(io::Error::other("simulated failing sync"));
        }
        let (least, most) = world.sync_time;
        let time = match (most - least).as_micros() as u64 {
            0 => least,
            spread => least + Duration::from_micros(world.random.below(spread + 1)),
        };
        if !world.sync_off {
            world.begin_sync(self.node, time);
        }
        Ok(time)
    }

    fn wait_for_sync(&mut self) {
        let mut world = self.world.lock();
        let alive = self.life == world.life && !world.power_is_off;
        if alive && !world.nodes[self.node].syncing.is_empty() {
            world.sync(self.node, false);
        }
    }

    fn len(&self) -> io::Result<u64> {
        let world = self.world.lock();
        self.alive(&world)?;
        Ok(world.nodes[self.node].seen.len() as u64)
    }
}

#[cfg(test)]
mod tests;
