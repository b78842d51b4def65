//! RFC 6121 §A: each cell of Tables 2 to 9.

use super::*;

const STATES: [State; 9] = [
    State::None,
    State::NonePendingOut,
    State::NonePendingIn,
    State::NonePendingOutIn,
    State::To,
    State::ToPendingIn,
    State::From,
    State::FromPendingOut,
    State::Both,
];

fn state(name: &str) -> State {
    let names = [
        "None",
        "None + Pending Out",
        "None + Pending In",
        "None + Pending Out+In",
        "To",
        "To + Pending In",
        "From",
        "From + Pending Out",
        "Both",
    ];
    STATES[names
        .iter()
        .position(|n| *n == name)
        .expect("a state of the table")]
}

fn entry(state: State) -> Entry {
    Entry {
        state,
        listed: true,
        approved: false,
    }
}

/// One row of a table: existing state, route or deliver, new state.
struct Row {
    state: State,
    passes: bool,
    note: bool,
    next: Option<State>,
}

fn rows(table: &str) -> Vec<Row> {
    let rows: Vec<Row> = table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let next = cells[2]
                .split(" [")
                .next()
                .unwrap_or_default()
                .trim_matches('"');
            Row {
                state: state(cells[0].trim_matches('"')),
                passes: cells[1].starts_with("MUST"),
                note: cells[1].contains('[') || cells[2].contains('['),
                next: (!matches!(next, "no state change" | "pre-approval")).then(|| state(next)),
            }
        })
        .collect();
    assert_eq!(rows.len(), 9);
    rows
}

fn check_outbound(request: Request, table: &str) {
    for row in rows(table) {
        let before = entry(row.state);
        let got = outbound(before, request);
        assert_eq!(
            got.next.state,
            row.next.unwrap_or(row.state),
            "{request:?} {:?}",
            row.state
        );
        assert_eq!(got.route, row.passes, "{request:?} {:?}", row.state);
        let approves = request == Request::Subscribed && row.note;
        assert_eq!(got.next.approved, approves, "{request:?} {:?}", row.state);
        let shown = |s: State| (s.as_str(), s.pending_out());
        let pushes = shown(row.state) != shown(got.next.state) || approves;
        assert_eq!(got.push, pushes, "{request:?} {:?}", row.state);
    }
}

fn check_inbound(request: Request, table: &str, reply: Option<Request>) {
    for row in rows(table) {
        let got = inbound(entry(row.state), request);
        assert_eq!(
            got.next.state,
            row.next.unwrap_or(row.state),
            "{request:?} {:?}",
            row.state
        );
        assert_eq!(
            got.deliver != Deliver::No,
            row.passes,
            "{request:?} {:?}",
            row.state
        );
        let expected = reply.filter(|_| row.note);
        assert_eq!(got.reply, expected, "{request:?} {:?}", row.state);
        let shown = |s: State| (s.as_str(), s.pending_out());
        assert_eq!(
            got.push,
            shown(row.state) != shown(got.next.state),
            "{request:?} {:?}",
            row.state
        );
    }
}

#[test]
fn table_2_outbound_subscribe() {
    check_outbound(
        Request::Subscribe,
        r#"
   |  "None"                  |  MUST [1] |  "None + Pending Out"     |
   |  "None + Pending Out"    |  MUST     |  no state change          |
   |  "None + Pending In"     |  MUST [1] |  "None + Pending Out+In"  |
   |  "None + Pending Out+In" |  MUST     |  no state change          |
   |  "To"                    |  MUST     |  no state change          |
   |  "To + Pending In"       |  MUST     |  no state change          |
   |  "From"                  |  MUST [1] |  "From + Pending Out"     |
   |  "From + Pending Out"    |  MUST     |  no state change          |
   |  "Both"                  |  MUST     |  no state change          |
        "#,
    );
}

#[test]
fn table_3_outbound_unsubscribe() {
    check_outbound(
        Request::Unsubscribe,
        r#"
   |  "None"                  |  MUST    |  no state change          |
   |  "None + Pending Out"    |  MUST    |  "None"                   |
   |  "None + Pending In"     |  MUST    |  no state change          |
   |  "None + Pending Out+In" |  MUST    |  "None + Pending In"      |
   |  "To"                    |  MUST    |  "None"                   |
   |  "To + Pending In"       |  MUST    |  "None + Pending In"      |
   |  "From"                  |  MUST    |  no state change          |
   |  "From + Pending Out"    |  MUST    |  "From"                   |
   |  "Both"                  |  MUST    |  "From"                   |
        "#,
    );
}

