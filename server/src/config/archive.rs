//! The archive of messages (XEP-0313): how long, how much, how it is asked.

use super::schema::section;

section! {
    /// The archive. Whether a host archives at all stands with the host.
    pub struct Archive {
        /// Days after which archived messages go, oldest first; 0 keeps them for ever. What no client of the account has
        /// received yet stays until one has.
        pub retention_days: u32 = 0,
        /// Messages kept per account, the oldest go first; 0 means no limit. What no client of the account has received yet
        /// is not deleted: while the account is away and has so many of these, further ones are refused.
        pub quota_messages: u32 = 0,
        /// Messages on a page where the client names no number.
        pub page_messages: u32 = 50,
        /// The largest page a client gets.
        pub page_max_messages: u32 = 250,
        /// Whether the archive can be searched by words (XEP-0431).
        pub full_text: bool = true,
        /// Queries of one account that may run at once; further ones wait.
        pub queries_per_account: u32 = 2,
        /// Hours between two runs that remove what is past retention or quota.
        pub cleaning_interval_hours: u32 = 6,
    }
}
