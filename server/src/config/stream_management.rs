//! Stream management (XEP-0198): how long and how much is kept for a client that lost its connection.

use std::time::Duration;

use super::schema::section;

section! {
    /// Stream management.
    pub struct StreamManagement {
        /// Seconds for which a session waits for its client to return, where the client names none.
        pub resume_seconds: u32 = 600,
        /// The longest such time a client may ask for, at most 3600.
        pub resume_max_seconds: u32 = 3_600,
        /// Stanzas after which the client is asked for an acknowledgement.
        pub request_stanzas: u32 = 10,
        /// Bytes after which the client is asked for an acknowledgement.
        pub request_bytes: u32 = 64 * 1024,
    }
}

impl StreamManagement {
    /// How long a session waits, given what the client asked for (`max`), in its bounds.
    pub fn resume(&self, wished_seconds: Option<u32>) -> Duration {
        let seconds = wished_seconds
            .filter(|w| *w > 0)
            .unwrap_or(self.resume_seconds);
        Duration::from_secs(seconds.clamp(60, self.resume_max_seconds.max(60)).into())
    }
}
