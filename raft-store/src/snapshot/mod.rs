//! Snapshots of the state.

pub mod file;
pub(crate) mod paced;
pub mod publish;
pub(crate) mod receive;
pub mod save;
pub(crate) mod send;
