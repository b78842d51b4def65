//! The bound of a mailbox: what is left, dropped, remembered and made good

use std::task::Waker;

use bytes::Bytes;

use super::*;

const LIMIT_BYTES: usize = 4_096;

fn of_bytes(body: usize) -> Stanza {
    let body = "x".repeat(body);
    let xml = format!("<message from='a@b/c' to='d@b/e'><body>{body}</body></message>");
    Stanza::parse_stored(Bytes::from(xml)).expect("well-formed")
}

fn owed(position: i64) -> Delivery {
    Delivery {
        debt: Some(position),
        ..Delivery::direct(of_bytes(1_500))
    }
}

fn take(mailbox: &Mailbox, held_bytes: usize) -> Mail {
    match mailbox.poll_take(&mut Context::from_waker(Waker::noop()), held_bytes) {
        Poll::Ready(mail) => mail,
        Poll::Pending => Mail::default(),
    }
}

#[test]
fn an_owed_message_without_room_is_left_and_so_are_those_behind_it() {
    let mailbox = Mailbox::new(LIMIT_BYTES);
    assert_eq!(mailbox.push(owed(1)), Ok(()));
    assert_eq!(mailbox.push(owed(2)), Ok(()));
    assert_eq!(mailbox.push(owed(3)), Err(Refused::Owed));
    assert_eq!(mailbox.push(owed(4)), Err(Refused::Owed));
    let large = Delivery::direct(of_bytes(1_500));
    assert_eq!(mailbox.push(large), Err(Refused::Full));
    assert_eq!(mailbox.push(Delivery::direct(of_bytes(1))), Ok(()));
    let mail = take(&mailbox, 0);
    assert!(mail.controls.is_empty(), "nobody ends the session");
    let places: Vec<Option<i64>> = mail
        .stanzas
        .iter()
        .map(|queued| match queued {
            Queued::Owed(position) => Some(*position),
            Queued::Stanza(_) => None,
        })
        .collect();
    assert_eq!(places, [None, None, Some(3), None]);
    // There is room, but what comes now is behind what was left.
    assert_eq!(take(&mailbox, 0).stanzas.len(), 0);
    assert_eq!(mailbox.push(owed(5)), Err(Refused::Owed));
    mailbox.reads_owed();
    assert_eq!(mailbox.push(owed(6)), Err(Refused::Owed));
    assert!(!mailbox.has_read_owed(), "6 came after the reading began");
    mailbox.reads_owed();
    assert!(mailbox.has_read_owed());
    take(&mailbox, 0);
    assert_eq!(take(&mailbox, 0).stanzas.len(), 0);
    assert_eq!(mailbox.push(owed(7)), Ok(()));
}

#[test]
fn others_do_not_stand_in_the_way_of_answers_and_own_changes() {
    let mailbox = Mailbox::new(LIMIT_BYTES);
    assert_eq!(mailbox.push(Delivery::copy(of_bytes(10_000))), Ok(()));
    let refused = Err(Refused::Full);
    assert_eq!(mailbox.push(Delivery::copy(of_bytes(1))), refused);
    take(&mailbox, 0);
    take(&mailbox, LIMIT_BYTES);
    assert_eq!(mailbox.push(Delivery::direct(of_bytes(1))), refused);
    assert_eq!(mailbox.push(Delivery::answer(of_bytes(10_000))), Ok(()));
    assert_eq!(mailbox.push(Delivery::push(of_bytes(1_000))), Ok(()));
    assert!(take(&mailbox, LIMIT_BYTES).controls.is_empty());
    take(&mailbox, 2 * LIMIT_BYTES);
    assert_eq!(mailbox.push(Delivery::push(of_bytes(1))), refused);
    assert_eq!(take(&mailbox, 2 * LIMIT_BYTES).controls.len(), 1);
}

fn of(xml: &str) -> Delivery {
    Delivery::copy(Stanza::parse_stored(Bytes::from(xml.to_owned())).expect("well-formed"))
}

#[test]
fn dropped_presence_and_events_are_known_when_there_is_room() {
    let mailbox = Mailbox::new(LIMIT_BYTES);
    let gone = |number: usize| {
        of(&format!(
            "<presence from='a@b/{number}' type='unavailable'/>"
        ))
    };
    assert_eq!(mailbox.push(Delivery::copy(of_bytes(10_000))), Ok(()));
    assert_eq!(mailbox.push(gone(0)), Err(Refused::Full));
    let carbon = mailbox.push(Delivery::copy(of_bytes(1)));
    assert_eq!(carbon, Err(Refused::Full));
    take(&mailbox, 0);
    let missed = |held_bytes| take(&mailbox, held_bytes).missed;
    assert_eq!(missed(LIMIT_BYTES), Missed::default(), "no room yet");
    let event =
        "<message from='a@b'><event xmlns='http://jabber.org/protocol/pubsub#event'/></message>";
    assert_eq!(mailbox.push(of(event)), Err(Refused::Full));
    let all = Missed {
        presence: true,
        events: true,
    };
    assert_eq!(missed(0), all);
    assert_eq!(missed(0), Missed::default());
    let from = |gone: Gone| {
        gone.from
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(from(mailbox.take_gone()), ["a@b/0"]);
    assert_eq!(mailbox.take_gone(), Gone::default());
    take(&mailbox, LIMIT_BYTES);
    for number in 0..GONE_MAX + 3 {
        assert_eq!(mailbox.push(gone(number)), Err(Refused::Full));
    }
    take(&mailbox, 0);
    assert_eq!(mailbox.push(of("<presence from='a@b/0'/>")), Ok(()));
    let taken = mailbox.take_gone();
    assert_eq!((taken.from.len(), taken.more), (GONE_MAX - 1, 3));
    assert_eq!(mailbox.take_gone().more, 3, "until they are told");
    mailbox.gone_are_told(3);
    assert_eq!(mailbox.take_gone(), Gone::default());
}

#[tokio::test]
async fn what_must_not_be_lost_waits_for_room() {
    let mailbox = std::sync::Arc::new(Mailbox::new(LIMIT_BYTES));
    take(&mailbox, 1_000);
    let waiting = tokio::spawn({
        let mailbox = mailbox.clone();
        async move {
            mailbox
                .push_when_room(Delivery::copy(of_bytes(10_000)))
                .await
        }
    });
    tokio::task::yield_now().await;
    take(&mailbox, 1_000);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "it would not fit");
    assert_eq!(take(&mailbox, 0).stanzas.len(), 0);
    waiting.await.expect("no panic");
    let mail = take(&mailbox, 0);
    assert_eq!((mail.stanzas.len(), mail.refused), (1, 0));
}

#[tokio::test]
async fn who_waits_for_room_goes_on_when_the_client_has_taken_half() {
    let mailbox = std::sync::Arc::new(Mailbox::new(LIMIT_BYTES));
    assert_eq!(mailbox.push(Delivery::copy(of_bytes(3_000))), Ok(()));
    let waiting = tokio::spawn({
        let mailbox = mailbox.clone();
        async move { mailbox.half_empty().await }
    });
    tokio::task::yield_now().await;
    take(&mailbox, 0);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "taken, and not acknowledged");
    take(&mailbox, 0);
    waiting.await.expect("no panic");
}
