//! Runs the real clients of `tests/clients/` against a server: `real_clients [--against-prosody] [NAME…]`.
//!
//! Each `tests/clients/NAME/run` gets the server's address, its authority and two accounts in the environment, and ends
//! with a line `N passed, N failed`.

use anyhow::{Context, Result};
use eider_tests::harness::{Kind, Server, repository};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const PASSWORD: &str = "what-light-through-yonder-window";

/// The clients, in the order they run, and the seconds each may take.
const CLIENTS: [(&str, u64); 7] = [
    ("slixmpp", 180),
    ("aioxmpp", 180),
    ("nbxmpp", 180),
    ("xmppjs", 180),
    ("gosendxmpp", 180),
    ("profanity", 300),
    ("smack", 900),
];

struct Outcome {
    name: &'static str,
    passed: bool,
    last: String,
    took: Duration,
}

/// Needs accounts of their own names; a client that makes accounts itself gets a host that allows it.
const CONFIG: &str = "hosts = [{ name = 'localhost', registration = true, admins = ['smack-romeo@localhost'] }]\n\
    [registration]\nper_address_per_hour = 1000\n";

async fn run(name: &'static str, seconds: u64, server: &Server) -> Result<Outcome> {
    let users = ["romeo", "juliet"].map(|role| format!("{name}-{role}"));
    server.add_accounts(&users, PASSWORD).await?;
    let directory = repository().join("tests/clients").join(name);
    let began = Instant::now();
    println!("\n== {name}");
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", &seconds.to_string()])
        .arg(directory.join("run"))
        .current_dir(&directory)
        .env("EIDER_HOST", &server.domain)
        .env("EIDER_PORT", server.port.to_string())
        .env("EIDER_DIRECT_PORT", server.direct_port.to_string())
        .env("EIDER_CA", &server.authority)
        .env("EIDER_ROMEO", format!("{}@{}", users[0], server.domain))
        .env("EIDER_JULIET", format!("{}@{}", users[1], server.domain))
        .env("EIDER_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await?
        .with_context(|| format!("{}", directory.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{text}");
    let last = text
        .lines()
        .rfind(|line| line.contains(" passed, "))
        .unwrap_or("no result");
    let passed = output.status.success() && last.ends_with(" 0 failed");
    if !passed {
        // Libraries complain of every connection that a scenario cuts: worth reading only where something failed.
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let (last, took) = (last.to_owned(), began.elapsed());
    Ok(Outcome {
        name,
        passed,
        last,
        took,
    })
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut kind = Kind::Eider;
    let mut names = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--against-prosody" => kind = Kind::Prosody,
            _ => names.push(argument),
        }
    }
    let server = Server::start(kind, CONFIG)?;
    let mut outcomes = Vec::new();
    for (name, seconds) in CLIENTS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            outcomes.push(run(name, seconds, &server).await?);
        }
    }
    println!("\nreal clients:");
    for outcome in &outcomes {
        let verdict = if outcome.passed { "ok    " } else { "FAILED" };
        let seconds = outcome.took.as_secs();
        println!(
            "{verdict} {:12} {} ({seconds} s)",
            outcome.name, outcome.last
        );
    }
    let all = !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.passed);
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
