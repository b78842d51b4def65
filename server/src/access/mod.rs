//! Who may do what, from where and how often: rules, classes, tries, admission
//!
//! [`Policy`] is compiled from the configuration and replaced whole on reload.
//! The counters ([`Attempts`], [`Admission`]) live as long as the process and are
//! given the limits that hold now.

mod admission;
mod attempts;
mod gate;
mod rules;
mod traffic;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::{Action, Config};

pub use admission::{
    Admission, ConnectionPermit, ListenerLimits, PreLoginPermit, Refusal, SessionPermit,
};
pub use attempts::{Attempt, AttemptLimits, Attempts};
pub use gate::{Pass, Shed, WeightedGate};
pub(crate) use rules::within;
pub use rules::{Rules, Subject};
pub use traffic::{Class, Classes, Meter, Verdict};

/// The rules and traffic classes valid now.
#[derive(Debug)]
pub struct Policy {
    current: RwLock<Arc<Compiled>>,
}

#[derive(Debug)]
struct Compiled {
    rules: Rules,
    classes: Classes,
}

impl Policy {
    /// Compiles the sections `access` and `traffic`.
    pub fn new(config: &Config) -> Self {
        Policy {
            current: RwLock::new(Arc::new(Compiled::new(config))),
        }
    }

    /// Replaces what holds from now on.
    pub fn reload(&self, config: &Config) {
        *self.current.write() = Arc::new(Compiled::new(config));
    }

    /// Whether the rules allow this.
    pub fn allows(&self, action: Action, subject: &Subject<'_>) -> bool {
        self.current.read().rules.allows(action, subject)
    }

    /// Whether an account may administer a host; see [`Rules::may_administer`].
    pub fn may_administer(&self, host: &str, subject: &Subject<'_>) -> bool {
        self.current.read().rules.may_administer(host, subject)
    }

    /// The traffic class of a session.
    pub fn class(&self, subject: &Subject<'_>) -> Arc<Class> {
        let current = self.current.read().clone();
        current.classes.of(subject, &current.rules)
    }
}

impl Compiled {
    fn new(config: &Config) -> Self {
        Compiled {
            rules: Rules::new(config),
            classes: Classes::new(config),
        }
    }
}

/// The address by which connections are counted: IPv4 as it is, of IPv6 the /64
/// that one customer usually holds.
pub fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_is_counted_by_customer() {
        let counted = |text: &str| counted_address(text.parse().expect("an address")).to_string();
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
