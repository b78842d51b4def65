//! XEP-0054: vcard-temp

use std::sync::Arc;

use eider_storage::{AccountId, Fence, Storage, VCard};
use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;
use eider_xmpp::payload::vcard;

use crate::account::facts::AccountFacts;
use crate::config::Feature;
use crate::xep::avatar::Avatars;
use crate::xep::{Access, Answer, Request, Route, Spec, Status, Target, handler, storage_error};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 54,
    name: "vcard-temp",
    version: "1.3.0",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, ns::VCARD), (Target::Account, ns::VCARD)],
    switch: Some(Feature::Vcard),
};

/// vCards of accounts.
pub struct VCards {
    /// Where they are kept.
    pub storage: Arc<dyn Storage>,
    /// Who exists.
    pub facts: Arc<AccountFacts>,
    /// Their photos.
    pub avatars: Arc<Avatars>,
    /// Says on whose behalf is written.
    pub fence: Fence,
}

impl VCards {
    /// Reading and writing.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        vec![Route {
            target: Target::Account,
            ns: ns::VCARD,
            name: "vCard",
            access: Access::Anyone,
            switch: Some(Feature::Vcard),
            handler: handler(
                self,
                |this, request| async move { this.answer(&request).await },
            ),
        }]
    }

    async fn answer(&self, request: &Request) -> Answer {
        if request.set && !request.is_own() {
            return Err(StanzaError::new(StanzaCondition::Forbidden));
        }
        // §3.3: no account and no vCard look the same to others.
        let absent = if request.is_own() {
            StanzaCondition::ItemNotFound
        } else {
            StanzaCondition::ServiceUnavailable
        };
        let facts = self
            .facts
            .load(&request.to)
            .await
            .map_err(|error| storage_error(&error))?;
        let facts = facts.ok_or_else(|| StanzaError::new(StanzaCondition::ServiceUnavailable))?;
        if request.set {
            self.set(request, facts.id).await?;
            return Ok(None);
        }
        let found = self.storage.vcard_get(facts.id).await;
        let found = found.map_err(|error| storage_error(&error))?;
        let read = found.and_then(|found| Element::parse_stored(found.xml).ok());
        read.map(Some).ok_or_else(|| StanzaError::new(absent))
    }

    async fn set(&self, request: &Request, account: AccountId) -> Result<(), StanzaError> {
        let xml = request.payload.to_xml();
        if xml.len() > request.config.limits.vcard_bytes as usize {
            return Err(StanzaError::over("vcard_bytes"));
        }
        let photo = vcard::photo(&request.payload);
        let photo_hash = photo.as_ref().map(Avatars::hash).unwrap_or_default();
        let written = VCard {
            xml,
            photo_hash: photo_hash.clone(),
        };
        let set = self
            .storage
            .vcard_set(self.fence, account, Some(&written))
            .await;
        set.map_err(|error| storage_error(&error))?;
        self.avatars
            .vcard_written(request, account, photo.as_ref(), &photo_hash)
            .await;
        Ok(())
    }
}
