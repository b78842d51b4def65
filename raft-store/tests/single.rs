//! One member end to end: what was acknowledged stays, over restarts, kills and power cuts; what fails ends loudly.

#[path = "single/basics.rs"]
mod basics;
#[path = "single/determinism.rs"]
mod determinism;
#[path = "single/leases.rs"]
mod leases;
#[path = "single/lives.rs"]
mod lives;
#[path = "single/member.rs"]
mod member;
#[path = "single/power_cuts.rs"]
mod power_cuts;
#[path = "single/proposals.rs"]
mod proposals;
#[path = "single/snapshots.rs"]
mod snapshots;
#[path = "single/trust.rs"]
mod trust;
