//! RFC 3921 §3: the session request of old clients, answered and without effect.

use eider_xmpp::ns;

use crate::xep::{Access, Route, Target};

/// Asked of the server, or without an address.
pub fn routes() -> Vec<Route> {
    [Target::Server, Target::Account]
        .map(|target| Route {
            target,
            ns: ns::SESSION,
            name: "session",
            access: Access::Own,
            switch: None,
            handler: Box::new(|_| Box::pin(std::future::ready(Ok(None)))),
        })
        .into()
}
