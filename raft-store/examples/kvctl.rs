//! Asks a `kvd`: `kvctl ADDRESS get KEY | put KEY VALUE | put-if KEY REVISION VALUE | delete KEY | watch PREFIX | status`.
//! Prints the answer; exits with 1 if it is an error.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, request @ ..] = &arguments[..] else {
        eprintln!("usage: kvctl ADDRESS REQUEST…");
        return ExitCode::from(2);
    };
    match ask(address, request) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kvctl: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the answer is none of an error.
fn ask(address: &str, request: &[String]) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    writeln!(stream, "{}", request.join(" "))?;
    let watching = request.first().is_some_and(|verb| verb == "watch");
    for line in BufReader::new(stream).lines() {
        let line = line?;
        println!("{line}");
        if !watching || line.starts_with("error ") {
            return Ok(!line.starts_with("error "));
        }
    }
    // The daemon went.
    Ok(false)
}
