//! The map against a `BTreeMap`, with seeded random operations.

use super::*;
use crate::ids::Revision;
use crate::state::test_random::Random;
use std::collections::BTreeMap;

type Model = BTreeMap<Vec<u8>, Record>;

fn chunks(map: &Map) -> Vec<&Chunk> {
    let mut found = Vec::new();
    let mut at = (0, 0);
    while let Some((chunk, behind)) = map.chunk_at(at) {
        found.push(chunk);
        at = behind;
    }
    found
}

/// Keys that share beginnings, so that borders fall inside them.
fn key(random: &mut Random, keys: u64) -> Vec<u8> {
    let number = random.below(keys);
    let name = ["a/", "b/", "b/long/common/beginning/", "z"][(number % 4) as usize];
    format!("{name}{number:x}").into_bytes()
}

fn record(random: &mut Random, key: &[u8], revision: u64) -> Record {
    let value = vec![7; random.below(40) as usize];
    let owner = random.below(80);
    let owner = (owner > 0).then(|| Incarnation(owner * 100));
    Record::new(key, &value, Revision(revision), owner)
}

/// One random put or removal in both; they answer alike.
fn step(map: &mut Map, model: &mut Model, random: &mut Random, at: u64, puts_of_8: u64) {
    let key = key(random, 3000);
    if random.below(8) < puts_of_8 {
        let record = record(random, &key, at);
        assert_eq!(map.put(record.clone()), model.insert(key, record));
    } else {
        assert_eq!(map.remove(&key), model.remove(&key));
    }
}

fn assert_same(map: &Map, model: &Model) {
    assert!(map.iter().eq(model.values()));
    assert_eq!(map.len(), model.len());
    let bytes = model.values().map(|record| record.payload_bytes() as u64);
    assert_eq!(map.payload_bytes(), bytes.sum::<u64>());
    let hashes = model.values().map(Record::hash);
    assert_eq!(map.hash(), hashes.fold(0, u128::wrapping_add));
    for chunk in chunks(map) {
        assert!((1..=FULL).contains(&chunk.records().len()));
        let fresh = Chunk::of(chunk.records().to_vec());
        assert_eq!(
            (chunk.payload_bytes, chunk.hash),
            (fresh.payload_bytes, fresh.hash)
        );
        assert_eq!(
            fresh.owners & !chunk.owners,
            0,
            "an owner that is here is noted"
        );
        let found = |at: usize| chunk.find(chunk.records()[at].key()) == Some(at);
        assert!((0..chunk.records().len()).all(found), "tags are in order");
    }
}

#[test]
fn it_is_a_btree_map() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let (mut map, mut model) = (Map::new(), Model::new());
        // Grows, shrinks to nearly nothing, grows again.
        for (phase, puts_of_8) in [6, 1, 5, 3].into_iter().enumerate() {
            for at in 0..5000 {
                let revision = phase as u64 * 5000 + at;
                step(&mut map, &mut model, &mut random, revision, puts_of_8);
            }
            assert_same(&map, &model);
            for _ in 0..500 {
                let key = key(&mut random, 3000);
                assert_eq!(map.get(&key), model.get(&key));
            }
        }
        for key in model.keys().cloned().collect::<Vec<_>>() {
            assert!(map.remove(&key).is_some());
        }
        assert!(map.is_empty() && map.iter().next().is_none());
        assert_eq!((map.hash(), map.payload_bytes()), (0, 0));
    }
}

#[test]
fn many_branches() {
    let mut random = Random::new(5);
    let (mut map, mut model) = (Map::new(), Model::new());
    for at in 0..60_000u64 {
        let key = random.next().to_be_bytes();
        let record = record(&mut random, &key, at);
        map.put(record.clone());
        model.insert(key.to_vec(), record);
    }
    assert!(map.branches.len() > 4, "{} branches", map.branches.len());
    assert_same(&map, &model);
    for key in model.keys().cloned().collect::<Vec<_>>() {
        if random.below(50) > 0 {
            map.remove(&key);
            model.remove(&key);
        }
    }
    assert_same(&map, &model);
    assert_eq!(map.branches.len(), 1, "sparse branches join");
    let chunks = chunks(&map).len();
    assert!(
        chunks * SPARSE <= map.len(),
        "{chunks} chunks for {}",
        map.len()
    );
}

