//! The command line as people and scripts use it: the built binary, with and without a running server.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A folder with a data directory of its own, gone with this value.
struct Place {
    folder: PathBuf,
    config: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("eider-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let config = folder.join("eider.toml");
        let text = "data_directory = \"data\"\n[[listeners.c2s]]\naddress = \"127.0.0.1\"\nport = 0\n\
                    [listeners.http]\nport = 0\n[login]\niterations = 4096\n";
        std::fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    fn eider(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = command(&self.config)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed; the lines it printed as JSON.
    fn json(&self, arguments: &[&str], input: &str) -> Vec<Value> {
        let output = self.eider(&[arguments, &["--json"]].concat(), input);
        let text = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{said}");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Runs a command that must fail; its exit code and what it said.
    fn failure(&self, arguments: &[&str], input: &str) -> (i32, String) {
        let output = self.eider(arguments, input);
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn serve(&self) -> Server {
        let mut child = command(&self.config)
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            said.push(line.unwrap());
            if said.last().unwrap().starts_with("Next") {
                return Server { child, said };
            }
        }
        panic!("the server ended: {:?} {said:?}", child.wait());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eider"));
    command.arg("--config").arg(config);
    command
}

/// A running server; killed with this value.
struct Server {
    child: Child,
    said: Vec<String>,
}

impl Server {
    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    fn terminate(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either can only fail where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What must be the same with the server running and not.
fn accounts(place: &Place, host: &str) {
    let anna = format!("anna@{host}");
    let made = place.json(&["user", "add", &anna], "pencil\n");
    assert_eq!(made[0]["account"], anna);
    let (code, said) = place.failure(&["user", "add", &anna], "pencil\n");
    assert_eq!(code, 4);
    assert!(
        said.contains("exists already") && said.contains("user passwd"),
        "{said}"
    );
    assert_eq!(
        place
            .failure(&["user", "add", "bert@elsewhere.example"], "x\n")
            .0,
        3
    );
    assert_eq!(place.failure(&["user", "add", "bert"], "x\n").0, 2);
    assert_eq!(place.failure(&["user", "add", "bert@localhost"], "\n").0, 2);

    let file = place.folder.join("password");
    std::fs::write(&file, "crayon\n").unwrap();
    let file = file.to_string_lossy().into_owned();
    place.json(
        &["user", "add", "Bert@localhost", "--password-file", &file],
        "",
    );
    let listed = place.json(&["user", "list"], "");
    let names: Vec<_> = listed
        .iter()
        .map(|a| a["account"].as_str().unwrap())
        .collect();
    assert_eq!(names, [anna.as_str(), "bert@localhost"]);
    assert_eq!(
        place.json(&["user", "list", "--search", "ert"], "").len(),
        1
    );

    place.json(&["user", "passwd", &anna], "ink\n");
    place.json(&["user", "disable", &anna], "");
    assert_eq!(
        place.json(&["user", "show", &anna], "")[0]["enabled"],
        false
    );
    place.json(&["user", "enable", &anna], "");
    assert_eq!(place.json(&["user", "show", &anna], "")[0]["enabled"], true);
    place.json(&["user", "remove", &anna], "");
    let (code, said) = place.failure(&["user", "show", &anna], "");
    assert_eq!(code, 3);
    assert!(said.contains("user list"), "{said}");
    place.json(&["user", "remove", "bert@localhost"], "");
    assert!(place.json(&["user", "list"], "").is_empty());
}

/// Both accounts see each other's presence.
fn befriend(database: &Path, one: &str, other: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = eider_storage::SqliteConfig::new(database.to_owned());
        let config = eider_storage::Config::Sqlite(config);
        let storage = eider_storage::open(&config).await.unwrap();
        for (owner, contact) in [(one, other), (other, one)] {
            let owner = storage.account_id("localhost", owner).await.unwrap();
            let item = eider_storage::RosterItem {
                jid: format!("{contact}@localhost"),
                subscription: eider_storage::Subscription::Both,
                ..Default::default()
            };
            let (fence, any) = (eider_storage::Fence::single(), eider_storage::Expect::Any);
            storage
                .roster_put(fence, owner.unwrap(), &item, any, 10)
                .await
                .unwrap();
        }
        storage.close().await;
    });
}

#[test]
fn contacts_of_an_account_removed_without_a_server_are_not_subscribed_any_more() {
    let place = Place::new("removed");
    for user in ["anna", "bert"] {
        place.json(&["user", "add", &format!("{user}@localhost")], "pencil\n");
    }
    let database = place.folder.join("data/eider.sqlite");
    befriend(&database, "anna", "bert");
    place.json(&["user", "remove", "bert@localhost"], "");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let left = runtime.block_on(async {
        let config = eider_storage::SqliteConfig::new(database);
        let config = eider_storage::Config::Sqlite(config);
        let storage = eider_storage::open(&config).await.unwrap();
        let anna = storage.account_id("localhost", "anna").await.unwrap();
        storage.roster_items(anna.unwrap()).await.unwrap().items
    });
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].jid, "bert@localhost");
    assert_eq!(left[0].subscription, eider_storage::Subscription::None);
}

#[test]
fn accounts_without_a_server() {
    let place = Place::new("offline");
    accounts(&place, "localhost");
    for command in [
        &["status"][..],
        &["session", "list"],
        &["log"],
        &["trace", "a@localhost"],
        &["reload"],
    ] {
        let (code, said) = place.failure(command, "");
        assert_eq!(code, 5, "{command:?}");
        assert!(said.contains("eider serve"), "{said}");
    }
}

#[test]
fn the_server_is_asked_while_it_runs() {
    let place = Place::new("running");
    let server = place.serve();
    assert!(server.said[0].contains("localhost"), "{:?}", server.said);
    assert!(
        server.said.iter().any(|line| line.contains("ca.pem")),
        "{:?}",
        server.said
    );
    assert!(
        server
            .said
            .last()
            .unwrap()
            .contains("user add anna@localhost")
    );
    let socket = place.folder.join("data/eider.sock").metadata().unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let data = place.folder.join("data").metadata().unwrap();
    assert_eq!(data.permissions().mode() & 0o777, 0o700);

    let status = &place.json(&["status"], "")[0];
    assert_eq!(status["state"], "ready");
    assert_eq!(status["process_id"], server.child.id());
    accounts(&place, "localhost");
    assert!(place.json(&["session", "list"], "").is_empty());
    assert_eq!(
        place.failure(&["session", "kick", "anna@localhost"], "").0,
        3
    );

    let levels = place.json(&["log", "debug", "eider::stream", "--for", "10m"], "");
    assert_eq!(levels[0]["levels"], "info, eider::stream=debug");
    assert_eq!(place.failure(&["log", "loud"], "").0, 2);
    assert_eq!(place.failure(&["trace", "nobody@localhost"], "").0, 3);

    let second = place.eider(&["serve"], "");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another eider"));
    assert_eq!(server.terminate(), Some(0));
    assert!(!place.folder.join("data/eider.sock").exists());
}

#[test]
fn a_reload_says_what_changed_and_keeps_the_old_one_where_it_is_wrong() {
    let place = Place::new("reload");
    let server = place.serve();
    let text = std::fs::read_to_string(&place.config).unwrap();
    std::fs::write(
        &place.config,
        format!("{text}[archive]\nretention_days = 30\n"),
    )
    .unwrap();
    let changed = place.json(&["reload"], "");
    assert_eq!(changed[0]["applied"][0], "archive.retention_days");
    server.signal(rustix::process::Signal::HUP);
    std::fs::write(&place.config, format!("{text}[archive]\nretention = 30\n")).unwrap();
    // The command reads the file too, before it asks the server.
    let (code, said) = place.failure(&["reload"], "");
    assert_eq!(code, 6);
    assert!(
        said.contains("eider.toml:10: archive.retention = 30"),
        "{said}"
    );
    std::fs::write(&place.config, text).unwrap();
    assert_eq!(place.json(&["status"], "")[0]["state"], "ready");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_reload_says_which_certificates_cannot_be_read() {
    let place = Place::new("reload-certificates");
    let server = place.serve();
    let directory = place.folder.join("data/certificates");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("example.org.pem"), "no certificate").unwrap();
    let output = place.eider(&["reload"], "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains("example.org.pem"), "{said}");
    std::fs::remove_file(directory.join("example.org.pem")).unwrap();
    assert_eq!(
        place.json(&["reload"], "")[0]["findings"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_killed_server_leaves_nothing_to_repair() {
    let place = Place::new("killed");
    let mut server = place.serve();
    place.json(&["user", "add", "anna@localhost"], "pencil\n");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert!(place.folder.join("data/eider.sock").exists());
    assert_eq!(place.json(&["user", "list"], "").len(), 1);
    let server = place.serve();
    assert_eq!(place.json(&["user", "list"], "").len(), 1);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn backups_are_written_with_and_without_a_server() {
    let place = Place::new("backup");
    place.json(&["user", "add", "anna@localhost"], "pencil\n");
    let file = |name: &str| place.folder.join(name).to_string_lossy().into_owned();
    let offline = place.json(&["backup", &file("offline")], "");
    let server = place.serve();
    let online = place.json(&["backup", &file("online")], "");
    for name in ["offline", "online", "data/eider.sqlite"] {
        let mode = place
            .folder
            .join(name)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let accounts = |tables: &Value| {
        let tables = tables["tables"].as_array().unwrap().clone();
        tables
            .into_iter()
            .find(|t| t["table"] == "account")
            .unwrap()
    };
    assert_eq!(accounts(&offline[0])["rows"], 1);
    assert_eq!(accounts(&offline[0]), accounts(&online[0]));
    assert_eq!(place.failure(&["backup", &file("online")], "").0, 4);
    let (code, said) = place.failure(&["restore", &file("online")], "");
    assert_eq!(code, 1);
    assert!(said.contains("needs it stopped"), "{said}");
    assert_eq!(server.terminate(), Some(0));

    let (code, said) = place.failure(&["restore", &file("online")], "");
    assert_eq!(code, 4);
    assert!(said.contains("mv "), "{said}");
    assert_eq!(place.failure(&["restore", &file("nothing")], "").0, 3);
    std::fs::remove_dir_all(place.folder.join("data")).unwrap();
    let restored = place.json(&["restore", &file("online")], "");
    assert_eq!(accounts(&restored[0]), accounts(&online[0]));
    assert_eq!(
        place.json(&["user", "list"], "")[0]["account"],
        "anna@localhost"
    );
}

#[test]
fn a_database_is_copied_to_another() {
    let place = Place::new("copy");
    place.json(&["user", "add", "anna@localhost"], "pencil\n");
    let target = place.folder.join("target.toml");
    std::fs::write(&target, "data_directory = \"other\"\n").unwrap();
    let target = target.to_string_lossy().into_owned();
    let own = place.config.to_string_lossy().into_owned();
    assert_eq!(place.failure(&["storage", "copy", "--to", &own], "").0, 2);
    let copied = place.json(&["storage", "copy", "--to", &target], "");
    assert!(copied[0]["rows"].as_u64().unwrap() >= 1);
    assert_eq!(
        place.failure(&["storage", "copy", "--to", &target], "").0,
        4
    );
    let other = place.folder.join("other").to_string_lossy().into_owned();
    let listed = place.json(&["--data-directory", &other, "user", "list"], "");
    assert_eq!(listed[0]["account"], "anna@localhost");
}

#[test]
fn configuration_is_checked_and_shown() {
    let place = Place::new("config");
    let checked = place.json(&["config", "check"], "");
    assert_eq!(checked[0]["valid"], true);
    let (code, said) = place.failure(&["config", "check", "--set", "archive.page_massages=3"], "");
    assert_eq!(code, 6);
    assert!(
        said.contains("command line: archive.page_massages = 3"),
        "{said}"
    );
    assert!(said.contains("did you mean \"page_messages\"?"), "{said}");
    let example = place.eider(&["config", "example"], "");
    let example = String::from_utf8(example.stdout).unwrap();
    assert!(example.contains("[storage]"), "{example}");
}

#[test]
fn check_says_what_is_wrong_and_what_to_type() {
    let place = Place::new("check");
    let output = place.eider(&["check", "--no-dns", "--json"], "");
    assert_eq!(output.status.code(), Some(8));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("server-not-running"), "{text}");
    let server = place.serve();
    let output = place.eider(&["check", "--no-dns"], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("the host localhost has no accounts"),
        "{text}"
    );
    assert!(
        text.contains("type: eider user add NAME@localhost"),
        "{text}"
    );
    place.json(&["user", "add", "anna@localhost"], "pencil\n");
    let output = place.eider(&["check", "--no-dns"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("no accounts"), "{text}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_data_directory_belongs_to_one_process() {
    let place = Place::new("owned");
    let server = place.serve();
    // Without its socket a server is still there: while it starts, and while it stops.
    std::fs::remove_file(place.folder.join("data/eider.sock")).unwrap();
    let (code, said) = place.failure(&["serve"], "");
    assert!(
        code != 0 && said.contains("another eider uses it"),
        "{said}"
    );
    let (code, said) = place.failure(&["user", "list"], "");
    assert!(
        code != 0 && said.contains("another eider uses it"),
        "{said}"
    );
    drop(server);
    place.json(&["user", "list"], "");
}
