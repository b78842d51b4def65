//! The database as `eider check` reports it.

use super::pool::Lease;
use super::{Postgres, get, migrate};
use crate::{Description, Error, Finding};

/// Settings that decide what survives.
const DURABILITY: [&str; 4] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "synchronous_standby_names",
];

fn finding(problem: String, effect: &str, remedy: &str) -> Finding {
    Finding {
        problem,
        effect: effect.into(),
        remedy: remedy.into(),
    }
}

pub(super) async fn describe(
    engine: &Postgres,
    lease: &mut Lease,
    latency_us: u64,
) -> Result<Description, Error> {
    let sql = "SELECT current_setting('server_version'), current_setting('server_encoding'),
               current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery(),
               current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
               pg_database_size(current_database()), current_setting('server_version_num')::int,
               current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'),
               current_setting('synchronous_standby_names'),
               (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
    let rows = lease.all(sqlx::query(sql)).await?;
    let row = rows
        .first()
        .ok_or_else(|| Error::Other("settings without a row".into()))?;
    let durability: Vec<(String, String)> = DURABILITY
        .iter()
        .enumerate()
        .map(|(index, name)| Ok(((*name).to_owned(), get(row, 6 + index)?)))
        .collect::<Result<_, Error>>()?;
    let setting = |name: &str| {
        durability
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    };
    let strong = matches!(setting("synchronous_commit"), "on" | "remote_apply");
    let durable = setting("fsync") == "on" && strong;
    let survives_primary = durable && !setting("synchronous_standby_names").is_empty();
    let connections_max = get::<i32>(row, 3)?.max(0) as u32;
    let connections_wanted = engine.connections_wanted();
    let mut description = Description {
        engine: "postgres",
        version: get(row, 0)?,
        encoding: get(row, 1)?,
        schema_version: migrate::version(lease).await?,
        schema_expected: migrate::NEWEST,
        durable,
        survives_primary,
        read_only: get(row, 2)?,
        connections_max: Some(connections_max),
        connections_wanted,
        size_bytes: get::<i64>(row, 4)? as u64,
        latency_us,
        findings: Vec::new(),
        durability: durability.clone(),
    };
    description.findings = findings(&description, get(row, 5)?, get(row, 10)?);
    Ok(description)
}

fn findings(about: &Description, version: i32, connected: i64) -> Vec<Finding> {
    let mut found = Vec::new();
    if version < 150_000 {
        let problem = format!("PostgreSQL {} is older than 15", about.version);
        found.push(finding(
            problem,
            "statements may fail",
            "upgrade PostgreSQL to 15 or newer",
        ));
    }
    if about.encoding != "UTF8" {
        let problem = format!("the database's encoding is {}", about.encoding);
        let remedy = "createdb --encoding=UTF8 --template=template0, then `eider storage copy`";
        found.push(finding(
            problem,
            "messages with other letters are refused",
            remedy,
        ));
    }
    if about.read_only {
        let problem = "the server is read-only".to_owned();
        let remedy =
            "point the configuration at the primary, or SET default_transaction_read_only = off";
        found.push(finding(
            problem,
            "nobody can send messages that are archived",
            remedy,
        ));
    }
    found.extend(durability_findings(about));
    found.extend(connection_finding(about, connected));
    found
}

fn durability_findings(about: &Description) -> Vec<Finding> {
    let mut found = Vec::new();
    if !about.durable {
        let problem = "fsync or synchronous_commit is off".to_owned();
        let remedy = "ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()";
        found.push(finding(
            problem,
            "a crash of the database's machine loses acknowledged messages",
            remedy,
        ));
    }
    if about
        .durability
        .iter()
        .any(|(name, value)| name == "full_page_writes" && value == "off")
    {
        let remedy = "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()";
        found.push(finding(
            "full_page_writes is off".into(),
            "a power cut can damage the database",
            remedy,
        ));
    }
    found
}

fn connection_finding(about: &Description, connected: i64) -> Option<Finding> {
    let most = about.connections_max?;
    let effect = "logins fail when many come at once";
    if about.connections_wanted > most {
        let problem = format!(
            "the pools want {} connections, PostgreSQL gives {most}",
            about.connections_wanted
        );
        return Some(finding(
            problem,
            effect,
            "raise max_connections or make the pools smaller",
        ));
    }
    let crowded = connected > i64::from(most) * 9 / 10;
    let problem = format!("{connected} connections are open of {most}");
    crowded.then(|| finding(problem, effect, "raise max_connections"))
}
