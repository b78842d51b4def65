//! RFC 6120 §4.3.2: the stream features before and after login

use eider_xmpp::element::Element;
use eider_xmpp::ns;
use eider_xmpp::sasl::{BindingKind, ChannelBindings, Mechanism, ScramHash};

use crate::config::{self, Config, Feature, Host};

/// What is offered before TLS: TLS, required.
pub fn before_tls() -> String {
    let starttls = Element::new("starttls", ns::TLS).with_child(Element::new("required", ns::TLS));
    wrap([starttls], "")
}

/// The mechanisms for a stream, strongest first, and the channel binding types.
#[derive(Debug, Clone)]
pub struct Offer {
    pub mechanisms: Vec<Mechanism>,
    pub bindings: Vec<BindingKind>,
}

impl Offer {
    /// `external`: the client's certificate names an account of the host.
    pub fn new(config: &Config, host: &Host, bindings: &ChannelBindings, external: bool) -> Self {
        let mut mechanisms = Vec::new();
        if host.external && external {
            mechanisms.push(Mechanism::External);
        }
        let scram = |plus| {
            let hashes = config
                .login
                .mechanisms
                .iter()
                .map(|mechanism| match mechanism {
                    config::Mechanism::ScramSha512 => ScramHash::Sha512,
                    config::Mechanism::ScramSha256 => ScramHash::Sha256,
                    config::Mechanism::ScramSha1 => ScramHash::Sha1,
                });
            hashes.map(move |hash| Mechanism::Scram { hash, plus })
        };
        let bindings: Vec<_> = bindings.kinds().collect();
        if !bindings.is_empty() {
            mechanisms.extend(scram(true));
        }
        mechanisms.extend(scram(false));
        if config.login.plain {
            mechanisms.push(Mechanism::Plain);
        }
        if host.anonymous {
            mechanisms.push(Mechanism::Anonymous);
        }
        let any_plus = mechanisms.iter().any(|mechanism| mechanism.is_plus());
        Offer {
            mechanisms,
            bindings: if any_plus { bindings } else { Vec::new() },
        }
    }

    /// Whether any mechanism with channel binding is offered.
    pub fn has_plus(&self) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism.is_plus())
    }
}

/// What is offered between TLS and login.
pub fn before_login(offer: &Offer, config: &Config, register: bool) -> String {
    let names = offer
        .mechanisms
        .iter()
        .map(|m| Element::new("mechanism", ns::SASL).with_text(m.as_str()));
    let mut features = vec![Element::new("mechanisms", ns::SASL).with_children(names)];
    if !offer.bindings.is_empty() {
        let kinds = offer.bindings.iter().map(|kind| {
            Element::new("channel-binding", ns::SASL_CHANNEL_BINDING)
                .with_attr("type", kind.as_str())
        });
        let bindings = Element::new("sasl-channel-binding", ns::SASL_CHANNEL_BINDING);
        features.push(bindings.with_children(kinds));
    }
    if register {
        features.push(Element::new("register", ns::REGISTER_FEATURE));
    }
    features.push(limits(config.limits.stanza_bytes_before_login, None));
    wrap(features, "")
}

/// What is offered after login; `more` is XML of others.
pub fn after_login(config: &Config, host: &Host, more: &str) -> String {
    let optional = |name, ns| Element::new(name, ns).with_child(Element::new("optional", ns));
    let mut features = vec![
        Element::new("bind", ns::BIND),
        optional("session", ns::SESSION),
    ];
    if host.has(Feature::StreamManagement) {
        features.push(Element::new("sm", ns::SM));
    }
    if host.has(Feature::Roster) {
        features.push(Element::new("ver", ns::ROSTER_VERSIONING));
        features.push(Element::new("sub", ns::PRE_APPROVAL));
    }
    if host.has(Feature::ClientState) {
        features.push(Element::new("csi", ns::CSI));
    }
    let idle = config.keepalive.interval_seconds;
    features.push(limits(
        config.limits.stanza_bytes,
        (idle != 0).then_some(idle),
    ));
    wrap(features, more)
}

/// XEP-0478 §3.1.
fn limits(max_bytes: u32, idle_seconds: Option<u32>) -> Element {
    let child =
        |name, value: u32| Element::new(name, ns::STREAM_LIMITS).with_text(value.to_string());
    let mut limits =
        Element::new("limits", ns::STREAM_LIMITS).with_child(child("max-bytes", max_bytes));
    if let Some(seconds) = idle_seconds {
        limits.push(child("idle-seconds", seconds));
    }
    limits
}

fn wrap(features: impl IntoIterator<Item = Element>, more: &str) -> String {
    let mut out = String::from("<stream:features>");
    for feature in features {
        feature.write(&mut out, ns::CLIENT);
    }
    out.push_str(more);
    out.push_str("</stream:features>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(offer: &Offer) -> Vec<&'static str> {
        offer
            .mechanisms
            .iter()
            .map(|mechanism| mechanism.as_str())
            .collect()
    }

    #[test]
    fn mechanisms_follow_configuration_host_and_tls() {
        let mut config = Config::default();
        let mut host = Host::named("localhost");
        let tls_1_3 = ChannelBindings {
            tls_exporter: Some([0; 32]),
            tls_server_end_point: Some(vec![0; 32]),
        };
        let full = Offer::new(&config, &host, &tls_1_3, true);
        assert_eq!(
            names(&full),
            [
                "SCRAM-SHA-512-PLUS",
                "SCRAM-SHA-256-PLUS",
                "SCRAM-SHA-1-PLUS",
                "SCRAM-SHA-512",
                "SCRAM-SHA-256",
                "SCRAM-SHA-1",
                "PLAIN"
            ]
        );
        assert_eq!(full.bindings.len(), 2);

        config.login.plain = false;
        config.login.mechanisms = vec![config::Mechanism::ScramSha256];
        (host.anonymous, host.external) = (true, true);
        let none = Offer::new(&config, &host, &ChannelBindings::default(), true);
        assert_eq!(names(&none), ["EXTERNAL", "SCRAM-SHA-256", "ANONYMOUS"]);
        assert!(none.bindings.is_empty() && !none.has_plus());
        let no_certificate = Offer::new(&config, &host, &ChannelBindings::default(), false);
        assert_eq!(names(&no_certificate), ["SCRAM-SHA-256", "ANONYMOUS"]);
    }

    #[test]
    fn features_are_switched_off_per_host() {
        let config = Config::default();
        let mut host = Host::named("localhost");
        let all = after_login(&config, &host, "<c/>");
        for part in [
            "<bind ",
            "<sm ",
            "<ver ",
            "<sub ",
            "<csi ",
            "<max-bytes>262144<",
            "<c/>",
        ] {
            assert!(all.contains(part), "{part} is not in {all}");
        }
        host.features_off = vec![
            Feature::StreamManagement,
            Feature::Roster,
            Feature::ClientState,
        ];
        let few = after_login(&config, &host, "");
        for part in ["<sm ", "<ver ", "<sub ", "<csi "] {
            assert!(!few.contains(part), "{part} is in {few}");
        }
    }
}
