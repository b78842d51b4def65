//! What a person does when a cluster cannot help itself, with `kvctl` and real daemons: a majority that is lost for good,
//! a saved snapshot, the lost disk of a lone founder.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Directory;
use super::cell::{Again, Ground};
use super::client::{self, field};
use super::net::Net;
use super::run::{FIRST_LEADER, LIMIT, begin_on};
use super::world::World;
use crate::daemon::REMOVED;

const KEYS: usize = 40;
/// Fencing tokens and versions of a recovered cluster are above all that was before.
const LEAP: u64 = 1 << 40;

/// One script, and what in it must not be.
struct Script {
    again: Again,
    found: Vec<String>,
}

/// All of them, one after the other.
pub fn run(ground: Ground, again: Again) -> Vec<String> {
    let found = Vec::new();
    let mut script = Script { again, found };
    let net = script.majority_lost(Net::new(ground));
    let net = script.restored(net);
    script.refounded(net);
    script.found
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn says(world: &World, number: usize, name: &str) -> String {
    let status = world.status(number).unwrap_or_default();
    field(&status, name).unwrap_or_default().to_owned()
}

impl Script {
    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let what = what();
            eprintln!("{what}");
            self.found.push(what);
        }
    }

    /// Runs `kvctl`; its exit code must be this one, and these words be among what it prints.
    fn control(&mut self, words: &[&str], code: i32, wanted: &str) {
        let (found, said) = self.again.control(words);
        let right = found == Some(code) && said.contains(wanted);
        println!("kvctl {}: {found:?}", words.join(" "));
        self.check(right, || format!("kvctl {words:?}: {found:?}: {said}"));
    }

    fn put(&mut self, world: &World, at: usize, key: &str) {
        let request = format!("put {key} {key}");
        let answer = client::ask(world.net.client_address(at), &request, LIMIT);
        let done = answer
            .as_ref()
            .is_ok_and(|line| line.starts_with("written "));
        self.check(done, || format!("{request} at {at}: {answer:?}"));
    }

    /// Reads keys at a member: each has its own name as value, or is not there.
    fn has(&mut self, world: &World, at: usize, (keys, there): (&[String], bool)) {
        for key in keys {
            let answer = client::ask(world.net.client_address(at), &format!("get {key}"), LIMIT);
            let right = answer.as_ref().is_ok_and(|line| match there {
                true => line.starts_with("value ") && line.ends_with(&format!(" {key}")),
                false => line == "none",
            });
            self.check(right, || {
                format!("{key} at {at}: {answer:?}, there: {there}")
            });
        }
    }

    fn serve(&mut self, world: &World) {
        let lacking = world.await_serving(FIRST_LEADER);
        let all = || format!("{lacking:?} do not serve: {}", world.describe());
        self.check(lacking.is_empty(), all);
    }

    /// Waits until a field of a member's status is as it must be.
    fn await_field(&mut self, world: &World, at: usize, name: &str, holds: impl Fn(&str) -> bool) {
        let began = Instant::now();
        while !holds(&says(world, at, name)) && began.elapsed() < FIRST_LEADER {
            std::thread::sleep(Duration::from_millis(100));
        }
        let is = says(world, at, name);
        self.check(holds(&is), || format!("{name} of {at} is {is}"));
    }

    /// Two of three are gone for good; one makes a cluster of what it has, and empty ones join. Then the same once more.
    fn majority_lost(&mut self, net: Net) -> Net {
        let directory = Directory::new("majority-lost");
        let mut world = begin_on(net, 3, self.again, &directory.0);
        let keys: Vec<String> = (0..KEYS).map(|number| format!("key/{number}")).collect();
        for (number, key) in keys.iter().enumerate() {
            self.put(&world, 1 + number % 3, key);
        }
        let leader = world.await_leader(FIRST_LEADER).unwrap_or(1);
        let others: Vec<usize> = (1..=3).filter(|number| *number != leader).collect();
        let (survivor, old) = (others[0], others[1]);
        self.has(&world, survivor, (&keys, true));
        let old_cluster = says(&world, survivor, "cluster");
        let dir = world.members[&survivor].dir.clone();
        let founding = world.founding();
        let words = ["recover", text(&dir), text(&founding)];
        self.control(&words, 1, "a daemon runs in");

        world.discard(leader);
        world.kill(old);
        let address = world.net.client_address(survivor).to_string();
        let (code, said) = self.again.control(&[&address, "put", "late", "late"]);
        self.check(matches!(code, Some(1 | 3)), || {
            format!("without a majority: {said}")
        });
        world.terminate(survivor, FIRST_LEADER);
        self.control(&words, 0, "cluster ");
        world.start(survivor);
        self.serve(&world);
        self.has(&world, survivor, (&keys, true));
        let cluster = says(&world, survivor, "cluster");
        self.check(cluster != old_cluster, || "the same cluster".into());
        let incarnation: u64 = says(&world, survivor, "incarnation").parse().unwrap_or(0);
        self.check(incarnation > LEAP, || format!("incarnation {incarnation}"));

        for number in [4, 5] {
            world.add(number);
            world.start(number);
        }
        let voting = world.await_voters(3, 2 * FIRST_LEADER);
        self.check(voting, || format!("no three voters: {}", world.describe()));
        self.put(&world, 4, "joined");
        let joined = [keys.clone(), vec!["joined".to_owned()]].concat();
        for number in [4, 5, survivor] {
            self.has(&world, number, (&joined, true));
        }
        self.drained(&mut world, 4);
        self.leaves(&mut world, 5);
        self.old_one_comes_back(&mut world, old, &cluster);

        // Also where there is a directory from before a recovery.
        [4, 6].into_iter().for_each(|number| world.discard(number));
        world.terminate(survivor, FIRST_LEADER);
        self.control(&words, 0, "member-before-recovery-2");
        world.start(survivor);
        self.serve(&world);
        self.has(&world, survivor, (&joined, true));
        self.put(&world, survivor, "again");
        self.found.append(&mut world.surprises);
        world.end()
    }

    /// A member that is drained leads no more and takes nothing; the others do.
    fn drained(&mut self, world: &mut World, number: usize) {
        let address = world.net.client_address(number).to_string();
        self.control(&[&address, "drain"], 0, "drained");
        self.control(&[&address, "put", "drained", "x"], 1, "error refused");
        self.control(&["--json", &address, "status"], 0, "\"leading\":false");
        self.put(world, 5, "meanwhile");
        world.terminate(number, FIRST_LEADER);
        world.start(number);
        self.serve(world);
    }

    /// One that leaves for good ends with a code of its own, and so does every later start.
    fn leaves(&mut self, world: &mut World, number: usize) {
        world.add(6);
        world.start(6);
        world.leaving.insert(number);
        let address = world.net.client_address(number).to_string();
        let (began, mut said) = (Instant::now(), (None, String::new()));
        let ended = |world: &mut World| {
            let member = world.members.get_mut(&number).expect("it was there");
            member.ended().map(|status| status.code())
        };
        // Until the new one can take its place; that may be between two requests.
        while said.0 != Some(0) && ended(world).is_none() && began.elapsed() < FIRST_LEADER {
            said = self.again.control(&[&address, "leave"]);
        }
        for turn in ["leaves", "is started again"] {
            let (began, mut code) = (Instant::now(), None);
            while code.is_none() && began.elapsed() < FIRST_LEADER {
                std::thread::sleep(Duration::from_millis(50));
                code = ended(world);
            }
            let right = code == Some(Some(i32::from(REMOVED)));
            self.check(right, || format!("{number} {turn}: {code:?}, {said:?}"));
            world.kill(number);
            if turn == "leaves" {
                world.start(number);
            }
        }
        world.discard(number);
        let voting = world.await_voters(3, FIRST_LEADER);
        self.check(voting, || format!("no three voters: {}", world.describe()));
    }

    /// A member of the cluster that was: it says so, serves nobody, and changes nothing.
    fn old_one_comes_back(&mut self, world: &mut World, old: usize, cluster: &str) {
        let leader = world.await_leader(FIRST_LEADER).unwrap_or(4);
        let term = says(world, leader, "term");
        world.start(old);
        self.await_field(world, old, "other", |other| other == cluster);
        let read = client::ask(world.net.client_address(old), "get key/1", LIMIT);
        let refused = read.as_ref().is_ok_and(|line| line.starts_with("error "));
        self.check(refused, || format!("the old one answers {read:?}"));
        let now = says(world, leader, "term");
        self.check(now == term, || format!("term {term} has become {now}"));
        self.put(world, leader, "beside");
        world.discard(old);
    }

    /// A cluster of a snapshot that another one has saved.
    fn restored(&mut self, net: Net) -> Net {
        let directory = Directory::new("restored");
        let mut world = begin_on(net, 1, self.again, &directory.0);
        self.put(&world, 1, "before");
        let address = world.net.client_address(1).to_string();
        self.control(&[&address, "save", "../elsewhere"], 1, "error usage");
        self.control(&[&address, "save", "kept"], 0, "saved ");
        self.control(&[&address, "save", "kept"], 1, "error refused");
        self.put(&world, 1, "behind");
        let cluster = says(&world, 1, "cluster");
        world.kill(1);

        world.add(2);
        let (file, founding) = (world.members[&1].dir.join("kept"), world.founding());
        let dir = world.members[&2].dir.clone();
        let words = ["restore", text(&dir), text(&file), text(&founding)];
        self.control(&words, 1, "the founding record names cluster");
        self.control(&[&words[..], &[&cluster]].concat(), 0, "with 1 keys");
        world.start(2);
        self.serve(&world);
        self.has(&world, 2, (&["before".to_owned()], true));
        self.has(&world, 2, (&["behind".to_owned()], false));
        self.put(&world, 2, "goes-on");
        world.end()
    }

    /// The only member has lost its disk: an empty one founds nothing until somebody says so.
    fn refounded(&mut self, net: Net) {
        let directory = Directory::new("refounded");
        let mut world = begin_on(net, 1, self.again, &directory.0);
        self.put(&world, 1, "lost");
        let cluster = says(&world, 1, "cluster");
        let (dir, founding) = (world.members[&1].dir.clone(), world.founding());
        let words = ["refound", text(&dir), text(&founding), &cluster];
        self.control(&words, 1, "a daemon runs in");
        world.kill(1);
        self.control(&words, 1, "has a log");
        std::fs::remove_dir_all(&dir).expect("it is there");
        world.start(1);
        self.await_field(&world, 1, "waiting", |waiting| waiting.contains("refound"));
        world.kill(1);
        self.control(&words, 0, "is founded when");
        world.start(1);
        self.serve(&world);
        let now = says(&world, 1, "cluster");
        self.check(now != cluster && !now.is_empty(), || {
            format!("cluster {now}")
        });
        self.has(&world, 1, (&["lost".to_owned()], false));
        self.put(&world, 1, "new");
    }
}
