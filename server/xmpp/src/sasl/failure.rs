//! RFC 6120 §6.5: SASL error conditions

/// Why an authentication attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The client sent `<abort/>`.
    Aborted,
    /// The account exists but may not log in.
    AccountDisabled,
    /// The credentials are too old to be used.
    CredentialsExpired,
    /// The mechanism needs TLS first.
    EncryptionRequired,
    /// The base64 of a message is not base64.
    IncorrectEncoding,
    /// The authorization identity is malformed or somebody else's.
    InvalidAuthzid,
    /// No mechanism, or one that is not offered on this stream.
    InvalidMechanism,
    /// The message breaks the mechanism's syntax.
    MalformedRequest,
    /// The mechanism is weaker than policy allows for this account.
    MechanismTooWeak,
    /// Wrong credentials, or an account that does not exist.
    NotAuthorized,
    /// A fault of the server or a wait asked of the client; to be tried later.
    TemporaryAuthFailure,
}

impl Failure {
    /// All conditions, in the order of RFC 6120 §6.5.
    pub const ALL: [Failure; 11] = [
        Failure::Aborted,
        Failure::AccountDisabled,
        Failure::CredentialsExpired,
        Failure::EncryptionRequired,
        Failure::IncorrectEncoding,
        Failure::InvalidAuthzid,
        Failure::InvalidMechanism,
        Failure::MalformedRequest,
        Failure::MechanismTooWeak,
        Failure::NotAuthorized,
        Failure::TemporaryAuthFailure,
    ];

    /// The element's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::Aborted => "aborted",
            Failure::AccountDisabled => "account-disabled",
            Failure::CredentialsExpired => "credentials-expired",
            Failure::EncryptionRequired => "encryption-required",
            Failure::IncorrectEncoding => "incorrect-encoding",
            Failure::InvalidAuthzid => "invalid-authzid",
            Failure::InvalidMechanism => "invalid-mechanism",
            Failure::MalformedRequest => "malformed-request",
            Failure::MechanismTooWeak => "mechanism-too-weak",
            Failure::NotAuthorized => "not-authorized",
            Failure::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}
