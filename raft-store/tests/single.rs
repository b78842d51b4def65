//! One member end to end: what was acknowledged stays, over restarts, kills and power cuts; what fails ends loudly.

#[path = "single/basics.rs"]
mod basics;
#[path = "single/member.rs"]
mod member;
