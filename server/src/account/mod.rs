//! Local users: who they are, what they are owed, who may see them.

pub mod contacts;
pub mod delivery;
pub mod facts;
pub mod ledger;
pub mod message;
pub mod presence;
pub mod presence_rules;
pub mod resends;
pub mod roster;
pub mod stanza_ids;
pub mod subscription;
pub mod writer;
