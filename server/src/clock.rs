//! The clock: the one place where the time of day enters the program. Logic takes it as a parameter; whoever
//! stands at an edge (a command, a timer, a stanza just read) asks here.

use std::time::SystemTime;

use eider_storage::Timestamp;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "this is where time enters")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The time of day as the storage keeps it.
pub fn timestamp() -> Timestamp {
    Timestamp::from_system(now())
}
