//! Switches for old clients and strict rules.

use super::schema::section;

section! {
    /// Switches for old clients and strict rules.
    pub struct Compatibility {
        /// Whether errors also carry the numbers of XEP-0086, for clients from before 2004.
        pub legacy_error_codes: bool = false,
        /// Whether an iq to a full JID is delivered only to those who may see the presence of that
        /// account (RFC 6121 §8.5.3.2.3). Off, it is delivered.
        pub strict_iq_privacy: bool = false,
    }
}
