//! Orders to a session from outside its stream.

use crate::c2s::stream_management::Resume;
use crate::c2s::wire::Wire;

/// What a session can be told to do.
pub enum Control {
    /// Another stream bound the same resource (RFC 6120 §7.7.2.2): end with `conflict`.
    Replaced,
    /// An administrator or the account's removal ends the session.
    Kick(Kick),
    /// The mailbox is over its bound: end, so that what is owed stays owed.
    Overflow,
    /// A new stream takes the session over (XEP-0198 §5).
    Resume(Box<(Wire, Resume)>),
    /// The server stops: end resumable, or with `system-shutdown`.
    Drain,
    /// The configuration was replaced.
    Reconfigured,
    /// The session shall look at owed messages again.
    CatchUp,
}

/// Why a session is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kick {
    /// An administrator ended it (`policy-violation`).
    Administrator,
    /// The account is gone or disabled (`not-authorized`).
    AccountGone,
    /// Its password changed elsewhere (`reset`).
    CredentialsChanged,
}
