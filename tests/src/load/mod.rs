//! The load generator: own clients, own servers and databases, the servers' CPU time and memory.
//!
//! Every row starts its server fresh in a directory of the run, with its accounts already made, lets
//! load run for a warm-up and a timed window, and reads what the server's processes used. Rivals get
//! the same clients, keys, iterations and certificate, and the same PostgreSQL.

pub mod baseline;
pub mod certs;
pub mod client;
pub mod connection;
pub mod goals;
pub mod measure;
pub mod options;
pub mod pacer;
pub mod postgres;
pub mod process;
pub mod report;
pub mod run;
pub mod scenario;
pub mod scram;
pub mod server;
pub mod stats;
pub mod wire;
