//! Members on a simulated network: many empty directories at once, disks that are lost, and disks that come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use raft_store::discovery::{Discovery, Fixed};
use raft_store::disk::SimDisk;
use raft_store::founding::Founding;
use raft_store::ids::{ClusterId, MemberId};
use raft_store::offline::recover;
use raft_store::random::{Random, Seeded};
use raft_store::transport::sim::Network;
use raft_store::{Error, Expect, Parts, Role, open};
use tokio::time::{Instant, sleep};

use super::member::{Date, Member, after, parts, settings, with_transport};
use super::record::Record;

/// Machines that may start members.
struct World {
    seed: u64,
    network: Network,
    record: Record,
    addresses: Vec<String>,
}

/// One machine: its disk, its address, and what its member draws from.
#[derive(Clone)]
struct Machine {
    disk: SimDisk,
    address: String,
    stream: String,
    lives: u64,
}

impl World {
    fn new(seed: u64, machines: usize) -> (World, Vec<Machine>) {
        let network = Network::new(Arc::new(Seeded::new(seed, "net")));
        let addresses: Vec<_> = (0..machines).map(|at| format!("machine-{at}:1")).collect();
        let new = |at: usize| Machine::new(seed, &addresses[at], &format!("machine/{at}"));
        let machines = (0..machines).map(new).collect();
        let world = World {
            seed,
            network,
            record: Record::default(),
            addresses,
        };
        (world, machines)
    }

    fn parts(&self, machine: &Machine, id: MemberId) -> (Parts, Arc<raft_store::gate::Gate>) {
        let transport = self.network.transport(id, &machine.address);
        let (mut parts, gate) = with_transport(&machine.disk, &self.record, self.seed, transport);
        let stream = match machine.lives {
            0 => machine.stream.clone(),
            life => format!("{}/{life}", machine.stream),
        };
        parts.random = Arc::new(Seeded::new(self.seed, &stream));
        let way: Box<dyn Discovery> = Box::new(Fixed(self.addresses.clone()));
        parts.discovery = Arc::new([way]);
        (parts, gate)
    }

    /// A member starts on a machine.
    async fn start(&self, machine: &mut Machine) -> Member {
        let id = machine.id(self.seed);
        let (parts, gate) = self.parts(machine, id);
        machine.lives += 1;
        let mut settings = settings("member");
        settings.info.addresses = vec![machine.address.clone()];
        settings.snapshot_interval = Duration::ZERO;
        settings.snapshot_entries = 50;
        let tasks = parts.tasks.clone();
        let opened = tasks.spawn(open(settings, parts)).await;
        let (store, fatal) = opened.expect("no panic").expect("it opens");
        Member {
            disk: machine.disk.clone(),
            gate,
            store,
            _fatal: fatal,
        }
    }

    fn kill(&self, machine: &Machine, member: Member) {
        self.network.crash(machine.id(self.seed));
        member.kill();
    }

    async fn start_all(&self, machines: &mut [Machine]) -> Vec<Member> {
        let mut members = Vec::new();
        for machine in machines {
            members.push(self.start(machine).await);
        }
        members
    }
}

impl Machine {
    fn new(seed: u64, address: &str, stream: &str) -> Self {
        Self {
            disk: SimDisk::new(Arc::new(Seeded::new(seed, &format!("{stream}/disk")))),
            address: address.to_owned(),
            stream: stream.to_owned(),
            lives: 0,
        }
    }

    /// The id that its directory has or will have: the first draw of its stream.
    fn id(&self, seed: u64) -> MemberId {
        MemberId(Seeded::new(seed, &self.stream).u64())
    }
}

async fn all_ready(members: &[Member], seed: u64) {
    for (at, member) in members.iter().enumerate() {
        let ready = member.store.ready(after(120)).await;
        let belonging = member.store.belonging();
        ready.unwrap_or_else(|error| panic!("seed {seed}, member {at}: {error}, {belonging:?}"));
    }
}

fn clusters(members: &[Member]) -> BTreeSet<Option<ClusterId>> {
    let all = members.iter();
    all.map(|member| member.store.belonging().cluster).collect()
}

