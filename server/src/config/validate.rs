//! What no single key shows: bounds, and keys that must fit each other.

use std::collections::BTreeSet;

use super::load::Problem;
use super::{Config, Engine};

/// Every problem of a configuration whose types are right. `place` says where a key was set.
pub(super) fn problems(config: &Config, place: impl Fn(&str) -> String) -> Vec<Problem> {
    let mut found = Findings {
        problems: Vec::new(),
        place,
    };
    hosts(config, &mut found);
    listeners(config, &mut found);
    login(config, &mut found);
    limits(config, &mut found);
    streams(config, &mut found);
    access(config, &mut found);
    storage(config, &mut found);
    found.problems
}

struct Findings<P> {
    problems: Vec<Problem>,
    place: P,
}

impl<P: Fn(&str) -> String> Findings<P> {
    fn add(&mut self, key: &str, value: impl serde::Serialize, what: impl Into<String>) {
        let value = serde_json::to_string(&value).unwrap_or_default();
        let place = (self.place)(key);
        self.problems.push(Problem {
            place,
            key: key.to_owned(),
            value,
            what: what.into(),
        });
    }

    /// The value must lie in the range.
    fn range(&mut self, key: &str, value: u32, range: std::ops::RangeInclusive<u32>) {
        if !range.contains(&value) {
            let (low, high) = (range.start(), range.end());
            let what = match *high {
                u32::MAX => format!("must be {low} or more"),
                high => format!("must be between {low} and {high}"),
            };
            self.add(key, value, what);
        }
    }

    fn accounts(&mut self, key: &str, accounts: &[String]) {
        for account in accounts {
            let jid = eider_xmpp::jid::BareJid::parse(account);
            let fits = jid.is_ok_and(|jid| jid.localpart().is_some() && jid.as_str() == account);
            if !fits {
                self.add(key, account, "must be a bare JID, as user@example.org");
            }
        }
    }

    fn known_hosts(&mut self, key: &str, names: &[String], config: &Config) {
        for name in names {
            if config.host(name).is_none() {
                self.add(key, name, "is none of the hosts");
            }
        }
    }
}

fn hosts<P: Fn(&str) -> String>(config: &Config, found: &mut Findings<P>) {
    if config.hosts.is_empty() {
        found.add(
            "hosts",
            "",
            "name one host at least: [[hosts]] name = \"example.org\"",
        );
    }
    let mut seen = BTreeSet::new();
    for (i, host) in config.hosts.iter().enumerate() {
        let key = format!("hosts.{i}.name");
        match eider_xmpp::jid::prepare_domain(&host.name) {
            Ok(prepared) if prepared == host.name => {}
            Ok(prepared) => found.add(&key, &host.name, format!("write it as \"{prepared}\"")),
            Err(_) => found.add(&key, &host.name, "must be a domain, as example.org"),
        }
        if !seen.insert(&host.name) {
            found.add(&key, &host.name, "stands twice among the hosts");
        }
        found.accounts(&format!("hosts.{i}.admins"), &host.admins);
        let c = &host.contact;
        let kinds = [
            &c.abuse,
            &c.admin,
            &c.feedback,
            &c.sales,
            &c.security,
            &c.support,
            &c.status,
        ];
        for address in kinds.into_iter().flatten() {
            if !address.contains(':') {
                let what = "must carry its scheme: mailto:, xmpp:, https:";
                found.add(&format!("hosts.{i}.contact"), address, what);
            }
        }
    }
    if let Some(name) = &config.tls.default_host {
        found.known_hosts("tls.default_host", std::slice::from_ref(name), config);
    }
}

