//! Who is a member, a learner, a voter: decided by the leader alone, one change at a time (DESIGN §9).

pub(crate) mod hashes;
mod reconciler;
mod removed;
mod sight;
mod step;
mod view;

pub(crate) use hashes::Hashes;
pub(crate) use reconciler::Reconciler;
pub(crate) use removed::Removed;
pub use view::Rules;