async fn ten_found_one(seed: u64, prepare: impl Fn(&Record)) {
    let (world, mut machines) = World::new(seed, 10);
    prepare(&world.record);
    let members = world.start_all(&mut machines).await;
    all_ready(&members, seed).await;
    let found = clusters(&members);
    assert_eq!(found.len(), 1, "seed {seed}: {found:?}");
    let row = world.record.row().expect("a row");
    assert_eq!(found.first(), Some(&Some(row.uuid)), "seed {seed}");
    assert_eq!(world.record.created(), 1, "seed {seed}");
    members[3].put("key", "value").await;
    for member in &members {
        let read = member.store.get_linearizable(b"key", after(10)).await;
        let (found, _) = read.expect("a quorum");
        assert!(found.is_some(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_at_once_found_one_cluster() {
    for seed in 0..10 {
        ten_found_one(seed, |_| {}).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ten_at_once_over_a_bad_record() {
    for seed in 10..20 {
        let spoil = |record: &Record| {
            record.lose_replies(1 + seed as u32 % 5);
            record.read_old(seed as u32 % 3);
        };
        ten_found_one(seed, spoil).await;
    }
}

/// Three members, all of them voters.
async fn three(seed: u64) -> (World, Vec<Machine>, Vec<Member>) {
    let (world, mut machines) = World::new(seed, 3);
    let members = world.start_all(&mut machines).await;
    all_ready(&members, seed).await;
    voters(&members, 3).await;
    (world, machines, members)
}

fn voters_seen(member: &Member) -> usize {
    let status = member.store.status();
    let members = status.map(|status| status.members).unwrap_or_default();
    let votes = |role| matches!(role, Role::Leader | Role::Voter);
    members.iter().filter(|one| votes(one.role)).count()
}

/// Waits until somebody sees so many voters.
async fn voters(members: &[Member], count: usize) {
    for _ in 0..300 {
        if members.iter().any(|member| voters_seen(member) == count) {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!("no {count} voters: {:?}", members[0].store.status());
}

#[tokio::test(start_paused = true)]
async fn a_wiped_disk_comes_back_as_a_stranger_under_its_address() {
    for seed in 30..34 {
        let (world, machines, mut members) = three(seed).await;
        let cluster = members[0].cluster();
        members[0].put_all(0..20).await;
        let at = seed as usize % 3;
        world.kill(&machines[at], members.remove(at));
        let address = machines[at].address.clone();
        let mut wiped = Machine::new(seed, &address, &format!("wiped/{at}"));
        let member = world.start(&mut wiped).await;
        member.store.ready(after(60)).await.expect("it joins");
        assert_eq!(member.cluster(), cluster, "seed {seed}");
        assert_ne!(member.id(), machines[at].id(seed));
        let barrier = member.store.read_barrier(after(10)).await;
        barrier.expect("a quorum");
        member.has_all(0..20);
        assert_eq!(world.record.created(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_founders_wiped_disk_founds_nothing_even_if_the_record_forgets() {
    let (world, machines, mut members) = three(40).await;
    let cluster = members[0].cluster();
    world.kill(&machines[0], members.remove(0));
    world.record.set(None);
    let mut wiped = Machine::new(40, &machines[0].address, "wiped");
    let member = world.start(&mut wiped).await;
    member.store.ready(after(60)).await.expect("it joins");
    assert_eq!(member.cluster(), cluster);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(world.record.row().map(|row| row.uuid), Some(cluster));
}

#[tokio::test(start_paused = true)]
async fn an_old_backup_is_found_out() {
    for seed in 50..54 {
        let (world, mut machines, mut members) = three(seed).await;
        members[0].put_all(0..20).await;
        let leads = |member: &Member| member.store.inspect().leading;
        let at = members.iter().position(|member| !leads(member));
        let at = at.expect("one leads alone");
        sleep(Duration::from_secs(1)).await;
        let backup = members[at].disk.copy();
        members[0].put_all(20..60).await;
        sleep(Duration::from_secs(1)).await;
        world.kill(&machines[at], members.remove(at));
        machines[at].disk = backup;
        let restored = world.start(&mut machines[at]).await;
        let ready = restored.store.ready(after(60)).await;
        assert!(ready.is_err(), "seed {seed}: {ready:?}");
        let waiting = restored
            .store
            .belonging()
            .waiting
            .expect("it says what for");
        assert!(
            waiting.what.contains("set back"),
            "seed {seed}: {waiting:?}"
        );
        let id = machines[at].id(seed);
        let barred = |member: &Member| {
            let members = member.store.status().expect("open").members;
            let seen = members.into_iter().find(|one| one.member == id);
            seen.and_then(|one| one.seen)
                .is_some_and(|seen| seen.barred)
        };
        assert!(members.iter().any(barred), "seed {seed}");
        // What was acknowledged is there.
        members[0].put("key/60", "60").await;
        members[0].has_all(0..61);
        // When its run is over it is barred for ever and by all, whoever leads; nobody can take its place.
        sleep(Duration::from_secs(15)).await;
        for member in &members {
            let status = member.store.status().expect("open");
            let role = status.members.iter().find(|one| one.member == id);
            assert_eq!(role.map(|one| one.role), Some(Role::Removed), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_quorum_says_so_at_once() {
    let (world, machines, members) = three(56).await;
    sleep(Duration::from_secs(3)).await;
    let leads = |member: &Member| member.store.inspect().leading;
    let at = members.iter().position(leads).expect("somebody leads");
    let ids: Vec<_> = machines.iter().map(|machine| machine.id(56)).collect();
    for other in (0..3).filter(|other| *other != at) {
        world.network.cut(ids[at], ids[other]);
    }
    sleep(Duration::from_millis(1_300)).await;
    assert!(leads(&members[at]), "it knows of no other");
    let (began, value) = (Instant::now(), "value".into());
    let put = members[at]
        .store
        .put_if(b"key", value, Expect::Any, None, after(60));
    let refused = put.await;
    assert!(matches!(refused, Err(Error::NoQuorum)), "{refused:?}");
    assert_eq!(began.elapsed(), Duration::ZERO);
    let read = members[at].store.read_barrier(after(5)).await;
    assert!(matches!(read, Err(Error::NoQuorum)), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn the_address_of_another_cluster_leads_nobody_astray() {
    let (world, mut machines) = World::new(60, 6);
    let (mut one, mut other) = (machines.split_off(3), machines);
    let here = world.start_all(&mut one).await;
    all_ready(&here, 60).await;
    // Another record, and all addresses of both.
    let second = World {
        seed: world.seed,
        network: world.network.clone(),
        record: Record::default(),
        addresses: other
            .iter()
            .map(|machine| machine.address.clone())
            .collect(),
    };
    let there = second.start_all(&mut other).await;
    all_ready(&there, 60).await;
    let both = World {
        addresses: world.addresses.clone(),
        ..second
    };
    assert_eq!((clusters(&here).len(), clusters(&there).len()), (1, 1));
    assert_ne!(clusters(&here), clusters(&there));
    // An address of one cluster leads to a member of the other, and everybody starts again with all addresses.
    let at = one[0].address.clone();
    one[0].address = other[0].address.clone();
    other[0].address = at;
    for (world, machines, members) in [(&world, &mut one, here), (&both, &mut other, there)] {
        let before = clusters(&members);
        for (machine, member) in machines.iter().zip(members) {
            world.kill(machine, member);
        }
        sleep(Duration::from_secs(1)).await;
        let again = world.start_all(machines).await;
        all_ready(&again, 60).await;
        assert_eq!(clusters(&again), before);
        again[1].put("key", "value").await;
        for member in again {
            assert_eq!(member.store.belonging().other, None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_cluster_behind_a_partition_is_noticed() {
    let (world, mut machines) = World::new(70, 2);
    let first = world.start(&mut machines[0]).await;
    first.store.ready(after(60)).await.expect("founded");
    let own = first.cluster();
    // The record forgets while nobody reaches the only one that could say so.
    let ids = [machines[0].id(70), machines[1].id(70)];
    world.network.cut(ids[0], ids[1]);
    world.record.set(None);
    let second = world.start(&mut machines[1]).await;
    second.store.ready(after(60)).await.expect("founded");
    let other = second.cluster();
    assert_ne!(own, other, "nobody could know");
    sleep(Duration::from_secs(70)).await;
    assert_eq!(first.store.belonging().other, Some(other));
    let ready = first.store.ready(after(1)).await;
    assert!(matches!(ready, Err(Error::OtherCluster(_))), "{ready:?}");
    assert_eq!(first.cluster(), own);
    assert_eq!(second.store.belonging().other, None);
    world.network.heal_all();
    sleep(Duration::from_secs(70)).await;
    assert_eq!((first.cluster(), second.cluster()), (own, other));
}

#[tokio::test(start_paused = true)]
async fn any_survivor_of_three_recovers_what_all_had() {
    for survivor in 0..3 {
        let seed = 80 + survivor as u64;
        let (world, machines, members) = three(seed).await;
        members[0].put_all(0..100).await;
        let old = members[0].cluster();
        sleep(Duration::from_secs(2)).await;
        for (machine, member) in machines.iter().zip(members) {
            world.kill(machine, member);
        }
        let disk = machines[survivor].disk.clone();
        let into = std::path::Path::new("new");
        let (offline, _gate) = parts(&disk, &world.record, seed + 1000);
        let anew = recover(&settings("member"), (&offline, &Date(1)), into, None).await;
        let anew = anew.expect("recovered");
        let row: Option<Founding> = world.record.row();
        assert_eq!(row.map(|row| row.uuid), Some(anew.cluster));
        let member = Member::ready(&disk, &world.record, "new", seed + 2000).await;
        member.has_all(0..100);
        assert!(member.cluster() == anew.cluster && anew.cluster != old);
        member.put("key/100", "100").await;
        let status = member.store.status().expect("open");
        assert_eq!(status.removed, 3, "nobody of before comes back");
    }
}