fn listeners<P: Fn(&str) -> String>(config: &Config, found: &mut Findings<P>) {
    let what = "must be an address of this machine, or \"*\" for all";
    let mut seen = BTreeSet::new();
    for (i, listener) in config.listeners.c2s.iter().enumerate() {
        let key = format!("listeners.c2s.{i}.address");
        if listener.socket_addresses().is_none() {
            found.add(&key, &listener.address, what);
        }
        if listener.port != 0 && !seen.insert((&listener.address, listener.port)) {
            let key = format!("listeners.c2s.{i}.port");
            found.add(&key, listener.port, "another listener has this port");
        }
        found.range(
            &format!("listeners.c2s.{i}.max_connections"),
            listener.max_connections,
            1..=u32::MAX,
        );
        let key = format!("listeners.c2s.{i}.connections_per_second");
        found.range(&key, listener.connections_per_second, 1..=u32::MAX);
    }
    let http = &config.listeners.http;
    if http.socket_addresses().is_none() {
        found.add("listeners.http.address", &http.address, what);
    }
}

fn login<P: Fn(&str) -> String>(config: &Config, found: &mut Findings<P>) {
    let login = &config.login;
    // RFC 7677 §4 asks for 4096 at least; the top keeps one login from occupying a core for seconds.
    found.range("login.iterations", login.iterations, 4_096..=1_000_000);
    found.range("login.deadline_seconds", login.deadline_seconds, 1..=600);
    found.range(
        "login.attempts_per_stream",
        login.attempts_per_stream,
        1..=100,
    );
    found.range(
        "login.attempts_window_seconds",
        login.attempts_window_seconds,
        1..=86_400,
    );
    let other = config.hosts.iter().any(|h| h.anonymous || h.external);
    if login.mechanisms.is_empty() && !login.plain && !other {
        found.add(
            "login.mechanisms",
            &login.mechanisms,
            "leaves no way to log in",
        );
    }
    let registration = &config.registration;
    let key = "registration.password_min_characters";
    found.range(key, registration.password_min_characters, 1..=128);
}

fn limits<P: Fn(&str) -> String>(config: &Config, found: &mut Findings<P>) {
    let limits = &config.limits;
    // RFC 6120 §13.12: no maximum below 10,000 bytes.
    found.range(
        "limits.stanza_bytes_before_login",
        limits.stanza_bytes_before_login,
        10_000..=1 << 20,
    );
    found.range(
        "limits.stanza_bytes",
        limits.stanza_bytes,
        10_000..=16 << 20,
    );
    found.range("limits.element_depth", limits.element_depth, 8..=1_000);
    found.range(
        "limits.elements_per_stanza",
        limits.elements_per_stanza,
        64..=1 << 20,
    );
    found.range(
        "limits.attributes_per_element",
        limits.attributes_per_element,
        16..=4_096,
    );
    for (key, bytes) in [
        ("limits.session_inbox_bytes", limits.session_inbox_bytes),
        ("limits.session_queue_bytes", limits.session_queue_bytes),
    ] {
        if bytes < limits.stanza_bytes {
            found.add(
                key,
                bytes,
                "must hold one stanza: limits.stanza_bytes at least",
            );
        }
    }
    if limits.archive_queue_bytes < 2 * u64::from(limits.stanza_bytes) {
        let what = "must hold two stanzas: twice limits.stanza_bytes at least";
        found.add(
            "limits.archive_queue_bytes",
            limits.archive_queue_bytes,
            what,
        );
    }
    if limits.bytes_before_login < limits.stanza_bytes_before_login {
        let what = "must hold one stanza: limits.stanza_bytes_before_login at least";
        found.add("limits.bytes_before_login", limits.bytes_before_login, what);
    }
    for (key, value) in [
        (
            "limits.connections_before_login",
            limits.connections_before_login,
        ),
        ("limits.sessions_per_account", limits.sessions_per_account),
        ("limits.session_inbox_stanzas", limits.session_inbox_stanzas),
        ("limits.write_timeout_seconds", limits.write_timeout_seconds),
        ("limits.caps_cache_entries", limits.caps_cache_entries),
        ("limits.facts_cache_entries", limits.facts_cache_entries),
        ("limits.archive_queue_stanzas", limits.archive_queue_stanzas),
    ] {
        found.range(key, value, 1..=u32::MAX);
    }
}

