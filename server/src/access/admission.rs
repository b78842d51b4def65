//! How many connections, and how much before login, per listener, per address and in all

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::counted_address;
use crate::config::{C2sListener, Limits};

const SECOND: Duration = Duration::from_secs(1);
/// From this many addresses on, those without a connection are forgotten once a second.
const SWEEP_ENTRIES: usize = 4_096;

/// The limit that refused something, named as in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `max_connections` of the listener.
    Connections,
    /// `max_connections_per_address` of the listener.
    ConnectionsPerAddress,
    /// `connections_per_second_per_address` of the listener.
    RatePerAddress,
    /// `limits.connections_before_login`.
    ConnectionsBeforeLogin,
    /// `limits.connections_before_login_per_address`.
    ConnectionsBeforeLoginPerAddress,
    /// `limits.bytes_before_login`.
    BytesBeforeLogin,
    /// `limits.bytes_before_login_per_address`.
    BytesBeforeLoginPerAddress,
    /// `limits.bytes_before_login_total`.
    BytesBeforeLoginTotal,
    /// `limits.sessions_per_address`.
    SessionsPerAddress,
}

impl Refusal {
    /// The key in the configuration, for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Connections => "max_connections",
            Refusal::ConnectionsPerAddress => "max_connections_per_address",
            Refusal::RatePerAddress => "connections_per_second_per_address",
            Refusal::ConnectionsBeforeLogin => "connections_before_login",
            Refusal::ConnectionsBeforeLoginPerAddress => "connections_before_login_per_address",
            Refusal::BytesBeforeLogin => "bytes_before_login",
            Refusal::BytesBeforeLoginPerAddress => "bytes_before_login_per_address",
            Refusal::BytesBeforeLoginTotal => "bytes_before_login_total",
            Refusal::SessionsPerAddress => "sessions_per_address",
        }
    }
}

/// Whether `count` more than `used` is over a limit, where 0 is none.
fn over(used: u64, limit: u64) -> bool {
    limit != 0 && used > limit
}

/// The connections of one listener.
#[derive(Debug, Default)]
pub struct ListenerLimits {
    state: Mutex<ListenerState>,
}

#[derive(Debug, Default)]
struct ListenerState {
    open: u32,
    addresses: HashMap<IpAddr, ListenerAddress>,
    swept: Option<Instant>,
}

impl ListenerState {
    /// Forgets addresses without a connection whose second is over. At most once a second: however
    /// many are known, who connects does not pay for all of them.
    fn sweep(&mut self, now: Instant) -> bool {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= SECOND;
        let due = self.addresses.len() >= SWEEP_ENTRIES && self.swept.is_none_or(is_over);
        if due {
            self.swept = Some(now);
            self.addresses
                .retain(|_, entry| entry.open > 0 || !is_over(entry.second));
        }
        due
    }
}

#[derive(Debug)]
struct ListenerAddress {
    open: u32,
    second: Instant,
    in_second: u32,
}

/// One connection's place at its listener; free again when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    listener: Arc<ListenerLimits>,
    /// `None` until the address is known (behind a proxy).
    address: Option<IpAddr>,
}

impl ListenerLimits {
    /// A place for a connection just accepted, whoever it is from.
    ///
    /// # Errors
    /// The limit that is reached; the connection is closed.
    pub fn accept(self: &Arc<Self>, limits: &C2sListener) -> Result<ConnectionPermit, Refusal> {
        let mut state = self.state.lock();
        if state.open >= limits.max_connections {
            return Err(Refusal::Connections);
        }
        state.open += 1;
        drop(state);
        Ok(ConnectionPermit {
            listener: self.clone(),
            address: None,
        })
    }

    /// Connections open now.
    pub fn open(&self) -> u32 {
        self.state.lock().open
    }
}

impl ConnectionPermit {
    /// Counts the connection for the client's address, once that is known.
    ///
    /// # Errors
    /// The limit that is reached; the connection is closed.
    pub fn from_address(
        &mut self,
        address: IpAddr,
        limits: &C2sListener,
        now: Instant,
    ) -> Result<(), Refusal> {
        let address = counted_address(address);
        let mut state = self.listener.state.lock();
        state.sweep(now);
        let entry = state.addresses.entry(address).or_insert(ListenerAddress {
            open: 0,
            second: now,
            in_second: 0,
        });
        if now.saturating_duration_since(entry.second) >= SECOND {
            (entry.second, entry.in_second) = (now, 0);
        }
        entry.in_second = entry.in_second.saturating_add(1);
        if over(
            entry.in_second.into(),
            limits.connections_per_second_per_address.into(),
        ) {
            return Err(Refusal::RatePerAddress);
        }
        if over(
            u64::from(entry.open) + 1,
            limits.max_connections_per_address.into(),
        ) {
            return Err(Refusal::ConnectionsPerAddress);
        }
        entry.open += 1;
        drop(state);
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut state = self.listener.state.lock();
        state.open -= 1;
        if let Some(address) = self.address
            && let Some(entry) = state.addresses.get_mut(&address)
        {
            entry.open -= 1;
        }
    }
}