/// Ranges that come and go empty whole chunks and branches, also the first of a row, and fill them from below.
#[test]
fn ranges_that_come_and_go() {
    let mut random = Random::new(12);
    let (mut map, mut model) = (Map::new(), Model::new());
    for round in 0..90u64 {
        let begin = random.below(40_000) as u32;
        let numbers = begin..begin + random.below(9000) as u32;
        let remove = random.below(2) == 0;
        let descending = random.below(2) == 0;
        for at in numbers.clone() {
            let at = if descending {
                numbers.end - 1 - (at - begin)
            } else {
                at
            };
            // Some stay, or are left out.
            if random.below(40) == 0 {
                continue;
            }
            let key = at.to_be_bytes();
            if remove {
                assert_eq!(map.remove(&key), model.remove(&key[..]));
            } else {
                let record = Record::new(&key, b"v", Revision(round), None);
                assert_eq!(map.put(record.clone()), model.insert(key.to_vec(), record));
            }
        }
        if round % 10 == 9 {
            assert_same(&map, &model);
            assert!(model.keys().all(|key| map.get(key).is_some()));
        }
    }
}

#[test]
fn rising_keys_fill_chunks() {
    let mut map = Map::new();
    for at in 0..10_000u32 {
        map.put(Record::new(&at.to_be_bytes(), b"", Revision(1), None));
    }
    assert_eq!(chunks(&map).len(), 10_000usize.div_ceil(FULL));
}

#[test]
fn a_clone_keeps_what_it_saw() {
    let mut random = Random::new(1);
    let (mut map, mut model) = (Map::new(), Model::new());
    let mut clones = Vec::new();
    for at in 0..20_000 {
        if at % 2000 == 0 {
            clones.push((map.clone(), model.clone()));
        }
        step(&mut map, &mut model, &mut random, at, 5);
    }
    for (map, model) in &clones {
        assert_same(map, model);
    }
}

#[test]
fn scans_usage_and_owners() {
    let mut random = Random::new(3);
    let (mut map, mut model) = (Map::new(), Model::new());
    for at in 0..8000 {
        step(&mut map, &mut model, &mut random, at, 6);
    }
    let starts: [&[u8]; 7] = [b"", b"a/", b"b/", b"b/long", b"b/1", b"zz", b"z"];
    for prefix in starts {
        let with = || model.iter().filter(|(key, _)| key.starts_with(prefix));
        assert!(map.scan(prefix, None).eq(with().map(|(_, record)| record)));
        for after in [
            &b"b/5"[..],
            b"b/long/common/beginning/1",
            b"a",
            b"~",
            b"a/0",
        ] {
            let behind = with().filter(|(key, _)| &key[..] > after);
            assert!(
                map.scan(prefix, Some(after))
                    .eq(behind.map(|(_, record)| record)),
                "{prefix:?} after {after:?}"
            );
        }
        let usage = map.usage(prefix);
        assert_eq!(usage.keys, with().count());
        let bytes = with().map(|(_, record)| record.payload_bytes() as u64);
        assert_eq!(usage.payload_bytes, bytes.sum::<u64>());
    }
    for owner in [100, 200, 300].map(Incarnation) {
        let owned = |record: &&Record| record.owner() == Some(owner);
        let expected: Vec<_> = model.values().filter(owned).cloned().collect();
        let mut found = Vec::new();
        let mut after = Vec::new();
        loop {
            let part = map.owned_after(owner, &after, 7);
            let Some(last) = part.last() else {
                break;
            };
            after = last.key().to_vec();
            found.extend(part);
        }
        assert_eq!(found, expected);
    }
}

/// The records of a map in chunks of another size.
fn cut_anew(map: &Map, size: usize) -> Map {
    let mut other = Map::new();
    let records: Vec<_> = map.iter().cloned().collect();
    for chunk in records.chunks(size) {
        assert!(other.append(chunk.to_vec()));
    }
    other
}

#[test]
fn the_hash_knows_no_chunks() {
    let mut random = Random::new(9);
    let (mut map, mut model) = (Map::new(), Model::new());
    for at in 0..5000 {
        step(&mut map, &mut model, &mut random, at, 6);
    }
    for size in [1, 7, 64, FULL] {
        let other = cut_anew(&map, size);
        assert_same(&other, &model);
        assert_eq!(other.hash(), map.hash());
        assert_eq!(difference(&map, &other, 0), Some(Vec::new()));
    }
}

#[test]
fn appended_records_must_rise() {
    let record = |key: &[u8]| Record::new(key, b"", Revision(1), None);
    let mut map = Map::new();
    assert!(map.append(vec![record(b"b"), record(b"c")]));
    assert!(!map.append(vec![record(b"c")]));
    assert!(!map.append(vec![record(b"e"), record(b"d")]));
    assert!(!map.append(vec![record(b"d"), record(b"d")]));
    assert!(map.append(Vec::new()));
    assert!(map.append(vec![record(b"d")]));
    let too_many = (0..=FULL as u32).map(|at| record(&[&b"e"[..], &at.to_be_bytes()].concat()));
    assert!(!map.append(too_many.collect()));
    assert_eq!(map.len(), 3);
}

