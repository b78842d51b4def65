//! Traffic classes: token buckets whose pressure is back on the socket

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rules::{Rules, Selector, Subject};
use crate::config::{Config, OverRate, TrafficClass};

/// The class given where the configuration says nothing else.
const NORMAL: &str = "normal";
/// The class of a host's admins without assignments.
const ADMIN: &str = "admin";

/// One traffic class, shared by its sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its name in the configuration.
    pub name: String,
    /// Share under saturation; heavier is served first.
    pub weight: u32,
    /// What happens to who sends more.
    pub over: OverRate,
    window: Duration,
    bytes_per_window: u64,
    stanzas_per_window: u64,
    lifetime_bytes: u64,
    lifetime_stanzas: u64,
}

impl From<&TrafficClass> for Class {
    fn from(class: &TrafficClass) -> Self {
        Class {
            name: class.name.clone(),
            weight: class.weight,
            over: class.over,
            window: Duration::from_secs(u64::from(class.window_seconds.max(1))),
            bytes_per_window: class.bytes_per_window,
            stanzas_per_window: u64::from(class.stanzas_per_window),
            lifetime_bytes: class.lifetime_bytes,
            lifetime_stanzas: class.lifetime_stanzas,
        }
    }
}

/// All classes and who is in which.
#[derive(Debug)]
pub struct Classes {
    classes: HashMap<String, Arc<Class>>,
    assign: Vec<(Selector, String)>,
}

impl Classes {
    /// From the section `traffic`.
    pub fn new(config: &Config) -> Self {
        let classes = config.traffic.all_classes();
        let assign = config.traffic.assign.iter().map(|to| {
            (
                Selector::new(&to.accounts, &to.hosts, &to.networks),
                to.class.clone(),
            )
        });
        Classes {
            classes: classes
                .iter()
                .map(|class| (class.name.clone(), Arc::new(Class::from(class))))
                .collect(),
            assign: assign.collect(),
        }
    }

    /// The class of the first assignment that fits, else `admin` for admins of
    /// their host and `normal` for all others.
    pub fn of(&self, subject: &Subject<'_>, rules: &Rules) -> Arc<Class> {
        let assigned = self
            .assign
            .iter()
            .find(|(who, _)| who.fits(subject))
            .map(|(_, name)| name);
        let default = if rules.is_admin(subject) {
            ADMIN
        } else {
            NORMAL
        };
        assigned
            .and_then(|name| self.classes.get(name))
            .or_else(|| self.classes.get(default))
            .cloned()
            .unwrap_or_else(|| Arc::new(Class::from(&TrafficClass::default())))
    }
}

/// Tokens that refill at a steady rate up to one window's worth. Taking more than
/// there are leaves a debt that time pays.
#[derive(Clone, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Holds no more than one window's worth; a debt stays.
    fn cut_to(&mut self, per_window: u64) {
        self.tokens = self.tokens.min(per_window as f64);
    }

    /// The same with so many tokens less.
    fn less(mut self, count: u64) -> Bucket {
        self.tokens -= count as f64;
        self
    }

    /// Takes `count` and returns how long it takes until the debt is paid.
    fn take(&mut self, count: u64, per_window: u64, window: Duration, now: Instant) -> Duration {
        if per_window == 0 {
            return Duration::ZERO;
        }
        let capacity = per_window as f64;
        let rate = capacity / window.as_secs_f64();
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * rate).min(capacity) - count as f64;
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.tokens / rate).unwrap_or(Duration::MAX)
    }
}

/// What a session does after reading something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Read on.
    Go,
    /// Do not read from the socket for this long.
    Wait(Duration),
    /// Close the stream with `policy-violation`.
    Disconnect,
}

/// One session's use of its class.
#[derive(Clone, Debug)]
pub struct Meter {
    class: Arc<Class>,
    bytes: Bucket,
    stanzas: Bucket,
    total_bytes: u64,
    total_stanzas: u64,
}

impl Meter {
    /// A session that has sent nothing.
    pub fn new(class: Arc<Class>, now: Instant) -> Self {
        let full = |tokens: u64| Bucket {
            tokens: tokens as f64,
            at: now,
        };
        Meter {
            bytes: full(class.bytes_per_window),
            stanzas: full(class.stanzas_per_window),
            class,
            total_bytes: 0,
            total_stanzas: 0,
        }
    }

    /// Counts against another class from now on, or the same as it is now. What was sent stays counted.
    pub fn set_class(&mut self, class: Arc<Class>) {
        self.bytes.cut_to(class.bytes_per_window);
        self.stanzas.cut_to(class.stanzas_per_window);
        self.class = class;
    }

    /// Goes on for a session that has sent before, over another stream.
    pub fn go_on_from(&mut self, earlier: &Meter) {
        self.bytes = earlier.bytes.clone().less(self.total_bytes);
        self.stanzas = earlier.stanzas.clone().less(self.total_stanzas);
        self.add_totals(earlier.totals());
        self.set_class(self.class.clone());
    }

    /// Bytes and stanzas sent in all.
    pub fn totals(&self) -> (u64, u64) {
        (self.total_bytes, self.total_stanzas)
    }

    /// Adds what was sent before.
    pub fn add_totals(&mut self, (bytes, stanzas): (u64, u64)) {
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        self.total_stanzas = self.total_stanzas.saturating_add(stanzas);
    }

