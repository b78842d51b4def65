//! The daemon's command line, and the store that it asks for.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use raft_store::clock::{Clock, SystemClock};
use raft_store::discovery::{Discovery, Fixed};
use raft_store::disk::FileDisk;
use raft_store::founding::{Alone, FileRecord, FoundingRecord};
use raft_store::gate::Tasks;
use raft_store::random::SystemRandom;
use raft_store::spawner::Threads;
use raft_store::transport::{JoinSecret, Nowhere, TcpParts, TcpSettings, TcpTransport, Transport};
use raft_store::{Parts, Settings};

use super::clocks::{Skewed, Stepped};

pub const USAGE: &str = "usage: kvd DIRECTORY
       kvd --dir DIRECTORY [--client ADDRESS] [--deadline SECONDS]
           --listen ADDRESS --join-secret-file FILE --founding FILE --peers ADDRESS,… [--zone ZONE]

A single member needs its directory alone. Members that are to be one cluster need the second line, too: --listen is
where the others reach this one, --founding names a file that all of them share, and the file of the secret has what
`kvctl secret` prints: one line, or two while a new one takes its place. For tests: --clock-ppm N is a clock that is too
fast by so many millionths, --wall-file FILE says by how many seconds the date is wrong.";

/// Below the daemon's directory.
const MEMBER: &str = "member";

/// What the daemon was started with.
pub struct Arguments {
    /// Everything it keeps.
    pub dir: PathBuf,
    /// Where clients connect.
    pub client: SocketAddr,
    /// How long a request may take.
    pub deadline: Duration,
    zone: String,
    peers: Vec<String>,
    listen: Option<SocketAddr>,
    secret: Option<PathBuf>,
    founding: Option<PathBuf>,
    /// By how many millionths its clock is too fast.
    clock_ppm: i32,
    /// Where it reads by how many seconds its date is wrong.
    wall: Option<PathBuf>,
}

impl Arguments {
    /// Every option has a value; the directory may stand alone.
    pub fn read(words: &[String]) -> Result<Self, String> {
        let mut dir = None;
        let mut read = Self {
            dir: PathBuf::new(),
            client: SocketAddr::from(([127, 0, 0, 1], 0)),
            deadline: Duration::from_secs(5),
            zone: String::new(),
            peers: Vec::new(),
            listen: None,
            secret: None,
            founding: None,
            clock_ppm: 0,
            wall: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                one_directory(&mut dir, word)?;
                continue;
            }
            let value = words.next().ok_or(format!("{word} needs a value"))?;
            match word.as_str() {
                "--dir" => one_directory(&mut dir, value)?,
                "--client" => read.client = address(word, value)?,
                "--deadline" => read.deadline = seconds(word, value)?,
                "--listen" => read.listen = Some(address(word, value)?),
                "--join-secret-file" => read.secret = Some(PathBuf::from(value)),
                "--founding" => read.founding = Some(PathBuf::from(value)),
                "--peers" => read.peers = value.split(',').map(peer).collect::<Result<_, _>>()?,
                "--zone" => read.zone.clone_from(value),
                "--clock-ppm" => {
                    let ppm = value.parse().ok().filter(|ppm: &i32| ppm.abs() <= 100_000);
                    read.clock_ppm = ppm.ok_or(format!("{word} {value}: at most 100000"))?;
                }
                "--wall-file" => read.wall = Some(PathBuf::from(value)),
                _ => return Err(format!("there is no option {word}")),
            }
        }
        read.dir = dir.ok_or("no directory")?;
        let shared = [read.secret.is_some(), read.founding.is_some()];
        if shared.contains(&read.listen.is_none()) {
            return Err("--listen, --join-secret-file and --founding go together".into());
        }
        if read.listen.is_none() && !read.peers.is_empty() {
            return Err("--peers needs --listen: others talk to this one, too".into());
        }
        Ok(read)
    }

    /// The store's settings, and all it stands on. Opens the member port.
    pub async fn parts(&self) -> Result<(Settings, Parts), Box<dyn std::error::Error>> {
        let mut settings = Settings::new(MEMBER);
        settings.info.zone.clone_from(&self.zone);
        settings.info.addresses = self.listen.iter().map(SocketAddr::to_string).collect();
        let dir = self.dir.display();
        let disk = FileDisk::open(&self.dir).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => format!("a daemon runs in {dir} already"),
            _ => format!("{dir}: {error}"),
        });
        let disk = Arc::new(disk?);
        let clock: Arc<dyn Clock> = match self.clock_ppm {
            0 => Arc::new(SystemClock),
            ppm => Arc::new(Skewed(ppm)),
        };
        let mut transport: Arc<dyn Transport> = Arc::new(Nowhere);
        if let (Some(listen), Some(secret)) = (self.listen, &self.secret) {
            let tcp = TcpSettings {
                listen,
                dir: settings.dir.clone(),
                secrets: secrets(secret)?,
            };
            let parts = TcpParts {
                disk: disk.clone(),
                random: Arc::new(SystemRandom),
                clock: clock.clone(),
                wall: Arc::new(Stepped(self.wall.clone())),
                tasks: Tasks::system(),
            };
            let port = TcpTransport::bind(tcp, parts).await;
            let port = port.map_err(|error| format!("--listen {listen}, with {dir}: {error}"))?;
            transport = Arc::new(port);
        }
        let founding: Arc<dyn FoundingRecord> = match &self.founding {
            Some(file) => Arc::new(FileRecord::new(file)),
            None => Arc::new(Alone::new(disk.clone(), MEMBER)),
        };
        let fixed: Box<dyn Discovery> = Box::new(Fixed(self.peers.clone()));
        let parts = Parts {
            disk,
            random: Arc::new(SystemRandom),
            clock,
            transport,
            founding,
            discovery: Arc::new([fixed]),
            spawner: Arc::new(Threads),
            tasks: Tasks::system(),
        };
        Ok((settings, parts))
    }
}

fn one_directory(known: &mut Option<PathBuf>, word: &str) -> Result<(), String> {
    match known.replace(PathBuf::from(word)) {
        None => Ok(()),
        Some(known) => Err(format!(
            "two directories, {} and {word}; several --peers have commas between them and no spaces",
            known.display()
        )),
    }
}

fn peer(text: &str) -> Result<String, String> {
    let port = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(1..) => Ok(text.to_owned()),
        _ => Err(format!(
            "--peers {text}: a peer is HOST:PORT, as in 127.0.0.2:7000"
        )),
    }
}

/// One a line.
fn secrets(file: &Path) -> Result<Vec<JoinSecret>, String> {
    let said = |error: &dyn std::fmt::Display| {
        let file = file.display();
        format!(
            "{file}: {error}; all members have the same one: make it once, with `kvctl secret > {file}`"
        )
    };
    let text = std::fs::read_to_string(file).map_err(|error| said(&error))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let secrets = lines.map(JoinSecret::parse).collect::<Result<Vec<_>, _>>();
    match secrets {
        Ok(secrets) if (1..=2).contains(&secrets.len()) => Ok(secrets),
        Ok(secrets) => Err(said(&format!("it has {} secrets", secrets.len()))),
        Err(error) => Err(said(&error)),
    }
}

fn address(option: &str, value: &str) -> Result<SocketAddr, String> {
    let address = value.parse();
    address.map_err(|_| format!("{option} {value}: an address is IP:PORT, as in 127.0.0.1:7000"))
}

fn seconds(option: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.parse().ok();
    let time = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or(format!("{option} {value}: no number of seconds"))
}
