//! Eider, an XMPP server: everything but the command line.

pub mod access;
pub mod account;
pub mod admin;
pub mod c2s;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod fault;
pub mod lifecycle;
pub mod listener;
pub mod pipeline;
pub mod pubsub;
pub mod router;
pub mod sealed_ids;
pub mod server;
pub mod stream;
pub mod tls;
pub mod xep;
