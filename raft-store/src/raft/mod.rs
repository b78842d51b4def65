//! openraft, and what adapts it; nothing outside this folder names it.

mod budget;
pub(crate) mod compaction;
pub(crate) mod core;
pub(crate) mod inbox;
mod log_store;
pub(crate) mod machine;
pub(crate) mod members;
mod network;
pub(crate) mod offline;
mod pacing;
mod peers;
mod promises;
mod receiving;
mod recovered;
pub(crate) mod reign;
mod runtime;
mod sending;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use types::Command;
