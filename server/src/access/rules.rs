//! Access rules: the first that names the action and fits decides

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{AccessRule, Action, Config};

/// Who wants something, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The bare JID, once it is proven.
    pub account: Option<&'a str>,
    /// The host of the account.
    pub host: Option<&'a str>,
    /// Where the client connects from, behind a proxy the client's own.
    pub address: Option<IpAddr>,
}

/// Who is meant: every kind of selector that is given must fit, within one kind
/// any. Without selectors it is everyone.
#[derive(Debug, Default)]
pub(super) struct Selector {
    accounts: HashSet<String>,
    hosts: HashSet<String>,
    networks: Vec<IpNet>,
}

impl Selector {
    pub fn new(accounts: &[String], hosts: &[String], networks: &[IpNet]) -> Self {
        Selector {
            accounts: accounts.iter().cloned().collect(),
            hosts: hosts.iter().cloned().collect(),
            networks: networks.to_vec(),
        }
    }

    pub fn fits(&self, subject: &Subject<'_>) -> bool {
        let listed = |set: &HashSet<String>, value: Option<&str>| {
            set.is_empty() || value.is_some_and(|value| set.contains(value))
        };
        listed(&self.accounts, subject.account)
            && listed(&self.hosts, subject.host)
            && (self.networks.is_empty()
                || subject
                    .address
                    .is_some_and(|address| within(&self.networks, address)))
    }
}

/// Whether an address is in one of the networks; an IPv4 address in IPv6 form
/// counts as what it is.
pub(crate) fn within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[derive(Debug)]
struct Rule {
    actions: Vec<Action>,
    allow: bool,
    who: Selector,
}

/// The rules in order, and who administers which host.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    admins: HashMap<String, HashSet<String>>,
}

impl Rules {
    /// From the configuration, whose JIDs and hosts are prepared.
    pub fn new(config: &Config) -> Self {
        let rule = |rule: &AccessRule| Rule {
            actions: rule.actions.clone(),
            allow: rule.allow,
            who: Selector::new(&rule.accounts, &rule.hosts, &rule.networks),
        };
        let admins = config
            .hosts
            .iter()
            .map(|host| (host.name.clone(), host.admins.iter().cloned().collect()));
        Rules {
            rules: config.access.rules.iter().map(rule).collect(),
            admins: admins.collect(),
        }
    }

    /// Whether the action is allowed: as the first fitting rule says; where none
    /// fits, everyone may connect, log in, register and send outside, and only a
    /// host's `admins` may administer.
    pub fn allows(&self, action: Action, subject: &Subject<'_>) -> bool {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.actions.contains(&action) && rule.who.fits(subject));
        match (rule, action) {
            (Some(rule), _) => rule.allow,
            (None, Action::Administer) => self.is_admin(subject),
            (None, _) => true,
        }
    }

    /// Whether an account, never an anonymous one, may administer `host`: as the first rule that fits
    /// the account and its own host says, else as one of the `admins` of `host`.
    pub fn may_administer(&self, host: &str, subject: &Subject<'_>) -> bool {
        let fits =
            |rule: &&Rule| rule.actions.contains(&Action::Administer) && rule.who.fits(subject);
        let rule = self.rules.iter().find(fits).map(|rule| rule.allow);
        let at_host = Subject {
            host: Some(host),
            ..*subject
        };
        subject.account.is_some() && rule.unwrap_or_else(|| self.is_admin(&at_host))
    }

    /// Whether the account is among the `admins` of its host.
    pub fn is_admin(&self, subject: &Subject<'_>) -> bool {
        match (subject.host, subject.account) {
            (Some(host), Some(account)) => self
                .admins
                .get(host)
                .is_some_and(|admins| admins.contains(account)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Access, Host};

    fn subject<'a>(account: Option<&'a str>, address: &str) -> Subject<'a> {
        Subject {
            account,
            host: account
                .and_then(|account| account.split_once('@'))
                .map(|(_, host)| host),
            address: Some(address.parse().expect("an address")),
        }
    }

