//! What the ports of all members share, under keys of the store's own: the sealed authority, and the key of each id.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Inner, Store, WriteOutcome};
use crate::entry::{Action, Expect, Write};
use crate::error::Error;
use crate::ids::{MemberId, Revision};
use crate::limits::{UNCLAIMED_IDS, UNCLAIMED_IDS_KEPT};
use crate::state::Versioned;
use crate::transport::BoxFuture;
use crate::transport::registry::{Bound, RESERVED_PREFIX, Registry};

/// How long a write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(4);
/// What the name of a member's key begins with.
const KEY: &[u8] = b"key/";

/// An id that has a key, and since which revision.
type Tied = (MemberId, Revision);

/// The store, as long as somebody else holds it.
pub(super) struct Trust(Weak<Inner>);

fn reserved(name: &[u8]) -> Vec<u8> {
    [RESERVED_PREFIX, name].concat()
}

fn authority_key() -> Vec<u8> {
    reserved(b"authority")
}

fn member_key(member: MemberId) -> Vec<u8> {
    [reserved(KEY), member.to_string().into_bytes()].concat()
}

/// Whose key it is.
fn member_of(key: &[u8]) -> Option<MemberId> {
    let digits = key.strip_prefix(RESERVED_PREFIX)?.strip_prefix(KEY)?;
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok().map(MemberId)
}

fn not_now(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, error)
}

impl Trust {
    pub(super) fn new(store: &Store) -> Arc<Self> {
        Arc::new(Self(Arc::downgrade(&store.0)))
    }

    fn store(&self) -> io::Result<Store> {
        let inner = self.0.upgrade().ok_or(Error::Closed);
        inner.map(Store).map_err(not_now)
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Versioned>> {
        Ok(self.store()?.get(key).map_err(not_now)?.0)
    }

    async fn put(&self, key: &[u8], value: Bytes, expect: Expect) -> io::Result<WriteOutcome> {
        let action = Action::Put { value, owner: None };
        self.write(key, expect, action).await
    }

    async fn write(&self, key: &[u8], expect: Expect, action: Action) -> io::Result<WriteOutcome> {
        let write = Write {
            key: Bytes::copy_from_slice(key),
            expect,
            action,
        };
        let store = self.store()?;
        let put = store.write_own(write, Instant::now() + WRITE_LIMIT);
        put.await.map_err(not_now)
    }

    /// Ids that have a key: those of members that were removed, and those that never were members, oldest first.
    fn without_rows(&self) -> io::Result<(Vec<Tied>, Vec<Tied>)> {
        let store = self.store()?;
        let state = store.state().map_err(not_now)?;
        let keys = state.scan(&reserved(KEY), None, usize::MAX).into_iter();
        let tied = keys.filter_map(|item| Some((member_of(&item.key)?, item.versioned.revision)));
        let (removed, others): (Vec<_>, Vec<_>) =
            tied.partition(|(id, _)| state.members().is_removed(*id));
        let mut unclaimed = others;
        unclaimed.retain(|(id, _)| state.members().get(*id).is_none());
        unclaimed.sort_by_key(|(_, revision)| *revision);
        Ok((removed, unclaimed))
    }

    async fn forget(&self) -> io::Result<()> {
        if !self.store()?.0.core.is_leading() {
            return Ok(());
        }
        let (removed, unclaimed) = self.without_rows()?;
        let too_many = unclaimed.len().saturating_sub(UNCLAIMED_IDS_KEPT);
        for (id, revision) in removed.iter().chain(&unclaimed[..too_many]) {
            // It may have become one meanwhile: a member's key is never forgotten.
            if self.store()?.0.core.machine().members().get(*id).is_some() {
                continue;
            }
            let expect = Expect::Revision(*revision);
            self.write(&member_key(*id), expect, Action::Delete).await?;
        }
        Ok(())
    }

    fn is_removed(&self, member: MemberId) -> io::Result<bool> {
        let store = self.store()?;
        let state = store.state().map_err(not_now)?;
        Ok(state.members().is_removed(member))
    }
}

impl Registry for Trust {
    fn authority(&self) -> io::Result<Option<(Bytes, Revision)>> {
        let found = self.get(&authority_key())?;
        Ok(found.map(|found| (found.value, found.revision)))
    }

    fn put_authority(
        &self,
        sealed: Bytes,
        replaces: Option<Revision>,
    ) -> BoxFuture<'_, io::Result<bool>> {
        let expect = replaces.map_or(Expect::Absent, Expect::Revision);
        Box::pin(async move {
            let put = self.put(&authority_key(), sealed, expect).await?;
            Ok(matches!(put, WriteOutcome::Written(_)))
        })
    }

    fn bind(&self, member: MemberId, key: [u8; 32]) -> BoxFuture<'_, io::Result<Bound>> {
        Box::pin(async move {
            let name = member_key(member);
            let of = |found: &Versioned| match found.value[..] == key {
                true => Bound::Yes,
                false => Bound::OtherKey,
            };
            if self.is_removed(member)? {
                return Ok(Bound::Removed);
            }
            if let Some(found) = self.get(&name)? {
                return Ok(of(&found));
            }
            if self.without_rows()?.1.len() >= UNCLAIMED_IDS {
                // The leader makes room when it looks again. Whoever knows the secret must not fill the store.
                tracing::warn!(%member, "too many ids that never became members have a key");
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let value = Bytes::copy_from_slice(&key);
            match self.put(&name, value, Expect::Absent).await? {
                WriteOutcome::Written(_) => Ok(Bound::Yes),
                WriteOutcome::Conflict(Some(found)) => Ok(of(&found)),
                WriteOutcome::Conflict(None) => Err(io::ErrorKind::WouldBlock.into()),
            }
        })
    }

    fn forget_removed(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.forget())
    }

    fn addresses(&self) -> Vec<String> {
        let Ok(store) = self.store() else {
            return Vec::new();
        };
        // Also before local reads are open: they wait for a leader, and a leader needs connections.
        let members = store.0.core.machine().members();
        let others = members.iter();
        let others = others.filter(|(id, row)| *id != store.0.member && row.live);
        others
            .flat_map(|(_, row)| row.info.addresses.clone())
            .collect()
    }
}
