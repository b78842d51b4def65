//! Tests of loading: layers, secrets, unknown keys, messages.

use super::*;
use crate::config::{Engine, Level, TlsMode};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("eider-config-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn wrong(text: &str) -> Vec<Problem> {
    match from_text(Path::new("eider.toml"), text) {
        Err(Error::Problems(problems)) => problems,
        other => panic!("{other:?}"),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn nothing_gives_the_defaults() {
    assert_eq!(Sources::default().load().unwrap(), Config::default());
}

#[test]
fn later_layers_win() {
    let folder = folder("layers");
    let path = folder.join("eider.toml");
    let text = "[logging]\nlevel = \"warn\"\n[archive]\nretention_days = 30\npage_messages = 20\n";
    std::fs::write(&path, text).unwrap();
    let sources = Sources {
        file: Some(path),
        environment: pairs(&[
            ("EIDER_ARCHIVE__RETENTION_DAYS", "31"),
            ("EIDER_LOGGING__LEVEL", "debug"),
            ("EIDER_TLS__MIN_VERSION", "1.3"),
            ("EIDER_PORT_5222_TCP_ADDR", "10.0.0.1"),
            ("EIDER_HOSTS", "[{name=\"a.example\"},{name=\"b.example\"}]"),
            ("HOME", "/root"),
        ]),
        credentials: None,
        overrides: pairs(&[
            ("logging.level", "trace"),
            ("logging.modules.eider", "debug"),
        ]),
    };
    let config = sources.load().unwrap();
    assert_eq!(config.logging.level, Level::Trace);
    assert_eq!(config.logging.modules["eider"], Level::Debug);
    assert_eq!(config.archive.retention_days, 31);
    assert_eq!(config.archive.page_messages, 20);
    assert_eq!(config.tls.min_version, crate::config::TlsVersion::V1_3);
    let names: Vec<_> = config.hosts.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["a.example", "b.example"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn unknown_keys_are_refused_with_place_key_and_value() {
    let problems =
        wrong("[archive]\n\nretention_dais = 3\n[[hosts]]\nname = \"a\"\ncolour = \"red\"\n");
    let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(
        texts[0],
        "eider.toml:3: archive.retention_dais = 3: unknown key; did you mean \"retention_days\"?"
    );
    assert!(
        texts[1].starts_with("eider.toml:6: hosts.0.colour = \"red\": unknown key"),
        "{texts:?}"
    );
    let sources = Sources {
        environment: pairs(&[("EIDER_LOGIN__PLANE", "1")]),
        ..Sources::default()
    };
    let text = sources.load().unwrap_err().to_string();
    assert_eq!(
        text,
        "environment: login.plane = 1: unknown key; did you mean \"plain\"?"
    );
}

#[test]
fn wrong_types_and_bounds_are_named() {
    let text = wrong("[login]\niterations = \"many\"\n")[0].to_string();
    assert!(
        text.starts_with("eider.toml:2: login.iterations = \"many\": must be"),
        "{text}"
    );
    let text = wrong("[login]\n\niterations = 100\n")[0].to_string();
    assert_eq!(
        text,
        "eider.toml:3: login.iterations = 100: must be between 4096 and 1000000"
    );
    let text = wrong("[[listeners.c2s]]\ntls = \"ssl\"\n")[0].to_string();
    assert!(
        text.contains("listeners.c2s") && text.contains("starttls"),
        "{text}"
    );
    let text = wrong("[archive\n")[0].to_string();
    assert!(text.starts_with("eider.toml:1: "), "{text}");
    assert_eq!(
        wrong("[storage]\nengine = \"postgres\"\n")[0].key,
        "storage.dsn"
    );
}

#[test]
fn secrets_come_from_files_and_credentials_and_are_not_shown() {
    let folder = folder("secrets");
    std::fs::write(folder.join("dsn"), "postgres://eider:hunter2@db/eider\n").unwrap();
    std::fs::write(folder.join("storage.dsn"), "postgres://from-credential\n").unwrap();
    let path = folder.join("eider.toml");
    std::fs::write(
        &path,
        "[storage]\nengine = \"postgres\"\ndsn_file = \"dsn\"\n",
    )
    .unwrap();
    let file = Sources {
        file: Some(path),
        ..Sources::default()
    };
    let dsn = |sources: &Sources| {
        sources
            .load()
            .unwrap()
            .storage
            .dsn
            .unwrap()
            .reveal()
            .to_owned()
    };
    assert_eq!(dsn(&file), "postgres://eider:hunter2@db/eider");

    let credential = Sources {
        credentials: Some(folder.clone()),
        ..Sources::default()
    };
    assert_eq!(dsn(&credential), "postgres://from-credential");

    let both = wrong("[storage]\ndsn = \"postgres://a\"\ndsn_file = \"/nowhere/at/all\"\n");
    assert!(
        both.iter().any(|p| p.what.contains("cannot be read")),
        "{both:?}"
    );
    let typo = wrong("[storage]\ndns = \"postgres://eider:hunter2@db/eider\"\n")[0].to_string();
    assert!(
        !typo.contains("hunter2") && typo.contains("did you mean \"dsn\""),
        "{typo}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let text = "data_directory = \"data\"\n[tls]\ncertificate_directory = \"/etc/ssl/eider\"\n";
    let config = from_text(Path::new("/etc/eider/eider.toml"), text).unwrap();
    assert_eq!(config.data_directory, Path::new("/etc/eider/data"));
    assert_eq!(config.certificate_directory(), Path::new("/etc/ssl/eider"));
    assert_eq!(
        config.sqlite_file(),
        Path::new("/etc/eider/data/eider.sqlite")
    );
}

#[test]
fn lists_in_a_file_replace_defaults() {
    let text = "[[listeners.c2s]]\nport = 0\ntls = \"direct\"\nproxy_networks = [\"10.0.0.0/8\"]\n";
    let config = from_text(Path::new("eider.toml"), text).unwrap();
    assert_eq!(config.listeners.c2s.len(), 1);
    assert_eq!(config.listeners.c2s[0].tls, TlsMode::Direct);
    assert_eq!(config.storage.engine, Engine::Sqlite);
}

#[test]
fn keys_that_must_fit_each_other_are_checked() {
    for (text, key) in [
        ("hosts = []", "hosts"),
        ("[[hosts]]\nname = \"Exa mple\"", "hosts.0.name"),
        (
            "[[hosts]]\nname = \"a\"\n[[hosts]]\nname = \"a\"",
            "hosts.1.name",
        ),
        (
            "[[hosts]]\nname = \"a\"\nadmins = [\"joe\"]",
            "hosts.0.admins",
        ),
        (
            "[[listeners.c2s]]\naddress = \"here\"",
            "listeners.c2s.0.address",
        ),
        (
            "[[listeners.c2s]]\n[[listeners.c2s]]",
            "listeners.c2s.1.port",
        ),
        ("[[access.rules]]\nallow = false", "access.rules.0.actions"),
        (
            "[[access.rules]]\nactions = [\"login\"]\nhosts = [\"b\"]",
            "access.rules.0.hosts",
        ),
        (
            "[[traffic.assign]]\nclass = \"gold\"",
            "traffic.assign.0.class",
        ),
        (
            "[stream_management]\nresume_seconds = 30",
            "stream_management.resume_seconds",
        ),
        (
            "[login]\nplain = false\nmechanisms = []",
            "login.mechanisms",
        ),
        ("[limits]\nstanza_bytes = 999", "limits.stanza_bytes"),
        ("[tls]\ndefault_host = \"nowhere\"", "tls.default_host"),
    ] {
        let problems = wrong(text);
        assert!(
            problems.iter().any(|p| p.key == key),
            "{text}: {problems:?}"
        );
    }
}

/// A small generator of numbers: the same ones each time.
fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    }
}

#[test]
fn no_text_makes_loading_panic() {
    let example = crate::config::render::example();
    let lines: Vec<&str> = example.lines().map(|l| l.trim_start_matches('#')).collect();
    let mut next = numbers(7);
    for _ in 0..3_000 {
        let mut text: String = (0..next(12))
            .map(|_| format!("{}\n", lines[next(lines.len())]))
            .collect();
        for _ in 0..next(4) {
            let at = (0..=next(text.len() + 1))
                .rev()
                .find(|i| text.is_char_boundary(*i))
                .unwrap_or(0);
            text.insert(
                at,
                ['[', ']', '"', '=', '{', '.', '\n', '\u{fffd}', '-', '0'][next(10)],
            );
        }
        if let Err(e) = from_text(Path::new("eider.toml"), &text) {
            assert!(!e.to_string().is_empty());
        }
    }
}
