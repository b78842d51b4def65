//! Asks a `kvd`: `kvctl [--json] ADDRESS[,ADDRESS…] REQUEST…`, with the requests of `kvd.rs`, and what needs no
//! daemon: `secret`, `recover`, `restore`, `refound`. Prints the answer; exits with 1 if it is an error, with 3 if nobody knows what became of a write.
//!
//! Of several addresses the first that answers is asked.

#[path = "support/answers.rs"]
mod answers;
#[path = "support/offline.rs"]
mod offline;

use answers::Answer;
use raft_store::random::SystemRandom;
use raft_store::transport::JoinSecret;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::ExitCode;

const USAGE: &str = "usage: kvctl [--json] ADDRESS[,ADDRESS…] REQUEST…
  get KEY                         put KEY VALUE
  put-if KEY REVISION VALUE       (revision 0: the key must not be there)
  delete KEY [REVISION]           watch PREFIX
  status                          hand-over [MEMBER]
  remove MEMBER                   leave, drain (of the one that is asked)
  save FILE                       (below the daemon's directory)
Without a daemon:
  kvctl secret                    a join secret for the daemons' --join-secret-file
  kvctl recover DIRECTORY [FOUNDING]                  a cluster of the one survivor
  kvctl restore DIRECTORY FILE [FOUNDING [CLUSTER]]   a cluster of a saved snapshot, in the place of CLUSTER
  kvctl refound DIRECTORY FOUNDING CLUSTER            an empty one, where all disks of CLUSTER are lost";

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let before = arguments.len();
    arguments.retain(|argument| argument != "--json");
    let json = arguments.len() < before;
    if arguments == ["secret"] {
        println!("{}", JoinSecret::mint(&SystemRandom).text());
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match offline::run(&words) {
        None => {}
        Some(Ok(done)) => {
            println!("{done}");
            return ExitCode::SUCCESS;
        }
        Some(Err(error)) => {
            eprintln!("kvctl: {error}");
            return ExitCode::FAILURE;
        }
    }
    let [addresses, request @ ..] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if request.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let mut reasons = Vec::new();
    for address in addresses.split(',') {
        match TcpStream::connect(address) {
            Ok(stream) => return ExitCode::from(ask(stream, request, json)),
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    eprintln!("kvctl: nobody answers: {}", reasons.join("; "));
    eprintln!(
        "Is the daemon running? Its client address is the one that it prints as `listening`."
    );
    ExitCode::FAILURE
}

/// The exit code. The daemon's end is an error, and in the middle of a write one that tells nothing.
fn ask(mut stream: TcpStream, request: &[String], json: bool) -> u8 {
    let sent = writeln!(stream, "{}", request.join(" "));
    let watching = request.first().is_some_and(|verb| verb == "watch");
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        let answer = Answer::read(&line);
        println!("{}", if json { answer.json() } else { answer.text() });
        if let Some(hint) = answer.hint(request) {
            eprintln!("{hint}");
        }
        if !watching || answer.code() != 0 {
            return answer.code();
        }
    }
    let answer = match (watching, sent) {
        (false, Ok(())) => "error unknown the daemon ended before it answered",
        _ => "error closed the daemon ended",
    };
    let answer = Answer::read(answer);
    println!("{}", if json { answer.json() } else { answer.text() });
    answer.code()
}