/// What is counted over all listeners.
#[derive(Debug, Default)]
pub struct Admission {
    state: Mutex<AdmissionState>,
}

#[derive(Debug, Default)]
struct AdmissionState {
    before_login: u64,
    bytes_before_login: u64,
    addresses: HashMap<IpAddr, AddressUse>,
}

#[derive(Debug, Default)]
struct AddressUse {
    before_login: u64,
    bytes_before_login: u64,
    sessions: u64,
}

impl AdmissionState {
    fn update(&mut self, address: IpAddr, change: impl FnOnce(&mut AddressUse)) {
        let entry = self.addresses.entry(address).or_default();
        change(entry);
        if entry.before_login == 0 && entry.sessions == 0 {
            self.addresses.remove(&address);
        }
    }
}

/// A connection that is not logged in; what it used is free again when dropped.
#[derive(Debug)]
pub struct PreLoginPermit {
    admission: Arc<Admission>,
    address: IpAddr,
    bytes: u64,
}

/// A session's place; free again when dropped.
#[derive(Debug)]
pub struct SessionPermit {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    /// A place for a connection that has still to log in.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn connect(
        self: &Arc<Self>,
        address: IpAddr,
        limits: &Limits,
    ) -> Result<PreLoginPermit, Refusal> {
        let address = counted_address(address);
        let mut state = self.state.lock();
        if over(
            state.before_login + 1,
            limits.connections_before_login.into(),
        ) {
            return Err(Refusal::ConnectionsBeforeLogin);
        }
        let here = state
            .addresses
            .get(&address)
            .map_or(0, |used| used.before_login);
        if over(here + 1, limits.connections_before_login_per_address.into()) {
            return Err(Refusal::ConnectionsBeforeLoginPerAddress);
        }
        state.before_login += 1;
        state.update(address, |used| used.before_login += 1);
        drop(state);
        Ok(PreLoginPermit {
            admission: self.clone(),
            address,
            bytes: 0,
        })
    }

    /// A place for a session that has just logged in.
    ///
    /// # Errors
    /// [`Refusal::SessionsPerAddress`].
    pub fn log_in(
        self: &Arc<Self>,
        address: IpAddr,
        limits: &Limits,
    ) -> Result<SessionPermit, Refusal> {
        let address = counted_address(address);
        let mut state = self.state.lock();
        let here = state
            .addresses
            .get(&address)
            .map_or(0, |used| used.sessions);
        if over(here + 1, limits.sessions_per_address.into()) {
            return Err(Refusal::SessionsPerAddress);
        }
        state.update(address, |used| used.sessions += 1);
        drop(state);
        Ok(SessionPermit {
            admission: self.clone(),
            address,
        })
    }

    /// Connections that are not logged in now.
    pub fn before_login(&self) -> u64 {
        self.state.lock().before_login
    }
}

impl PreLoginPermit {
    /// Counts bytes received.
    ///
    /// # Errors
    /// The limit that is passed; the connection is to be closed.
    pub fn receive(&mut self, bytes: usize, limits: &Limits) -> Result<(), Refusal> {
        let bytes = bytes as u64;
        self.bytes += bytes;
        let mut state = self.admission.state.lock();
        state.bytes_before_login += bytes;
        let total = state.bytes_before_login;
        let mut here = 0;
        state.update(self.address, |used| {
            used.bytes_before_login += bytes;
            here = used.bytes_before_login;
        });
        if over(self.bytes, limits.bytes_before_login.into()) {
            Err(Refusal::BytesBeforeLogin)
        } else if over(here, limits.bytes_before_login_per_address) {
            Err(Refusal::BytesBeforeLoginPerAddress)
        } else if over(total, limits.bytes_before_login_total) {
            Err(Refusal::BytesBeforeLoginTotal)
        } else {
            Ok(())
        }
    }
}

