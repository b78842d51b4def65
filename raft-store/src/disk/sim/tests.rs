//! What the simulated disk keeps and loses.

use super::*;
use crate::clock::RuntimeClock;
use crate::random::Seeded;

fn new() -> SimDisk {
    SimDisk::new(Arc::new(Seeded::new(1, "disk")))
}

fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(name), Open::Read).ok()?;
    let mut bytes = vec![0; file.len().expect("alive") as usize];
    file.read_at(&mut bytes, 0).expect("alive");
    Some(bytes)
}

/// A durable file `a` of four bytes, open.
fn with_file(disk: &SimDisk) -> Box<dyn File> {
    let mut file = disk.open(Path::new("a"), Open::Create).expect("new");
    file.write_at(b"good", 0).expect("written");
    file.sync_data().expect("synced");
    disk.sync_dir(Path::new("")).expect("synced");
    file
}

#[test]
fn a_power_cut_keeps_what_it_is_told() {
    let disk = new();
    let mut file = with_file(&disk);
    file.write_at(b"BA", 0).expect("written");
    file.write_at(b"DEED", 4).expect("written");
    assert_eq!(disk.unsynced(), [2, 4]);
    let after = |keeps: [Keep; 2]| {
        let left = disk.after_power_cut(0, &|change| keeps[change]);
        content(&left, "a").expect("its name is durable")
    };
    assert_eq!(after([Keep::Nothing; 2]), b"good");
    assert_eq!(after([Keep::Whole; 2]), b"BAodDEED");
    assert_eq!(after([Keep::Nothing, Keep::First(1)]), b"goodD");
    assert_eq!(after([Keep::AllBut(1), Keep::AllBut(2)]), b"gAod\0\0ED");
    file.sync_data().expect("synced");
    assert_eq!(after([Keep::Nothing; 2]), b"BAodDEED");
    disk.power_cut();
    assert!(file.write_at(b"x", 0).is_err(), "a file of an earlier life");
    assert_eq!(content(&disk, "a").as_deref(), Some(&b"BAodDEED"[..]));
}

#[test]
fn names_are_lost_from_the_last_on() {
    let disk = new();
    with_file(&disk);
    disk.rename(Path::new("a"), Path::new("b"))
        .expect("it exists");
    disk.open(Path::new("c"), Open::Create).expect("new");
    disk.remove(Path::new("b")).expect("it exists");
    assert_eq!(disk.unsynced_names(), 3);
    let names = |kept| {
        let left = disk.after_power_cut(kept, &|_| Keep::Whole);
        left.list(Path::new("")).expect("listed")
    };
    assert_eq!(names(0), [Path::new("a")]);
    assert_eq!(names(1), [Path::new("b")]);
    assert_eq!(names(2), [Path::new("b"), Path::new("c")]);
    assert_eq!(names(3), [Path::new("c")]);
}

#[test]
fn faults_come_when_they_are_due() {
    let disk = new();
    let mut file = with_file(&disk);
    let next = disk.operations();
    disk.fail_at(next, Fault::ShortWrite);
    disk.fail_at(next + 1, Fault::Refused);
    disk.fail_at(next + 3, Fault::PowerCut);
    assert!(file.write_at(b"BAAD", 0).is_err());
    assert!(file.write_at(b"never", 0).is_err());
    assert_eq!(content(&disk, "a").as_deref(), Some(&b"BAod"[..]));
    file.sync_data().expect("synced");
    assert!(file.write_at(b"x", 0).is_err() && file.sync_data().is_err());
    disk.kill();
    assert_eq!(content(&disk, "a").as_deref(), Some(&b"BAod"[..]));
    disk.set_capacity_bytes(10);
    let mut file = disk.open(Path::new("a"), Open::Write).expect("it exists");
    let full = file.write_at(b"sixteen letters.", 0).err();
    assert_eq!(
        full.map(|error| error.kind()),
        Some(io::ErrorKind::StorageFull)
    );
    assert_eq!(disk.free_bytes().expect("known"), 6);
}

/// After a failed sync what can be read is not what a power cut leaves, and another sync does not help.
#[test]
fn a_failed_sync_is_not_made_good() {
    let lost = (0..20).filter(|seed| {
        let disk = SimDisk::new(Arc::new(Seeded::new(*seed, "disk")));
        let mut file = with_file(&disk);
        file.write_at(b"evil", 0).expect("written");
        disk.fail_at(disk.operations(), Fault::FailedSync);
        assert!(file.sync_data().is_err());
        file.sync_data().expect("it says yes");
        assert_eq!(content(&disk, "a").as_deref(), Some(&b"evil"[..]));
        disk.power_cut();
        content(&disk, "a").as_deref() == Some(b"good")
    });
    let lost = lost.count();
    assert!((3..18).contains(&lost), "{lost} of 20");
}

/// A power cut in the middle of a sync finds it done or not; behind its end it is.
#[tokio::test(start_paused = true)]
async fn a_sync_is_durable_between_its_beginning_and_its_end() {
    let mut done = [0; 3];
    for seed in 0..40 {
        for (at, done) in done.iter_mut().enumerate() {
            let disk = SimDisk::new(Arc::new(Seeded::new(seed, "disk")));
            let mut file = with_file(&disk);
            disk.set_clock(Arc::new(RuntimeClock::new(0)));
            let time = Duration::from_millis(100);
            disk.set_sync_time(time, time);
            file.write_at(b"well", 0).expect("written");
            assert_eq!(file.sync_data().expect("begun"), time);
            tokio::time::sleep(time / 2 * at as u32).await;
            file.write_at(b"late", 4).expect("written");
            let left = disk.after_power_cut(9, &|_| Keep::Nothing);
            let there = content(&left, "a").expect("its name is durable");
            assert!(there == b"good" || there == b"well", "{there:?}");
            *done += usize::from(there == b"well");
        }
    }
    let [begun, half, over] = done;
    assert!(begun < 5 && (10..30).contains(&half), "{begun}, {half}");
    assert_eq!(over, 40);
}

/// It goes on without the process, but not without power; and who has waited for it has it.
#[tokio::test(start_paused = true)]
async fn a_sync_under_way_meets_a_kill_a_failing_power_and_who_waits() {
    let time = Duration::from_millis(100);
    let begun = |seed| {
        let disk = SimDisk::new(Arc::new(Seeded::new(seed, "disk")));
        let mut file = with_file(&disk);
        disk.set_clock(Arc::new(RuntimeClock::new(0)));
        disk.set_sync_time(time, time);
        file.write_at(b"well", 0).expect("written");
        file.sync_data().expect("begun");
        (disk, file)
    };
    let left = |disk: &SimDisk| {
        let left = disk.after_power_cut(9, &|_| Keep::Nothing);
        content(&left, "a").expect("its name is durable")
    };
    let (disk, _) = begun(1);
    disk.kill();
    tokio::time::sleep(time).await;
    assert_eq!(left(&disk), b"well");

    let lost = (0..20).filter(|seed| {
        let (disk, mut file) = begun(*seed);
        disk.fail_at(disk.operations(), Fault::PowerCut);
        assert!(file.write_at(b"x", 4).is_err());
        file.wait_for_sync();
        left(&disk) == b"good"
    });
    assert!(lost.count() > 15, "no time has passed");

    let (disk, mut file) = begun(1);
    file.wait_for_sync();
    assert_eq!(left(&disk), b"well");
}
