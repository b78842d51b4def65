//! Real servers, real clients, protocol scripts, load and loss.

pub mod fuzz;
pub mod harness;
pub mod load;
pub mod loss;
pub mod scripts;
