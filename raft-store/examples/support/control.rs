//! `kvctl`: what it is asked on its command line, by words of a daemon's protocol or to a daemon's directory.

#[path = "answers.rs"]
mod answers;
#[path = "offline.rs"]
mod offline;

use answers::Answer;
use raft_store::random::SystemRandom;
use raft_store::transport::JoinSecret;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

const USAGE: &str = "usage: kvctl [--json] ADDRESS[,ADDRESS…] REQUEST…
  get KEY                         put KEY VALUE
  put-if KEY REVISION VALUE       (revision 0: the key must not be there)
  delete KEY [REVISION]           watch PREFIX
  status                          hand-over [MEMBER]
  remove MEMBER                   leave, drain (of the one that is asked)
  save FILE                       (a name, below the daemon's directory)
Without a daemon:
  kvctl secret                    a join secret for the daemons' --join-secret-file
  kvctl recover DIRECTORY [FOUNDING [CLUSTER]]        a cluster of the one survivor, in the place of its own or of CLUSTER
  kvctl restore DIRECTORY FILE [FOUNDING [CLUSTER]]   a cluster of a saved snapshot, in the place of CLUSTER
  kvctl refound DIRECTORY FOUNDING CLUSTER            an empty one, where all disks of CLUSTER are lost";

/// The exit code: 1 for an error, 2 for words that are none, 3 if nobody knows what became of a write.
pub fn main(words: &[String]) -> u8 {
    let mut arguments = words.to_vec();
    arguments.retain(|argument| argument != "--json");
    let json = arguments.len() < words.len();
    if arguments == ["secret"] {
        println!("{}", JoinSecret::mint(&SystemRandom).text());
        return 0;
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match offline::run(&words) {
        None => {}
        Some(Ok(done)) => {
            println!("{done}");
            return 0;
        }
        Some(Err(error)) => {
            eprintln!("kvctl: {error}");
            return 1;
        }
    }
    match &arguments[..] {
        [addresses, request @ ..] if !request.is_empty() && addresses.contains(':') => {
            reach(addresses, request, json)
        }
        _ => {
            eprintln!("{USAGE}");
            2
        }
    }
}

/// Asks the first of the addresses that answers.
fn reach(addresses: &str, request: &[String], json: bool) -> u8 {
    let mut reasons = Vec::new();
    for address in addresses.split(',') {
        match TcpStream::connect(address) {
            Ok(stream) => return ask(stream, request, json),
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    eprintln!("kvctl: nobody answers: {}", reasons.join("; "));
    eprintln!(
        "Is the daemon running? Its client address is the one that it prints as `listening`."
    );
    1
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
