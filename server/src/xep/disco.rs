//! XEP-0030: Service Discovery, with XEP-0128 and XEP-0157

use std::sync::Arc;

use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;
use eider_xmpp::payload::caps::{Caps, Hash};
use eider_xmpp::payload::data_forms::{Field, FieldKind, Form, FormKind};
use eider_xmpp::payload::disco::{Identity, Info, Item, items};

use crate::config::{Config, Feature, Host};
use crate::pubsub::{ACCOUNT_IDENTITY, Audience};
use crate::xep::commands::Commands;
use crate::xep::pep::Pep;
use crate::xep::pep::audience::Accounts;
use crate::xep::{
    Access, Answer, Request, Route, Spec, Status, Target, features, handler, storage_error,
};
use crate::xep::{result_sets, version};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 30,
    name: "Service Discovery",
    version: "2.5.0",
    status: Status::Complete,
    note: "",
    features: &[
        (Target::Server, ns::DISCO_INFO),
        (Target::Server, ns::DISCO_ITEMS),
        (Target::Account, ns::DISCO_INFO),
        (Target::Account, ns::DISCO_ITEMS),
    ],
    switch: None,
};

/// XEP-0128.
pub const EXTENSIONS_SPEC: Spec = Spec {
    number: 128,
    name: "Service Discovery Extensions",
    version: "1.0.1",
    status: Status::Complete,
    note: "",
    features: &[],
    switch: None,
};

/// XEP-0157.
pub const CONTACT_SPEC: Spec = Spec {
    number: 157,
    name: "Contact Addresses for XMPP Services",
    version: "1.1.1",
    status: Status::Complete,
    note: "",
    features: &[],
    switch: None,
};

/// XEP-0232.
pub const SOFTWARE_SPEC: Spec = Spec {
    number: 232,
    name: "Software Information",
    version: "0.3",
    status: Status::Partial,
    note: "name and version of the server, no icon, no operating system",
    features: &[],
    switch: Some(Feature::Version),
};

/// The `node` of our own capabilities (XEP-0115 §4): names the software.
pub const CAPS_NODE: &str = "urn:eider";

/// Answers what hosts and accounts are.
pub struct Disco {
    /// Nodes of accounts.
    pub pep: Arc<Pep>,
    /// Who may ask accounts.
    pub accounts: Arc<Accounts>,
    /// Commands of hosts.
    pub commands: Arc<Commands>,
}

/// What a host says of itself.
pub fn host_info(config: &Config, host: &Host) -> Info {
    Info {
        node: None,
        identities: vec![Identity::new("server", "im").named("Eider")],
        features: features(config, host, Target::Server)
            .into_iter()
            .map(Into::into)
            .collect(),
        forms: contacts(host).into_iter().chain(software(host)).collect(),
    }
}

/// The host's capabilities, for stream features (XEP-0115 §6.3).
pub fn host_caps(config: &Config, host: &Host) -> Option<Element> {
    let caps = Caps::new(CAPS_NODE, Hash::Sha1, &host_info(config, host)).ok()?;
    Some(caps.to_element())
}

/// What an account says of itself (XEP-0163 §6.1).
fn account_info(config: &Config, host: &Host) -> Info {
    let mut identities = vec![Identity::new("account", "registered")];
    if host.has(Feature::Pep) {
        identities.push(Identity::new(ACCOUNT_IDENTITY.0, ACCOUNT_IDENTITY.1));
    }
    Info {
        node: None,
        identities,
        features: features(config, host, Target::Account)
            .into_iter()
            .map(Into::into)
            .collect(),
        forms: Vec::new(),
    }
}

/// XEP-0157 §3: the addresses that the configuration names.
fn contacts(host: &Host) -> Option<Form> {
    let contact = &host.contact;
    let fields = [
        ("abuse-addresses", &contact.abuse),
        ("admin-addresses", &contact.admin),
        ("feedback-addresses", &contact.feedback),
        ("sales-addresses", &contact.sales),
        ("security-addresses", &contact.security),
        ("status-addresses", &contact.status),
        ("support-addresses", &contact.support),
    ];
    let mut form = Form::typed(FormKind::Result, ns::SERVER_INFO);
    for (var, addresses) in fields {
        if !addresses.is_empty() {
            form = form.with(Field::new(var, FieldKind::ListMulti).values(addresses.clone()));
        }
    }
    (form.fields.len() > 1).then_some(form)
}

