//! What was promised against what is there.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};
use eider_storage::{ArchiveFilter, Direction, PageRequest, Storage};

use super::record::{Fate, Message, Record, Way};
use crate::load::client::localpart;
use crate::load::server::HOST;

/// Counts of the closing table; the last five have to be zero.
#[derive(Debug, Default, Clone, Copy)]
pub struct Verdict {
    /// Messages sent.
    pub sent: usize,
    /// Of them acknowledged.
    pub acknowledged: usize,
    /// Refused with an error: nothing was promised.
    pub refused: usize,
    /// Carbon copies that came.
    pub copies: usize,
    /// Clients that came back with a session to resume, and how many of them resumed it.
    pub returned: u32,
    /// See [`Verdict::returned`].
    pub resumed: u32,
    /// Acknowledged and not in an archive that should have it.
    pub missing: usize,
    /// Acknowledged and delivered to no resource of the recipient.
    pub undelivered: usize,
    /// More than once in one archive, or there although it was refused: its sender would send it again.
    pub twice: usize,
    /// Later in an archive, or at a receiver, than a message sent after it.
    pub disordered: usize,
    /// Come live to a resource in another order than the archive's.
    pub unlike_archive: usize,
}

impl Verdict {
    /// Whether every promise held.
    pub fn holds(&self) -> bool {
        self.missing + self.undelivered + self.twice + self.disordered + self.unlike_archive == 0
    }
}

/// Which accounts are what.
pub struct Accounts {
    /// Those that archive.
    pub archiving: HashSet<u32>,
    /// Those with one resource: what comes to it comes in order, owed or live.
    pub single: HashSet<u32>,
}

/// Compares.
pub async fn verdict(
    record: &Record,
    storage: &dyn Storage,
    accounts: &Accounts,
) -> Result<Verdict> {
    let sent = record.all_sent();
    let received = record.all_received();
    let orders = record.all_orders();
    let mut verdict = Verdict {
        sent: sent.len(),
        acknowledged: count(&sent, Fate::Acknowledged),
        refused: count(&sent, Fate::Refused),
        returned: record.returned().0,
        resumed: record.returned().1,
        ..Verdict::default()
    };
    let mut archive: HashMap<u32, Vec<Message>> = HashMap::new();
    for account in accounts.archiving.iter().copied() {
        archive.insert(account, archived(storage, account).await?);
    }
    judge_archives(&mut verdict, &sent, &archive);
    let got: HashSet<(u32, Message)> = received
        .iter()
        .flat_map(|(account, messages)| messages.iter().map(|message| (*account, *message)))
        .collect();
    for (message, _) in sent.iter().filter(|(_, fate)| **fate == Fate::Acknowledged) {
        verdict.undelivered += usize::from(!got.contains(&(message.recipient, *message)));
    }
    // With two resources one may get owed messages that the other never acknowledged, after newer
    // ones it got itself. What comes live is in order everywhere.
    for account in &accounts.single {
        verdict.disordered += received
            .get(account)
            .map_or(0, |messages| disorder(messages));
    }
    for ((account, _, way), messages) in &orders {
        if *way == Way::Copied {
            verdict.copies += messages.len();
        }
        if *way != Way::Owed {
            verdict.disordered += disorder(messages);
            let positions = archive.get(account).map(|archive| positions(archive));
            verdict.unlike_archive += positions.map_or(0, |at| falls(messages, &at));
        }
    }
    Ok(verdict)
}

fn positions(archive: &[Message]) -> HashMap<Message, usize> {
    archive.iter().copied().zip(0..).collect()
}

/// How often the archive's position falls.
fn falls(messages: &[Message], positions: &HashMap<Message, usize>) -> usize {
    let at: Vec<usize> = messages
        .iter()
        .filter_map(|message| positions.get(message).copied())
        .collect();
    at.windows(2).filter(|pair| pair[0] > pair[1]).count()
}

fn count(sent: &BTreeMap<Message, Fate>, fate: Fate) -> usize {
    sent.values().filter(|other| **other == fate).count()
}

fn judge_archives(
    verdict: &mut Verdict,
    sent: &BTreeMap<Message, Fate>,
    archive: &HashMap<u32, Vec<Message>>,
) {
    for messages in archive.values() {
        let mut seen = HashSet::new();
        verdict.twice += messages
            .iter()
            .filter(|message| !seen.insert(**message))
            .count();
        verdict.disordered += disorder(messages);
    }
    let sets: HashMap<u32, HashSet<Message>> = archive
        .iter()
        .map(|(owner, messages)| (*owner, messages.iter().copied().collect()))
        .collect();
    for (message, fate) in sent {
        for owner in [message.sender, message.recipient] {
            let Some(has) = sets.get(&owner).map(|set| set.contains(message)) else {
                continue;
            };
            verdict.missing += usize::from(*fate == Fate::Acknowledged && !has);
            verdict.twice += usize::from(*fate == Fate::Refused && has);
        }
    }
}

/// How many messages stand behind one that the same sender sent later to the same recipient.
fn disorder(messages: &[Message]) -> usize {
    let mut last: HashMap<(u32, u32), u32> = HashMap::new();
    let mut disordered = 0;
    for message in messages {
        let last = last.entry((message.sender, message.recipient)).or_insert(0);
        if message.number < *last {
            disordered += 1;
        }
        *last = (*last).max(message.number);
    }
    disordered
}

async fn archived(storage: &dyn Storage, account: u32) -> Result<Vec<Message>> {
    let id = storage
        .account_id(HOST, &localpart(account))
        .await?
        .context("account is gone")?;
    let mut messages = Vec::new();
    let mut page = PageRequest {
        direction: Direction::Forward,
        anchor: None,
        limit: 500,
        count_max: 0,
    };
    loop {
        let found = storage
            .archive_query(id, &ArchiveFilter::default(), &page)
            .await?;
        for row in &found.rows {
            messages.extend(super::channel::body(&row.bytes).and_then(Message::parse));
        }
        match found.rows.last() {
            Some(last) if !found.complete => page.anchor = Some(last.pos),
            _ => return Ok(messages),
        }
    }
}
