//! Streams between members.

use std::io::ErrorKind;
use std::sync::Arc;

use raft_store::transport::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::member::{Cluster, Date, Member, TODAY};

#[tokio::test]
async fn a_stream_carries_megabytes_both_ways() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    let (one, other) = member.talk(&cluster.founder).await;
    let pump = |stream: Box<dyn raft_store::transport::Stream>| async {
        let (mut read, mut write) = tokio::io::split(stream);
        let sent: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writing = async {
            write.write_all(&sent).await.expect("written");
            write.shutdown().await.expect("ended");
        };
        let reading = async {
            let mut received = Vec::new();
            read.read_to_end(&mut received).await.expect("read");
            assert!(received == expected);
        };
        tokio::join!(writing, reading);
    };
    tokio::join!(pump(one.stream), pump(other.stream));
}

#[tokio::test]
async fn swapped_addresses_change_nobody_s_name() {
    let cluster = Cluster::found("founder").await;
    let (one, other) = (cluster.member("one").await, cluster.member("other").await);
    let (a, b) = (one.address(), other.address());
    let (disks, date) = ([one.disk.clone(), other.disk.clone()], Date::new(TODAY));
    let ids = [one.port.member(), other.port.member()];
    drop((one, other));
    // Each comes back where the other was.
    let [first, second] = disks;
    let first = open_at(&b, first, date.clone()).await;
    let second = open_at(&a, second, date).await;
    for (address, member, id) in [(&b, &first, ids[0]), (&a, &second, ids[1])] {
        let (connected, accepted) =
            tokio::join!(cluster.founder.port.connect(address), member.accept());
        assert_eq!(connected.expect("connected").member, id);
        assert_eq!(accepted.member, cluster.founder.port.member());
    }
}

async fn open_at(address: &str, disk: Arc<raft_store::disk::SimDisk>, date: Arc<Date>) -> Member {
    let settings = raft_store::transport::TcpSettings {
        listen: address.parse().expect("an address"),
        dir: crate::member::DIR.into(),
        secrets: Vec::new(),
    };
    let parts = raft_store::transport::TcpParts {
        disk: disk.clone(),
        random: Arc::new(raft_store::random::SystemRandom),
        clock: Arc::new(raft_store::clock::SystemClock),
        wall: date.clone(),
        tasks: raft_store::gate::Tasks::system(),
    };
    let port = raft_store::transport::TcpTransport::bind(settings, parts).await;
    let port = Arc::new(port.expect("a port"));
    Member { port, disk, date }
}

#[tokio::test]
async fn members_of_two_clusters_do_not_talk() {
    let (one, other) = (Cluster::found("one").await, Cluster::found("other").await);
    let member = one.member("member").await;
    member.is_refused_by(&other.founder).await;
    other.founder.is_refused_by(&member).await;
    assert!(member.port.counters().foreign > 0);
    assert!(other.founder.port.counters().foreign > 0);
    // Nor does the right secret make a member change its authority.
    let secrets = [other.secret.clone()];
    let disk = Arc::new(member.disk.copy());
    let date = Date::new(TODAY);
    date.add_days(200);
    other.founder.date.add_days(200);
    let copy = Member::open(disk, date, &secrets).await;
    assert!(copy.connect(&other.founder).await.is_err());
}

#[tokio::test]
async fn a_dropped_port_is_closed() {
    let cluster = Cluster::found("founder").await;
    let member = cluster.member("member").await;
    let address = member.address();
    let mut idle = tokio::net::TcpStream::connect(&address)
        .await
        .expect("open");
    let mut pair = cluster.founder.talk(&member).await;
    drop(member);
    let read = idle.read_u8().await;
    assert_eq!(read.expect_err("closed").kind(), ErrorKind::UnexpectedEof);
    let mut refused = false;
    for _ in 0..100 {
        refused = cluster.founder.port.connect(&address).await.is_err();
        if refused {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(refused);
    // What was handed out belongs to whoever has it.
    crate::member::exchange(&mut pair).await;
}