/// XEP-0232 §3: what the software is, where it may be told.
fn software(host: &Host) -> Option<Form> {
    let field = |var, value: &str| Field::new(var, FieldKind::TextSingle).value(value);
    let form = Form::typed(FormKind::Result, ns::SOFTWARE_INFO)
        .with(field("software", version::NAME))
        .with(field("software_version", env!("CARGO_PKG_VERSION")));
    host.has(Feature::Version).then_some(form)
}

impl Disco {
    /// Both namespaces, for hosts and accounts.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        let mut routes = Vec::new();
        for target in [Target::Server, Target::Account] {
            for namespace in [ns::DISCO_INFO, ns::DISCO_ITEMS] {
                routes.push(Route {
                    target,
                    ns: namespace,
                    name: "query",
                    access: Access::Anyone,
                    switch: None,
                    handler: handler(self, move |this, request| async move {
                        this.answer(target, &request).await
                    }),
                });
            }
        }
        routes
    }

    async fn answer(&self, target: Target, request: &Request) -> Answer {
        if request.set {
            return Err(StanzaError::new(StanzaCondition::BadRequest));
        }
        let is_info = request.payload.ns() == ns::DISCO_INFO;
        match (target, is_info) {
            (Target::Server, true) => self.host_info(request).map(Some),
            (Target::Server, false) => result_sets::page(self.host_items(request)?, request),
            (Target::Account, true) => self.account_info(request).await.map(Some),
            (Target::Account, false) => self.account_items(request).await,
        }
    }

    fn host_info(&self, request: &Request) -> Result<Element, StanzaError> {
        let info = host_info(&request.config, request.host());
        let Some(node) = request.payload.attr("node") else {
            return Ok(info.to_element());
        };
        let own = Caps::new(CAPS_NODE, Hash::Sha1, &info).ok();
        if own.is_some_and(|caps| caps.disco_node() == node) {
            return Ok(Info {
                node: Some(node.to_owned()),
                ..info
            }
            .to_element());
        }
        self.commands
            .info(request, node)
            .map(|info| info.to_element())
            .ok_or_else(|| StanzaError::new(StanzaCondition::ItemNotFound))
    }

    fn host_items(&self, request: &Request) -> Result<Element, StanzaError> {
        match request.payload.attr("node") {
            None => Ok(items(None, [])),
            Some(ns::COMMANDS) => Ok(items(Some(ns::COMMANDS), self.commands.items(request))),
            Some(_) => Err(StanzaError::new(StanzaCondition::ItemNotFound)),
        }
    }

    /// XEP-0030 §8: what concerns an account is told to who may see its presence.
    async fn may_ask(&self, request: &Request) -> Result<bool, StanzaError> {
        if request.is_own() {
            return Ok(true);
        }
        let contact = self
            .accounts
            .contact(&request.to, &request.from.bare())
            .await;
        let contact = contact.map_err(|error| storage_error(&error))?;
        Ok(contact.sees_presence && !contact.blocked)
    }

    async fn account_info(&self, request: &Request) -> Result<Element, StanzaError> {
        if !self.may_ask(request).await? {
            return Err(StanzaError::new(StanzaCondition::ServiceUnavailable));
        }
        match request.payload.attr("node") {
            None => Ok(account_info(&request.config, request.host()).to_element()),
            Some(_) if request.host().has(Feature::Pep) => self.pep.disco(request).await,
            Some(_) => Err(StanzaError::new(StanzaCondition::ItemNotFound)),
        }
    }

    /// Pubsub nodes that the asker may see; for the account's friends its available resources too.
    async fn account_items(&self, request: &Request) -> Answer {
        let has_pep = request.host().has(Feature::Pep);
        if request.payload.attr("node").is_some() {
            return match has_pep {
                true => self.pep.disco(request).await.map(Some),
                false => Err(StanzaError::new(StanzaCondition::ItemNotFound)),
            };
        }
        let mut answer = match has_pep {
            true => self.pep.nodes(request).await?,
            false => items(None, []),
        };
        if self.may_ask(request).await? {
            for resource in self.accounts.available(&request.to, &request.to) {
                answer.push(Item::new(resource).to_element());
            }
        }
        result_sets::page(answer, request)
    }
}
