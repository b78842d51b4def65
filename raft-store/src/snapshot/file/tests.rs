//! Snapshots: they come back, and nothing else does.

use super::blocks::{Blocks, MAGIC, Source};
use super::*;
use crate::entry::EntryBody;
use crate::fuzz;
use crate::state::test_random::Random;
use crate::state::test_world::{World, small_limits};

fn encoded_state(state: &State, meta: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = write(state, meta, &mut bytes).expect("a vector takes all");
    assert_eq!(written.bytes, bytes.len() as u64);
    bytes
}

fn load(bytes: &[u8], limits: Limits) -> Result<Loaded, Error> {
    read(&mut &bytes[..], limits)
}

#[test]
fn a_state_goes_on_from_its_snapshot_as_if_nothing_had_been() {
    for seed in 0..25 {
        let mut world = World::new(seed, small_limits());
        let mut followers: Vec<State> = Vec::new();
        for at in 0..400 {
            let (index, body, applied) = world.step();
            for follower in &mut followers {
                assert_eq!(follower.apply(index, &body), Ok(applied.clone()));
                assert_eq!(follower.hash(), world.state.hash());
            }
            if at % 80 == 0 {
                let bytes = encoded_state(&world.state, b"meta");
                let loaded = load(&bytes, small_limits()).expect("as written");
                assert_eq!(loaded.meta, b"meta");
                assert_eq!(loaded.bytes, bytes.len() as u64);
                assert_eq!(loaded.state.head(), world.state.head());
                assert!(loaded.state.members() == world.state.members());
                assert!(loaded.state.windows().eq(world.state.windows()));
                assert_eq!(encoded_state(&loaded.state, b"meta"), bytes, "one encoding");
                followers.push(loaded.state);
            }
        }
    }
}

#[test]
fn many_blocks() {
    let limits = Limits {
        format_known: 2,
        ..Limits::default()
    };
    let mut state = State::new(limits);
    let mut random = Random::new(2);
    let mut world = World::new(2, limits);
    for _ in 0..200 {
        let (index, body) = world.entry();
        state.apply(index, &body).expect("in order");
    }
    let runs: Vec<_> = state.windows().map(|(run, _)| run).collect();
    for sequence in 10_000..10_100u64 {
        use crate::entry::{Action, Expect, Op, Proposal, Write};
        let write = Write {
            key: random.bytes(30).into(),
            expect: Expect::Any,
            action: Action::Put {
                value: vec![1; random.below(60_000) as usize].into(),
                owner: None,
            },
        };
        let id = crate::ids::ProposalId {
            incarnation: runs[0],
            sequence,
        };
        let proposals = vec![Proposal {
            id,
            lowest_unanswered: 1,
            op: Op::Write(write),
        }];
        let close = None;
        let body = EntryBody { proposals, close };
        state.apply(sequence, &body).expect("in order");
    }
    let meta = vec![9; META_BYTES];
    let bytes = encoded_state(&state, &meta);
    assert!(bytes.len() > 8 * SNAPSHOT_BLOCK_BYTES);
    let loaded = load(&bytes, limits).expect("as written");
    assert_eq!(loaded.state.head(), state.head());
    // An older build says why it does not start.
    let refused = load(&bytes, Limits::default());
    let older = Error::ClusterFormat { found: 2, known: 1 };
    assert_eq!(
        refused.map(|_| ()).map_err(|error| error.to_string()),
        Err(older.to_string())
    );
    // Two neighbouring blocks change places.
    let length = |at: usize| {
        let field = bytes[at..at + 4].try_into().expect("four bytes");
        13 + u32::from_le_bytes(field) as usize
    };
    let first = 10;
    let second = first + length(first);
    let third = second + length(second);
    let (one, two) = (&bytes[first..second], &bytes[second..third]);
    let swapped = [&bytes[..first], two, one, &bytes[third..]].concat();
    let what = "a block out of order";
    let refused = load(&swapped, limits);
    assert!(matches!(refused, Err(Error::Damaged { what: found, at: 10 }) if found == what));
    let over = write(&state, &vec![9; META_BYTES + 1], &mut Vec::new());
    assert!(matches!(over, Err(Error::Content(_))));
}

