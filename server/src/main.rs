//! The command line: subcommands, nothing else.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use eider::admin::cli::{self, Global};
use eider::admin::protocol::{Failure, FailureKind};
use eider::lifecycle;

/// An XMPP server. Without a subcommand it serves.
#[derive(Debug, Parser)]
#[command(name = "eider", version, after_help = cli::EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server
    Serve,
    /// Accounts: add, passwd, remove, list, show, disable, enable
    #[command(subcommand)]
    User(cli::user::User),
    /// Sessions: list, kick
    #[command(subcommand)]
    Session(cli::session::Session),
    /// Looks for what is wrong: configuration, ports, certificates, DNS, database, machine
    Check(cli::check::Check),
    /// The configuration: check, example, reference; supported specifications
    #[command(subcommand)]
    Config(cli::config::Config),
    /// Shows how the server is
    Status,
    /// Has the server read its configuration and certificates again, as SIGHUP does
    Reload,
    /// Writes a verified backup of the database, with the server running or not
    Backup(cli::backup::Backup),
    /// Fills an empty database from a backup, of either engine
    Restore(cli::backup::Restore),
    /// The database: copy
    #[command(subcommand)]
    Storage(cli::storage::Storage),
    /// Shows or changes the level of the log: debug eider::stream --for 10m
    Log(cli::log::Log),
    /// Follows the stanzas of an account: headers, never bodies
    Trace {
        /// The account
        account: String,
    },
}

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    lifecycle::keep_files_private();
    let result = match command.unwrap_or(Command::Serve) {
        Command::Serve => cli::serve::run(&global),
        Command::Config(command) => cli::config::run(&global, &command),
        command => asking(&global, command),
    };
    cli::exit(&global, result)
}

/// Runs the subcommands that ask the server or the database.
fn asking(global: &Global, command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(FailureKind::Failed, e.to_string()))?;
    runtime.block_on(async {
        match command {
            Command::User(command) => cli::user::run(global, command).await,
            Command::Session(command) => cli::session::run(global, command).await,
            Command::Check(command) => cli::check::run(global, command).await,
            Command::Status => cli::status::run(global).await,
            Command::Reload => cli::status::reload(global).await,
            Command::Backup(command) => cli::backup::run(global, command).await,
            Command::Restore(command) => cli::backup::restore(global, command).await,
            Command::Storage(command) => cli::storage::run(global, command).await,
            Command::Log(command) => cli::log::run(global, command).await,
            Command::Trace { account } => cli::trace::run(global, account).await,
            Command::Serve | Command::Config(_) => Ok(()),
        }
    })
}
