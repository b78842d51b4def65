//! What was promised against what is there.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};
use eider_storage::{ArchiveFilter, Direction, PageRequest, Storage};

use super::record::{Fate, Message, Record};
use crate::load::client::localpart;
use crate::load::server::HOST;

/// Counts of the closing table; the last four have to be zero.
#[derive(Debug, Default, Clone, Copy)]
pub struct Verdict {
    /// Messages sent.
    pub sent: usize,
    /// Of them acknowledged.
    pub acknowledged: usize,
    /// Refused with an error: nothing was promised.
    pub refused: usize,
    /// Clients that came back with a session to resume, and how many of them resumed it.
    pub returned: u32,
    /// See [`Verdict::returned`].
    pub resumed: u32,
    /// Acknowledged and not in an archive that should have it.
    pub missing: usize,
    /// Acknowledged and delivered to no resource of the recipient.
    pub undelivered: usize,
    /// More than once in one archive.
    pub twice: usize,
    /// Later in an archive, or at a receiver, than a message sent after it.
    pub disordered: usize,
}

impl Verdict {
    /// Whether every promise held.
    pub fn holds(&self) -> bool {
        self.missing + self.undelivered + self.twice + self.disordered == 0
    }
}

/// Compares. `archives`: whether accounts archive.
pub async fn verdict(
    record: &Record,
    storage: &dyn Storage,
    accounts: u32,
    archives: bool,
) -> Result<Verdict> {
    let sent = record.all_sent();
    let received = record.all_received();
    let mut verdict = Verdict {
        sent: sent.len(),
        acknowledged: count(&sent, Fate::Acknowledged),
        refused: count(&sent, Fate::Refused),
        returned: record.returned().0,
        resumed: record.returned().1,
        ..Verdict::default()
    };
    let mut archive: HashMap<u32, Vec<Message>> = HashMap::new();
    if archives {
        for account in 0..accounts {
            archive.insert(account, archived(storage, account).await?);
        }
        judge_archives(&mut verdict, &sent, &archive);
    }
    let got: HashSet<(u32, Message)> = received
        .iter()
        .flat_map(|(account, messages)| messages.iter().map(|message| (*account, *message)))
        .collect();
    for (message, _) in sent.iter().filter(|(_, fate)| **fate == Fate::Acknowledged) {
        verdict.undelivered += usize::from(!got.contains(&(message.recipient, *message)));
    }
    // A resource may get owed messages that another one never acknowledged after newer ones it got
    // itself; an account gets everything in order, and so does each resource what comes live.
    for messages in received.values().chain(&record.all_live()) {
        verdict.disordered += disorder(messages);
    }
    Ok(verdict)
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
    for (message, _) in sent.iter().filter(|(_, fate)| **fate == Fate::Acknowledged) {
        for owner in [message.sender, message.recipient] {
            let has = archive
                .get(&owner)
                .is_some_and(|messages| messages.contains(message));
            verdict.missing += usize::from(!has);
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
