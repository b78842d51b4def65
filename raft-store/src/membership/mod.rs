//! Who is a member, a learner, a voter: decided by the leader alone, one change at a time (DESIGN §9).

mod reconciler;
mod sight;
mod step;
mod view;

pub(crate) use reconciler::Reconciler;
pub(crate) use view::View;
pub use view::Rules;
