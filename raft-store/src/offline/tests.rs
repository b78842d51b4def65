//! What a new cluster forgets of the state it begins with.

use super::*;
use crate::limits::Limits;

fn info() -> MemberInfo {
    MemberInfo {
        formats: (1, 1),
        ..MemberInfo::default()
    }
}

fn put(state: &mut State, incarnation: Incarnation, sequence: u64, key: Vec<u8>) {
    let write = Write {
        key: key.into(),
        expect: Expect::Any,
        action: Action::Put {
            value: "value".into(),
            owner: Some(incarnation),
        },
    };
    let proposal = Proposal {
        id: ProposalId {
            incarnation,
            sequence,
        },
        lowest_unanswered: sequence,
        op: Op::Write(write),
    };
    let body = EntryBody {
        proposals: vec![proposal],
        close: None,
    };
    let index = state.applied() + 1;
    state.apply(index, &body).expect("in order");
}

#[test]
fn members_incarnations_and_the_stores_own_keys_go() {
    let mut state = State::new(Limits::format_1());
    for member in 1..=5 {
        let asked = Registration {
            member: MemberId(member),
            nonce: BootNonce(member),
            latest: None,
            info: info(),
        };
        close(&mut state, Close::Register(asked)).expect("in order");
        let incarnation = Incarnation(state.applied());
        for sequence in 1..=100 {
            let own = [RESERVED_PREFIX, format!("{member}/{sequence}").as_bytes()].concat();
            put(&mut state, incarnation, 2 * sequence, own);
            let key = format!("key/{member}/{sequence}").into_bytes();
            put(&mut state, incarnation, 2 * sequence + 1, key);
        }
    }
    assert_eq!(state.map().len(), 1000);
    let new = MemberId(77);
    forget_members(&mut state, new, &info()).expect("in order");
    assert_eq!(state.map().len(), 500);
    assert!(state.scan(RESERVED_PREFIX, None, 1).is_empty());
    assert_eq!(state.windows().count(), 0, "nobody lives");
    let ids: Vec<_> = state.members().iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [new]);
    assert!((1..=5).all(|id| state.members().is_removed(MemberId(id))));
    let item = state.get(b"key/3/7").expect("it stays");
    assert!(item.orphaned);
}
