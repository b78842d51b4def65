//! A PostgreSQL of a test's own: fresh, on a free port; it can be killed, paused and started again.

use std::fs::{Permissions, read_to_string};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the server may take until it answers.
const START: Duration = Duration::from_secs(60);

/// Runs the server and waits for the end of its own input: when the test's process goes, however it goes, so does the
/// server, and its directory. Until it is up the server misses the signal.
const GUARD: &str = r#"directory=$1; shift; "$@" & read -r keep; while kill -QUIT $! 2>/dev/null; do sleep 0.1; done; wait
if [ -z "$keep" ]; then rm -rf "$directory"; fi"#;

/// A running server. It is stopped, and its directory removed, when this value goes.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    directory: PathBuf,
    /// TCP port on 127.0.0.1.
    pub port: u16,
    settings: Vec<String>,
    user: Option<(u32, u32)>,
    guard: Option<Child>,
}

fn failure(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}

/// User and group that the server runs as: PostgreSQL refuses root.
fn user() -> io::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line
        .ok_or_else(|| failure("no user postgres"))?
        .split(':')
        .skip(2);
    let mut id = || {
        fields
            .next()
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| failure("/etc/passwd"))
    };
    Ok(Some((id()?, id()?)))
}

/// The directory with the newest installed version's programs.
fn programs() -> io::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")?
        .flatten()
        .map(|version| version.path().join("bin"));
    let newest = versions.filter(|bin| bin.join("initdb").exists()).max();
    newest.ok_or_else(|| failure("no initdb in /usr/lib/postgresql"))
}

fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

fn temporary_directory() -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "eider-postgres-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

impl Postgres {
    /// Makes a cluster and starts it with these settings (`name=value`).
    pub fn start(settings: &[&str]) -> io::Result<Postgres> {
        let mut postgres = Postgres {
            programs: programs()?,
            directory: temporary_directory()?,
            port: free_port()?,
            settings: settings
                .iter()
                .map(|setting| (*setting).to_owned())
                .collect(),
            user: user()?,
            guard: None,
        };
        std::fs::set_permissions(&postgres.directory, Permissions::from_mode(0o700))?;
        if let Some((user, group)) = postgres.user {
            chown(&postgres.directory, Some(user), Some(group))?;
        }
        let mut initdb = postgres.command("initdb");
        initdb.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ]);
        let output = initdb.arg(postgres.data()).output()?;
        if !output.status.success() {
            return Err(failure(String::from_utf8_lossy(&output.stderr)));
        }
        postgres.run()?;
        Ok(postgres)
    }

    /// Starts a hot standby of this server, streaming from it.
    pub fn standby(&self) -> io::Result<Postgres> {
        let mut standby = Postgres {
            programs: self.programs.clone(),
            directory: temporary_directory()?,
            port: free_port()?,
            settings: self.settings.clone(),
            user: self.user,
            guard: None,
        };
        std::fs::set_permissions(&standby.directory, Permissions::from_mode(0o700))?;
        if let Some((user, group)) = standby.user {
            chown(&standby.directory, Some(user), Some(group))?;
        }
        let mut copy = standby.command("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-c", "fast"]);
        copy.args(["--no-sync", "-p", &self.port.to_string(), "-D"]);
        let output = copy.arg(standby.data()).output()?;
        if !output.status.success() {
            return Err(failure(String::from_utf8_lossy(&output.stderr)));
        }
        standby.run()?;
        Ok(standby)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn command(&self, program: &str) -> Command {
        self.as_user(Command::new(self.programs.join(program)))
    }

    fn as_user(&self, mut command: Command) -> Command {
        command.current_dir("/tmp");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts the server (again) and waits until it answers.
    pub fn run(&mut self) -> io::Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))?;
        let began = Instant::now();
        loop {
            let mut shell = self.as_user(Command::new("/bin/sh"));
            shell
                .args(["-c", GUARD, "guard"])
                .arg(&self.directory)
                .arg(self.programs.join("postgres"));
            shell
                .arg("-D")
                .arg(self.data())
                .args(["-p", &self.port.to_string()]);
            shell.args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ]);
            for setting in &self.settings {
                shell.args(["-c", setting]);
            }
            shell
                .stdin(Stdio::piped())
                .stdout(log.try_clone()?)
                .stderr(log.try_clone()?);
            self.guard = Some(shell.spawn()?);
            // After a kill the old processes may still be going: then it ends at once and is tried again.
            loop {
                if self.sql("postgres", "SELECT 1").is_ok() {
                    return Ok(());
                }
                if self.postmaster().is_none() && began.elapsed() > Duration::from_secs(1) {
                    break;
                }
                if began.elapsed() > START {
                    return Err(failure(read_to_string(self.directory.join("log"))?));
                }
                std::thread::sleep(Duration::from_millis(30));
            }
            self.end_guard();
        }
    }

    /// Ends the shell that watches the server, keeping the directory.
    fn end_guard(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            if let Some(mut input) = guard.stdin.take() {
                // It may be gone already.
                let _gone = io::Write::write_all(&mut input, b"keep\n");
            }
            let _status = guard.wait();
        }
    }

    /// The process id of the server, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.postmaster()
            .map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// The postmaster's process, while it runs.
    fn postmaster(&self) -> Option<Pid> {
        let file = read_to_string(self.data().join("postmaster.pid")).ok()?;
        let pid = Pid::from_raw(file.lines().next()?.trim().parse().ok()?)?;
        Path::new(&format!("/proc/{}", pid.as_raw_nonzero()))
            .exists()
            .then_some(pid)
    }

    /// The postmaster and everything it started.
    fn processes(&self) -> Vec<Pid> {
        let Some(postmaster) = self.postmaster() else {
            return Vec::new();
        };
        let id = postmaster.as_raw_nonzero();
        let children = read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        std::iter::once(postmaster).chain(children).collect()
    }

    fn signal(&self, signal: Signal) {
        for process in self.processes() {
            // A child may have ended since it was listed.
            let _gone = kill_process(process, signal);
        }
    }

    /// SIGKILL to the server and all its processes: a crash.
    pub fn kill(&mut self) {
        let processes = self.processes();
        for process in &processes {
            let _gone = kill_process(*process, Signal::KILL);
        }
        self.end_guard();
    }

    /// Stops every process of the server where it is: it hangs.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Runs a statement with psql.
    pub fn sql(&self, database: &str, sql: &str) -> io::Result<String> {
        let mut psql = self.command("psql");
        psql.args([
            "-XAtq",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
        ]);
        let output = psql
            .args(["-p", &self.port.to_string(), "-c", sql])
            .output()?;
        if !output.status.success() {
            return Err(failure(String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Makes an empty database; answers its URL.
    pub fn database(&self, name: &str) -> io::Result<String> {
        self.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        )?;
        Ok(self.url(name))
    }

    /// The URL of a database.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.resume();
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _status = guard.wait();
        } else {
            // Killed and not started again.
            let _left = std::fs::remove_dir_all(&self.directory);
        }
    }
}