impl Drop for PreLoginPermit {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        state.before_login -= 1;
        state.bytes_before_login -= self.bytes;
        state.update(self.address, |used| {
            used.before_login -= 1;
            used.bytes_before_login -= self.bytes;
        });
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        self.admission
            .state
            .lock()
            .update(self.address, |used| used.sessions -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_listener_counts_connections_in_all_and_by_address() {
        let listener = Arc::new(ListenerLimits::default());
        let limits = C2sListener {
            max_connections: 3,
            max_connections_per_address: 2,
            connections_per_second_per_address: 0,
            ..C2sListener::default()
        };
        let now = Instant::now();
        let mut first = listener.accept(&limits).expect("free");
        let mut second = listener.accept(&limits).expect("free");
        let mut third = listener.accept(&limits).expect("free");
        assert_eq!(
            listener.accept(&limits).map(|_| ()),
            Err(Refusal::Connections)
        );
        assert_eq!(first.from_address(HERE, &limits, now), Ok(()));
        assert_eq!(second.from_address(HERE, &limits, now), Ok(()));
        assert_eq!(
            third.from_address(HERE, &limits, now),
            Err(Refusal::ConnectionsPerAddress)
        );
        assert_eq!(third.from_address(THERE, &limits, now), Ok(()));
        drop(first);
        let mut fourth = listener.accept(&limits).expect("free again");
        assert_eq!(fourth.from_address(HERE, &limits, now), Ok(()));
        drop((second, third, fourth));
        assert_eq!(listener.open(), 0);
    }

    #[test]
    fn new_connections_per_second_and_address() {
        let listener = Arc::new(ListenerLimits::default());
        let limits = C2sListener {
            connections_per_second_per_address: 2,
            ..C2sListener::default()
        };
        let start = Instant::now();
        let connect = |address, now| {
            listener
                .accept(&limits)
                .expect("free")
                .from_address(address, &limits, now)
        };
        assert_eq!(connect(HERE, start), Ok(()));
        assert_eq!(connect(HERE, start), Ok(()));
        assert_eq!(connect(HERE, start), Err(Refusal::RatePerAddress));
        assert_eq!(connect(THERE, start), Ok(()));
        assert_eq!(connect(HERE, start + SECOND), Ok(()));
    }

    #[test]
    fn however_many_addresses_are_known_they_are_looked_through_once_a_second() {
        let start = Instant::now();
        let mut state = ListenerState::default();
        for number in 0..SWEEP_ENTRIES {
            let bits = u32::try_from(number).expect("fits");
            let entry = ListenerAddress {
                open: u32::from(number % 2 == 0),
                second: start,
                in_second: 1,
            };
            state.addresses.insert(IpAddr::V4(bits.into()), entry);
        }
        assert!(state.sweep(start));
        assert_eq!(
            state.addresses.len(),
            SWEEP_ENTRIES,
            "their second is not over"
        );
        assert!(!state.sweep(start + SECOND / 2));
        assert!(state.sweep(start + SECOND));
        assert_eq!(state.addresses.len(), SWEEP_ENTRIES / 2);
    }

    #[test]
    fn bytes_before_login_have_three_limits_and_are_given_back() {
        let admission = Arc::new(Admission::default());
        let limits = Limits {
            bytes_before_login: 100,
            bytes_before_login_per_address: 150,
            bytes_before_login_total: 220,
            ..Limits::default()
        };
        let mut one = admission.connect(HERE, &limits).expect("free");
        assert_eq!(one.receive(100, &limits), Ok(()));
        let mut two = admission.connect(HERE, &limits).expect("free");
        assert_eq!(
            two.receive(51, &limits),
            Err(Refusal::BytesBeforeLoginPerAddress)
        );
        let mut three = admission.connect(THERE, &limits).expect("free");
        assert_eq!(three.receive(101, &limits), Err(Refusal::BytesBeforeLogin));
        drop(three);
        let mut four = admission.connect(THERE, &limits).expect("free");
        assert_eq!(
            four.receive(70, &limits),
            Err(Refusal::BytesBeforeLoginTotal)
        );
        drop((one, two, four));
        assert_eq!(admission.before_login(), 0);
        let state = admission.state.lock();
        assert_eq!(state.bytes_before_login, 0);
        assert!(state.addresses.is_empty());
    }

    #[test]
    fn sessions_and_unauthenticated_connections_per_address() {
        let admission = Arc::new(Admission::default());
        let limits = Limits {
            connections_before_login: 2,
            connections_before_login_per_address: 1,
            sessions_per_address: 1,
            ..Limits::default()
        };
        let first = admission.connect(HERE, &limits).expect("free");
        assert_eq!(
            admission.connect(HERE, &limits).map(|_| ()),
            Err(Refusal::ConnectionsBeforeLoginPerAddress)
        );
        let _second = admission.connect(THERE, &limits).expect("free");
        let third = IpAddr::from([192, 0, 2, 3]);
        assert_eq!(
            admission.connect(third, &limits).map(|_| ()),
            Err(Refusal::ConnectionsBeforeLogin)
        );
        let session = admission.log_in(HERE, &limits).expect("free");
        drop(first);
        assert_eq!(
            admission.log_in(HERE, &limits).map(|_| ()),
            Err(Refusal::SessionsPerAddress)
        );
        drop(session);
        assert!(admission.log_in(HERE, &limits).is_ok());
    }
}
