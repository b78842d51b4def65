//! RFC 3921 §3: the session request of old clients, answered and without effect; RFC 6120 §7.6.2.2: a second bind, refused.

use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;

use crate::xep::{Access, Handler, Route, Target};

/// Asked of the server, or without an address.
pub fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    for target in [Target::Server, Target::Account] {
        routes.push(route(target, ns::SESSION, "session", None));
        routes.push(route(
            target,
            ns::BIND,
            "bind",
            Some(StanzaCondition::NotAllowed),
        ));
    }
    routes
}

fn route(
    target: Target,
    ns: &'static str,
    name: &'static str,
    refusal: Option<StanzaCondition>,
) -> Route {
    Route {
        target,
        ns,
        name,
        access: Access::Own,
        switch: None,
        handler: match refusal {
            Some(condition) => Handler::at_once(move |_| Err(StanzaError::new(condition))),
            None => Handler::Empty,
        },
    }
}
