//! Both engines: one conformance suite on each, failures and a replica of PostgreSQL, copies between them.

mod conformance;
mod copies;
mod failures;
mod postgres;
mod replica;
#[path = "../../../../tests/src/harness/postgres.rs"]
#[allow(
    dead_code,
    reason = "not everything that the harness can is needed here"
)]
mod server;
mod sqlite;
