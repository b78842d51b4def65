//! Registration of accounts by clients (XEP-0077), where a host allows it.

use super::schema::section;

section! {
    /// Making accounts from a client; each host says for itself whether it is possible.
    pub struct Registration {
        /// Accounts made from one address (IPv6: one /64) in an hour.
        pub per_address_per_hour: u32 = 5,
        /// Accounts made over all addresses in an hour.
        pub per_hour: u32 = 1_000,
        /// The shortest password taken, in characters.
        pub password_min_characters: u32 = 8,
        /// Localparts that nobody can register.
        pub reserved: Vec<String> = ["abuse", "admin", "administrator", "hostmaster", "info", "operator",
            "postmaster", "root", "security", "support", "webmaster", "xmpp"].map(str::to_owned).to_vec(),
        /// Text shown to who registers.
        pub instructions: String = "Choose a name and a password.".to_owned(),
    }
}
