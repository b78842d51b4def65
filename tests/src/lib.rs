//! Real servers, real clients, protocol scripts, load and loss.
