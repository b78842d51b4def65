//! Hosts: the domains that are served, each with its own settings.

use super::schema::{choice, section};

section! {
    /// One domain that is served.
    pub struct Host {
        /// The domain: what stands after the @ of its accounts.
        pub name: String = String::new(),
        /// Bare JIDs that may administer this host (ad-hoc commands, XEP-0133).
        pub admins: Vec<String> = Vec::new(),
        /// Features switched off: gone from service discovery, requests for them answered with
        /// `service-unavailable`.
        pub features_off: Vec<Feature> = Vec::new(),
        /// Whether messages are archived for an account that has not chosen for itself.
        pub archive: ArchiveDefault = ArchiveDefault::Always,
        /// Whether the host decides about archiving instead of each account.
        pub archive_force: ArchiveForce = ArchiveForce::None,
        /// Days after which archived messages go; 0 keeps them for ever. Unset: `archive.retention_days`.
        pub archive_retention_days: Option<u32> = None,
        /// Whether accounts can be made from a client (XEP-0077). See also the section `registration`.
        pub registration: bool = false,
        /// Whether users may log in without an account (SASL ANONYMOUS); they reach only this host.
        pub anonymous: bool = false,
        /// Whether a client certificate that names the account logs in (SASL EXTERNAL).
        pub external: bool = false,
        /// Whether messages for an account without a session are kept until it returns (XEP-0160).
        pub offline_messages: bool = true,
        /// Where to write to when something is wrong (XEP-0157): addresses as mailto:, xmpp: or https:
        pub contact: Contact = Contact::default(),
    }
}

impl Host {
    /// A host of this name with every default.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Whether the feature is on for this host.
    pub fn has(&self, feature: Feature) -> bool {
        !self.features_off.contains(&feature)
    }
}

section! {
    /// Contact addresses of a host (XEP-0157), each an address with its scheme.
    pub struct Contact {
        /// For reports of abuse.
        pub abuse: Vec<String> = Vec::new(),
        /// For administrators.
        pub admin: Vec<String> = Vec::new(),
        /// For feedback.
        pub feedback: Vec<String> = Vec::new(),
        /// For sales.
        pub sales: Vec<String> = Vec::new(),
        /// For security reports.
        pub security: Vec<String> = Vec::new(),
        /// For support.
        pub support: Vec<String> = Vec::new(),
        /// Where the state of the service is shown.
        pub status: Vec<String> = Vec::new(),
    }
}

choice! {
    /// The archive's default for accounts (XEP-0441).
    pub enum ArchiveDefault {
        /// Everything is archived.
        Always = "always",
        /// Messages with contacts of the roster are archived.
        Roster = "roster",
        /// Nothing is archived.
        Never = "never",
    }
}

choice! {
    /// Whether the host decides about archiving.
    pub enum ArchiveForce {
        /// Each account chooses.
        None = "none",
        /// All messages are archived, whatever accounts chose.
        On = "on",
        /// No message is archived, whatever accounts chose.
        Off = "off",
    }
}

choice! {
    /// A feature that a host can be without.
    pub enum Feature {
        /// Rosters and subscriptions (RFC 6121 §2, §3).
        Roster = "roster",
        /// Presence (RFC 6121 §4).
        Presence = "presence",
        /// XEP-0313: Message Archive Management.
        Archive = "archive",
        /// XEP-0431: full text search in the archive.
        FullText = "full-text",
        /// XEP-0191: Blocking Command.
        Blocking = "blocking",
        /// XEP-0280: Message Carbons.
        Carbons = "carbons",
        /// XEP-0198: Stream Management.
        StreamManagement = "stream-management",
        /// XEP-0352: Client State Indication.
        ClientState = "client-state",
        /// XEP-0163: Personal Eventing Protocol.
        Pep = "pep",
        /// XEP-0049: Private XML Storage.
        Private = "private",
        /// XEP-0054: vcard-temp, with XEP-0153.
        Vcard = "vcard",
        /// XEP-0012: Last Activity.
        LastActivity = "last-activity",
        /// XEP-0092: Software Version.
        Version = "version",
        /// XEP-0199: XMPP Ping.
        Ping = "ping",
        /// XEP-0202: Entity Time.
        Time = "time",
        /// XEP-0050: Ad-Hoc Commands.
        Commands = "commands",
        /// XEP-0077: In-Band Registration: password change and account removal too.
        Registration = "registration",
    }
}
