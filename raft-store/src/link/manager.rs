//! The connections of one member.

use std::sync::Arc;
use std::time::Duration;

use super::messages::{Reply, Request};
use super::{AddressBook, Hello, Link, LinkError, Serve};
use crate::config::Parts;
use crate::ids::MemberId;
use crate::transport::BoxFuture;

/// See [`super::start`].
pub(super) fn start(parts: &Parts, serve: Arc<dyn Serve>, book: AddressBook) -> Arc<dyn Link> {
    let _ = (parts, book);
    Arc::new(Manager { _serve: serve })
}

struct Manager {
    _serve: Arc<dyn Serve>,
}

impl Link for Manager {
    fn call(
        &self,
        _: MemberId,
        _: Request,
        _: Duration,
    ) -> BoxFuture<'_, Result<Reply, LinkError>> {
        Box::pin(std::future::ready(Err(LinkError::Unreachable)))
    }

    fn peers(&self) -> Vec<Hello> {
        Vec::new()
    }

    fn connected(&self, _: MemberId) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn greet<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, Result<Hello, LinkError>> {
        Box::pin(std::future::ready(Err(LinkError::Unreachable)))
    }

    fn renew(&self) {}

    fn close(&self) {}
}
