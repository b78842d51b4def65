//! Entries: they come back, and nothing that is none does harm.

use super::*;
use crate::fuzz;
use crate::ids::BootNonce;
use crate::limits::MEMBER_ADDRESSES;
use crate::state::test_random::Random;
use crate::state::test_world::{World, small_limits};

fn write(random: &mut Random) -> Write {
    let length = 1 + random.below(60) as usize;
    let key = Bytes::from(random.bytes(length));
    let expect = match random.below(3) {
        0 => Expect::Any,
        1 => Expect::Absent,
        _ => Expect::Revision(Revision(random.next())),
    };
    let owner = random.below(1 << 40);
    let length = random.below(200) as usize;
    let action = match random.below(3) {
        0 => Action::Delete,
        _ => Action::Put {
            value: random.bytes(length).into(),
            owner: (owner % 2 == 1).then_some(Incarnation(owner)),
        },
    };
    Write {
        key,
        expect,
        action,
    }
}

fn proposal(random: &mut Random) -> Proposal {
    let op = match random.below(3) {
        0 => Op::Nop,
        1 => Op::Write(write(random)),
        _ => Op::Batch((0..random.below(5)).map(|_| write(random)).collect()),
    };
    let id = ProposalId {
        incarnation: Incarnation(1 + random.below(1000)),
        sequence: random.next(),
    };
    Proposal {
        id,
        lowest_unanswered: random.below(100),
        op,
    }
}

fn close(random: &mut Random) -> Option<Close> {
    Some(match random.below(6) {
        0 => Close::Register(Registration {
            member: MemberId(random.next()),
            nonce: BootNonce(random.next()),
            latest: (random.below(2) == 0).then_some(Incarnation(5)),
            info: MemberInfo {
                addresses: vec!["[::1]:5269".to_owned(), "example.org:5269".to_owned()],
                zone: "north".to_owned(),
                formats: (1, 3),
            },
        }),
        1 => Close::Dead(Incarnation(1 + random.below(1 << 50))),
        2 => Close::CleanUp(Incarnation(9)),
        3 => Close::Remove(MemberId(random.next())),
        4 => Close::Format(2),
        _ => return None,
    })
}

fn body(random: &mut Random) -> EntryBody {
    let proposals = (0..random.below(6)).map(|_| proposal(random)).collect();
    let close = close(random);
    EntryBody { proposals, close }
}

#[test]
fn entries_come_back() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let body = body(&mut random);
        let bytes = body.encode().expect("small");
        assert_eq!(EntryBody::decode(&bytes), Ok(body.clone()));
        let proposals = body.proposals.iter().map(Proposal::encoded_bytes);
        assert!(proposals.sum::<usize>() < bytes.len());
        for cut in 0..bytes.len() {
            assert!(
                EntryBody::decode(&bytes.slice(..cut)).is_err(),
                "cut at {cut}"
            );
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(EntryBody::decode(&longer.into()).is_err());
    }
}

#[test]
fn damage_gives_an_error_or_another_entry_of_one_encoding() {
    let mut random = Random::new(7);
    for _ in 0..60 {
        let bytes = body(&mut random).encode().expect("small");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let damaged = Bytes::from(damaged);
            if let Ok(read) = EntryBody::decode(&damaged) {
                assert_eq!(read.encode(), Ok(damaged), "one encoding each");
            }
        }
    }
}

/// What decodes has this one encoding, and whatever it says is applied without harm and the same everywhere.
#[test]
fn fuzz_entry() {
    let mut world = World::new(5, small_limits());
    let mut examples: Vec<Vec<u8>> = Vec::new();
    for _ in 0..200 {
        let (_, body, _) = world.step();
        examples.push(body.encode().expect("small").to_vec());
    }
    let mut random = Random::new(9);
    examples.extend((0..100).map(|_| body(&mut random).encode().expect("small").to_vec()));
    let (state, next) = (world.state.clone(), world.state.head().applied + 1);
    fuzz::run("entry", &examples, 3 * fuzz::BRIEFLY, |input| {
        let bytes = Bytes::copy_from_slice(input);
        let Ok(body) = EntryBody::decode(&bytes) else {
            return;
        };
        assert_eq!(body.encode().as_ref(), Ok(&bytes));
        let (mut one, mut other) = (state.clone(), state.clone());
        assert_eq!(one.apply(next, &body), other.apply(next, &body));
        assert_eq!(one.hash(), other.hash());
    });
}

#[test]
fn another_format_is_named() {
    let error = EntryBody::decode(&Bytes::from_static(&[2, 0, 0, 0]));
    assert_eq!(error, Err(Error::Format { found: 2 }));
    let told = Error::Format { found: 2 }.to_string();
    assert_eq!(told, "an entry of format 2; this build reads format 1");
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let put = |key: usize, value: usize| {
        Op::Write(Write {
            key: vec![1; key].into(),
            expect: Expect::Any,
            action: Action::Put {
                value: vec![2; value].into(),
                owner: None,
            },
        })
    };
    let of = |op: Op, count: usize| {
        let id = ProposalId {
            incarnation: Incarnation(1),
            sequence: 1,
        };
        let proposal = Proposal {
            id,
            lowest_unanswered: 1,
            op,
        };
        let proposals = vec![proposal; count];
        EntryBody {
            proposals,
            close: None,
        }
        .encode()
    };
    assert!(of(put(512, 64 * 1024), 1).is_ok());
    assert!(of(Op::Nop, 512).is_ok());
    assert!(of(put(KEY_BYTES_CEILING + 1, 0), 1).is_err());
    assert!(of(put(1, ENTRY_ENCODED_BYTES), 1).is_err());
    assert!(of(Op::Nop, 513).is_err());
    let mut random = Random::new(1);
    let writes = (0..513).map(|_| write(&mut random)).collect();
    assert!(of(Op::Batch(writes), 1).is_err());
    let mut register = EntryBody::default();
    let info = MemberInfo {
        addresses: vec!["a".to_owned(); MEMBER_ADDRESSES + 1],
        ..MemberInfo::default()
    };
    register.close = Some(Close::Register(Registration {
        member: MemberId(1),
        nonce: BootNonce(1),
        latest: None,
        info,
    }));
    assert!(register.encode().is_err());
}

/// The shortest writes, at the very end: what is let in must be let out again, or the entry is never proposed.
#[test]
fn the_shortest_batches_come_back() {
    for key in [&b""[..], b"k"] {
        for count in [1, 2, 5, 512] {
            let write = Write {
                key: Bytes::copy_from_slice(key),
                expect: Expect::Any,
                action: Action::Delete,
            };
            let id = ProposalId {
                incarnation: Incarnation(1),
                sequence: 1,
            };
            let body = EntryBody {
                proposals: vec![Proposal {
                    id,
                    lowest_unanswered: 1,
                    op: Op::Batch(vec![write; count]),
                }],
                close: None,
            };
            let whole = body.encode().expect("it can be read again");
            assert_eq!(EntryBody::decode(&whole), Ok(body));
        }
    }
}
