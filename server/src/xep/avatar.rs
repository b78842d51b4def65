//! XEP-0398: User Avatar to vCard-Based Avatars Conversion, between XEP-0084 and XEP-0153

use std::sync::{Arc, Weak};

use aws_lc_rs::digest;
use eider_storage::{AccountId, Fence, Storage, VCard};
use eider_xmpp::element::Element;
use eider_xmpp::jid::BareJid;
use eider_xmpp::ns;
use eider_xmpp::payload::vcard::{self, Photo, Update};
use eider_xmpp::stanza::Stanza;
use futures_util::future::BoxFuture;
use quick_cache::sync::Cache;

use crate::account::presence::{Presence, PresenceStamp};
use crate::config::Feature;
use crate::xep::pep::Pep;
use crate::xep::{Request, Spec, Status, Target};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 398,
    name: "User Avatar to vCard-Based Avatars Conversion",
    version: "1.0.1",
    status: Status::Complete,
    note: "",
    features: &[(Target::Account, ns::PEP_VCARD_CONVERSION)],
    switch: Some(Feature::Vcard),
};

/// XEP-0084, whose nodes the conversion looks at.
pub const AVATAR_SPEC: Spec = Spec {
    number: 84,
    name: "User Avatar",
    version: "1.1.4",
    status: Status::Complete,
    note: "by XEP-0163",
    features: &[],
    switch: Some(Feature::Pep),
};

/// XEP-0153.
pub const UPDATE_SPEC: Spec = Spec {
    number: 153,
    name: "vCard-Based Avatars",
    version: "1.1.1",
    status: Status::Complete,
    note: "the hash is put into presence (XEP-0398)",
    features: &[],
    switch: Some(Feature::Vcard),
};

/// Keeps photos of vCards and avatars of PEP alike, and says their hash in presence.
pub struct Avatars {
    storage: Arc<dyn Storage>,
    pep: Arc<Pep>,
    presence: Weak<Presence>,
    fence: Fence,
    hashes: Cache<AccountId, Arc<str>>,
}

/// What avatars are made of.
pub struct AvatarParts {
    /// vCards.
    pub storage: Arc<dyn Storage>,
    /// Avatars as published.
    pub pep: Arc<Pep>,
    /// Says the presence of an account again when its avatar has changed.
    pub presence: Weak<Presence>,
    /// On whose behalf is written.
    pub fence: Fence,
    /// Accounts whose hashes are held in memory.
    pub entries: usize,
}

impl Avatars {
    /// Over its parts.
    pub fn new(parts: AvatarParts) -> Avatars {
        Avatars {
            storage: parts.storage,
            pep: parts.pep,
            presence: parts.presence,
            fence: parts.fence,
            hashes: Cache::new(parts.entries),
        }
    }

    /// The hash has changed: the account's presence is said again with it, after the answer.
    fn announce(&self, request: &Request) {
        if let Some(presence) = self.presence.upgrade() {
            let account = request.to.clone();
            let again = async move { presence.announce_again(&account).await };
            request.afterwards.set(again);
        }
    }

