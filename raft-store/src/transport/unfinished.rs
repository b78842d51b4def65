//! Connections whose other end has proven nothing yet: bounded in number, in all and an address. When a new one comes
//! over the bound, an old one goes, one that has said nothing first: a peer says what it has to say within milliseconds,
//! so a flood displaces itself and hardly ever a peer. Handshakes of one address take turns, so many a second, and those
//! of all strangers together; where members are, nobody waits for strangers or goes for them.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::limits::{
    HANDSHAKES_A_SECOND, STRANGERS_HANDSHAKES_A_SECOND, UNFINISHED, UNFINISHED_AN_ADDRESS,
};

/// Between two handshakes of one address, on the whole.
const STEP: Duration = Duration::from_micros(1_000_000 / HANDSHAKES_A_SECOND);
/// The same of all strangers.
const STRANGERS_STEP: Duration = Duration::from_micros(1_000_000 / STRANGERS_HANDSHAKES_A_SECOND);
/// So far one may be ahead of that: as many at once as in a second.
const AHEAD: Duration = Duration::from_secs(1);
/// Longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// With so many addresses, those that owe nothing are forgotten.
const SWEEP_AT: usize = 1_024;
/// Addresses of members that are known, the newest: several for each member that a cluster may have.
const MEMBERS: usize = 256;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Unfinished(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    /// In the order in which they came.
    open: BTreeMap<u64, Entry>,
    /// Of each address.
    turns: BTreeMap<IpAddr, Turns>,
    strangers: Turns,
    /// Where members are, oldest first.
    members: VecDeque<IpAddr>,
    closed: bool,
}

/// When what was had would be over at an even pace.
#[derive(Clone, Copy, Default)]
struct Turns(Duration);

impl Turns {
    fn wait(self, now: Duration) -> Duration {
        self.0.saturating_sub(now + AHEAD)
    }

    fn take(&mut self, step: Duration, now: Duration) {
        self.0 = now.max(self.0) + step;
    }
}

struct Entry {
    from: IpAddr,
    /// It comes from where a member is.
    member: bool,
    /// It has said hello.
    speaks: bool,
    /// `None`: it is being started.
    task: Option<AbortHandle>,
}

/// Who shares a bound.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

impl Unfinished {
    /// Starts a connection's task by `start`, which is told its number. Says how many were displaced for it.
    ///
    /// Tasks are started and aborted without the lock: a runtime that is ending drops a task there and then, and the
    /// task says so here.
    pub(crate) fn begin(
        &self,
        address: SocketAddr,
        start: impl FnOnce(u64) -> AbortHandle,
    ) -> usize {
        let from = origin(address.ip());
        let Some((number, displaced)) = self.0.lock().enter(from) else {
            return 0;
        };
        let count = displaced.len();
        displaced.into_iter().for_each(Entry::end);
        let task = start(number);
        let known = self.0.lock().started(number, &task);
        if !known {
            task.abort();
        }
        count
    }

    /// It has said hello.
    pub(crate) fn speaks(&self, number: u64) {
        if let Some(entry) = self.0.lock().open.get_mut(&number) {
            entry.speaks = true;
        }
    }

    /// A member is at this address: it has proven so, or the store says so.
    pub(crate) fn is_member_s(&self, address: IpAddr) {
        let (mut table, address) = (self.0.lock(), origin(address));
        // The one that was heard of longest ago goes first.
        table.members.retain(|known| *known != address);
        if table.members.len() == MEMBERS {
            table.members.pop_front();
        }
        table.members.push_back(address);
    }

    /// How long a handshake has to wait for its turn. `None`: others wait for too long already.
    pub(crate) fn turn(&self, address: SocketAddr, now: Duration) -> Option<Duration> {
        let (mut table, from) = (self.0.lock(), origin(address.ip()));
        if table.turns.len() >= SWEEP_AT {
            table.turns.retain(|_, turns| turns.0 > now);
        }
        let mut own = table.turns.get(&from).copied().unwrap_or_default();
        let mut wait = own.wait(now);
        let stranger = !table.members.contains(&from);
        if stranger {
            wait = wait.max(table.strangers.wait(now));
        }
        if wait > LONGEST_WAIT {
            return None;
        }
        if stranger {
            table.strangers.take(STRANGERS_STEP, now);
        }
        own.take(STEP, now);
        table.turns.insert(from, own);
        Some(wait)
    }

    /// It is finished, one way or the other.
    pub(crate) fn end(&self, number: u64) {
        self.0.lock().open.remove(&number);
    }

    /// One goes, to give back what it holds of the system.
    pub(crate) fn displace_one(&self) -> bool {
        let displaced = self.0.lock().displace(|_| true);
        displaced.map(Entry::end).is_some()
    }

    /// All go, and no more come.
    pub(crate) fn close(&self) {
        let all = {
            let mut table = self.0.lock();
            table.closed = true;
            std::mem::take(&mut table.open)
        };
        all.into_values().for_each(Entry::end);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().open.len()
    }
}

impl Entry {
    fn end(self) {
        // One that is being started finds that it is not known any more.
        if let Some(task) = self.task {
            task.abort();
        }
    }
}

impl Table {
    /// A place for a new one, and who goes for it; `None`: no more come.
    fn enter(&mut self, from: IpAddr) -> Option<(u64, Vec<Entry>)> {
        if self.closed {
            return None;
        }
        let mut displaced = Vec::new();
        while self.of(from) >= UNFINISHED_AN_ADDRESS {
            displaced.extend(self.displace(|entry| entry.from == from));
        }
        while self.open.len() >= UNFINISHED {
            displaced.extend(self.displace(|_| true));
        }
        let number = self.next;
        self.next += 1;
        let entry = Entry {
            from,
            member: self.members.contains(&from),
            speaks: false,
            task: None,
        };
        self.open.insert(number, entry);
        Some((number, displaced))
    }

