//! Real processes: this binary starts itself as the daemon of `examples/support/daemon`, and kills it.

#[path = "../examples/support/daemon/mod.rs"]
mod daemon;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DIRECTORY: &str = "RAFT_STORE_KVD_DIRECTORY";

/// The daemon itself, when this binary was started for that.
#[test]
fn daemon() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        let code = daemon::main(&[directory]);
        std::process::exit(i32::from(code));
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("raft-store-{name}-{}", std::process::id());
        Directory(std::env::temp_dir().join(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left of a failed test is looked at, or removed with the temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Daemon {
    process: Child,
    address: String,
}

impl Daemon {
    fn start(directory: &Directory) -> Daemon {
        // A write over the limit of file sizes is to be an error, not a signal; what is ignored stays ignored.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" --exact daemon --nocapture"]);
        command.arg(std::env::current_exe().expect("a test runs"));
        command.env(DIRECTORY, &directory.0).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let output = process.stdout.take().expect("piped");
        let mut lines = BufReader::new(output).lines();
        let address = lines.find_map(|line| {
            let line = line.expect("text");
            // The test harness has begun the line.
            let at = line.find("listening ")?;
            Some(line[at + "listening ".len()..].to_owned())
        });
        // It must not block on a pipe that nobody reads; it prints nothing more.
        let address = address.unwrap_or_else(|| panic!("it ended: {:?}", process.wait()));
        Daemon { process, address }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).expect("a limit");
        Client(BufReader::new(stream))
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ended");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn send(&mut self, request: &str) -> std::io::Result<()> {
        self.0
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn ask(&mut self, request: &str) -> String {
        self.send(request).expect("sent");
        self.line().expect("answered")
    }
}

#[test]
fn requests_are_answered() {
    let directory = Directory::new("kvd-requests");
    let daemon = Daemon::start(&directory);
    let mut client = daemon.connect();
    assert_eq!(client.ask("get key"), "none");
    let first = client.ask("put key one");
    let revision = first.strip_prefix("written ").expect("written").to_owned();
    assert_eq!(client.ask("get key"), format!("value {revision} one"));
    assert_eq!(
        client.ask("put-if key 0 two"),
        format!("conflict {revision}")
    );
    let mut watcher = daemon.connect();
    assert_eq!(watcher.ask("watch k"), "watching");
    let second = client.ask(&format!("put-if key {revision} two"));
    let revision = second.strip_prefix("written ").expect("written").to_owned();
    assert_eq!(
        watcher.line().expect("told"),
        format!("put {revision} key two")
    );
    assert!(client.ask("delete key").starts_with("written "));
    assert!(watcher.line().expect("told").ends_with(" key"));
    assert!(client.ask("status").contains(" keys=0 "));
    assert!(client.ask("nonsense").starts_with("error "));
    let mut second = Command::new(std::env::current_exe().expect("a test runs"));
    second.args(["--exact", "daemon", "--nocapture"]);
    let output = second
        .env(DIRECTORY, &directory.0)
        .output()
        .expect("it runs");
    assert!(!output.status.success(), "two daemons in one directory");
}

#[test]
fn half_a_request_is_none() {
    let directory = Directory::new("kvd-half");
    let daemon = Daemon::start(&directory);
    let mut client = daemon.connect();
    assert_eq!(client.ask("get key"), "none");
    // Its client dies in the middle of the value.
    let mut cut = daemon.connect();
    let sent = cut.0.get_mut().write_all(b"put key val");
    sent.expect("sent");
    let ended = cut.0.get_ref().shutdown(std::net::Shutdown::Write);
    ended.expect("ended");
    assert!(cut.line().is_ok_and(|line| line.starts_with("error usage")));
    // One that is too long is not two.
    let mut long = daemon.connect();
    let mut line = b"put key value".to_vec();
    line.resize(128 << 10, b' ');
    line.extend(b"put key other\n");
    // The daemon may have ended the connection in its middle.
    let _ = long.0.get_mut().write_all(&line);
    if let Ok(line) = long.line() {
        assert!(line.starts_with("error usage"), "{line}");
    }
    assert_eq!(client.ask("get key"), "none");
    assert!(client.ask("save ../snapshot").starts_with("error usage"));
    assert!(client.ask("save /tmp/snapshot").starts_with("error usage"));
}

#[test]
fn a_watch_ends_with_its_client() {
    let directory = Directory::new("kvd-watch");
    let daemon = Daemon::start(&directory);
    let mut client = daemon.connect();
    assert_eq!(client.ask("get key"), "none");
    for _ in 0..3 {
        assert_eq!(daemon.connect().ask("watch quiet"), "watching");
    }
    let began = Instant::now();
    while !client.ask("status").ends_with(" watches=0") {
        assert!(began.elapsed() < Duration::from_secs(20), "they stay");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Puts rising numbers under `key` until the daemon goes; the last acknowledged and the last tried.
fn put_until_killed(mut client: Client, key: &str, from: u64) -> (u64, u64) {
    for number in from.. {
        let answer = client
            .send(&format!("put {key} {number}"))
            .and_then(|()| client.line());
        match answer {
            Ok(answer) => assert!(answer.starts_with("written "), "{answer}"),
            Err(_) => return (number - 1, number),
        }
    }
    unreachable!("numbers do not end")
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    const WRITERS: usize = 4;
    let directory = Directory::new("kvd-kill");
    let mut bounds = [(0, 0); WRITERS];
    for life in 0..6u64 {
        let mut daemon = Daemon::start(&directory);
        let mut writers = Vec::new();
        for (writer, (acknowledged, tried)) in bounds.iter().enumerate() {
            let (key, mut client) = (format!("key/{writer}"), daemon.connect());
            let answer = client.ask(&format!("get {key}"));
            let found = answer
                .rsplit(' ')
                .next()
                .and_then(|value| value.parse().ok());
            let found: u64 = found.unwrap_or(0);
            assert!(
                (*acknowledged..=*tried).contains(&found),
                "life {life}: {answer} where {acknowledged} was acknowledged, {tried} tried"
            );
            let from = tried + 1;
            writers.push(std::thread::spawn(move || {
                put_until_killed(client, &key, from)
            }));
        }
        std::thread::sleep(Duration::from_millis(150 + 70 * life));
        daemon.kill();
        for (bound, writer) in bounds.iter_mut().zip(writers) {
            let (acknowledged, tried) = writer.join().expect("it does not panic");
            // One that was never acknowledged in this life leaves what was before it.
            bound.0 = if acknowledged > bound.1 {
                acknowledged
            } else {
                bound.0
            };
            bound.1 = tried;
        }
    }
    assert!(
        bounds.iter().any(|(acknowledged, _)| *acknowledged > 6),
        "{bounds:?}"
    );
}

#[test]
fn exits_on_fatal() {
    let directory = Directory::new("kvd-fatal");
    let mut daemon = Daemon::start(&directory);
    let mut client = daemon.connect();
    assert!(client.ask("put key value").starts_with("written "));
    // Every write to a file fails from here on.
    let limit = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let process = rustix::process::Pid::from_child(&daemon.process);
    rustix::process::prlimit(Some(process), rustix::process::Resource::Fsize, limit)
        .expect("a limit of one's own child");
    let answer = client.send("put key other").and_then(|()| client.line());
    if let Ok(answer) = answer {
        assert!(answer.starts_with("error "), "{answer}");
    }
    let began = Instant::now();
    let status = loop {
        if let Some(status) = daemon.process.try_wait().expect("its own child") {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it lives on");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(1));
    let daemon = Daemon::start(&directory);
    assert_ne!(daemon.connect().ask("get key"), "none");
}
