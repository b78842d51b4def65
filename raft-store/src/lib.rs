//! A small replicated store for what a cluster must agree on; knows nothing of XMPP. See `DESIGN.md`.

// Hidden modules are no promise to anybody: open for this crate's own tests, benchmark and fuzz targets.
#[doc(hidden)]
pub mod codec;
#[doc(hidden)]
pub mod entry;
pub mod ids;
pub mod limits;
#[doc(hidden)]
pub mod snapshot;
#[doc(hidden)]
pub mod state;
pub mod watch;
