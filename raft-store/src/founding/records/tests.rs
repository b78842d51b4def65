//! Records in files: one row, whoever comes at once, whatever the disk does.

use super::*;
use crate::disk::{Fault, SimDisk};
use crate::fuzz;
use crate::random::{Random, Seeded, SystemRandom};

fn founding(number: u8) -> Founding {
    Founding {
        uuid: ClusterId([number; 16]),
        founder: MemberId(u64::from(number)),
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("raft-store-record-{:016x}", SystemRandom.u64());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).expect("a new directory");
        Self(dir)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Left behind at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What any record does.
async fn behaves(record: &dyn FoundingRecord) {
    let (one, two, three) = (founding(1), founding(2), founding(3));
    assert_eq!(record.read().await, Ok(None));
    assert_eq!(record.replace(one.uuid, two).await, Ok(false));
    assert_eq!(record.create(one).await, Ok(Created::Yes));
    assert_eq!(record.create(two).await, Ok(Created::Exists(one)));
    assert_eq!(record.read().await, Ok(Some(one)));
    assert_eq!(record.replace(two.uuid, three).await, Ok(false));
    assert_eq!(record.replace(one.uuid, two).await, Ok(true));
    assert_eq!(record.read().await, Ok(Some(two)));
}

#[tokio::test]
async fn both_kinds_behave() {
    let directory = Directory::new();
    behaves(&FileRecord::new(directory.0.join("record"))).await;
    let disk = SimDisk::new(Arc::new(Seeded::new(1, "disk")));
    behaves(&Alone::new(Arc::new(disk), "member")).await;
}

#[test]
fn of_many_processes_at_once_one_creates() {
    let directory = Directory::new();
    let path = directory.0.join("record");
    let created: Vec<_> = std::thread::scope(|scope| {
        let starts = (1..=16).map(|number| {
            let record = FileRecord::new(&path);
            scope.spawn(move || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                let created = runtime.block_on(record.create(founding(number)));
                created.expect("it works")
            })
        });
        let threads: Vec<_> = starts.collect();
        let ends = threads.into_iter().map(|thread| thread.join());
        ends.map(|end| end.expect("no panic")).collect()
    });
    let yes = created.iter().filter(|one| **one == Created::Yes).count();
    assert_eq!(yes, 1);
    let row = FileRecord::new(&path)
        .load()
        .expect("whole")
        .expect("there");
    let others = created.iter().filter(|one| **one != Created::Yes);
    assert!(others.into_iter().all(|one| *one == Created::Exists(row)));
}

#[tokio::test]
async fn who_has_the_lock_and_is_stopped_stops_no_other() {
    let directory = Directory::new();
    let record = FileRecord::new(directory.0.join("record"));
    let stopped = record.lock().await.expect("free");
    let mut create = record.create(founding(1));
    let moment = Duration::from_millis(100);
    let waits = tokio::time::timeout(moment, &mut create).await;
    assert!(waits.is_err(), "and the thread goes on");
    assert_eq!(record.read().await, Ok(None));
    drop(stopped);
    assert_eq!(create.await, Ok(Created::Yes));
}

#[tokio::test]
async fn a_damaged_file_is_no_row_and_not_nothing() {
    let directory = Directory::new();
    let record = FileRecord::new(directory.0.join("record"));
    record.create(founding(1)).await.expect("created");
    let whole = fs::read(&record.path).expect("there");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        fs::write(&record.path, &damaged).expect("written");
        assert!(record.read().await.is_err(), "byte {at}");
        assert!(record.create(founding(2)).await.is_err(), "byte {at}");
    }
    fs::write(&record.path, &whole[..10]).expect("written");
    assert!(record.read().await.is_err());
}

#[tokio::test]
async fn a_power_cut_leaves_the_row_or_none() {
    for operation in 0.. {
        let disk = SimDisk::new(Arc::new(Seeded::new(operation, "disk")));
        let alone = || Alone::new(Arc::new(disk.clone()), "member");
        disk.fail_at(operation, Fault::PowerCut);
        let created = alone().create(founding(1)).await;
        let done = disk.operations() <= operation;
        disk.forgive();
        disk.power_cut();
        let row = alone().read().await.expect("whole");
        match created {
            Ok(_) => assert_eq!(row, Some(founding(1))),
            Err(_) => assert!(row.is_none_or(|row| row == founding(1))),
        }
        assert!(alone().create(founding(1)).await.is_ok());
        if done {
            return;
        }
    }
}

#[test]
fn fuzz_founding_record() {
    let example = fuzz::without_crc(&encode(founding(3)));
    fuzz::run("founding_record", &[example], fuzz::BRIEFLY, |input| {
        let bytes = fuzz::with_crc(input);
        if let Ok(read) = decode(&bytes) {
            assert_eq!(encode(read), bytes);
        }
    });
}
