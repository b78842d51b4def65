//! Snapshots of the state.

pub mod file;
