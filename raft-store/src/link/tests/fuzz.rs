//! Fuzz target of a whole connection: whatever comes on it, it alone ends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::fuzz;
use crate::link::frame::{Control, begin, close};
use crate::link::wire;

fn request(number: u64, request: &Request) -> Vec<u8> {
    let mut frame = wire::encode_request(request, begin(1, Some(number))).expect("small");
    close(&mut frame);
    frame
}

fn reply(number: u64, reply: &Reply) -> Vec<u8> {
    let mut frame = wire::encode_reply(reply, begin(2, Some(number))).expect("small");
    close(&mut frame);
    frame
}

fn data(channel: u16, bytes: usize) -> Vec<u8> {
    let mut frame = begin(channel, None);
    frame.extend(vec![7; bytes]);
    close(&mut frame);
    frame
}

fn conversations() -> Vec<Vec<u8>> {
    // Without addresses: it is not dialled, so that no dial crosses what is fed.
    let hello = Hello {
        addresses: Vec::new(),
        ..hello(C, 30, "")
    };
    let says = |lane| Control::Hello(lane, hello.clone()).frame();
    let (number, bytes) = (16, 1 << 20);
    let credit = Control::Credit { number, bytes };
    let raft = [
        says(Lane::Raft),
        request(1, &ping(9)),
        Control::Ping(1).frame(),
        request(2, &append(300)),
        says(Lane::Raft),
        Control::Pong(1).frame(),
    ];
    let calls = [
        says(Lane::Calls),
        open(16, "stanzas"),
        open(17, "other"),
        data(16, 10),
        data(16, 0),
        data(17, 200),
        data(16, 1000),
        request(1, &Request::ReadIndex),
        credit.frame(),
        reply(1, &Reply::ReadIndex(Ok(1))),
    ];
    let refused = [says(Lane::Snapshot), Control::Refused(4).frame()];
    vec![raft.concat(), calls.concat(), refused.concat()]
}

/// Other members are served as before; what is received on a channel is whole frames, and no more than its credit.
async fn converse(network: &Network, a: &Node, c: &dyn Transport, input: &[u8]) {
    let mut stream = c.connect("a:1").await.expect("it listens").stream;
    let channel = timeout(SECOND, a.link.channel("stanzas", C, Incarnation(9)));
    let talks = async {
        let written = stream.write_all(input).await;
        let mut part = [0; 4096];
        let reading = async { while let Ok(1..) = stream.read(&mut part).await {} };
        let _ = timeout(SECOND, reading).await;
        written
    };
    let (channel, _) = tokio::join!(channel, talks);
    if let Ok(Ok(mut channel)) = channel {
        let mut bytes = 0;
        while let Ok(Ok(frame)) = timeout(SECOND / 10, channel.receiver.receive()).await {
            bytes += frame.len();
        }
        assert!(bytes <= input.len());
    }
    drop(stream);
    a.serve.served.lock().clear();
    assert_eq!(a.ask(B, SECOND).await, pong());
    assert!(network.streams(A, B) >= 1);
}

#[test]
fn fuzz_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let (network, a, _b, c) = runtime.block_on(async {
        let (network, a, b) = two(1);
        let c = network.transport(C, "c:1");
        assert_eq!(a.ask(B, SECOND).await, pong());
        (network, a, b, c)
    });
    fuzz::run("connection", &conversations(), fuzz::BRIEFLY / 4, |input| {
        runtime.block_on(converse(&network, &a, &*c, input));
    });
}
