//! Everything that is said comes back, and nothing else is taken for it.

use bytes::BytesMut;

use super::*;
use crate::entry::{Action, Expect, MemberInfo, Op, Proposal, Registration, Write};
use crate::fuzz;
use crate::ids::{Incarnation, ProposalId};
use crate::limits::{FRAME_BYTES, SNAPSHOT_BLOCK_BYTES};
use crate::link::frame::{self, Control};
use crate::link::messages::{Appended, Forwarded, NotServed, Removing, Renewed, Reply, Request};
use crate::log::Entry;

fn id(index: u64) -> LogId {
    let (term, node) = (300, u64::MAX);
    LogId { term, node, index }
}

fn vote() -> Vote {
    let (term, node, committed) = (COUNTED, 3, true);
    Vote {
        term,
        node,
        committed,
    }
}

fn proposal(op: Op) -> Proposal {
    let id = ProposalId {
        incarnation: Incarnation(7),
        sequence: 9,
    };
    Proposal {
        id,
        lowest_unanswered: 8,
        op,
    }
}

fn write() -> Write {
    Write {
        key: "key".into(),
        expect: Expect::Absent,
        action: Action::Put {
            value: "value".into(),
            owner: Some(Incarnation(5)),
        },
    }
}

fn registration() -> Registration {
    Registration {
        member: MemberId(1),
        nonce: BootNonce(2),
        latest: Some(Incarnation(3)),
        info: MemberInfo {
            addresses: vec!["a:1".into()],
            zone: "z".into(),
            formats: (1, 2),
        },
    }
}

fn requests() -> Vec<Request> {
    let (vote, meta) = (vote(), Bytes::from_static(b"beside"));
    let chunk = Bytes::from(vec![5; 1000]);
    let entries = (1..4).map(|at| Entry {
        id: id(at),
        body: vec![at as u8; 100 * at as usize].into(),
    });
    vec![
        Request::Append {
            vote,
            previous: Some(id(0)),
            entries: entries.collect(),
            committed: None,
        },
        Request::Append {
            vote,
            previous: None,
            entries: vec![],
            committed: Some(id(8)),
        },
        Request::Vote {
            vote,
            last: Some(id(1)),
        },
        Request::PreVote {
            term: 5,
            last: None,
        },
        Request::Ping { vote },
        Request::TakeVote { leader: vote, vote },
        Request::Elect { leader: vote, vote },
        Request::Forward(vec![
            proposal(Op::Nop),
            proposal(Op::Write(write())),
            proposal(Op::Batch(vec![write(), write()])),
        ]),
        Request::Register(registration()),
        Request::ReadIndex,
        Request::Renew {
            incarnation: Incarnation(5),
        },
        Request::SnapshotOffer {
            vote,
            id: [1; 32],
            bytes: 1 << 40,
            meta,
        },
        Request::SnapshotChunk {
            vote,
            id: [2; 32],
            offset: 7,
            crc: 9,
            chunk,
        },
        Request::SnapshotInstall { vote, id: [3; 32] },
        Request::StateHash {
            index: 64,
            hash: u128::MAX,
        },
        Request::Remove {
            member: MemberId(8),
        },
    ]
}