    fn config(rules: Vec<AccessRule>) -> Config {
        let host = Host {
            admins: vec!["root@a.example".to_owned()],
            ..Host::named("a.example")
        };
        Config {
            hosts: vec![host],
            access: Access { rules },
            ..Config::default()
        }
    }

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter()
            .map(|network| network.parse().expect("a network"))
            .collect()
    }

    #[test]
    fn defaults() {
        let rules = Rules::new(&config(Vec::new()));
        let user = subject(Some("user@a.example"), "192.0.2.1");
        for action in [
            Action::Connect,
            Action::Login,
            Action::Register,
            Action::SendOutside,
        ] {
            assert!(rules.allows(action, &user), "{action}");
        }
        assert!(!rules.allows(Action::Administer, &user));
        assert!(rules.allows(
            Action::Administer,
            &subject(Some("root@a.example"), "192.0.2.1")
        ));
        assert!(!rules.allows(
            Action::Administer,
            &subject(Some("root@b.example"), "192.0.2.1")
        ));
        assert!(!rules.allows(Action::Administer, &Subject::default()));
    }

    #[test]
    fn one_rule_names_account_and_network() {
        let rules = Rules::new(&config(vec![
            AccessRule {
                actions: vec![Action::Administer, Action::Login],
                accounts: vec!["root@a.example".to_owned()],
                networks: networks(&["10.0.0.0/8", "2001:db8::/32"]),
                ..AccessRule::default()
            },
            AccessRule {
                actions: vec![Action::Administer, Action::Login],
                accounts: vec!["root@a.example".to_owned()],
                allow: false,
                ..AccessRule::default()
            },
        ]));
        let login = |address: &str| {
            let root = subject(Some("root@a.example"), address);
            (
                rules.allows(Action::Login, &root),
                rules.allows(Action::Administer, &root),
            )
        };
        assert_eq!(login("10.1.2.3"), (true, true));
        assert_eq!(login("::ffff:10.1.2.3"), (true, true));
        assert_eq!(login("2001:db8::1"), (true, true));
        assert_eq!(login("192.0.2.1"), (false, false));
        assert!(rules.allows(Action::Login, &subject(Some("user@a.example"), "192.0.2.1")));
    }

    #[test]
    fn who_administers_a_host_is_told_by_the_accounts_own_host() {
        let of_a = AccessRule {
            actions: vec![Action::Administer],
            hosts: vec!["a.example".to_owned()],
            ..AccessRule::default()
        };
        let rules = Rules::new(&config(vec![of_a]));
        let account = |jid: Option<&'static str>, host: &'static str| Subject {
            account: jid,
            host: Some(host),
            address: None,
        };
        let user = account(Some("user@a.example"), "a.example");
        assert!(rules.may_administer("b.example", &user));
        let stranger = account(Some("user@b.example"), "b.example");
        assert!(!rules.may_administer("a.example", &stranger));
        let anonymous = account(None, "a.example");
        assert!(!rules.may_administer("a.example", &anonymous));
        let plain = Rules::new(&config(Vec::new()));
        let root = account(Some("root@a.example"), "a.example");
        assert!(plain.may_administer("a.example", &root));
        assert!(!plain.may_administer("b.example", &root));
    }

    #[test]
    fn the_first_match_wins() {
        let everyone = AccessRule {
            actions: vec![Action::Connect],
            allow: false,
            ..AccessRule::default()
        };
        let home = AccessRule {
            actions: vec![Action::Connect],
            networks: networks(&["192.0.2.0/24"]),
            ..AccessRule::default()
        };
        let by_account = AccessRule {
            actions: vec![Action::Connect],
            accounts: vec!["user@a.example".to_owned()],
            ..AccessRule::default()
        };
        let (inside, outside) = (subject(None, "192.0.2.9"), subject(None, "198.51.100.1"));
        let rules = Rules::new(&config(vec![by_account, home.clone(), everyone.clone()]));
        assert!(rules.allows(Action::Connect, &inside));
        assert!(!rules.allows(Action::Connect, &outside));
        assert!(rules.allows(Action::Login, &outside), "another action");
        let rules = Rules::new(&config(vec![everyone, home]));
        assert!(!rules.allows(Action::Connect, &inside));
    }
}
