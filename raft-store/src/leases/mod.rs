//! Leases of runs: this run's own, and as leader those of all.

mod holder;
mod ledger;
#[cfg(test)]
mod tests;

#[allow(unused_imports)] // Until the store tells of it.
pub use holder::Lease;
