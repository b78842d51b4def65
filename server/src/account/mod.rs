//! RFC 6121: the account: delivery, presence, roster, subscriptions.

pub mod presence_rules;
pub mod subscription;
