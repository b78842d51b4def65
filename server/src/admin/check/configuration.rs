//! Checks of the configuration: its keys, its file, what it leaves out.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::finding::{Finding, Kind, Severity, Symptom};
use crate::config::{Config, Mechanism, Problem};

const INVALID: Kind = Kind {
    id: "configuration-invalid",
    severity: Severity::Error,
    symptom: Symptom::Start,
    what: "the configuration has a problem: {problem}",
    effect: "the server does not start; a running one keeps the old configuration",
    remedy: "eider config check (all options: eider config example)",
};

const FILE_READABLE: Kind = Kind {
    id: "configuration-file-readable",
    severity: Severity::Warning,
    symptom: Symptom::Start,
    what: "{file} holds a secret and other users of this machine can read it",
    effect: "nothing, until someone takes the database over",
    remedy: "chmod 600 {file} (or use dsn_file)",
};

const DIRECTORY_MISSING: Kind = Kind {
    id: "data-directory-missing",
    severity: Severity::Note,
    symptom: Symptom::Start,
    what: "the data directory {directory} does not exist yet",
    effect: "nothing: the server makes it",
    remedy: "eider serve",
};

const DIRECTORY_UNUSABLE: Kind = Kind {
    id: "data-directory-unusable",
    severity: Severity::Error,
    symptom: Symptom::Start,
    what: "the data directory {directory} cannot be written to: {reason}",
    effect: "the server does not start",
    remedy: "chown -R \"$(id -un)\" {directory} (as root, with the name of the server's user)",
};

const ONLY_LOCALHOST: Kind = Kind {
    id: "only-localhost",
    severity: Severity::Note,
    symptom: Symptom::Ports,
    what: "the only host is localhost",
    effect: "can log in from this machine alone, as name@localhost",
    remedy: "eider config example > eider.toml, and name your domain under [[hosts]]",
};

const NO_ADMINISTRATOR: Kind = Kind {
    id: "no-administrator",
    severity: Severity::Note,
    symptom: Symptom::Authentication,
    what: "the host {host} has no administrators",
    effect: "nobody can use the commands for administrators from a client",
    remedy: "set admins = [\"you@{host}\"] under [[hosts]], then: eider reload",
};

const NEW_MECHANISMS_ONLY: Kind = Kind {
    id: "new-mechanisms-only",
    severity: Severity::Warning,
    symptom: Symptom::Authentication,
    what: "only {mechanisms} can be used to log in",
    effect: "older clients say that no mechanism fits",
    remedy: "set login.mechanisms = [\"SCRAM-SHA-512\", \"SCRAM-SHA-256\", \"SCRAM-SHA-1\"], then: eider reload",
};

const OPEN_REGISTRATION: Kind = Kind {
    id: "open-registration",
    severity: Severity::Warning,
    symptom: Symptom::Authentication,
    what: "anyone can make accounts on {host}: registration is on and no access rule limits it",
    effect: "get spam from accounts made for it",
    remedy: "add [[access.rules]] with actions = [\"register\"], or set registration = false; then: eider reload",
};

/// Every kind of this area.
pub const KINDS: &[&Kind] = &[
    &INVALID,
    &FILE_READABLE,
    &DIRECTORY_MISSING,
    &DIRECTORY_UNUSABLE,
    &ONLY_LOCALHOST,
    &NO_ADMINISTRATOR,
    &NEW_MECHANISMS_ONLY,
    &OPEN_REGISTRATION,
];

/// A configuration that cannot be used.
pub fn invalid(problems: &[Problem]) -> Vec<Finding> {
    problems
        .iter()
        .map(|problem| INVALID.found(&[("problem", problem)]))
        .collect()
}

/// Checks a configuration that can be used, and the file it came from.
pub fn check(config: &Config, file: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(file.and_then(readable));
    findings.extend(directory(&config.data_directory));
    if config.hosts.iter().all(|h| h.name == "localhost") {
        findings.push(ONLY_LOCALHOST.found(&[]));
    }
    for host in &config.hosts {
        if host.admins.is_empty() && host.name != "localhost" {
            findings.push(NO_ADMINISTRATOR.found(&[("host", &host.name)]));
        }
        let limited = config
            .access
            .rules
            .iter()
            .any(|r| r.actions.contains(&crate::config::Action::Register));
        if host.registration && !limited {
            findings.push(OPEN_REGISTRATION.found(&[("host", &host.name)]));
        }
    }
    let login = &config.login;
    let common = [Mechanism::ScramSha1, Mechanism::ScramSha256];
    if !login.plain && !login.mechanisms.iter().any(|m| common.contains(m)) {
        let names: Vec<_> = login.mechanisms.iter().map(|m| m.as_str()).collect();
        findings.push(NEW_MECHANISMS_ONLY.found(&[("mechanisms", &names.join(", "))]));
    }
    findings
}

/// A file that others can read though it holds a secret itself.
fn readable(file: &Path) -> Option<Finding> {
    let mode = file.metadata().ok()?.permissions().mode();
    let text = std::fs::read_to_string(file).ok()?;
    let table: toml::Table = text.parse().ok()?;
    let storage = table.get("storage").and_then(toml::Value::as_table)?;
    let secret = storage.contains_key("dsn") || storage.contains_key("reader_dsn");
    let finding = || FILE_READABLE.found(&[("file", &file.display())]);
    (secret && mode & 0o044 != 0).then(finding)
}

fn directory(directory: &Path) -> Option<Finding> {
    if !directory.exists() {
        return Some(DIRECTORY_MISSING.found(&[("directory", &directory.display())]));
    }
    let probe = directory.join(format!(".check-{}", std::process::id()));
    let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
    let reason = written.err()?;
    Some(DIRECTORY_UNUSABLE.found(&[("directory", &directory.display()), ("reason", &reason)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;

    fn ids(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|f| f.id).collect()
    }

    #[test]
    fn finds_what_configurations_leave_open() {
        let data_directory = std::env::temp_dir();
        let config = Config {
            data_directory,
            ..Config::default()
        };
        assert_eq!(ids(&check(&config, None)), ["only-localhost"]);
        let mut config = config;
        config.hosts = vec![Host {
            registration: true,
            ..Host::named("example.org")
        }];
        config.login.plain = false;
        config.login.mechanisms = vec![Mechanism::ScramSha512];
        let found = check(&config, None);
        assert_eq!(
            ids(&found),
            [
                "no-administrator",
                "open-registration",
                "new-mechanisms-only"
            ]
        );
        assert!(found[0].remedy.contains("you@example.org"));
    }

    #[test]
    fn finds_a_readable_file_with_a_secret() {
        let file = std::env::temp_dir().join(format!("eider-check-{}.toml", std::process::id()));
        std::fs::write(&file, "[storage]\ndsn = \"postgres://a:b@c/d\"\n").unwrap();
        let mode =
            |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(readable(&file).is_some());
        mode(0o600);
        assert!(readable(&file).is_none());
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn finds_a_missing_directory() {
        let missing = directory(Path::new("/nonexistent/eider")).unwrap();
        assert_eq!(missing.id, "data-directory-missing");
    }
}