#[test]
fn every_bit_flip_and_every_cut_is_refused() {
    let mut world = World::new(11, small_limits());
    for _ in 0..40 {
        world.step();
    }
    let bytes = encoded_state(&world.state, b"m");
    assert!(world.state.map().len() > 3 && bytes.len() < 8000);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(load(&damaged, small_limits()).is_err(), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        assert!(load(&bytes[..cut], small_limits()).is_err(), "cut at {cut}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(load(&longer, small_limits()).is_err());
    assert!(load(&[&bytes[..], &bytes[..]].concat(), small_limits()).is_err());
}

/// A stream of one block of `items`, with right sums: what a writer with a defect would send.
fn forged(items: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut blocks = Blocks::begin(&mut bytes).expect("a vector takes all");
    for (tag, content) in items {
        blocks.item(*tag, content).expect("a vector takes all");
    }
    blocks.finish().expect("a vector takes all");
    bytes
}

/// The items of a snapshot.
fn items(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut from = bytes;
    let mut source = Source::begin(&mut from).expect("whole");
    let (mut items, mut block) = (Vec::new(), Vec::new());
    while source.next(&mut block).expect("whole").is_none() {
        let mut reader = Reader::new(&block);
        while !reader.is_empty() {
            let tag = reader.u8("tag").expect("whole");
            let content = reader.bytes(ITEM_BYTES, "content").expect("whole");
            items.push((tag, content.to_vec()));
        }
    }
    items
}

/// The items of a small state that has all kinds of them.
fn all_kinds() -> Vec<(u8, Vec<u8>)> {
    let all = [
        HEAD, META, MEMBER, TOMBSTONE, WINDOW, RESULT, CHUNK, RECORD, ORPHAN,
    ];
    // After long, all members of a world are removed.
    for seed in 11..60 {
        let mut world = World::new(seed, small_limits());
        for _ in 0..2000 {
            world.step();
            let bytes = encoded_state(&world.state, b"m");
            let whole = items(&bytes);
            // An orphan with a part of its keys removed: its owner takes a byte or two, then comes the last key removed.
            let begun = |(tag, content): &(u8, Vec<u8>)| *tag == ORPHAN && content.len() > 3;
            let has = |kind: &u8| whole.iter().any(|(tag, _)| tag == kind);
            if all.iter().all(has) && whole.iter().any(begun) {
                assert_eq!(forged(&whole), bytes);
                return whole;
            }
        }
    }
    panic!("no such state came to pass");
}

#[test]
fn content_that_does_not_hold_together_is_refused() {
    let whole = all_kinds();
    for at in 0..whole.len() {
        let mut less = whole.clone();
        let (tag, _) = less.remove(at);
        assert!(
            load(&forged(&less), small_limits()).is_err(),
            "without item {at}, kind {tag}"
        );
        let mut twice = whole.clone();
        twice.insert(at, twice[at].clone());
        assert!(
            load(&forged(&twice), small_limits()).is_err(),
            "twice item {at}, kind {tag}"
        );
        let mut late = whole.clone();
        let moved = late.remove(at);
        late.push(moved);
        let same = late == whole;
        assert!(
            same || load(&forged(&late), small_limits()).is_err(),
            "item {at} last"
        );
    }
    // Any change of an item's content is seen: by its own checks, or by the state hash.
    for at in 0..whole.len() {
        for byte in 0..whole[at].1.len() {
            // The applied index and the meta are in no state hash; the BLAKE3 and the layer above hold them.
            if whole[at].0 == META || whole[at].0 == HEAD && (8..16).contains(&byte) {
                continue;
            }
            let mut changed = whole.clone();
            changed[at].1[byte] ^= 1;
            assert!(
                load(&forged(&changed), small_limits()).is_err(),
                "item {at} byte {byte}"
            );
        }
    }
}

/// Nothing but what was written is read: the sums see to that.
#[test]
fn fuzz_snapshot_file() {
    let mut world = World::new(3, small_limits());
    for _ in 0..60 {
        world.step();
    }
    let whole = encoded_state(&world.state, b"m");
    fuzz::run(
        "snapshot_file",
        std::slice::from_ref(&whole),
        fuzz::BRIEFLY,
        |input| {
            assert!(load(input, small_limits()).is_err() || input == whole);
        },
    );
}

/// Behind right sums: what is taken holds together, so it has this one encoding, and goes on.
#[test]
fn fuzz_snapshot_items() {
    let mut example = Vec::new();
    for (tag, content) in all_kinds() {
        let mut to = codec::Writer::with_buffer(example, usize::MAX);
        to.u8(tag);
        to.bytes(&content);
        example = to.finish("items").expect("no limit");
    }
    fuzz::run("snapshot_items", &[example], fuzz::BRIEFLY, |input| {
        let (mut from, mut items) = (Reader::new(input), Vec::new());
        while let Ok(tag) = from.u8("tag") {
            let Ok(content) = from.bytes(ITEM_BYTES, "content") else {
                break;
            };
            items.push((tag, content.to_vec()));
        }
        let bytes = forged(&items);
        let Ok(mut loaded) = load(&bytes, small_limits()) else {
            return;
        };
        assert_eq!(encoded_state(&loaded.state, &loaded.meta), bytes);
        let next = loaded.state.head().applied.checked_add(1);
        if let Some(next) = next {
            let applied = loaded.state.apply(next, &EntryBody::default());
            applied.expect("it is next");
        }
    });
}

#[test]
fn what_claims_too_much_or_is_newer_is_refused() {
    // A block that claims four gigabytes is refused before anything is allocated for it.
    let mut giant = MAGIC.to_vec();
    giant.extend(SNAPSHOT_FORMAT.to_le_bytes());
    giant.extend([0xff; 9]);
    let refused = load(&giant, small_limits());
    assert!(matches!(
        refused,
        Err(Error::Damaged {
            what: "a block over its limit",
            at: 10
        })
    ));
    let newer = [&MAGIC[..], &[2, 0]].concat();
    assert!(matches!(
        load(&newer, small_limits()),
        Err(Error::Format { found: 2 })
    ));
}