#[test]
fn table_4_outbound_subscribed() {
    check_outbound(
        Request::Subscribed,
        r#"
   |  "None"                  |  M.N.    |  pre-approval [1]         |
   |  "None + Pending Out"    |  M.N.    |  pre-approval [1]         |
   |  "None + Pending In"     |  MUST    |  "From"                   |
   |  "None + Pending Out+In" |  MUST    |  "From + Pending Out"     |
   |  "To"                    |  M.N.    |  pre-approval [1]         |
   |  "To + Pending In"       |  MUST    |  "Both"                   |
   |  "From"                  |  M.N.    |  no state change          |
   |  "From + Pending Out"    |  M.N.    |  no state change          |
   |  "Both"                  |  M.N.    |  no state change          |
        "#,
    );
}

#[test]
fn table_5_outbound_unsubscribed() {
    check_outbound(
        Request::Unsubscribed,
        r#"
   |  "None"                  |  S.N.    |  no state change [1]      |
   |  "None + Pending Out"    |  S.N.    |  no state change [1]      |
   |  "None + Pending In"     |  MUST    |  "None"                   |
   |  "None + Pending Out+In" |  MUST    |  "None + Pending Out"     |
   |  "To"                    |  S.N.    |  no state change [1]      |
   |  "To + Pending In"       |  MUST    |  "To"                     |
   |  "From"                  |  MUST    |  "None"                   |
   |  "From + Pending Out"    |  MUST    |  "None + Pending Out"     |
   |  "Both"                  |  MUST    |  "To"                     |
        "#,
    );
}

#[test]
fn table_6_inbound_subscribe() {
    // Note [1] on "None" is pre-approval, tested below; [2] is the auto-reply.
    check_inbound(
        Request::Subscribe,
        r#"
   |  "None"                  |  MUST      |  "None + Pending In"     |
   |  "None + Pending Out"    |  MUST      |  "None + Pending Out+In" |
   |  "None + Pending In"     |  S.N.      |  no state change         |
   |  "None + Pending Out+In" |  S.N.      |  no state change         |
   |  "To"                    |  MUST      |  "To + Pending In"       |
   |  "To + Pending In"       |  S.N.      |  no state change         |
   |  "From"                  |  S.N. [2]  |  no state change         |
   |  "From + Pending Out"    |  S.N. [2]  |  no state change         |
   |  "Both"                  |  S.N. [2]  |  no state change         |
        "#,
        Some(Request::Subscribed),
    );
}

#[test]
fn table_7_inbound_unsubscribe() {
    check_inbound(
        Request::Unsubscribe,
        r#"
   |  "None"                  |  S.N.      |  no state change         |
   |  "None + Pending Out"    |  S.N.      |  no state change         |
   |  "None + Pending In"     |  MUST [1]  |  "None"                  |
   |  "None + Pending Out+In" |  MUST [1]  |  "None + Pending Out"    |
   |  "To"                    |  S.N.      |  no state change         |
   |  "To + Pending In"       |  MUST [1]  |  "To"                    |
   |  "From"                  |  MUST [1]  |  "None"                  |
   |  "From + Pending Out"    |  MUST [1]  |  "None + Pending Out"    |
   |  "Both"                  |  MUST [1]  |  "To"                    |
        "#,
        Some(Request::Unsubscribed),
    );
}

#[test]
fn table_8_inbound_subscribed() {
    check_inbound(
        Request::Subscribed,
        r#"
   |  "None"                  |  S.N.      |  no state change         |
   |  "None + Pending Out"    |  MUST      |  "To"                    |
   |  "None + Pending In"     |  S.N.      |  no state change         |
   |  "None + Pending Out+In" |  MUST      |  "To + Pending In"       |
   |  "To"                    |  S.N.      |  no state change         |
   |  "To + Pending In"       |  S.N.      |  no state change         |
   |  "From"                  |  S.N.      |  no state change         |
   |  "From + Pending Out"    |  MUST      |  "Both"                  |
   |  "Both"                  |  S.N.      |  no state change         |
        "#,
        None,
    );
}

#[test]
fn table_9_inbound_unsubscribed() {
    check_inbound(
        Request::Unsubscribed,
        r#"
   |  "None"                  |  S.N.      |  no state change         |
   |  "None + Pending Out"    |  MUST      |  "None"                  |
   |  "None + Pending In"     |  S.N.      |  no state change         |
   |  "None + Pending Out+In" |  MUST      |  "None + Pending In"     |
   |  "To"                    |  MUST      |  "None"                  |
   |  "To + Pending In"       |  MUST      |  "None + Pending In"     |
   |  "From"                  |  S.N.      |  no state change         |
   |  "From + Pending Out"    |  MUST      |  "From"                  |
   |  "Both"                  |  MUST      |  "From"                  |
        "#,
        None,
    );
}

