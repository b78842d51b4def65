//! Metrics: every figure the server shows (OpenMetrics). Counting an event is one atomic addition.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use eider_xmpp::error::{StanzaError, StreamError};
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A gauge of whole numbers.
pub type Level = Gauge<i64, AtomicI64>;

type OneLabel = [(&'static str, &'static str); 1];
type TwoLabels = [(&'static str, &'static str); 2];

/// Stanzas of one direction by kind.
#[derive(Debug, Clone)]
pub struct StanzaCounters {
    /// Messages.
    pub message: Counter,
    /// Presences.
    pub presence: Counter,
    /// Info queries.
    pub iq: Counter,
}

/// How a try to log in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginOutcome {
    /// Logged in.
    Success,
    /// Wrong credentials, or no such account.
    Refused,
    /// Too many tries; told to wait.
    Throttled,
    /// Refused by an access rule, a limit or because the account is disabled.
    Forbidden,
    /// Given up or broken off by the client.
    Aborted,
    /// The storage did not answer in time.
    Unavailable,
}

impl LoginOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Forbidden => "forbidden",
            Self::Aborted => "aborted",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Connections of one pool of the database.
#[derive(Debug, Clone)]
pub struct PoolLevels {
    /// Connections in use.
    pub busy: Level,
    /// Connections open.
    pub open: Level,
}

