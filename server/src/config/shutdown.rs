//! Shutdown: how long a stop may take.

use super::schema::section;

section! {
    /// What happens on SIGTERM.
    pub struct Shutdown {
        /// Seconds for ending all streams and finishing all writes; then the process stops anyway.
        pub grace_seconds: u32 = 20,
    }
}
