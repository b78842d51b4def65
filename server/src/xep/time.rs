//! XEP-0202: Entity Time

use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;
use eider_xmpp::payload::time;

use crate::config::Feature;
use crate::xep::{Access, Handler, Route, Spec, Status, Target};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 202,
    name: "Entity Time",
    version: "2.0",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, ns::TIME)],
    switch: Some(Feature::Time),
};

/// The time of the server.
pub fn routes() -> Vec<Route> {
    vec![Route {
        target: Target::Server,
        ns: ns::TIME,
        name: "time",
        access: Access::Anyone,
        switch: Some(Feature::Time),
        handler: Handler::at_once(|request| {
            if request.set {
                return Err(StanzaError::new(StanzaCondition::NotAllowed));
            }
            Ok(Some(time::result(crate::clock::timestamp().0)))
        }),
    }]
}
