//! What is passed on of what ways of discovery say.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::clock::RuntimeClock;
use crate::random::Seeded;
use crate::transport::BoxFuture;

#[test]
fn an_address_is_a_host_and_a_port() {
    for good in [
        "a:1",
        "10.0.0.1:5300",
        "[::1]:65535",
        "m-1.raft_x.example.:80",
    ] {
        assert!(is_address(good), "{good}");
    }
    let long = format!("{}:1", "a".repeat(ADDRESS_BYTES));
    let bad = [
        "", ":", "a", "a:", ":1", "a:0", "a:65536", "a:+1", "::1:80", "[::1:80", "[a]:80", "a b:1",
        "a\n:1", "ä:1", "[]:1", &long,
    ];
    for bad in bad {
        assert!(!is_address(bad), "{bad}");
    }
}

#[test]
fn what_is_passed_on_is_bounded() {
    let found: Vec<String> = (0..1000).map(|n| format!("host-{}:1", n / 2)).collect();
    let usable = usable(&found);
    assert_eq!(usable.len(), DISCOVERED_ADDRESSES);
    assert_eq!(usable[..2], ["host-0:1", "host-1:1"]);
}

/// Hangs, then fails twice, then answers.
struct Slow(Arc<AtomicU32>);

impl Discovery for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn find(&self) -> BoxFuture<'_, Result<Vec<String>, DiscoveryError>> {
        let call = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match call {
                0 => std::future::pending().await,
                1 | 2 => Err(DiscoveryError("not yet".into())),
                _ => Ok(vec!["late:1".into(), "no address".into()]),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_way_that_fails_is_asked_again_more_and_more_rarely() {
    let calls = Arc::new(AtomicU32::new(0));
    let search = Search(Arc::new(Mutex::new(vec![Source::default()])));
    let (of_task, way, book) = (search.clone(), Slow(calls.clone()), AddressBook::default());
    let hints = book.clone();
    let task = tokio::spawn(async move {
        let (clock, random) = (RuntimeClock::new(0), Seeded::new(1, "search"));
        of_task.follow(0, &way, &book, &clock, &random).await;
    });
    sleep(LIMIT).await;
    assert_eq!(search.found(), (vec![], false));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    sleep(FIRST_PAUSE * 11).await;
    assert_eq!(search.found(), (vec!["late:1".to_owned()], true));
    assert_eq!(hints.hints(), ["late:1"]);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    task.abort();
}

/// What is taken for an address can be dialled: a host, a colon, a port.
#[test]
fn fuzz_addresses() {
    let text = "one:1 # first\n[2001:db8::1]:5269\r\n192.0.2.7:65535\n\n# none\nxn--bcher-kva.example.:7\n";
    crate::fuzz::run("addresses", &[text.into()], crate::fuzz::BRIEFLY, |input| {
        let Ok(found) = crate::discovery::file::lines(&String::from_utf8_lossy(input)) else {
            return;
        };
        let usable = usable(&found);
        assert!(usable.len() <= DISCOVERED_ADDRESSES);
        for address in usable {
            let (host, port) = address.rsplit_once(':').expect("a port");
            assert!(port.parse::<u16>().is_ok_and(|port| port > 0) && !host.is_empty());
            assert!(address.len() <= ADDRESS_BYTES && address.is_ascii());
            assert!(!address.contains(char::is_whitespace));
        }
    });
}
