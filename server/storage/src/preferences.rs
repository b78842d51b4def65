//! What a user sets: archive preferences (XEP-0441), block list (XEP-0191), private XML (XEP-0049), vCard (XEP-0054).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{AccountId, Error, Fence};

/// XEP-0441 §2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveDefault {
    #[default]
    Always,
    Never,
    Roster,
}

/// A user's archive preferences.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ArchivePreferences {
    pub default: ArchiveDefault,
    #[serde(default)]
    pub always: Vec<String>,
    #[serde(default)]
    pub never: Vec<String>,
}

/// Blocked JIDs (XEP-0191), in order of JID, under a version that every change raises.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockList {
    pub version: i64,
    pub jids: Vec<String>,
}

/// A stored vCard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VCard {
    /// The `vCard` element.
    pub xml: String,
    /// Lower-case hexadecimal SHA-1 of the photo (XEP-0153); empty: no photo.
    pub photo_hash: String,
}

/// What a user sets.
#[async_trait]
pub trait Preferences {
    /// Writes the archive preferences; they are read with the account.
    async fn archive_preferences_set(
        &self,
        fence: Fence,
        account: AccountId,
        preferences: &ArchivePreferences,
    ) -> Result<(), Error>;

    /// The block list.
    async fn blocking_list(&self, account: AccountId) -> Result<BlockList, Error>;

    /// Adds JIDs; answers the new list. `Conflict` where it would exceed `blocked_max` or the account is gone.
    async fn blocking_add(
        &self,
        fence: Fence,
        account: AccountId,
        jids: &[String],
        blocked_max: u32,
    ) -> Result<BlockList, Error>;

    /// Removes JIDs, or all with `None`; answers the new list.
    async fn blocking_remove(
        &self,
        fence: Fence,
        account: AccountId,
        jids: Option<&[String]>,
    ) -> Result<BlockList, Error>;

    /// Private XML under its element's namespace and name.
    async fn private_get(
        &self,
        account: AccountId,
        namespace: &str,
        name: &str,
    ) -> Result<Option<String>, Error>;

    /// Replaces private XML. `Full` where all of the account, with the names it is stored under, would come to more
    /// than `bytes_max` and more than before.
    async fn private_set(
        &self,
        fence: Fence,
        account: AccountId,
        namespace: &str,
        name: &str,
        xml: &str,
        bytes_max: u64,
    ) -> Result<(), Error>;

    /// The vCard.
    async fn vcard_get(&self, account: AccountId) -> Result<Option<VCard>, Error>;

    /// Replaces the vCard; `None` removes it.
    async fn vcard_set(
        &self,
        fence: Fence,
        account: AccountId,
        vcard: Option<&VCard>,
    ) -> Result<(), Error>;
}
