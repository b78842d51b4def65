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
use crate::state::Versioned;
use crate::transport::BoxFuture;
use crate::transport::registry::{Bound, RESERVED_PREFIX, Registry};

/// How long a write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(4);

/// The store, as long as somebody else holds it.
pub(super) struct Trust(Weak<Inner>);

fn reserved(name: &[u8]) -> Vec<u8> {
    [RESERVED_PREFIX, name].concat()
}

fn authority_key() -> Vec<u8> {
    reserved(b"authority")
}

fn member_key(member: MemberId) -> Vec<u8> {
    reserved(format!("key/{member}").as_bytes())
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
        let write = Write {
            key: Bytes::copy_from_slice(key),
            expect,
            action: Action::Put { value, owner: None },
        };
        let store = self.store()?;
        let put = store.write_own(write, Instant::now() + WRITE_LIMIT);
        put.await.map_err(not_now)
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
            let value = Bytes::copy_from_slice(&key);
            match self.put(&name, value, Expect::Absent).await? {
                WriteOutcome::Written(_) => Ok(Bound::Yes),
                WriteOutcome::Conflict(Some(found)) => Ok(of(&found)),
                WriteOutcome::Conflict(None) => Err(io::ErrorKind::WouldBlock.into()),
            }
        })
    }

    fn addresses(&self) -> Vec<String> {
        let Ok(store) = self.store() else {
            return Vec::new();
        };
        let Ok(state) = store.state() else {
            return Vec::new();
        };
        let others = state.members().iter();
        let others = others.filter(|(id, row)| *id != store.0.member && row.live);
        others
            .flat_map(|(_, row)| row.info.addresses.clone())
            .collect()
    }
}
