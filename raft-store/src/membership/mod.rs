//! Who is a member, a learner, a voter: decided by the leader alone, one change at a time (DESIGN §9).

pub(crate) mod step;
pub(crate) mod view;
