//! The command line of the load generator.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::server::{Engine, Kind};

/// Measures Eider, and beside it Debian's prosody and ejabberd, on this machine.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub struct Options {
    /// Parts of the run that are processes of their own, so that their CPU time counts apart.
    #[command(subcommand)]
    pub part: Option<Part>,
    /// How the run is made.
    #[command(flatten)]
    pub run: RunOptions,
}

/// A part of a run in a process of its own.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// A bare echo server over TLS.
    #[command(hide = true)]
    Echo {
        /// Port on 127.0.0.1.
        port: u16,
        /// Directory with the run's certificate.
        directory: PathBuf,
    },
    /// Archive rows put bare into PostgreSQL.
    #[command(hide = true)]
    Insert {
        /// The database.
        url: String,
        /// Messages in one commit.
        batch: u32,
        /// Seconds.
        seconds: u32,
        /// Messages per second; 0: as fast as it goes.
        rate: u32,
    },
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Time until ready, resident memory without clients, size of the binary.
    Ready,
    /// Logins: rate and CPU of each.
    Login,
    /// XEP-0199 pings to the server.
    Iq,
    /// Chat without archive: closed loop and fixed rate.
    Chat,
    /// Archived chat: closed loop and fixed rate, and the same rows inserted bare.
    Archive,
    /// Presence to rosters of 20.
    Presence,
    /// Presence to a roster of thousands.
    PresenceLarge,
    /// Memory of idle connections.
    Idle,
    /// All clients return at once.
    Storm,
    /// All clients return at once, after a restart.
    StormRestart,
}

/// How a run is made.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// What is measured; all of it where nothing is named.
    #[arg(value_enum)]
    pub scenarios: Vec<Scenario>,
    /// Rivals measured in the same run.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub against: Vec<Kind>,
    /// Leave Eider out.
    #[arg(long)]
    pub without_eider: bool,
    /// Eider's engines for archived chat.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Engine::Sqlite, Engine::Postgres])]
    pub engine: Vec<Engine>,
    /// Eider's binary; by default the one beside this program.
    #[arg(long)]
    pub eider: Option<PathBuf>,
    /// Seconds of each timed window.
    #[arg(long, default_value_t = 10)]
    pub seconds: u32,
    /// Seconds of load before it.
    #[arg(long, default_value_t = 3)]
    pub warmup: u32,
    /// Pairs that chat.
    #[arg(long, default_value_t = 50)]
    pub pairs: u32,
    /// Messages in flight per pair in the closed loop.
    #[arg(long, default_value_t = 1)]
    pub window: u32,
    /// Messages per second in the rows of fixed rate, in all.
    #[arg(long, value_delimiter = ',', default_values_t = [1000])]
    pub rate: Vec<u32>,
    /// Messages per second that Eider archives beside that.
    #[arg(long, value_delimiter = ',', default_values_t = [20_000])]
    pub archive_rate: Vec<u32>,
    /// Clients that log in at once.
    #[arg(long, default_value_t = 32)]
    pub at_once: u32,
    /// Idle connections.
    #[arg(long, default_value_t = 2000)]
    pub idle_clients: u32,
    /// Seconds of idleness before memory is read.
    #[arg(long, default_value_t = 60)]
    pub idle_seconds: u32,
    /// Clients of a storm.
    #[arg(long, default_value_t = 15_000)]
    pub storm_clients: u32,
    /// Clients of a storm against a rival.
    #[arg(long, default_value_t = 2_000)]
    pub storm_clients_rival: u32,
    /// Contacts of the large roster.
    #[arg(long, default_value_t = 5_000)]
    pub contacts: u32,
    /// Print rows as JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl RunOptions {
    /// The servers measured, Eider first.
    pub fn kinds(&self) -> Vec<Kind> {
        let eider = (!self.without_eider).then_some(Kind::Eider);
        let rivals = self.against.iter().copied().filter(|k| *k != Kind::Eider);
        eider.into_iter().chain(rivals).collect()
    }

    /// What is measured.
    pub fn chosen(&self) -> Vec<Scenario> {
        if self.scenarios.is_empty() {
            return Scenario::value_variants().to_vec();
        }
        self.scenarios.clone()
    }

    /// Load before the timed window, and the window.
    pub fn timing(&self) -> (Duration, Duration) {
        (
            Duration::from_secs(self.warmup.into()),
            Duration::from_secs(self.seconds.into()),
        )
    }
}