/// Applies changes to a model of the old map.
fn replay(model: &mut Model, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(record) => {
                let key = record.key().to_vec();
                assert_ne!(model.insert(key, record.clone()), Some(record));
            }
            Change::Removed(key) => assert!(model.remove(&key[..]).is_some()),
        }
    }
}

#[test]
fn a_difference_leads_from_one_to_the_other() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let (mut map, mut model) = (Map::new(), Model::new());
        for at in 0..4000 {
            step(&mut map, &mut model, &mut random, at, 6);
        }
        let (old, mut replayed) = (map.clone(), model.clone());
        let mut touched = 0;
        for at in 0..random.below(300) {
            step(&mut map, &mut model, &mut random, 10_000 + at, 4);
            touched += 1;
        }
        // The same content from a snapshot of this member, of a member cut otherwise, and by lineage.
        for new in [map.clone(), cut_anew(&map, 50), cut_anew(&map, 128)] {
            let mut replayed = replayed.clone();
            let changes = difference(&old, &new, touched).expect("no more than were made");
            let many = changes.len();
            replay(&mut replayed, changes);
            assert_eq!(replayed, model);
            if many > 0 {
                assert_eq!(difference(&old, &new, many - 1), None);
            }
        }
        replay(
            &mut replayed,
            difference(&old, &Map::new(), 3000).expect("all"),
        );
        assert!(replayed.is_empty());
        assert_eq!(
            difference(&Map::new(), &old, 3000).map(|c| c.len()),
            Some(old.len())
        );
    }
}

/// What glibc takes for an allocation: 8 bytes more, in steps of 16, at least 32.
fn taken(asked: usize) -> usize {
    if asked == 0 {
        0
    } else {
        (asked + 8).next_multiple_of(16).max(32)
    }
}

fn border<T>(child: &Child<T>) -> usize {
    match &child.from {
        Border::Short(..) => 0,
        Border::Long(bytes) => taken(bytes.len()),
    }
}

fn row<T>(row: &Row<T>) -> usize {
    let children = taken(row.children.capacity() * size_of::<Child<T>>());
    children + taken(row.heads.capacity() * size_of::<u64>())
}

/// All allocations of a map.
fn memory(map: &Map) -> usize {
    const COUNTS: usize = 16;
    let chunk = |child: &Child<Chunk>| {
        let records = child.node.records.iter();
        let records: usize = records.map(|is| taken(COUNTS + is.as_bytes().len())).sum();
        let row = taken(child.node.records.capacity() * size_of::<Record>());
        records + row + taken(COUNTS + size_of::<Chunk>()) + border(child)
    };
    let branch = |child: &Child<Branch>| {
        let of_chunks = row(&child.node.chunks);
        let chunks: usize = child.node.chunks.iter().map(chunk).sum();
        chunks + of_chunks + taken(COUNTS + size_of::<Branch>()) + border(child)
    };
    row(&map.branches) + map.branches.iter().map(branch).sum::<usize>()
}

#[test]
fn a_record_takes_at_most_72_bytes_over_key_and_value() {
    for owned in [false, true] {
        for rising in [false, true] {
            let mut random = Random::new(6);
            let mut map = Map::new();
            for at in 0..60_000u64 {
                let spread = if rising { at } else { random.next() };
                let key = format!("session/{spread:016x}");
                let value = vec![7; 60 + (at % 16) as usize];
                // Numbers as they are after years: more than four bytes each.
                let owner = owned.then_some(Incarnation((1 << 33) + at % 5));
                map.put(Record::new(
                    key.as_bytes(),
                    &value,
                    Revision((1 << 34) + at),
                    owner,
                ));
            }
            let over = memory(&map) as f64 - map.payload_bytes() as f64;
            let each = over / map.len() as f64;
            assert!(
                each <= 72.0,
                "{each:.1} bytes, owned {owned}, rising {rising}"
            );
            assert!(each > 40.0, "{each:.1} bytes: something was not counted");
            println!("{each:.1} bytes, owned {owned}, rising {rising}");
        }
    }
}

#[test]
fn joined_branches_keep_what_was_below_the_first_border() {
    let key = |at: u32| at.to_be_bytes();
    let record = |at: u32| Record::new(&key(at), b"", Revision(1), None);
    let mut map = Map::new();
    for at in 0..FULL as u32 + 60 {
        assert!(map.append(vec![record(at * 10)]));
    }
    assert_eq!(map.branches.len(), 2);
    // The second branch loses its first chunk, and gets a key below the border of the next.
    let first = FULL as u32 * 10;
    map.remove(&key(first));
    map.put(record(first + 5));
    for at in 0..FULL as u32 - 20 {
        map.remove(&key(at * 10));
    }
    assert_eq!(map.branches.len(), 1);
    assert!(map.get(&key(first + 5)).is_some());
}
