//! Snapshots of the state.

pub mod file;
pub mod publish;
pub mod save;
