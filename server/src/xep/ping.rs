//! XEP-0199: XMPP Ping

use eider_xmpp::ns;

use crate::config::Feature;
use crate::xep::{Access, Handler, Route, Spec, Status, Target};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 199,
    name: "XMPP Ping",
    version: "2.0.1",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, ns::PING), (Target::Account, ns::PING)],
    switch: Some(Feature::Ping),
};

/// Pings to the server, and to one's own account (XEP-0199 §4.1, §4.2).
pub fn routes() -> Vec<Route> {
    [Target::Server, Target::Account]
        .map(|target| Route {
            target,
            ns: ns::PING,
            name: "ping",
            access: Access::Own,
            switch: Some(Feature::Ping),
            handler: Handler::Empty,
        })
        .into()
}