    /// Whether it has neither ended nor been displaced before it was known.
    fn started(&mut self, number: u64, task: &AbortHandle) -> bool {
        let entry = self.open.get_mut(&number);
        entry.map(|entry| entry.task = Some(task.clone())).is_some()
    }

    fn of(&self, from: IpAddr) -> usize {
        let of = self.open.values().filter(|entry| entry.from == from);
        of.count()
    }

    /// Strangers go first, then the silent, then the oldest.
    fn displace(&mut self, among: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let open = self.open.iter().filter(|(_, entry)| among(entry));
        let rank = |(number, entry): &(&u64, &Entry)| (entry.member, entry.speaks, **number);
        let number = *open.min_by_key(rank)?.0;
        self.open.remove(&number)
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

    #[test]
    fn handshakes_of_an_address_take_turns() {
        let unfinished = Unfinished::default();
        let (flood, other) = ("10.0.0.1:1", "10.0.0.2:1");
        let turn = |address: &str, now| unfinished.turn(address.parse().expect("an address"), now);
        let (mut had, mut refused) = (Vec::new(), 0);
        for at in 0..10_000 {
            let now = Duration::from_millis(at);
            match turn(flood, now) {
                Some(wait) => had.push(now + wait),
                None => refused += 1,
            }
            if at % 100 == 0 {
                assert_eq!(turn(other, now), Some(Duration::ZERO), "{at}");
            }
        }
        assert!(had.is_sorted() && refused > 9_000);
        let within = |from: u64, to: u64| {
            let times = Duration::from_secs(from)..Duration::from_secs(to);
            had.iter().filter(|at| times.contains(*at)).count() as u64
        };
        assert!(within(0, 1) <= 2 * HANDSHAKES_A_SECOND + 1);
        for second in 1..10 {
            let count = within(second, second + 1);
            assert!(count.abs_diff(HANDSHAKES_A_SECOND) <= 1, "{count}");
        }
        assert_eq!(turn(flood, Duration::from_secs(20)), Some(Duration::ZERO));
    }

    /// One of many.
    fn host(number: u32) -> SocketAddr {
        let [_, b, c, d] = number.to_be_bytes();
        SocketAddr::from(([10, 1 + b, c, d], 1))
    }

    #[test]
    fn strangers_share_a_pace_and_members_do_not_wait_for_them() {
        let unfinished = Unfinished::default();
        let member: SocketAddr = "192.0.2.1:1".parse().expect("an address");
        let (mut had, mut turns_of_member) = (0, 0);
        for number in 0..100_000_u32 {
            // Ten a millisecond, each from somewhere else.
            let now = Duration::from_micros(u64::from(number) * 100);
            had += u64::from(unfinished.turn(host(number), now).is_some());
            if number == 50_000 {
                assert_eq!(unfinished.turn(member, now), None, "nobody knows it");
                unfinished.is_member_s(member.ip());
            }
            if number > 50_000 && number % 1_000 == 0 {
                assert_eq!(unfinished.turn(member, now), Some(Duration::ZERO));
                turns_of_member += 1;
            }
        }
        // Ten seconds, one ahead and one that waits.
        assert!(had <= 12 * STRANGERS_HANDSHAKES_A_SECOND + 1, "{had}");
        assert!(had >= 10 * STRANGERS_HANDSHAKES_A_SECOND, "{had}");
        assert_eq!(turns_of_member, 49);
        assert!(unfinished.0.lock().turns.len() <= SWEEP_AT);
    }

    #[tokio::test]
    async fn a_member_s_connection_does_not_go_for_strangers() {
        let unfinished = Unfinished::default();
        let member = "192.0.2.1:1";
        unfinished.is_member_s(member.parse::<SocketAddr>().expect("an address").ip());
        let kept = begin(&unfinished, member);
        for number in 0..1_000 {
            let other = begin(&unfinished, &host(number).to_string());
            unfinished.speaks(other.0);
        }
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
        assert!(!kept.1.is_finished());
        assert_eq!(unfinished.len(), UNFINISHED);
        for number in 0..1_000 {
            unfinished.is_member_s(host(number).ip());
        }
        assert_eq!(unfinished.0.lock().members.len(), MEMBERS);
    }

    /// Ends a place when it is dropped, as a connection does.
    struct Place(std::sync::Arc<Unfinished>, u64);

    impl Drop for Place {
        fn drop(&mut self) {
            self.0.end(self.1);
        }
    }

    #[test]
    fn a_runtime_that_ends_drops_what_is_begun_there_and_then() {
        let (tell, told) = std::sync::mpsc::channel();
        // A thread of its own: what waits for itself would wait for ever.
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).build().expect("a runtime");
            let handle = runtime.handle().clone();
            drop(runtime);
            let unfinished = std::sync::Arc::new(Unfinished::default());
            let address = "10.0.0.1:1".parse().expect("an address");
            unfinished.begin(address, |number| {
                let place = Place(unfinished.clone(), number);
                let task = async move {
                    let _place = place;
                    std::future::pending::<()>().await;
                };
                handle.spawn(task).abort_handle()
            });
            tell.send(unfinished.len()).expect("somebody waits");
        });
        let left = told.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(left, Ok(0));
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
