//! The loss test (DESIGN §1): what was acknowledged is archived once, delivered, and in order,
//! whatever moment the server is killed at.
//!
//! Senders and receivers of every kind talk at a fixed rate while the server is killed at named
//! points ([`Moment::Point`]) or blindly, and started again. Afterwards every receiver collects what is
//! owed, the server stops, and `verdict` compares what senders saw acknowledged with what the
//! database holds and what receivers got.

mod channel;
mod powercut;
mod receiver;
mod record;
mod run;
mod sender;
mod verdict;

pub use run::{Options, run};

/// When the server is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// When it reaches this point for a random time.
    Point(&'static str),
    /// At a random time.
    Blind,
    /// At a random time, with the power: what was not synced is gone.
    PowerCut,
    /// The server is told to stop and started again: every session resumes.
    Drain,
    /// PostgreSQL is killed, and started again.
    Database,
}

impl Moment {
    /// The points of `eider::fault::Point`.
    pub const POINTS: [&'static str; 7] = [
        "queued",
        "committed",
        "routed",
        "written",
        "acknowledgement-read",
        "debt-cleared",
        "acknowledgement-sent",
    ];

    /// A point is met up to so often before the kill: some come with each message, some once for many.
    fn per_hit(self) -> u64 {
        match self {
            Moment::Point("acknowledgement-read" | "debt-cleared") => 40,
            Moment::Point("written") => 500,
            _ => 150,
        }
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Moment::Point(name) => name,
            Moment::Blind => "blind",
            Moment::PowerCut => "power cut",
            Moment::Drain => "drained",
            Moment::Database => "database killed",
        }
    }
}
