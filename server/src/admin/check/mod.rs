//! `eider check`: everything that can be wrong before users notice, one file per area. Each kind of finding
//! is declared once; the troubleshooting page is made from the same declarations.

pub mod certificates;
pub mod configuration;
pub mod database;
pub mod dns;
pub mod finding;
mod handshake;
pub mod listeners;
pub mod page;
pub mod system;

pub use finding::{Finding, Kind, Severity, Symptom};

/// Every kind of finding, area by area.
pub fn kinds() -> Vec<&'static Kind> {
    [
        configuration::KINDS,
        listeners::KINDS,
        certificates::KINDS,
        dns::KINDS,
        database::KINDS,
        system::KINDS,
    ]
    .concat()
}