    /// The class counted against.
    pub fn class(&self) -> &Arc<Class> {
        &self.class
    }

    /// Counts what was read. Call it once per read, with the stanzas completed.
    pub fn take(&mut self, bytes: u64, stanzas: u64, now: Instant) -> Verdict {
        let class = &self.class;
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        self.total_stanzas = self.total_stanzas.saturating_add(stanzas);
        let over = |total: u64, limit: u64| limit != 0 && total > limit;
        if over(self.total_bytes, class.lifetime_bytes)
            || over(self.total_stanzas, class.lifetime_stanzas)
        {
            return Verdict::Disconnect;
        }
        let wait = self
            .bytes
            .take(bytes, class.bytes_per_window, class.window, now);
        let wait =
            wait.max(
                self.stanzas
                    .take(stanzas, class.stanzas_per_window, class.window, now),
            );
        match (wait.is_zero(), class.over) {
            (true, _) => Verdict::Go,
            (false, OverRate::Wait) => Verdict::Wait(wait),
            (false, OverRate::Disconnect) => Verdict::Disconnect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Host, Traffic, TrafficAssignment};

    fn meter(class: TrafficClass, now: Instant) -> Meter {
        Meter::new(Arc::new(Class::from(&class)), now)
    }

    #[test]
    fn pressure_grows_with_the_debt_and_time_pays_it() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let class = TrafficClass {
            bytes_per_window: 1000,
            stanzas_per_window: 10,
            ..TrafficClass::default()
        };
        let mut meter = meter(class, start);
        assert_eq!(
            meter.take(1000, 5, at(0)),
            Verdict::Go,
            "a whole window at once"
        );
        assert_eq!(
            meter.take(500, 0, at(0)),
            Verdict::Wait(Duration::from_millis(500))
        );
        assert_eq!(meter.take(0, 0, at(500)), Verdict::Go);
        assert_eq!(
            meter.take(0, 20, at(1000)),
            Verdict::Wait(Duration::from_secs(1))
        );
        assert_eq!(
            meter.take(1000, 10, at(60_000)),
            Verdict::Go,
            "never more than one window"
        );
        assert!(matches!(meter.take(1, 0, at(60_000)), Verdict::Wait(_)));
    }

    #[test]
    fn over_the_rate_or_the_lifetime_ends_the_stream() {
        let now = Instant::now();
        let mut strict = meter(
            TrafficClass {
                stanzas_per_window: 1,
                over: OverRate::Disconnect,
                ..TrafficClass::default()
            },
            now,
        );
        assert_eq!(strict.take(10, 1, now), Verdict::Go);
        assert_eq!(strict.take(10, 1, now), Verdict::Disconnect);
        let class = TrafficClass {
            lifetime_bytes: 100,
            ..TrafficClass::default()
        };
        let mut short = meter(class, now);
        assert_eq!(short.take(100, 1, now), Verdict::Go);
        assert_eq!(short.take(1, 0, now), Verdict::Disconnect);
    }

    #[test]
    fn a_session_is_counted_on_over_its_next_stream_and_in_another_class() {
        let now = Instant::now();
        let class = TrafficClass {
            bytes_per_window: 100,
            lifetime_bytes: 250,
            ..TrafficClass::default()
        };
        let mut first = meter(class.clone(), now);
        assert_eq!(first.take(100, 1, now), Verdict::Go);
        let mut second = meter(class.clone(), now);
        assert_eq!(second.take(20, 1, now), Verdict::Go);
        second.go_on_from(&first);
        assert_eq!(second.totals(), (120, 2));
        assert!(matches!(second.take(1, 0, now), Verdict::Wait(_)));
        let faster = TrafficClass {
            bytes_per_window: 0,
            ..class
        };
        second.set_class(Arc::new(Class::from(&faster)));
        assert_eq!(second.take(129, 0, now), Verdict::Go);
        assert_eq!(second.take(1, 0, now), Verdict::Disconnect);
    }

    #[test]
    fn zero_is_no_limit() {
        let now = Instant::now();
        let class = TrafficClass {
            bytes_per_window: 0,
            stanzas_per_window: 0,
            ..TrafficClass::default()
        };
        assert_eq!(meter(class, now).take(u64::MAX, u64::MAX, now), Verdict::Go);
    }

    #[test]
    fn classes_are_assigned_by_who_and_where() {
        let host = Host {
            admins: vec!["root@a.example".to_owned()],
            ..Host::named("a.example")
        };
        let assign = TrafficAssignment {
            class: "vip".to_owned(),
            accounts: vec!["paying@a.example".to_owned()],
            ..TrafficAssignment::default()
        };
        let traffic = Traffic {
            assign: vec![assign],
            ..Traffic::default()
        };
        let config = Config {
            hosts: vec![host],
            traffic,
            ..Config::default()
        };
        let (rules, classes) = (Rules::new(&config), Classes::new(&config));
        let class = |account| {
            let subject = Subject {
                account: Some(account),
                host: Some("a.example"),
                address: None,
            };
            classes.of(&subject, &rules).name.clone()
        };
        assert_eq!(class("paying@a.example"), "vip");
        assert_eq!(class("root@a.example"), "admin");
        assert_eq!(class("user@a.example"), "normal");
    }
}
