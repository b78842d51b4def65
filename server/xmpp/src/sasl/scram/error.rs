//! RFC 5802 §7: server-error values

use crate::sasl::Failure;

/// Why a SCRAM exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.value())]
pub enum ScramError {
    /// The message breaks the grammar.
    InvalidEncoding,
    /// A mandatory extension (`m=`) nobody here knows.
    ExtensionsNotSupported,
    /// Wrong password, or no such account.
    InvalidProof,
    /// The client is bound to another TLS channel than the server.
    ChannelBindingsDontMatch,
    /// `y` although `-PLUS` was offered: somebody removed it on the way.
    ServerDoesSupportChannelBinding,
    /// `p=` within a mechanism without `-PLUS`.
    ChannelBindingNotSupported,
    /// A channel binding type this stream does not have.
    UnsupportedChannelBindingType,
    /// A user name that is not UTF-8 or holds a bad `=` escape.
    InvalidUsernameEncoding,
    /// Everything else: nonce changed, attributes out of order.
    OtherError,
}

impl ScramError {
    /// The `server-error-value`, as in `e=invalid-proof`.
    pub fn value(self) -> &'static str {
        match self {
            ScramError::InvalidEncoding => "invalid-encoding",
            ScramError::ExtensionsNotSupported => "extensions-not-supported",
            ScramError::InvalidProof => "invalid-proof",
            ScramError::ChannelBindingsDontMatch => "channel-bindings-dont-match",
            ScramError::ServerDoesSupportChannelBinding => "server-does-support-channel-binding",
            ScramError::ChannelBindingNotSupported => "channel-binding-not-supported",
            ScramError::UnsupportedChannelBindingType => "unsupported-channel-binding-type",
            ScramError::InvalidUsernameEncoding => "invalid-username-encoding",
            ScramError::OtherError => "other-error",
        }
    }

    /// The condition of RFC 6120 §6.5 that goes with it.
    pub fn failure(self) -> Failure {
        match self {
            ScramError::InvalidEncoding
            | ScramError::ExtensionsNotSupported
            | ScramError::ChannelBindingNotSupported
            | ScramError::UnsupportedChannelBindingType
            | ScramError::InvalidUsernameEncoding
            | ScramError::OtherError => Failure::MalformedRequest,
            ScramError::InvalidProof
            | ScramError::ChannelBindingsDontMatch
            | ScramError::ServerDoesSupportChannelBinding => Failure::NotAuthorized,
        }
    }
}
