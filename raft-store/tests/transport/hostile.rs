//! Strangers at the port: garbage, halves, giants, replays, idlers. Members go on working, and nothing is left behind.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::member::{Cluster, Member, eventually, exchange};

/// Sends `bytes` and waits until the member closes; says how many bytes came back.
async fn offer(to: &Member, bytes: &[u8]) -> usize {
    let mut stream = TcpStream::connect(to.address()).await.expect("open");
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    // Closed or reset, not left open.
    let _ = read.expect("the member closes it");
    answer.len()
}

/// A record of TLS with a handshake message of another length in it.
fn record(length: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![22, 3, 1];
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

#[tokio::test]
async fn garbage_halves_and_giants_end_alone() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    let mut pair = member.talk(&cluster.founder).await;
    let before = cluster.founder.port.counters().failed;
    let giant_hello = [&[1, 0xff, 0xff, 0xff][..], &[0; 12_000]].concat();
    let offers = [
        b"GET / HTTP/1.1\r\nHost: member\r\n\r\n".to_vec(),
        vec![0; 100_000],
        vec![0xff; 100_000],
        record(0xffff, &[1; 60_000]),
        record(0, &[]),
        record(12_004, &giant_hello),
        // A hello whose end never comes: cut off after five seconds.
        record(200, &[1, 0, 0, 196, 3, 3]),
        vec![22],
        Vec::new(),
    ];
    let (count, founder) = (offers.len() as u64, std::sync::Arc::new(cluster.founder));
    let offers = offers.map(|bytes| {
        let founder = founder.clone();
        tokio::spawn(async move { offer(&founder, &bytes).await })
    });
    for offered in offers {
        // An alert at most.
        let answered = offered.await.expect("closed");
        assert!(answered <= 64, "{answered}");
        exchange(&mut pair).await;
    }
    eventually(|| founder.port.counters().failed == before + count).await;
    member.talk(&founder).await;
}

/// A relay that keeps what the opening side sends.
async fn relay(to: String) -> (String, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let run = async move {
        let (mut from, _) = listener.accept().await.expect("accepted");
        let mut onwards = TcpStream::connect(to).await.expect("open");
        let (mut kept, mut buffer, mut answer) = (Vec::new(), [0; 4096], [0; 4096]);
        loop {
            tokio::select! {
                biased;
                read = from.read(&mut buffer) => match read {
                    Ok(count @ 1..) => {
                        kept.extend(&buffer[..count]);
                        if onwards.write_all(&buffer[..count]).await.is_err() { break; }
                    }
                    _ => break,
                },
                read = onwards.read(&mut answer) => match read {
                    Ok(count @ 1..) => {
                        if from.write_all(&answer[..count]).await.is_err() { break; }
                    }
                    _ => break,
                },
            }
        }
        kept
    };
    (address, tokio::spawn(run))
}

#[tokio::test]
async fn a_recorded_join_or_greeting_is_worth_nothing() {
    use raft_store::transport::Transport;
    let cluster = Cluster::found("founder").await;
    let joiner = cluster.stranger("joiner").await;
    let (join, joined) = relay(cluster.founder.address()).await;
    // The join goes through the relay, the greeting behind it finds nobody there any more.
    let _ = joiner.port.connect(&join).await;
    assert!(joiner.port.has_certificate());
    let join = joined.await.expect("recorded");
    let (talk, talked) = relay(cluster.founder.address()).await;
    let (connected, accepted) = tokio::join!(joiner.port.connect(&talk), cluster.founder.accept());
    let mut pair = (connected.expect("connected"), accepted);
    exchange(&mut pair).await;
    drop(pair);
    let talk = talked.await.expect("recorded");
    let keys = cluster.map.keys();
    for recorded in [join, talk] {
        assert!(recorded.len() > 500);
        let before = cluster.founder.port.counters().failed;
        offer(&cluster.founder, &recorded).await;
        eventually(|| cluster.founder.port.counters().failed == before + 1).await;
    }
    assert_eq!(cluster.map.keys(), keys);
    let nobody = timeout(Duration::from_millis(200), cluster.founder.port.accept()).await;
    assert!(nobody.is_err(), "a replay was taken for a member");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_idle_connections_harm_nobody() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    let mut pair = member.talk(&cluster.founder).await;
    let address = cluster.founder.address();
    let mut idle = Vec::new();
    for count in 0..5_000 {
        let stream = TcpStream::connect(&address).await.expect("open");
        idle.push(stream);
        if count % 1_000 == 999 {
            exchange(&mut pair).await;
            let joiner = cluster.stranger(&format!("joiner {count}")).await;
            joiner.talk(&cluster.founder).await;
        }
    }
    // All but a few have been closed for those that came later.
    eventually(|| cluster.founder.port.counters().displaced >= 4_900).await;
    let mut closed = 0;
    for stream in &mut idle {
        let read = timeout(Duration::from_millis(20), stream.read_u8()).await;
        closed += usize::from(read.is_ok());
    }
    assert!(closed >= 4_980, "{closed}");
    exchange(&mut pair).await;
    member.talk(&cluster.founder).await;
}

/// Runs in a process of its own: the limit of open files is the whole process'.
const CHILD: &str = "RAFT_STORE_TEST_OUT_OF_FILES";

#[tokio::test]
async fn out_of_files_the_port_waits_and_goes_on() {
    if std::env::var_os(CHILD).is_some() {
        return out_of_files().await;
    }
    let this = std::env::current_exe().expect("this test");
    let name = "hostile::out_of_files_the_port_waits_and_goes_on";
    let mut child = tokio::process::Command::new(this);
    child
        .args(["--exact", name])
        .env(CHILD, "1")
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(120), child.output()).await;
    let output = output.expect("it ends").expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

async fn out_of_files() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    let mut pair = member.talk(&cluster.founder).await;
    let open = std::fs::read_dir("/proc/self/fd").expect("listed").count() as u64;
    let resource = rustix::process::Resource::Nofile;
    let before = rustix::process::getrlimit(resource);
    let mut limit = before;
    // An odd number, so that the last connection finds room on one side only.
    limit.current = Some(open + 24 + 1 - open % 2);
    rustix::process::setrlimit(resource, limit).expect("lowered");
    let mut idle = Vec::new();
    while let Ok(stream) = TcpStream::connect(cluster.founder.address()).await {
        idle.push(stream);
        assert!(idle.len() < 1_000);
    }
    assert!(idle.len() > 5, "{}", idle.len());
    exchange(&mut pair).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(idle);
    rustix::process::setrlimit(resource, before).expect("raised");
    exchange(&mut pair).await;
    member.talk(&cluster.founder).await;
}