#[test]
fn states_are_made_of_their_aspects() {
    for state in STATES {
        assert_eq!(
            State::new(
                state.to(),
                state.from(),
                state.pending_out(),
                state.pending_in()
            ),
            state
        );
    }
    assert_eq!(State::new(true, true, true, true), State::Both);
}

#[test]
fn a_pre_approved_contact_is_let_in_unasked() {
    let cells = [
        (State::None, State::From),
        (State::NonePendingOut, State::FromPendingOut),
        (State::To, State::Both),
    ];
    for (before, after) in cells {
        let noted = outbound(entry(before), Request::Subscribed);
        assert!(noted.next.approved && noted.push && !noted.route);
        assert_eq!(noted.next.state, before);
        let got = inbound(noted.next, Request::Subscribe);
        assert_eq!(
            got.next,
            Entry {
                state: after,
                listed: true,
                approved: true
            }
        );
        assert_eq!(got.deliver, Deliver::No);
        assert_eq!(got.reply, Some(Request::Subscribed));
        assert_eq!(got.presence, Presence::Current);
        assert_eq!(got.kept, Kept::Unchanged);
        assert!(got.push);
    }
}

#[test]
fn pre_approval_lists_the_contact_and_is_taken_back_silently() {
    let noted = outbound(Entry::default(), Request::Subscribed);
    assert_eq!(
        noted.next,
        Entry {
            state: State::None,
            listed: true,
            approved: true
        }
    );
    assert!(noted.push && !noted.route);
    assert!(!outbound(noted.next, Request::Subscribed).push);
    let back = outbound(noted.next, Request::Unsubscribed);
    assert_eq!(back.next, entry(State::None));
    assert!(back.push && !back.route);
    assert_eq!(back.presence, Presence::Nothing);
}

#[test]
fn a_request_is_kept_once_and_lists_nobody() {
    let got = inbound(Entry::default(), Request::Subscribe);
    assert_eq!(
        got.next,
        Entry {
            state: State::NonePendingIn,
            listed: false,
            approved: false
        }
    );
    assert_eq!(
        (got.deliver, got.kept, got.push),
        (Deliver::Available, Kept::Store, false)
    );
    assert_eq!(inbound(got.next, Request::Subscribe).kept, Kept::Unchanged);

    let denied = outbound(got.next, Request::Unsubscribed);
    assert_eq!(denied.next, Entry::default());
    assert_eq!(
        (denied.kept, denied.push, denied.route),
        (Kept::Drop, false, true)
    );

    let withdrawn = inbound(got.next, Request::Unsubscribe);
    assert_eq!(withdrawn.next, Entry::default());
    assert_eq!((withdrawn.kept, withdrawn.push), (Kept::Drop, false));

    let approved = outbound(got.next, Request::Subscribed);
    assert_eq!(approved.next, entry(State::From));
    assert_eq!((approved.kept, approved.push), (Kept::Drop, true));
    assert_eq!(approved.presence, Presence::Current);
}

#[test]
fn asking_lists_the_contact_and_giving_up_a_stranger_does_not() {
    let asked = outbound(Entry::default(), Request::Subscribe);
    assert_eq!(asked.next, entry(State::NonePendingOut));
    assert!(asked.push);
    let again = outbound(asked.next, Request::Subscribe);
    assert!(again.route && !again.push);
    assert_eq!(
        outbound(Entry::default(), Request::Unsubscribe).next,
        Entry::default()
    );
}

#[test]
fn presence_follows_the_loss_of_a_subscription() {
    for state in STATES {
        let expected = if state.from() {
            Presence::Unavailable
        } else {
            Presence::Nothing
        };
        assert_eq!(
            outbound(entry(state), Request::Unsubscribed).presence,
            expected
        );
        assert_eq!(
            inbound(entry(state), Request::Unsubscribe).presence,
            expected
        );
        assert_eq!(removal(entry(state)).1, expected);
        assert_eq!(
            inbound(entry(state), Request::Unsubscribed).presence,
            Presence::Nothing
        );
    }
}

#[test]
fn who_is_removed_is_told() {
    let told = |state| removal(entry(state)).0;
    assert_eq!(told(State::None), []);
    assert_eq!(told(State::To), [Request::Unsubscribe]);
    assert_eq!(told(State::From), [Request::Unsubscribed]);
    assert_eq!(
        told(State::Both),
        [Request::Unsubscribe, Request::Unsubscribed]
    );
    assert_eq!(
        told(State::NonePendingOutIn),
        [Request::Unsubscribe, Request::Unsubscribed]
    );
}
