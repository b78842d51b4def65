//! Asks a `kvd`: `kvctl [--json] ADDRESS[,ADDRESS…] REQUEST…`, with the requests of `kvd.rs`, and what needs no
//! daemon: `secret`, `recover`, `restore`, `refound`. Prints the answer; exits with 1 if it is an error, with 3 if nobody
//! knows what became of a write.
//!
//! Of several addresses the first that answers is asked.

#[path = "support/control.rs"]
mod control;

fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    std::process::ExitCode::from(control::main(&words))
}
