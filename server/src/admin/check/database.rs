//! Checks of the database: reachable, its version, encoding, schema, durability, latency, connections.

use super::finding::{Finding, Kind, Severity, Symptom};
use crate::admin::protocol::{DatabaseInfo, Failure};

/// Microseconds over which one round trip is slow.
const SLOW_US: u64 = 20_000;

const UNREACHABLE: Kind = Kind {
    id: "database-unreachable",
    severity: Severity::Error,
    symptom: Symptom::Messages,
    what: "the database cannot be used: {reason}",
    effect: "cannot log in; messages come back with resource-constraint",
    remedy: "psql \"$DSN\" -c 'select 1' with the value of storage.dsn (SQLite: ls -l the data directory)",
};

const READ_ONLY: Kind = Kind {
    id: "database-read-only",
    severity: Severity::Error,
    symptom: Symptom::Messages,
    what: "the database takes no writes",
    effect: "messages come back with resource-constraint",
    remedy: "point storage.dsn at the primary (a standby is for storage.reader_dsn); full disk: df -h",
};

const ENCODING: Kind = Kind {
    id: "database-encoding",
    severity: Severity::Error,
    symptom: Symptom::Messages,
    what: "the database is in {encoding}, not in UTF8",
    effect: "messages with characters outside it come back with an error",
    remedy: "createdb -E UTF8 -T template0 eider, then copy into it",
};

const SCHEMA_NEW: Kind = Kind {
    id: "database-schema-newer",
    severity: Severity::Warning,
    symptom: Symptom::Start,
    what: "the database's schema ({schema}) is newer than this program knows ({expected})",
    effect: "nothing while it is one release newer; beyond that the server does not start",
    remedy: "install the newer eider (this one: eider --version)",
};

const SCHEMA_OLD: Kind = Kind {
    id: "database-schema-older",
    severity: Severity::Warning,
    symptom: Symptom::Start,
    what: "the database's schema ({schema}) is older than this program's ({expected})",
    effect: "nothing: the server migrates it when it starts",
    remedy: "eider backup before-upgrade.backup, then restart the server",
};

const NOT_DURABLE: Kind = Kind {
    id: "database-not-durable",
    severity: Severity::Error,
    symptom: Symptom::Messages,
    what: "commits do not survive a power cut: {settings}",
    effect: "lose messages that were acknowledged, when the machine stops",
    remedy: "psql -c \"alter system set fsync = on; alter system set synchronous_commit = on; select pg_reload_conf()\"",
};

const PRIMARY_ALONE: Kind = Kind {
    id: "database-primary-alone",
    severity: Severity::Note,
    symptom: Symptom::Messages,
    what: "no synchronous standby: acknowledged messages survive a crash, not the loss of the primary's disk",
    effect: "lose the newest messages if that disk is lost",
    remedy: "set synchronous_standby_names on the primary",
};

const SLOW: Kind = Kind {
    id: "database-slow",
    severity: Severity::Warning,
    symptom: Symptom::Messages,
    what: "one round trip to the database takes {latency} ms",
    effect: "messages arrive late by a little more than that",
    remedy: "ping the database's machine; put both into one place",
};

const CONNECTIONS: Kind = Kind {
    id: "database-connections",
    severity: Severity::Error,
    symptom: Symptom::Messages,
    what: "the pools may open {wanted} connections and the database allows {max}",
    effect: "logins and messages fail when it is busy",
    remedy: "psql -c \"alter system set max_connections = {double}\" and restart it (or lower storage.*_connections)",
};

const ENGINE: Kind = Kind {
    id: "database-engine",
    severity: Severity::Error,
    symptom: Symptom::Messages,
    what: "{problem}",
    effect: "{effect}",
    remedy: "{remedy}",
};

const NO_ACCOUNTS: Kind = Kind {
    id: "no-accounts",
    severity: Severity::Warning,
    symptom: Symptom::Authentication,
    what: "the host {host} has no accounts",
    effect: "\"not authorized\", whatever they type",
    remedy: "eider user add NAME@{host}",
};

const DISABLED: Kind = Kind {
    id: "accounts-disabled",
    severity: Severity::Note,
    symptom: Symptom::Authentication,
    what: "disabled accounts: {accounts}",
    effect: "these cannot log in (account-disabled)",
    remedy: "eider user enable ACCOUNT",
};

/// Every kind of this area.
pub const KINDS: &[&Kind] = &[
    &UNREACHABLE,
    &READ_ONLY,
    &ENCODING,
    &SCHEMA_NEW,
    &SCHEMA_OLD,
    &NOT_DURABLE,
    &PRIMARY_ALONE,
    &SLOW,
    &CONNECTIONS,
    &ENGINE,
    &NO_ACCOUNTS,
    &DISABLED,
];