fn streams<P: Fn(&str) -> String>(config: &Config, found: &mut Findings<P>) {
    let sm = &config.stream_management;
    found.range(
        "stream_management.resume_seconds",
        sm.resume_seconds,
        60..=3_600,
    );
    found.range(
        "stream_management.resume_max_seconds",
        sm.resume_max_seconds,
        60..=3_600,
    );
    found.range(
        "stream_management.request_stanzas",
        sm.request_stanzas,
        1..=1_000,
    );
    found.range(
        "stream_management.request_bytes",
        sm.request_bytes,
        1..=u32::MAX,
    );
    if sm.resume_seconds > sm.resume_max_seconds {
        let what = "must not be over stream_management.resume_max_seconds";
        found.add("stream_management.resume_seconds", sm.resume_seconds, what);
    }
    found.range(
        "keepalive.timeout_seconds",
        config.keepalive.timeout_seconds,
        1..=3_600,
    );
    found.range(
        "shutdown.grace_seconds",
        config.shutdown.grace_seconds,
        1..=3_600,
    );
    let archive = &config.archive;
    found.range(
        "archive.page_max_messages",
        archive.page_max_messages,
        1..=5_000,
    );
    found.range(
        "archive.page_messages",
        archive.page_messages,
        1..=archive.page_max_messages.max(1),
    );
    found.range(
        "archive.queries_per_account",
        archive.queries_per_account,
        1..=64,
    );
    found.range(
        "archive.cleaning_interval_hours",
        archive.cleaning_interval_hours,
        1..=168,
    );
}

fn access<P: Fn(&str) -> String>(config: &Config, found: &mut Findings<P>) {
    for (i, rule) in config.access.rules.iter().enumerate() {
        if rule.actions.is_empty() {
            let what = "name what the rule is about: actions = [\"login\"]";
            found.add(&format!("access.rules.{i}.actions"), &rule.actions, what);
        }
        found.accounts(&format!("access.rules.{i}.accounts"), &rule.accounts);
        found.known_hosts(&format!("access.rules.{i}.hosts"), &rule.hosts, config);
    }
    let mut seen = BTreeSet::new();
    for (i, class) in config.traffic.classes.iter().enumerate() {
        let key = format!("traffic.classes.{i}");
        if class.name.is_empty() || !seen.insert(&class.name) {
            found.add(
                &format!("{key}.name"),
                &class.name,
                "must be a name of its own",
            );
        }
        found.range(
            &format!("{key}.window_seconds"),
            class.window_seconds,
            1..=3_600,
        );
        found.range(&format!("{key}.weight"), class.weight, 1..=1_000);
        if class.bytes_per_window != 0 && class.bytes_per_window < config.limits.stanza_bytes.into()
        {
            let what = "must let one stanza through: limits.stanza_bytes at least";
            found.add(
                &format!("{key}.bytes_per_window"),
                class.bytes_per_window,
                what,
            );
        }
    }
    let classes = config.traffic.all_classes();
    for (i, assignment) in config.traffic.assign.iter().enumerate() {
        if !classes.iter().any(|c| c.name == assignment.class) {
            let names: Vec<_> = classes.iter().map(|c| c.name.as_str()).collect();
            let what = format!("must be one of the classes: {}", names.join(", "));
            found.add(
                &format!("traffic.assign.{i}.class"),
                &assignment.class,
                what,
            );
        }
        found.accounts(
            &format!("traffic.assign.{i}.accounts"),
            &assignment.accounts,
        );
        found.known_hosts(
            &format!("traffic.assign.{i}.hosts"),
            &assignment.hosts,
            config,
        );
    }
}

fn storage<P: Fn(&str) -> String>(config: &Config, found: &mut Findings<P>) {
    let storage = &config.storage;
    if storage.engine == Engine::Postgres && storage.dsn.is_none() {
        let what = "is missing: PostgreSQL needs storage.dsn, storage.dsn_file or a credential storage.dsn";
        found.add("storage.dsn", "", what);
    }
    for (key, value) in [
        ("storage.login_connections", storage.login_connections),
        ("storage.archive_connections", storage.archive_connections),
        ("storage.console_connections", storage.console_connections),
    ] {
        found.range(key, value, 1..=1_000);
    }
    // Clients are told within 5 s whatever happens to the database.
    found.range("storage.deadline_ms", storage.deadline_ms, 100..=4_500);
}
