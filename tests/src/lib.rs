//! Real servers, real clients, protocol scripts, bad input, load and loss.

pub mod fuzz;
pub mod harness;
pub mod hostile;
pub mod load;
pub mod loss;
pub mod scripts;
