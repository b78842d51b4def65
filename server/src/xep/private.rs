//! XEP-0049: Private XML Storage

use std::sync::Arc;

use eider_storage::{Fence, Storage};
use eider_xmpp::element::Element;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;
use eider_xmpp::payload::private::{self, Error};

use crate::config::Feature;
use crate::xep::{Access, Answer, Request, Route, Spec, Status, Target, handler, storage_error};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 49,
    name: "Private XML Storage",
    version: "1.2",
    status: Status::Complete,
    note: "",
    features: &[
        (Target::Server, ns::PRIVATE),
        (Target::Account, ns::PRIVATE),
    ],
    switch: Some(Feature::Private),
};

/// Storage of an account's own XML.
pub fn routes(storage: &Arc<dyn Storage>, fence: Fence) -> Vec<Route> {
    vec![Route {
        target: Target::Account,
        ns: ns::PRIVATE,
        name: "query",
        access: Access::Own,
        switch: Some(Feature::Private),
        handler: handler(storage, move |storage, request| async move {
            answer(storage.as_ref(), fence, &request).await
        }),
    }]
}

fn refusal(error: Error) -> StanzaError {
    let condition = match error {
        Error::Empty => StanzaCondition::BadRequest,
        Error::Several | Error::Reserved => StanzaCondition::NotAcceptable,
    };
    StanzaError::new(condition).text(error.to_string())
}

async fn answer(storage: &dyn Storage, fence: Fence, request: &Request) -> Answer {
    let account = request.own_session()?.account;
    let account = account.ok_or_else(|| StanzaError::new(StanzaCondition::ServiceUnavailable))?;
    let elements = private::parse(&request.payload, request.set).map_err(refusal)?;
    if request.set {
        let bytes_max = request.config.limits.private_bytes.into();
        for element in elements {
            let (namespace, name, xml) = (element.ns(), element.name(), element.to_xml());
            let set = storage
                .private_set(fence, account, namespace, name, &xml, bytes_max)
                .await;
            set.map_err(|error| match error {
                eider_storage::Error::Full(_) => StanzaError::over("private_bytes"),
                other => storage_error(&other),
            })?;
        }
        return Ok(None);
    }
    let asked = elements[0];
    let stored = storage.private_get(account, asked.ns(), asked.name()).await;
    let stored = stored.map_err(|error| storage_error(&error))?;
    let element = stored.and_then(|xml| Element::parse_stored(xml).ok());
    let empty = || Element::new(asked.name().to_owned(), asked.ns().to_owned());
    Ok(Some(private::result(element.unwrap_or_else(empty))))
}
