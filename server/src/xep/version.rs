//! XEP-0092: Software Version

use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::ns;
use eider_xmpp::payload::version;

use crate::config::Feature;
use crate::xep::{Access, Handler, Route, Spec, Status, Target};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 92,
    name: "Software Version",
    version: "1.1",
    status: Status::Complete,
    note: "the operating system is not told",
    features: &[(Target::Server, ns::VERSION)],
    switch: Some(Feature::Version),
};

/// The software's name.
pub const NAME: &str = "Eider";

/// The version of the server.
pub fn routes() -> Vec<Route> {
    vec![Route {
        target: Target::Server,
        ns: ns::VERSION,
        name: "query",
        access: Access::Anyone,
        switch: Some(Feature::Version),
        handler: Handler::at_once(|request| {
            if request.set {
                return Err(StanzaError::new(StanzaCondition::NotAllowed));
            }
            Ok(Some(version::result(NAME, env!("CARGO_PKG_VERSION"), None)))
        }),
    }]
}
