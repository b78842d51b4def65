//! Protocol scripts: text files of `tests/scripts/` that say what clients send and what they must get.
//!
//! The language is described in `tests/scripts/README.md`.

pub mod checks;
pub mod client;
pub mod parse;
pub mod pattern;
pub mod run;
pub mod steps;
pub mod xml;

pub use parse::Script;
