//! Where things live: which sessions an account has, and on which member.

pub mod sessions;