type Sampler = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Declares [`Metrics`]: a field's documentation is its help text, its name the metric's.
macro_rules! metrics {
    ($( #[doc = $doc:literal] $vis:vis $field:ident : $ty:ty = $make:ident $(($($arg:expr),+))? ),* $(,)?) => {
        /// All metrics; made once by the composition root, shared as `Arc<Metrics>`.
        pub struct Metrics {
            $( #[doc = $doc] $vis $field: $ty, )*
            samplers: Mutex<Vec<Sampler>>,
            registry: Registry,
        }

        impl Metrics {
            /// All metrics at zero.
            pub fn new() -> Self {
                let mut registry = Registry::with_prefix("eider");
                let mut maker = Maker(&mut registry);
                $( let $field = maker.$make(stringify!($field), help($doc) $(, $($arg),+)?); )*
                Self { $( $field, )* samplers: Mutex::default(), registry }
            }
        }
    };
}

metrics! {
    /// Connections open, logged in or not.
    pub connections: Level = level,
    /// Connections that are not logged in yet.
    pub connections_before_login: Level = level,
    /// Connections accepted.
    pub connections_accepted: Counter = counter,
    /// TLS handshakes done.
    pub tls_handshakes: Counter = counter,
    /// TLS handshakes that failed.
    pub tls_failures: Counter = counter,
    /// Sessions bound, those waiting for their client included.
    pub sessions: Level = level,
    /// Sessions that wait for their client to return.
    pub sessions_waiting: Level = level,
    /// Sessions started.
    pub sessions_started: Counter = counter,
    /// Sessions resumed (XEP-0198).
    pub resumptions: Counter = counter,
    /// Resumptions that failed.
    pub resumption_failures: Counter = counter,
    /// Stanzas read from clients, by kind.
    pub stanzas_in: StanzaCounters = stanzas,
    /// Stanzas written to clients, by kind.
    pub stanzas_out: StanzaCounters = stanzas,
    /// Bytes of XML read from clients.
    pub bytes_in: Counter = counter,
    /// Bytes of XML written to clients.
    pub bytes_out: Counter = counter,
    /// Bytes on the way to sessions that these have not taken yet.
    pub queue_bytes: Level = level,
    /// Bytes that sessions hold, not written or not acknowledged (XEP-0198) yet.
    pub held_bytes: Level = level,
    /// Stanzas waiting for the next commit of the archive.
    pub archive_queue_stanzas: Level = level,
    /// Seconds of one commit of the archive.
    pub commit_seconds: Histogram = histogram(0.000_1, 18),
    /// Messages in one commit of the archive.
    pub commit_messages: Histogram = histogram(1.0, 14),
    /// Commits that failed.
    pub commit_failures: Counter = counter,
    /// Debts made: messages that some account has still to get.
    pub debts_made: Counter = counter,
    /// Debts cleared: messages that were got.
    pub debts_cleared: Counter = counter,
    /// Messages recognised as sent again.
    pub resends_recognised: Counter = counter,
    /// Panics caught, each of which cost one session.
    pub panics: Counter = counter,
    /// Tries to log in, by mechanism and outcome.
    logins: Family<TwoLabels, Counter> = family,
    /// Ends of sessions, by reason.
    session_ends: Family<OneLabel, Counter> = family,
    /// Stream errors sent, by condition.
    stream_errors: Family<OneLabel, Counter> = family,
    /// What was refused, by limit.
    refused: Family<OneLabel, Counter> = family,
    /// Connections of a pool to the database that are in use.
    pool_busy: Family<OneLabel, Level> = family,
    /// Connections of a pool to the database that are open.
    pool_open: Family<OneLabel, Level> = family,
    /// Memory of the process that is in RAM, in bytes.
    resident_bytes: Level = level,
    /// Files and sockets that the process holds open.
    open_files: Level = level,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counts one try to log in. `mechanism` as in SASL: `SCRAM-SHA-256-PLUS`.
    pub fn login(&self, mechanism: &'static str, outcome: LoginOutcome) {
        self.logins
            .get_or_create(&[("mechanism", mechanism), ("outcome", outcome.as_str())])
            .inc();
    }

    /// Counts one end of a session. `reason` is one of a few words.
    pub fn session_ended(&self, reason: &'static str) {
        self.session_ends.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts one stream error sent, and the limit that was passed, if any.
    pub fn stream_error(&self, error: &StreamError) {
        self.stream_errors
            .get_or_create(&[("condition", error.condition.as_str())])
            .inc();
        if let Some(limit) = error.limit {
            self.refused(limit);
        }
    }

    /// Counts the limit that refused a stanza, if any. To be called by whoever answers with the error.
    pub fn stanza_error(&self, error: &StanzaError) {
        if let Some(limit) = error.limit {
            self.refused(limit);
        }
    }

    /// Counts something refused by a limit, named as in the configuration.
    pub fn refused(&self, limit: &'static str) {
        self.refused.get_or_create(&[("limit", limit)]).inc();
    }

    /// The same for so many at once.
    pub fn refused_times(&self, limit: &'static str, times: u32) {
        if times > 0 {
            let counter = self.refused.get_or_create(&[("limit", limit)]);
            counter.inc_by(times.into());
        }
    }

    /// The levels of one pool of connections.
    pub fn pool(&self, pool: &'static str) -> PoolLevels {
        PoolLevels {
            busy: self.pool_busy.get_or_create_owned(&[("pool", pool)]),
            open: self.pool_open.get_or_create_owned(&[("pool", pool)]),
        }
    }

    /// Adds a function that sets levels just before they are shown.
    pub fn on_scrape(&self, sampler: impl Fn(&Metrics) + Send + Sync + 'static) {
        self.samplers.lock().push(Box::new(sampler));
    }

    /// The text of the exposition (OpenMetrics 1.0).
    pub fn render(&self) -> String {
        for sampler in self.samplers.lock().iter() {
            sampler(self);
        }
        self.resident_bytes.set(resident_bytes());
        self.open_files.set(open_files());
        let mut text = String::with_capacity(8 * 1024);
        encode(&mut text, &self.registry).expect("a String takes everything");
        text
    }

    /// Records one commit of the archive.
    pub fn commit(&self, took: Duration, messages: usize) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_messages.observe(messages as f64);
    }
}

/// A documentation line as help text: the exposition adds the full stop.
fn help(doc: &str) -> &str {
    doc.trim().trim_end_matches('.')
}

struct Maker<'a>(&'a mut Registry);

impl Maker<'_> {
    fn counter(&mut self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.0.register(name, help, counter.clone());
        counter
    }

    fn level(&mut self, name: &str, help: &str) -> Level {
        let level = Level::default();
        self.0.register(name, help, level.clone());
        level
    }

    fn histogram(&mut self, name: &str, help: &str, first: f64, buckets: u16) -> Histogram {
        let histogram = Histogram::new(exponential_buckets(first, 2.0, buckets));
        self.0.register(name, help, histogram.clone());
        histogram
    }

    fn family<L, M>(&mut self, name: &str, help: &str) -> Family<L, M>
    where
        Family<L, M>: prometheus_client::registry::Metric + Clone + Default,
    {
        let family = Family::<L, M>::default();
        self.0.register(name, help, family.clone());
        family
    }

    fn stanzas(&mut self, name: &str, help: &str) -> StanzaCounters {
        let by_kind: Family<OneLabel, Counter> = self.family(name, help);
        StanzaCounters {
            message: by_kind.get_or_create_owned(&[("kind", "message")]),
            presence: by_kind.get_or_create_owned(&[("kind", "presence")]),
            iq: by_kind.get_or_create_owned(&[("kind", "iq")]),
        }
    }
}

/// Memory of the process that is in RAM, in bytes; 0 where the system does not say.
pub fn resident_bytes() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: i64 = statm
        .split(' ')
        .nth(1)
        .and_then(|p| p.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as i64
}

/// Files and sockets the process holds open; 0 where the system does not say.
pub fn open_files() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_was_counted() {
        let metrics = Metrics::new();
        metrics.sessions.set(3);
        metrics.stanzas_in.message.inc_by(7);
        metrics.login("SCRAM-SHA-256", LoginOutcome::Success);
        metrics.refused("roster_items");
        metrics.commit(Duration::from_micros(900), 12);
        metrics.on_scrape(|m| {
            m.queue_bytes.set(5);
        });
        let text = metrics.render();
        for line in [
            "eider_sessions 3",
            "eider_stanzas_in_total{kind=\"message\"} 7",
            "eider_logins_total{mechanism=\"SCRAM-SHA-256\",outcome=\"success\"} 1",
            "eider_refused_total{limit=\"roster_items\"} 1",
            "eider_commit_messages_count 1",
            "eider_queue_bytes 5",
            "# HELP eider_sessions_started Sessions started.\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn knows_its_own_memory() {
        assert!(resident_bytes() > 100_000);
        assert!(open_files() > 2);
    }
}