/// A database that does not answer.
pub fn unreachable(failure: &Failure) -> Finding {
    UNREACHABLE.found(&[("reason", failure)])
}

/// Judges what the database says of itself.
pub fn check(info: &DatabaseInfo) -> Vec<Finding> {
    let settings: Vec<_> = info
        .durability
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let (wanted, max) = (
        info.connections_wanted,
        info.connections_max.unwrap_or(u32::MAX),
    );
    let values: [(&str, &dyn std::fmt::Display); 8] = [
        ("encoding", &info.encoding),
        ("schema", &info.schema_version),
        ("expected", &info.schema_expected),
        ("settings", &settings.join(", ")),
        ("latency", &(info.latency_us / 1_000)),
        ("wanted", &wanted),
        ("max", &max),
        ("double", &wanted.saturating_mul(2)),
    ];
    let utf8 = info
        .encoding
        .to_ascii_uppercase()
        .replace('-', "")
        .starts_with("UTF8");
    let conditions = [
        (info.read_only, &READ_ONLY),
        (!utf8, &ENCODING),
        (info.schema_version > info.schema_expected, &SCHEMA_NEW),
        (info.schema_version < info.schema_expected, &SCHEMA_OLD),
        (!info.durable, &NOT_DURABLE),
        (
            info.engine == "postgres" && !info.survives_primary,
            &PRIMARY_ALONE,
        ),
        (info.latency_us > SLOW_US, &SLOW),
        (wanted > max, &CONNECTIONS),
    ];
    let found = conditions.into_iter().filter(|(holds, _)| *holds);
    let mut findings: Vec<_> = found.map(|(_, kind)| kind.found(&values)).collect();
    for (problem, effect, remedy) in &info.findings {
        findings.push(ENGINE.found(&[
            ("problem", problem),
            ("effect", effect),
            ("remedy", remedy),
        ]));
    }
    findings
}

/// Judges accounts: a host without any, and those that are disabled.
pub fn check_accounts(empty_hosts: &[String], disabled: &[String]) -> Vec<Finding> {
    let mut findings: Vec<_> = empty_hosts
        .iter()
        .map(|host| NO_ACCOUNTS.found(&[("host", host)]))
        .collect();
    if !disabled.is_empty() {
        let mut names = disabled[..disabled.len().min(5)].join(", ");
        if disabled.len() > 5 {
            names = format!("{names} and {} more", disabled.len() - 5);
        }
        findings.push(DISABLED.found(&[("accounts", &names)]));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> DatabaseInfo {
        DatabaseInfo {
            engine: "postgres".to_owned(),
            version: "17.2".to_owned(),
            encoding: "UTF8".to_owned(),
            schema_version: 3,
            schema_expected: 3,
            durability: vec![("fsync".to_owned(), "on".to_owned())],
            durable: true,
            survives_primary: true,
            read_only: false,
            connections_max: Some(100),
            connections_wanted: 20,
            size_bytes: 1,
            latency_us: 300,
            findings: Vec::new(),
        }
    }

    #[test]
    fn judges_each_setting() {
        assert!(check(&good()).is_empty());
        let cases: [(&str, DatabaseInfo); 8] = [
            (
                "database-read-only",
                DatabaseInfo {
                    read_only: true,
                    ..good()
                },
            ),
            (
                "database-encoding",
                DatabaseInfo {
                    encoding: "SQL_ASCII".to_owned(),
                    ..good()
                },
            ),
            (
                "database-schema-newer",
                DatabaseInfo {
                    schema_version: 4,
                    ..good()
                },
            ),
            (
                "database-schema-older",
                DatabaseInfo {
                    schema_version: 2,
                    ..good()
                },
            ),
            (
                "database-not-durable",
                DatabaseInfo {
                    durable: false,
                    ..good()
                },
            ),
            (
                "database-primary-alone",
                DatabaseInfo {
                    survives_primary: false,
                    ..good()
                },
            ),
            (
                "database-slow",
                DatabaseInfo {
                    latency_us: 30_000,
                    ..good()
                },
            ),
            (
                "database-connections",
                DatabaseInfo {
                    connections_max: Some(10),
                    ..good()
                },
            ),
        ];
        for (id, info) in cases {
            let found = check(&info);
            assert_eq!(found.len(), 1, "{id}");
            assert_eq!(found[0].id, id);
            assert!(!found[0].line().contains('{'), "{}", found[0].line());
        }
    }

    #[test]
    fn names_only_some_of_many_disabled_accounts() {
        let many: Vec<_> = (0..9).map(|n| format!("u{n}@a")).collect();
        let found = check_accounts(&["a".to_owned()], &many);
        assert_eq!(found[0].remedy, "eider user add NAME@a");
        assert!(found[1].what.ends_with("u4@a and 4 more"));
    }
}
