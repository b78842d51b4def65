//! What clients asked and were told, in the checker's form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Get,
    Put,
    PutIf,
    DeleteIf,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::PutIf => "put-if",
            Self::DeleteIf => "delete-if",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Value(u64, String),
    None,
    Written(u64),
    Conflict,
    /// Nobody knows whether it was done. Of a get: it tells nothing.
    Unknown,
    /// It was not done.
    Failed,
}

impl Outcome {
    /// What a daemon's answer says.
    pub fn of(answer: &str) -> Self {
        let mut words = answer.split(' ');
        let first = words.next().unwrap_or_default();
        let second = words.next().unwrap_or_default();
        match (first, second, second.parse()) {
            ("value", _, Ok(revision)) => {
                Self::Value(revision, words.next().unwrap_or_default().to_owned())
            }
            ("none", ..) => Self::None,
            ("written", _, Ok(revision)) => Self::Written(revision),
            ("conflict", ..) => Self::Conflict,
            ("error", "unknown", _) => Self::Unknown,
            ("error", ..) => Self::Failed,
            _ => panic!("the daemon answers {answer:?}"),
        }
    }
}

/// Times are nanoseconds since the run began.
#[derive(Debug, Clone)]
pub struct Operation {
    pub client: usize,
    pub key: String,
    pub kind: Kind,
    /// The revision that a conditioned write asks for; 0: absence.
    pub expected: u64,
    /// What a put writes.
    pub value: String,
    pub call: u64,
    pub end: u64,
    pub outcome: Outcome,
}

impl Operation {
    /// The checker's line; none for what was not done or tells nothing.
    fn line(&self) -> Option<String> {
        let (result, revision, found) = match &self.outcome {
            Outcome::Value(revision, value) => ("value", *revision, value),
            Outcome::None => ("none", 0, &self.value),
            Outcome::Written(revision) => ("written", *revision, &self.value),
            Outcome::Conflict => ("conflict", 0, &self.value),
            Outcome::Unknown if self.kind != Kind::Get => ("unknown", 0, &self.value),
            Outcome::Unknown | Outcome::Failed => return None,
        };
        let end = match self.outcome {
            Outcome::Unknown => "-1".to_owned(),
            _ => self.end.to_string(),
        };
        let mut line = String::new();
        let (kind, call) = (self.kind.name(), self.call);
        let (client, key, expected) = (self.client, &self.key, self.expected);
        writeln!(
            line,
            "{client}\t{key}\t{kind}\t{expected}\t{found}\t{call}\t{end}\t{result}\t{revision}"
        )
        .expect("a string takes it");
        Some(line)
    }
}

/// Writes the checker's file.
pub fn write(path: &Path, operations: &[Operation]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for line in operations.iter().filter_map(Operation::line) {
        file.write_all(line.as_bytes())?;
    }
    file.flush()
}

/// How many of each kind came to what.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub by_kind: BTreeMap<Kind, u64>,
    pub done: u64,
    pub conflicts: u64,
    pub unknown: u64,
    pub failed: u64,
}

impl Count {
    pub fn of(operations: &[Operation]) -> Self {
        let mut count = Self::default();
        for operation in operations {
            let which = match operation.outcome {
                Outcome::Failed => &mut count.failed,
                Outcome::Unknown => &mut count.unknown,
                Outcome::Conflict => &mut count.conflicts,
                Outcome::Value(..) | Outcome::None | Outcome::Written(_) => &mut count.done,
            };
            *which += 1;
            if operation.outcome != Outcome::Failed {
                *count.by_kind.entry(operation.kind).or_default() += 1;
            }
        }
        count
    }

    /// Operations that were done or may have been.
    pub fn operations(&self) -> u64 {
        self.done + self.conflicts + self.unknown
    }

    pub fn share(&self, part: u64) -> f64 {
        part as f64 / self.operations().max(1) as f64
    }

    pub fn put_if_share(&self) -> f64 {
        self.share(self.by_kind.get(&Kind::PutIf).copied().unwrap_or(0))
    }

    pub fn unknown_share(&self) -> f64 {
        self.share(self.unknown)
    }
}
