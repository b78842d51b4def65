//! Real servers for tests: started with a configuration of their own on free ports, stopped by process id.

pub mod postgres;
mod prosody;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};

/// How long a server may take until it accepts connections.
const START: Duration = Duration::from_secs(60);

/// Which server is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Eider,
    /// Debian's Prosody: to tell a mistaken script from a mistaken server.
    Prosody,
}

/// A running server. It is killed, and its directory removed, when this value goes.
pub struct Server {
    pub kind: Kind,
    pub domain: String,
    /// Port of client streams with STARTTLS, on 127.0.0.1.
    pub port: u16,
    /// Port of client streams with direct TLS, on 127.0.0.1.
    pub direct_port: u16,
    /// Port of metrics and health, on 127.0.0.1.
    pub http_port: u16,
    /// The authority that clients trust, as PEM.
    pub authority: PathBuf,
    /// Everything the server keeps.
    pub directory: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Every client of a run has the same address, so no rate of connections holds for it.
    ///
    /// Starts a server whose configuration is the tests' own with `extra` (TOML) laid over it.
    pub fn start(kind: Kind, extra: &str) -> Result<Self> {
        let directory = temporary_directory()?;
        let mut server = Self {
            kind,
            domain: "localhost".to_owned(),
            port: free_port()?,
            direct_port: free_port()?,
            http_port: free_port()?,
            authority: directory.join("ca.pem"),
            directory,
            child: Mutex::default(),
        };
        match kind {
            Kind::Eider => server.write_config(extra)?,
            Kind::Prosody => prosody::prepare(&server)?,
        }
        server.run()?;
        Ok(server)
    }

    fn write_config(&mut self, extra: &str) -> Result<()> {
        let data = self.directory.join("data");
        let base = format!(
            "data_directory = '{}'\nworker_threads = 2\nhosts = [{{ name = '{}' }}]\n\
             [[listeners.c2s]]\naddress = '127.0.0.1'\nport = {}\nconnections_per_second_per_address = 0\n\
             [[listeners.c2s]]\naddress = '127.0.0.1'\nport = {}\ntls = 'direct'\n\
             connections_per_second_per_address = 0\n\
             [listeners.http]\nport = {}\n[login]\niterations = 4096\n",
            data.display(),
            self.domain,
            self.port,
            self.direct_port,
            self.http_port
        );
        let mut config: toml::Table = base.parse()?;
        lay_over(&mut config, extra.parse()?);
        std::fs::write(self.config_file(), toml::to_string(&config)?)?;
        self.authority = data.join("ca.pem");
        Ok(())
    }

    /// Lays more over the configuration file, which the server reads when told to.
    pub fn change_config(&self, extra: &str) -> Result<()> {
        let mut config: toml::Table = std::fs::read_to_string(self.config_file())?.parse()?;
        lay_over(&mut config, extra.parse()?);
        std::fs::write(self.config_file(), toml::to_string(&config)?)?;
        Ok(())
    }

    /// The metrics as they are now.
    pub async fn metrics(&self) -> Result<String> {
        self.fetch("/metrics").await
    }

    /// What the listener of metrics and health answers, headers included.
    pub async fn fetch(&self, path: &str) -> Result<String> {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", self.http_port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await?;
        let mut text = String::new();
        socket.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// The configuration file of this server.
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("eider.toml")
    }

    /// What the server wrote to standard output and standard error.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Starts the process (again) and waits until it accepts connections.
    pub fn run(&self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let mut command = match self.kind {
            Kind::Eider => {
                let mut command = Command::new(eider()?);
                command.arg("--config").arg(self.config_file()).arg("serve");
                command
            }
            Kind::Prosody => prosody::command(self),
        };
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        *self.child() = Some(child);
        self.await_readiness()
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().expect("nobody panics with it locked")
    }

    fn await_readiness(&self) -> Result<()> {
        let began = Instant::now();
        for port in [self.port, self.direct_port] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                let ended = self.child().as_mut().context("no process")?.try_wait()?;
                if let Some(status) = ended {
                    bail!("the server ended with {status}: {}", self.log_tail());
                }
                ensure!(
                    began.elapsed() < START,
                    "the server is not ready: {}",
                    self.log_tail()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(4000)..];
        String::from_utf8_lossy(tail).into_owned()
    }

    /// The process id while the server runs.
    pub fn process_id(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// SIGKILL, and waits for the process to be gone.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            // Either can only fail where the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the process to end by itself; its exit code.
    pub fn terminate(&self) -> Result<Option<i32>> {
        let mut child = self.child().take().context("no process")?;
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        Ok(child.wait()?.code())
    }

    /// Makes accounts, all with one password.
    pub async fn add_accounts(&self, users: &[String], password: &str) -> Result<()> {
        if self.kind == Kind::Prosody {
            return prosody::add_accounts(self, users, password);
        }
        for user in users {
            let arguments = ["user", "add", &format!("{user}@{}", self.domain)];
            self.command(&arguments.map(str::to_owned), &format!("{password}\n"))
                .await?;
        }
        Ok(())
    }

    /// Runs `eider ARGUMENTS` against this server, `input` on its standard input; it must succeed.
    pub async fn command(&self, arguments: &[String], input: &str) -> Result<()> {
        ensure!(self.kind == Kind::Eider, "commands are Eider's");
        let mut command = Command::new(eider()?);
        command
            .arg("--config")
            .arg(self.config_file())
            .args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn()?;
            if let Some(mut pipe) = child.stdin.take() {
                // A command that does not read its input may be gone by now.
                let _ = pipe.write_all(input.as_bytes());
            }
            child.wait_with_output()
        });
        let output = output.await??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("eider {}: {}: {said}", arguments.join(" "), output.status);
        }
        Ok(())
    }

    /// TLS that trusts this server's authority and nobody else.
    pub fn tls_config(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&self.authority)? {
            roots.add(certificate?)?;
        }
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::env::var_os("EIDER_TESTS_KEEP").is_none() {
            // Left behind at worst: the system clears its temporary directory.
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// The `eider` binary that was built with these tests.
pub fn eider() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("EIDER_BINARY") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let target = own.ancestors().find(|dir| dir.join("eider").is_file());
    let found = target.context("no eider binary: cargo build --workspace --bins makes it")?;
    Ok(found.join("eider"))
}

/// The repository's root.
pub fn repository() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("the tests are a directory of the repository")
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A new empty directory.
pub fn temporary_directory() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    for number in 0..10_000 {
        let path = base.join(format!("eider-test-{}-{number}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("no temporary directory left")
}

/// Lays one table over another: tables merge, everything else is replaced.
fn lay_over(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}
