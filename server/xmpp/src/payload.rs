//! Payloads: one file per specification
