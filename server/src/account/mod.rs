//! RFC 6121: the account: delivery, presence, roster, subscriptions.

pub mod subscription;
