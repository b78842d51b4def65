//! Connections whose other end has proven nothing yet: bounded in number, in all and an address. When a new one comes
//! over the bound, an old one goes, one that has said nothing first: a peer says what it has to say within milliseconds,
//! so a flood displaces itself and hardly ever a peer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::limits::{UNFINISHED, UNFINISHED_AN_ADDRESS};

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Unfinished(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    /// In the order in which they came.
    open: BTreeMap<u64, Entry>,
    closed: bool,
}

struct Entry {
    from: IpAddr,
    /// It has said hello.
    speaks: bool,
    task: AbortHandle,
}

/// Who shares a bound.
fn origin(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

impl Unfinished {
    /// Starts a connection's task by `start`, which is told its number. Says how many were displaced for it.
    pub(crate) fn begin(
        &self,
        address: SocketAddr,
        start: impl FnOnce(u64) -> AbortHandle,
    ) -> usize {
        let from = origin(address);
        let mut table = self.0.lock();
        if table.closed {
            return 0;
        }
        let mut displaced = 0;
        while table.of(from) >= UNFINISHED_AN_ADDRESS {
            displaced += usize::from(table.displace(|entry| entry.from == from));
        }
        while table.open.len() >= UNFINISHED {
            displaced += usize::from(table.displace(|_| true));
        }
        let number = table.next;
        table.next += 1;
        // Under the lock: the task cannot end before it is known here.
        let (speaks, task) = (false, start(number));
        let entry = Entry { from, speaks, task };
        table.open.insert(number, entry);
        displaced
    }

    /// It has said hello.
    pub(crate) fn speaks(&self, number: u64) {
        if let Some(entry) = self.0.lock().open.get_mut(&number) {
            entry.speaks = true;
        }
    }

    /// It is finished, one way or the other.
    pub(crate) fn end(&self, number: u64) {
        self.0.lock().open.remove(&number);
    }

    /// One goes, to give back what it holds of the system.
    pub(crate) fn displace_one(&self) -> bool {
        self.0.lock().displace(|_| true)
    }

    /// All go, and no more come.
    pub(crate) fn close(&self) {
        let mut table = self.0.lock();
        table.closed = true;
        while table.displace(|_| true) {}
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().open.len()
    }
}

impl Table {
    fn of(&self, from: IpAddr) -> usize {
        let of = self.open.values().filter(|entry| entry.from == from);
        of.count()
    }

    fn displace(&mut self, among: impl Fn(&Entry) -> bool) -> bool {
        let mut silent = self.open.iter();
        let silent = silent.find(|(_, entry)| among(entry) && !entry.speaks);
        let oldest = || self.open.iter().find(|(_, entry)| among(entry));
        let Some((&number, _)) = silent.or_else(oldest) else {
            return false;
        };
        if let Some(entry) = self.open.remove(&number) {
            entry.task.abort();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps tasks that never end.
    fn begin(unfinished: &Unfinished, address: &str) -> (u64, tokio::task::JoinHandle<()>, usize) {
        let mut begun = None;
        let displaced = unfinished.begin(address.parse().expect("an address"), |number| {
            let task = tokio::spawn(std::future::pending());
            let handle = task.abort_handle();
            begun = Some((number, task));
            handle
        });
        let (number, task) = begun.expect("started");
        (number, task, displaced)
    }

    #[tokio::test]
    async fn the_silent_go_first_and_of_one_address() {
        let unfinished = Unfinished::default();
        let speaker = begin(&unfinished, "10.0.0.1:1");
        unfinished.speaks(speaker.0);
        let other = begin(&unfinished, "10.0.0.2:1");
        let mut flood = Vec::new();
        for _ in 0..100 {
            flood.push(begin(&unfinished, "10.0.0.1:2"));
        }
        assert_eq!(unfinished.len(), UNFINISHED_AN_ADDRESS + 1);
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        assert!(!speaker.1.is_finished() && !other.1.is_finished());
        let ended = flood.iter().filter(|(_, task, _)| task.is_finished());
        assert_eq!(ended.count(), 100 - (UNFINISHED_AN_ADDRESS - 1));
        let told: usize = flood.iter().map(|(.., displaced)| displaced).sum();
        assert_eq!(told, 100 - (UNFINISHED_AN_ADDRESS - 1));
        unfinished.end(other.0);
        assert_eq!(unfinished.len(), UNFINISHED_AN_ADDRESS);
        unfinished.close();
        assert_eq!(unfinished.len(), 0);
    }

    #[tokio::test]
    async fn many_addresses_share_one_bound() {
        let unfinished = Unfinished::default();
        for host in 0..1000 {
            begin(
                &unfinished,
                &format!("10.0.{}.{}:1", host / 256, host % 256),
            );
        }
        assert_eq!(unfinished.len(), UNFINISHED);
        let unfinished = Unfinished::default();
        for host in 0..100 {
            begin(&unfinished, &format!("[2001:db8::{host}]:1"));
        }
        assert_eq!(unfinished.len(), UNFINISHED_AN_ADDRESS);
    }
}
