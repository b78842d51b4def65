//! Asks each way of discovery again and again, bounds what it says, and passes it on to the address book.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::{Discovery, DiscoveryError};
use crate::clock::Clock;
use crate::config::Parts;
use crate::limits::{ADDRESS_BYTES, DISCOVERED_ADDRESSES};
use crate::link::AddressBook;
use crate::random::Random;

/// One call.
const LIMIT: Duration = Duration::from_secs(10);
/// Behind a failure; doubled each time, and up to half of it more.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What was found so far. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Search(Arc<Mutex<Vec<Source>>>);

/// What one way has said last.
#[derive(Default)]
struct Source {
    addresses: Vec<String>,
    answered: bool,
}

impl Search {
    /// Asks each way of the parts, in a task of its own.
    pub(crate) fn start(parts: &Parts, book: &AddressBook) -> Self {
        let sources = parts.discovery.iter().map(|_| Source::default());
        let search = Self(Arc::new(Mutex::new(sources.collect())));
        for at in 0..parts.discovery.len() {
            let (ways, found, book) = (parts.discovery.clone(), search.clone(), book.clone());
            let (clock, random) = (parts.clock.clone(), parts.random.clone());
            parts.tasks.spawn(async move {
                let way = &*ways[at];
                found.follow(at, way, &book, &*clock, &*random).await;
            });
        }
        search
    }

    /// All addresses, and whether every way has answered.
    pub(crate) fn found(&self) -> (Vec<String>, bool) {
        let sources = self.0.lock();
        let mut found: Vec<String> = Vec::new();
        for address in sources.iter().flat_map(|source| &source.addresses) {
            if !found.contains(address) {
                found.push(address.clone());
            }
        }
        (found, sources.iter().all(|source| source.answered))
    }

    async fn follow(
        &self,
        at: usize,
        way: &dyn Discovery,
        book: &AddressBook,
        clock: &dyn Clock,
        random: &dyn Random,
    ) {
        let mut pause = FIRST_PAUSE;
        let mut error = None;
        loop {
            let found = timeout(clock.wait(LIMIT), way.find()).await;
            let wait = match found.unwrap_or_else(|_| Err(DiscoveryError("no answer".into()))) {
                Ok(found) => {
                    (pause, error) = (FIRST_PAUSE, None);
                    self.note(at, way.name(), &found, book);
                    way.holds()
                }
                Err(new) => {
                    if error.as_ref() != Some(&new) {
                        tracing::warn!(way = way.name(), error = %new, "no members are found");
                        error = Some(new);
                    }
                    let wait = pause + pause.mul_f64(random.below(500) as f64 / 1e3);
                    pause = (pause * 2).min(LAST_PAUSE);
                    wait
                }
            };
            sleep(clock.wait(wait)).await;
        }
    }

    fn note(&self, at: usize, way: &str, found: &[String], book: &AddressBook) {
        let addresses = usable(found);
        let left_out = found.len() - addresses.len();
        for address in &addresses {
            book.hint(address);
        }
        let mut sources = self.0.lock();
        let source = &mut sources[at];
        if !source.answered || source.addresses != addresses {
            tracing::info!(
                way,
                ?addresses,
                left_out,
                "members may be at these addresses"
            );
        }
        source.answered = true;
        source.addresses = addresses;
    }
}

/// The first so many that are addresses, each once.
fn usable(found: &[String]) -> Vec<String> {
    let mut usable: Vec<String> = Vec::new();
    for address in found {
        if usable.len() == DISCOVERED_ADDRESSES {
            break;
        }
        if is_address(address) && !usable.contains(address) {
            usable.push(address.clone());
        }
    }
    usable
}

/// `host:port`.
pub(super) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_fits = match bare {
        Some(number) => number.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host.bytes().all(letter)
        }
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port_fits = digits && port.parse::<u16>().is_ok_and(|port| port > 0);
    text.len() <= ADDRESS_BYTES && host_fits && port_fits
}

#[cfg(test)]
mod tests;
