//! The daemon's command line, and the store that it asks for.

use std::net::SocketAddr;
use std::path::PathBuf;
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
where the others reach this one, --founding names a file that all of them share, and the secret is what
`kvctl secret` prints. For tests: --clock-ppm N is a clock that is too fast by so many millionths, --wall-file FILE says
by how many seconds the date is wrong.";

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
                dir = Some(PathBuf::from(word));
                continue;
            }
            let value = words.next().ok_or(format!("{word} needs a value"))?;
            match word.as_str() {
                "--dir" => dir = Some(PathBuf::from(value)),
                "--client" => read.client = address(word, value)?,
                "--deadline" => read.deadline = seconds(word, value)?,
                "--listen" => read.listen = Some(address(word, value)?),
                "--join-secret-file" => read.secret = Some(PathBuf::from(value)),
                "--founding" => read.founding = Some(PathBuf::from(value)),
                "--peers" => read.peers = value.split(',').map(str::to_owned).collect(),
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
        Ok(read)
    }

    /// The store's settings, and all it stands on. Opens the member port.
    pub async fn parts(&self) -> Result<(Settings, Parts), Box<dyn std::error::Error>> {
        let mut settings = Settings::new(MEMBER);
        settings.info.zone.clone_from(&self.zone);
        settings.info.addresses = self.listen.iter().map(SocketAddr::to_string).collect();
        let disk = Arc::new(FileDisk::open(&self.dir)?);
        let clock: Arc<dyn Clock> = match self.clock_ppm {
            0 => Arc::new(SystemClock),
            ppm => Arc::new(Skewed(ppm)),
        };
        let mut transport: Arc<dyn Transport> = Arc::new(Nowhere);
        if let (Some(listen), Some(secret)) = (self.listen, &self.secret) {
            let text = std::fs::read_to_string(secret);
            let text = text.map_err(|error| format!("{}: {error}", secret.display()))?;
            let secrets = text
                .lines()
                .map(JoinSecret::parse)
                .collect::<Result<Vec<_>, _>>();
            let secrets = secrets.map_err(|error| format!("{}: {error}", secret.display()))?;
            let tcp = TcpSettings {
                listen,
                dir: settings.dir.clone(),
                secrets,
            };
            let parts = TcpParts {
                disk: disk.clone(),
                random: Arc::new(SystemRandom),
                clock: clock.clone(),
                wall: Arc::new(Stepped(self.wall.clone())),
                tasks: Tasks::system(),
            };
            transport = Arc::new(TcpTransport::bind(tcp, parts).await?);
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

fn address(option: &str, value: &str) -> Result<SocketAddr, String> {
    let address = value.parse();
    address.map_err(|_| format!("{option} {value}: an address is IP:PORT, as in 127.0.0.1:7000"))
}

fn seconds(option: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.parse().ok();
    let time = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or(format!("{option} {value}: no number of seconds"))
}