fn replies() -> Vec<Reply> {
    let vote = vote();
    let leader = NotServed::NotLeader(Some(MemberId(4)));
    vec![
        Reply::Append(Appended::All),
        Reply::Append(Appended::Some(Some(id(5)))),
        Reply::Append(Appended::Conflict),
        Reply::Append(Appended::Higher(vote)),
        Reply::Append(Appended::Superseded),
        Reply::Vote {
            vote,
            granted: true,
            last: None,
        },
        Reply::PreVote(false),
        Reply::Pong {
            vote: Some(vote),
            full: true,
        },
        Reply::Taken(true),
        Reply::Forwarded(Forwarded::Queued),
        Reply::Forwarded(Forwarded::Not(leader)),
        Reply::Forwarded(Forwarded::Removed),
        Reply::Forwarded(Forwarded::Full),
        Reply::ReadIndex(Ok(77)),
        Reply::ReadIndex(Err(NotServed::NoQuorum)),
        Reply::ReadIndex(Err(NotServed::NotLeader(None))),
        Reply::Renewed(Renewed::Granted),
        Reply::Renewed(Renewed::Lost),
        Reply::Renewed(Renewed::Not(NotServed::Busy)),
        Reply::SnapshotHave { offset: 1 },
        Reply::SnapshotInstalled { vote },
        Reply::SnapshotBad,
        Reply::StateHash {
            agrees: Some(false),
        },
        Reply::StateHash { agrees: None },
        Reply::Unfit,
        Reply::Removing(Removing::Removed),
        Reply::Removing(Removing::Wanted),
        Reply::Removing(Removing::Unknown),
        Reply::Removing(Removing::Not(NotServed::Busy)),
        Reply::Forwarded(Forwarded::Format(2)),
    ]
}

fn hello_bytes() -> Vec<u8> {
    let hello = Hello {
        cluster: Some(ClusterId([9; 16])),
        member: MemberId(1),
        nonce: BootNonce(2),
        formats: (1, 3),
        vote: Some(vote()),
        last: Some(id(4)),
        addresses: vec!["a:1".into(), "b:2".into()],
    };
    let mut to = Writer::new(4096);
    put_hello(&mut to, Lane::Calls, &hello);
    let bytes = to.finish("hello").expect("small");
    assert_eq!(
        super::hello(&mut Reader::new(&bytes)).expect("whole"),
        (Lane::Calls, hello)
    );
    bytes
}

/// Neither panics nor takes for something else what was cut, or changed; what decodes has this one encoding.
fn damage(whole: &[u8], decodes: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    assert_eq!(decodes(whole).as_deref(), Some(whole));
    for length in 0..whole.len() {
        assert!(decodes(&whole[..length]).is_none(), "{length} of {whole:?}");
    }
    let longer = [whole, &[0]].concat();
    assert!(decodes(&longer).is_none());
    for at in 0..whole.len().min(300) {
        for bit in 0..8 {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << bit;
            if let Some(again) = decodes(&flipped) {
                assert_eq!(again, flipped);
            }
        }
    }
}

fn request(bytes: &[u8]) -> Option<Vec<u8>> {
    let decoded = decode_request(&Bytes::copy_from_slice(bytes)).ok()?;
    Some(encode_request(&decoded, Vec::new()).expect("it was one"))
}

fn reply(bytes: &[u8]) -> Option<Vec<u8>> {
    let decoded = decode_reply(bytes).ok()?;
    Some(encode_reply(&decoded, Vec::new()).expect("it was one"))
}

#[test]
fn all_come_back_and_damage_is_seen() {
    for one in requests() {
        let bytes = encode_request(&one, Vec::new()).expect("small");
        assert_eq!(decode_request(&bytes.clone().into()), Ok(one));
        damage(&bytes, request);
    }
    for one in replies() {
        let bytes = encode_reply(&one, Vec::new()).expect("small");
        assert_eq!(decode_reply(&bytes), Ok(one));
        damage(&bytes, reply);
    }
    // Nobody counts on from there.
    let beyond = Request::PreVote {
        term: COUNTED + 1,
        last: None,
    };
    let bytes = encode_request(&beyond, Vec::new()).expect("small");
    assert!(matches!(
        decode_request(&bytes.into()),
        Err(Error::TooLarge { .. })
    ));
    let whole = hello_bytes();
    for length in 0..whole.len() {
        assert!(super::hello(&mut Reader::new(&whole[..length])).is_err());
    }
}

/// What decodes has this one encoding.
fn one_encoding(decodes: impl Fn(&[u8]) -> Option<Vec<u8>>) -> impl Fn(&[u8]) {
    move |input| {
        if let Some(again) = decodes(input) {
            assert_eq!(again, input);
        }
    }
}

