//! openraft, and what adapts it; nothing outside this folder names it.

pub(crate) mod compaction;
pub(crate) mod core;
mod log_store;
pub(crate) mod machine;
mod pacing;
mod runtime;
mod solitary;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use types::Command;
