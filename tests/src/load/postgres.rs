//! A PostgreSQL of the run's own: fresh, on a free port, the same settings for every server.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::process::Guard;
use super::server::free_port;

/// Durable commits, and room enough that no checkpoint falls into a timed window more than another.
const SETTINGS: [&str; 12] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=512MB",
    "max_wal_size=8GB",
    "checkpoint_timeout=30min",
    "max_connections=200",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "jit=off",
    "log_min_messages=fatal",
    "autovacuum_naptime=10min",
];

/// A running server; stopped and removed with the run's directory.
#[derive(Debug)]
pub struct Postgres {
    guard: Guard,
    port: u16,
    /// Its directory.
    pub directory: PathBuf,
    server: Command,
}

/// User and group id that PostgreSQL runs as: it refuses to run as root.
fn user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|l| l.starts_with("postgres:"));
    let fields: Vec<&str> = line
        .context("no user postgres to run PostgreSQL as")?
        .split(':')
        .collect();
    let id = |i: usize| {
        fields
            .get(i)
            .and_then(|f| f.parse().ok())
            .context("/etc/passwd")
    };
    Ok(Some((id(2)?, id(3)?)))
}

/// The directory with the newest installed version's programs.
fn programs() -> Result<PathBuf> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let versions = versions.flatten().map(|v| v.path().join("bin"));
    let newest = versions.filter(|bin| bin.join("initdb").exists()).max();
    newest.context("no initdb in /usr/lib/postgresql")
}

fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/tmp");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

impl Postgres {
    /// Makes a cluster below `directory` and starts it.
    pub async fn start(directory: &Path) -> Result<Self> {
        let (programs, user) = (programs()?, user()?);
        let home = directory.join("postgres");
        std::fs::create_dir_all(&home)?;
        std::fs::set_permissions(&home, PermissionsExt::from_mode(0o700))?;
        if let Some((uid, gid)) = user {
            chown(&home, Some(uid), Some(gid))?;
        }
        let data = home.join("data");
        let mut initdb = command(&programs.join("initdb"), user);
        initdb
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&data);
        let output = initdb.output().context("initdb")?;
        ensure!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let port = free_port()?;
        let mut server = command(&programs.join("postgres"), user);
        server.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        let log = std::fs::File::create(directory.join("postgres.log"))?;
        server.stdout(log.try_clone()?).stderr(log);
        let guard = Guard::spawn("postgres", &mut server)?;
        let mut postgres = Self {
            guard,
            port,
            directory: home,
            server,
        };
        postgres.wait().await?;
        Ok(postgres)
    }

    /// SIGKILL for every process of it, so that nothing in its memory survives, and a new start.
    pub async fn crash(&mut self) -> Result<()> {
        self.guard.kill_tree();
        // A new start refuses while a process of the old one is attached to its shared memory.
        let begun = Instant::now();
        loop {
            self.guard = Guard::spawn("postgres", &mut self.server)?;
            match self.wait().await {
                Ok(()) => return Ok(()),
                Err(error) if begun.elapsed() > Duration::from_secs(30) => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        while PgConnection::connect(&self.url("postgres")).await.is_err() {
            self.guard.check()?;
            if begun.elapsed() > Duration::from_secs(30) {
                bail!("PostgreSQL does not answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The process whose tree is PostgreSQL.
    pub fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:trusted@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Makes an empty database in place of an older one of that name, and writes out what the
    /// databases before it left in memory.
    pub async fn database(&self, name: &str) -> Result<String> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let statements = [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name}"),
            "CHECKPOINT".to_owned(),
        ];
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await?;
        }
        Ok(self.url(name))
    }

    /// Runs the statements of a file in a database.
    pub async fn run_file(&self, database: &str, file: &Path) -> Result<()> {
        let statements =
            std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let mut connection = PgConnection::connect(&self.url(database)).await?;
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&mut connection)
            .await?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        self.guard.stop_with(Signal::INT, Duration::from_secs(20));
    }
}
