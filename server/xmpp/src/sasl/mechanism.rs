//! RFC 6120 §6.3: the mechanisms this server knows, and their names

use super::scram::ScramHash;

/// A SASL mechanism. DIGEST-MD5 and older ones are deliberately absent (RFC 6331).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    /// SCRAM (RFC 5802, RFC 7677), with channel binding when `plus`.
    Scram {
        /// Hash function of the family.
        hash: ScramHash,
        /// Whether this is the `-PLUS` form.
        plus: bool,
    },
    /// PLAIN (RFC 4616).
    Plain,
    /// ANONYMOUS (RFC 4505).
    Anonymous,
    /// EXTERNAL (RFC 4422 appendix A, XEP-0178).
    External,
}

impl Mechanism {
    /// All mechanisms, strongest first.
    pub const ALL: [Mechanism; 9] = [
        Mechanism::External,
        Mechanism::Scram {
            hash: ScramHash::Sha512,
            plus: true,
        },
        Mechanism::Scram {
            hash: ScramHash::Sha256,
            plus: true,
        },
        Mechanism::Scram {
            hash: ScramHash::Sha1,
            plus: true,
        },
        Mechanism::Scram {
            hash: ScramHash::Sha512,
            plus: false,
        },
        Mechanism::Scram {
            hash: ScramHash::Sha256,
            plus: false,
        },
        Mechanism::Scram {
            hash: ScramHash::Sha1,
            plus: false,
        },
        Mechanism::Plain,
        Mechanism::Anonymous,
    ];

    /// The registered name.
    pub fn as_str(self) -> &'static str {
        match self {
            Mechanism::Scram {
                hash: ScramHash::Sha1,
                plus: false,
            } => "SCRAM-SHA-1",
            Mechanism::Scram {
                hash: ScramHash::Sha1,
                plus: true,
            } => "SCRAM-SHA-1-PLUS",
            Mechanism::Scram {
                hash: ScramHash::Sha256,
                plus: false,
            } => "SCRAM-SHA-256",
            Mechanism::Scram {
                hash: ScramHash::Sha256,
                plus: true,
            } => "SCRAM-SHA-256-PLUS",
            Mechanism::Scram {
                hash: ScramHash::Sha512,
                plus: false,
            } => "SCRAM-SHA-512",
            Mechanism::Scram {
                hash: ScramHash::Sha512,
                plus: true,
            } => "SCRAM-SHA-512-PLUS",
            Mechanism::Plain => "PLAIN",
            Mechanism::Anonymous => "ANONYMOUS",
            Mechanism::External => "EXTERNAL",
        }
    }

    /// The mechanism of that exact name, `None` for one unknown here.
    pub fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|m| m.as_str() == name)
    }

    /// Whether this mechanism binds to the TLS channel.
    pub fn is_plus(self) -> bool {
        matches!(self, Mechanism::Scram { plus: true, .. })
    }
}

impl std::fmt::Display for Mechanism {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A channel binding type (XEP-0440).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindingKind {
    /// `tls-exporter` (RFC 9266), on TLS 1.3 only.
    TlsExporter,
    /// `tls-server-end-point` (RFC 5929 §4).
    TlsServerEndPoint,
}

impl BindingKind {
    /// The registered unique prefix.
    pub fn as_str(self) -> &'static str {
        match self {
            BindingKind::TlsExporter => "tls-exporter",
            BindingKind::TlsServerEndPoint => "tls-server-end-point",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_old_mechanisms_are_unknown() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::from_name(mechanism.as_str()), Some(mechanism));
        }
        for name in ["DIGEST-MD5", "CRAM-MD5", "plain", "", "SCRAM-SHA-256-plus"] {
            assert_eq!(Mechanism::from_name(name), None, "{name}");
        }
    }
}
