//! One connection to a daemon, a line there and a line back.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const CONNECT: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The request never left.
    NotSent,
    /// Nobody knows what became of it.
    NoAnswer,
}

pub struct Client(BufReader<TcpStream>);

impl Client {
    /// Waits for an answer at most `limit`.
    pub fn connect(address: SocketAddr, limit: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// After a failure the connection is of no use: a late answer would be taken for the next one's.
    pub fn ask(&mut self, request: &str) -> Result<String, Failed> {
        let line = format!("{request}\n");
        let sent = self.0.get_mut().write_all(line.as_bytes());
        sent.map_err(|_| Failed::NoAnswer)?;
        let mut answer = String::new();
        match self.0.read_line(&mut answer) {
            Ok(length) if length > 0 && answer.ends_with('\n') => Ok(answer.trim_end().to_owned()),
            _ => Err(Failed::NoAnswer),
        }
    }
}

/// One question on a connection of its own.
pub fn ask(address: SocketAddr, request: &str, limit: Duration) -> Result<String, Failed> {
    let mut client = Client::connect(address, limit).map_err(|_| Failed::NotSent)?;
    client.ask(request)
}

/// A field of a `status` line.
pub fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut words = status.split(' ');
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}
