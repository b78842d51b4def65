//! What the transports of all members share, kept in the store: the sealed authority, and whose key an id is.

use std::io;

use bytes::Bytes;

use super::BoxFuture;
use crate::ids::{MemberId, Revision};

/// Keys that begin with this are the store's own: everybody may read them, callers cannot write them.
pub const RESERVED_PREFIX: &[u8] = b"\0raft-store\0";

/// What became of [`Registry::bind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The id has this key, now or since long.
    Yes,
    /// The id has another key.
    OtherKey,
    /// The member was removed; its id never comes back.
    Removed,
}

/// Offered by the store to its transport. Errors mean "not now".
pub trait Registry: Send + Sync {
    /// The sealed authority as this member knows it.
    fn authority(&self) -> io::Result<Option<(Bytes, Revision)>>;

    /// Puts a sealed authority in the place of the one of revision `replaces`, or where none was. False: another is there.
    fn put_authority(
        &self,
        sealed: Bytes,
        replaces: Option<Revision>,
    ) -> BoxFuture<'_, io::Result<bool>>;

    /// Ties an id to a public key for ever. Of several keys for one id the first wins. An error, too, while too many ids
    /// are tied that never became members.
    fn bind(&self, member: MemberId, key: [u8; 32]) -> BoxFuture<'_, io::Result<Bound>>;

    /// Where this member leads: forgets whose key an id was once its member was removed, and of many ids that never
    /// became members the oldest.
    fn forget_removed(&self) -> BoxFuture<'_, io::Result<()>>;

    /// Where other members can be reached.
    fn addresses(&self) -> Vec<String>;
}
