//! Client sessions: binding, stream management, client state, what is owed.

pub mod bind;
pub mod catch_up;
pub mod client_state;
pub mod control;
pub mod errand;
pub mod inbox;
pub mod mailbox;
pub mod resumable;
pub mod saved;
pub mod saver;
pub mod session;
pub mod stream_management;
pub mod wire;