#[test]
fn fuzz_request() {
    let examples = requests();
    let encode = |one| encode_request(one, Vec::new()).expect("small");
    let examples: Vec<_> = examples.iter().map(encode).collect();
    fuzz::run(
        "request",
        &examples,
        10 * fuzz::BRIEFLY,
        one_encoding(request),
    );
}

#[test]
fn fuzz_reply() {
    let examples = replies();
    let encode = |one| encode_reply(one, Vec::new()).expect("small");
    let examples: Vec<_> = examples.iter().map(encode).collect();
    fuzz::run("reply", &examples, 10 * fuzz::BRIEFLY, one_encoding(reply));
}

fn controls() -> Vec<Control> {
    let (lane, hello) = super::hello(&mut Reader::new(&hello_bytes())).expect("whole");
    vec![
        Control::Hello(lane, hello),
        Control::Refused(3),
        Control::Ping(7),
        Control::Pong(8),
        Control::Open {
            number: 16,
            token: 9,
            name: "stanzas".into(),
        },
        Control::Credit {
            number: 16,
            bytes: 1 << 20,
        },
    ]
}

#[test]
fn fuzz_control() {
    let body = |control: &Control| control.frame()[frame::HEAD_BYTES..].to_vec();
    let examples: Vec<_> = controls().iter().map(body).collect();
    let decodes = |input: &[u8]| Some(body(&Control::decode(input).ok()?));
    fuzz::run(
        "control",
        &examples,
        10 * fuzz::BRIEFLY,
        one_encoding(decodes),
    );
}

/// However the bytes come in pieces, the frames and the end are the same.
#[test]
fn fuzz_frames() {
    type Frames = (Vec<(u16, Vec<u8>)>, Option<Error>);
    let frames = |input: &[u8], piece: usize| -> Frames {
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for piece in input.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                let next = match frame::run(&buffer, 1 << 10) {
                    Ok(Some((channel, bytes))) => {
                        let whole = &buffer[..bytes];
                        assert!(frame::count(whole) >= 1 && bytes <= buffer.len());
                        let next = frame::next(&mut buffer, 1 << 10);
                        assert!(matches!(&next, Ok(Some((same, _))) if *same == channel));
                        next
                    }
                    Ok(None) => frame::next(&mut buffer, 1 << 10),
                    Err(error) => Err(error),
                };
                match next {
                    Ok(Some((channel, body))) => found.push((channel, body.to_vec())),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
            assert!(buffer.len() < 1 << 10, "whole, or too long");
        }
        (found, None)
    };
    let channel = |bytes: usize| {
        let mut frame = frame::begin(16, None);
        frame.extend(vec![7; bytes]);
        frame::close(&mut frame);
        frame
    };
    let mut examples: Vec<Vec<u8>> = controls().iter().map(Control::frame).collect();
    examples.push([channel(5), channel(0), channel(900)].concat());
    examples.push(examples.concat());
    fuzz::run("frames", &examples, fuzz::BRIEFLY, |input| {
        let whole = frames(input, 1);
        assert_eq!(frames(input, 7), whole);
        assert_eq!(frames(input, 600), whole);
    });
}

#[test]
fn the_largest_append_fits() {
    let body = Bytes::from(vec![0; 512 * 1024]);
    let entries = vec![Entry { id: id(1), body }];
    let vote = vote();
    let append = Request::Append {
        vote,
        previous: None,
        entries,
        committed: None,
    };
    assert!(encode_request(&append, vec![0; 14]).is_ok());
    let chunk = Bytes::from(vec![0; SNAPSHOT_BLOCK_BYTES]);
    let chunk = Request::SnapshotChunk {
        vote,
        id: [0; 32],
        offset: 0,
        crc: 0,
        chunk,
    };
    assert!(encode_request(&chunk, vec![0; 14]).is_ok());
    let mut entries = vec![Entry {
        id: id(1),
        body: vec![0; FRAME_BYTES].into(),
    }];
    entries.push(entries[0].clone());
    let append = Request::Append {
        vote,
        previous: None,
        entries,
        committed: None,
    };
    assert!(matches!(
        encode_request(&append, vec![]),
        Err(Error::TooLarge { .. })
    ));
}
