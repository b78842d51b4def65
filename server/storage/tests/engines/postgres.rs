//! The conformance suite on PostgreSQL.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::conformance::Bench;
use crate::server::Postgres;
use eider_storage::{Config, PostgresConfig};

/// One server for all cases, each in a database of its own.
fn shared() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        Postgres::start(&["fsync=off", "max_connections=300"]).expect("PostgreSQL starts")
    })
}

pub async fn start() -> (Bench, ()) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("bench{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let url = shared().database(&name).expect("a database can be made");
    let config = Config::Postgres(PostgresConfig::new(url));
    let storage = eider_storage::open(&config)
        .await
        .expect("PostgreSQL opens");
    (Bench { storage, config }, ())
}

crate::conformance!(crate::postgres::start);