    /// What presence calls the photo: SHA-1 in lower-case hexadecimal.
    pub fn hash(photo: &Photo) -> String {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &photo.bytes);
        vcard::hex(hash.as_ref())
    }

    /// §3.2: a vCard was written: its photo becomes the account's avatar.
    pub async fn vcard_written(
        &self,
        request: &Request,
        id: AccountId,
        photo: Option<&Photo>,
        hash: &str,
    ) {
        let account = &request.to;
        let before = self.current(id).await;
        if *before == *hash {
            return;
        }
        self.hashes.insert(id, hash.into());
        self.announce(request);
        let Some(photo) = photo else { return };
        let data = Element::new("data", ns::AVATAR_DATA).with_text(vcard::encode(&photo.bytes));
        let info = Element::new("info", ns::AVATAR_METADATA)
            .with_attr("id", hash)
            .with_attr("bytes", photo.bytes.len().to_string())
            .with_attr("type", photo.media_type.as_str());
        let metadata = Element::new("metadata", ns::AVATAR_METADATA).with_child(info);
        for (node, payload) in [(ns::AVATAR_DATA, data), (ns::AVATAR_METADATA, metadata)] {
            let item = Element::new("item", ns::PUBSUB)
                .with_attr("id", hash)
                .with_child(payload);
            let publish = Element::new("publish", ns::PUBSUB)
                .with_attr("node", node)
                .with_child(item);
            let pubsub = Element::new("pubsub", ns::PUBSUB).with_child(publish);
            if let Err(error) = self.pep.publish(account, &pubsub).await {
                tracing::debug!(%account, node, %error, "avatar of the vCard not published");
                return;
            }
        }
    }

    /// A pubsub request was carried out: looks whether it changed the account's avatar.
    pub async fn after(&self, request: &Request) {
        let published = request.payload.child("publish", ns::PUBSUB);
        let concerns = published.is_some_and(|p| p.attr("node") == Some(ns::AVATAR_METADATA));
        let id = request.session.as_ref().and_then(|session| session.account);
        if let Some(id) = id.filter(|_| concerns && request.set && request.is_own()) {
            self.metadata_published(request, id).await;
        }
    }

    /// §3.1: the account published to its avatar's metadata: the avatar becomes its vCard's photo.
    async fn metadata_published(&self, request: &Request, id: AccountId) {
        let account = &request.to;
        let Some(photo) = self.published(account).await else {
            return;
        };
        let hash = photo.as_ref().map(Self::hash).unwrap_or_default();
        if *self.current(id).await == *hash {
            return;
        }
        let stored = match self.storage.vcard_get(id).await {
            Ok(stored) => stored,
            Err(error) => return tracing::warn!(%account, %error, "avatar not kept in the vCard"),
        };
        let card = stored.and_then(|stored| Element::parse_stored(stored.xml).ok());
        let card = vcard::with_photo(card.unwrap_or_else(vcard::empty), photo.as_ref());
        let written = VCard {
            xml: card.to_xml(),
            photo_hash: hash.clone(),
        };
        match self.storage.vcard_set(self.fence, id, Some(&written)).await {
            Ok(()) => {
                self.hashes.insert(id, hash.into());
                self.announce(request);
            }
            Err(error) => tracing::warn!(%account, %error, "avatar not kept in the vCard"),
        }
    }

    /// The avatar as published: `Some(None)` where it was taken away, `None` where it cannot
    /// be read or does not match its hash.
    async fn published(&self, account: &BareJid) -> Option<Option<Photo>> {
        let metadata = self.item(account, ns::AVATAR_METADATA, None).await?;
        let Some(info) = metadata
            .children()
            .find(|info| info.is("info", ns::AVATAR_METADATA) && info.attr("url").is_none())
        else {
            return metadata.first_child().is_none().then_some(None);
        };
        let id = info.attr("id")?;
        let data = self.item(account, ns::AVATAR_DATA, Some(id)).await?;
        let bytes = vcard::decode(&data.text())?;
        let photo = Photo {
            media_type: info.attr("type").unwrap_or_default().to_owned(),
            bytes,
        };
        (Self::hash(&photo) == id).then_some(Some(photo))
    }

    /// The payload of an item, or of the newest one.
    async fn item(&self, account: &BareJid, node: &str, id: Option<&str>) -> Option<Element> {
        let wanted = id.map(|id| Element::new("item", ns::PUBSUB).with_attr("id", id));
        let items = Element::new("items", ns::PUBSUB)
            .with_attr("node", node)
            .with_attr_opt("max_items", id.is_none().then_some("1"))
            .with_children(wanted);
        let pubsub = Element::new("pubsub", ns::PUBSUB).with_child(items);
        let answer = self.pep.items(account, &pubsub).await.ok()??;
        let item = answer.child("items", ns::PUBSUB)?.first_child()?;
        item.first_child().cloned()
    }

    /// The hash of the account's photo; empty for none.
    async fn current(&self, id: AccountId) -> Arc<str> {
        if let Some(hash) = self.hashes.get(&id) {
            return hash;
        }
        let hash: Arc<str> = match self.storage.vcard_get(id).await {
            Ok(card) => card.map(|card| card.photo_hash).unwrap_or_default().into(),
            Err(_) => return "".into(),
        };
        self.hashes.insert(id, hash.clone());
        hash
    }

    /// Available presence of an account with the hash of its photo, unless the client
    /// says that it has none to show.
    async fn stamped(&self, id: AccountId, presence: &Stanza) -> Stanza {
        let said = presence.child("x", ns::VCARD_UPDATE);
        if vcard::parse_update(said.as_ref()) == Update::NoPhoto {
            return presence.clone();
        }
        let hash = self.current(id).await;
        if hash.is_empty() || vcard::parse_update(said.as_ref()) == Update::Hash(hash.to_string()) {
            return presence.clone();
        }
        let update = vcard::update(&hash).into();
        let stale = |child: &eider_xmpp::stanza::Child<'_>| child.is("x", ns::VCARD_UPDATE);
        presence.rewrite().strip(&stale).append(&update).build()
    }
}

impl PresenceStamp for Avatars {
    /// XEP-0398 §4.
    fn stamp<'a>(&'a self, account: AccountId, presence: &'a Stanza) -> BoxFuture<'a, Stanza> {
        Box::pin(self.stamped(account, presence))
    }
}
