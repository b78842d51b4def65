//! What was promised against what is there.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};
use eider_storage::{ArchiveFilter, Direction, PageRequest, Storage};

use super::record::{Fate, Message, Record, Way};
use crate::load::client::localpart;
use crate::load::server::HOST;

/// Counts of the closing table; the last six have to be zero.
#[derive(Debug, Default, Clone)]
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
    /// Acknowledged, or in the recipient's archive, and delivered to no resource of the recipient.
    pub undelivered: usize,
    /// More than once in one archive, or there although it was refused: its sender would send it again.
    pub twice: usize,
    /// Come to one session more than once.
    pub repeated: usize,
    /// Later in an archive, or at a receiver, than a message sent after it.
    pub disordered: usize,
    /// Come live to a resource in another order than the archive's.
    pub unlike_archive: usize,
    /// The first findings, told one by one.
    pub findings: Vec<String>,
}

/// Findings that are told one by one.
const FINDINGS_MAX: usize = 20;

impl Verdict {
    /// Whether every promise held.
    pub fn holds(&self) -> bool {
        let broken = [
            self.missing,
            self.undelivered,
            self.twice,
            self.repeated,
            self.disordered,
            self.unlike_archive,
        ];
        broken.iter().sum::<usize>() == 0
    }

    fn find(&mut self, what: String) -> usize {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what);
        }
        1
    }

    /// What the same sender sent to the same recipient must stand in the order it was sent.
    fn in_order(&mut self, place: &str, messages: &[Message]) {
        let mut last: HashMap<(u32, u32), u32> = HashMap::new();
        for message in messages {
            let last = last.entry((message.sender, message.recipient)).or_insert(0);
            if message.number < *last {
                let later = *last;
                self.disordered += self.find(format!("{place}: {message:?} after number {later}"));
            }
            *last = (*last).max(message.number);
        }
    }

    /// What came live must have come in the order of the archive.
    fn as_archived(&mut self, place: &str, messages: &[Message], archive: &[Message]) {
        let positions: HashMap<Message, usize> = archive.iter().copied().zip(0..).collect();
        let mut last: Option<(usize, Message)> = None;
        for message in messages {
            let Some(at) = positions.get(message).copied() else {
                continue;
            };
            if let Some((_, before)) = last.filter(|(position, _)| *position > at) {
                self.unlike_archive += self.find(format!("{place}: {message:?} after {before:?}"));
            }
            last = Some((at, *message));
        }
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
        repeated: record.all_repeated().len(),
        ..Verdict::default()
    };
    for (account, resource, message) in record.all_repeated() {
        verdict.find(format!(
            "again at account {account}, resource {resource}: {message:?}"
        ));
    }
    let mut archive: HashMap<u32, Vec<Message>> = HashMap::new();
    for account in accounts.archiving.iter().copied() {
        archive.insert(account, archived(storage, account).await?);
    }
    judge_archives(&mut verdict, &sent, &archive);
    let got = by_account(&received);
    let kept = by_account(&archive);
    for (message, fate) in &sent {
        let at = (message.recipient, *message);
        let owed = match fate {
            Fate::Acknowledged => true,
            Fate::Sent => kept.contains(&at),
            Fate::Refused => false,
        };
        if owed && !got.contains(&at) {
            verdict.undelivered += verdict.find(format!("never delivered: {message:?}"));
        }
    }
    // With two resources one may get owed messages that the other never acknowledged, after newer
    // ones it got itself. What comes live is in order everywhere.
    for account in &accounts.single {
        if let Some(messages) = received.get(account) {
            verdict.in_order(&format!("at account {account}"), messages);
        }
    }
    for ((account, resource, way), messages) in &orders {
        if *way == Way::Copied {
            verdict.copies += messages.len();
        }
        if *way != Way::Owed {
            let place = format!("at account {account}, resource {resource}, {way:?}");
            verdict.in_order(&place, messages);
            if let Some(archive) = archive.get(account) {
                verdict.as_archived(&place, messages, archive);
            }
        }
    }
    Ok(verdict)
}

fn by_account(messages: &HashMap<u32, Vec<Message>>) -> HashSet<(u32, Message)> {
    let all = messages.iter();
    all.flat_map(|(account, messages)| messages.iter().map(|message| (*account, *message)))
        .collect()
}

fn count(sent: &BTreeMap<Message, Fate>, fate: Fate) -> usize {
    sent.values().filter(|other| **other == fate).count()
}

fn judge_archives(
    verdict: &mut Verdict,
    sent: &BTreeMap<Message, Fate>,
    archive: &HashMap<u32, Vec<Message>>,
) {
    for (owner, messages) in archive {
        let mut seen = HashSet::new();
        for message in messages {
            if !seen.insert(*message) {
                verdict.twice +=
                    verdict.find(format!("twice in the archive of {owner}: {message:?}"));
            }
        }
        verdict.in_order(&format!("in the archive of {owner}"), messages);
        judge_archive(verdict, sent, *owner, &seen);
    }
}

fn judge_archive(
    verdict: &mut Verdict,
    sent: &BTreeMap<Message, Fate>,
    owner: u32,
    archive: &HashSet<Message>,
) {
    let concerns = |message: &Message| message.sender == owner || message.recipient == owner;
    for (message, fate) in sent.iter().filter(|(message, _)| concerns(message)) {
        let has = archive.contains(message);
        if *fate == Fate::Acknowledged && !has {
            verdict.missing +=
                verdict.find(format!("missing in the archive of {owner}: {message:?}"));
        }
        if *fate == Fate::Refused && has {
            verdict.twice += verdict.find(format!(
                "refused, yet in the archive of {owner}: {message:?}"
            ));
        }
    }
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
        bytes_max: u64::MAX,
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
