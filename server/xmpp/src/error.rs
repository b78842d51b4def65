//! RFC 6120 §4.9 and §8.3: stream and stanza errors as enums

use std::borrow::Cow;
use std::fmt;

use crate::element::Element;
use crate::jid::Jid;
use crate::ns;

macro_rules! conditions {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $(#[doc = concat!("`<", $text, "/>`")] $variant,)*
        }

        impl $name {
            /// Every value, in the order of the specification.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// The value with this name on the wire.
            pub fn from_name(name: &str) -> Option<$name> {
                match name { $($text => Some($name::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

conditions! {
    /// RFC 6120 §8.3.3: defined stanza error conditions.
    StanzaCondition {
        BadRequest = "bad-request",
        Conflict = "conflict",
        FeatureNotImplemented = "feature-not-implemented",
        Forbidden = "forbidden",
        Gone = "gone",
        InternalServerError = "internal-server-error",
        ItemNotFound = "item-not-found",
        JidMalformed = "jid-malformed",
        NotAcceptable = "not-acceptable",
        NotAllowed = "not-allowed",
        NotAuthorized = "not-authorized",
        PolicyViolation = "policy-violation",
        RecipientUnavailable = "recipient-unavailable",
        Redirect = "redirect",
        RegistrationRequired = "registration-required",
        RemoteServerNotFound = "remote-server-not-found",
        RemoteServerTimeout = "remote-server-timeout",
        ResourceConstraint = "resource-constraint",
        ServiceUnavailable = "service-unavailable",
        SubscriptionRequired = "subscription-required",
        UndefinedCondition = "undefined-condition",
        UnexpectedRequest = "unexpected-request",
    }
}

conditions! {
    /// RFC 6120 §8.3.2: what the sender may do about it.
    ErrorType {
        Auth = "auth",
        Cancel = "cancel",
        Continue = "continue",
        Modify = "modify",
        Wait = "wait",
    }
}

conditions! {
    /// RFC 6120 §4.9.3: defined stream error conditions.
    StreamCondition {
        BadFormat = "bad-format",
        BadNamespacePrefix = "bad-namespace-prefix",
        Conflict = "conflict",
        ConnectionTimeout = "connection-timeout",
        HostGone = "host-gone",
        HostUnknown = "host-unknown",
        ImproperAddressing = "improper-addressing",
        InternalServerError = "internal-server-error",
        InvalidFrom = "invalid-from",
        InvalidNamespace = "invalid-namespace",
        InvalidXml = "invalid-xml",
        NotAuthorized = "not-authorized",
        NotWellFormed = "not-well-formed",
        PolicyViolation = "policy-violation",
        RemoteConnectionFailed = "remote-connection-failed",
        Reset = "reset",
        ResourceConstraint = "resource-constraint",
        RestrictedXml = "restricted-xml",
        SeeOtherHost = "see-other-host",
        SystemShutdown = "system-shutdown",
        UndefinedCondition = "undefined-condition",
        UnsupportedEncoding = "unsupported-encoding",
        UnsupportedFeature = "unsupported-feature",
        UnsupportedStanzaType = "unsupported-stanza-type",
        UnsupportedVersion = "unsupported-version",
    }
}

impl StanzaCondition {
    /// The error type that RFC 6120 §8.3.3 names for the condition; where it leaves a choice,
    /// the first one that it lists.
    pub const fn default_type(self) -> ErrorType {
        use StanzaCondition as C;
        match self {
            C::BadRequest | C::JidMalformed | C::NotAcceptable | C::PolicyViolation => {
                ErrorType::Modify
            }
            C::Redirect => ErrorType::Modify,
            C::Forbidden | C::NotAuthorized | C::RegistrationRequired => ErrorType::Auth,
            C::SubscriptionRequired => ErrorType::Auth,
            C::RecipientUnavailable | C::RemoteServerTimeout | C::ResourceConstraint => {
                ErrorType::Wait
            }
            C::UnexpectedRequest => ErrorType::Wait,
            C::Conflict
            | C::FeatureNotImplemented
            | C::Gone
            | C::InternalServerError
            | C::ItemNotFound
            | C::NotAllowed
            | C::RemoteServerNotFound
            | C::ServiceUnavailable
            | C::UndefinedCondition => ErrorType::Cancel,
        }
    }
}

/// RFC 6120 §8.3: the content of a stanza of type `error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// What the sender may do about it.
    pub kind: ErrorType,
    /// The defined condition.
    pub condition: StanzaCondition,
    /// Human-readable English.
    pub text: Option<String>,
    /// Who detected the error, where that is not the `from` of the stanza (RFC 6120 §8.3.1).
    pub by: Option<Jid>,
    /// An element in an application's namespace beside the defined condition.
    pub application: Option<Box<Element>>,
    /// The limit that refused, for who counts refusals; never sent.
    pub limit: Option<&'static str>,
}

impl StanzaError {
    /// An error of the condition's default type.
    pub fn new(condition: StanzaCondition) -> StanzaError {
        StanzaError {
            kind: condition.default_type(),
            condition,
            text: None,
            by: None,
            application: None,
            limit: None,
        }
    }

    /// A limit refuses: `resource-constraint`.
    pub fn over(limit: &'static str) -> StanzaError {
        StanzaError::new(StanzaCondition::ResourceConstraint).limit(limit)
    }

    /// Names the limit that refuses.
    pub fn limit(mut self, limit: &'static str) -> StanzaError {
        self.limit = Some(limit);
        self
    }

    /// Replaces the type.
    pub fn kind(mut self, kind: ErrorType) -> StanzaError {
        self.kind = kind;
        self
    }

    /// Adds human-readable English.
    pub fn text(mut self, text: impl Into<String>) -> StanzaError {
        self.text = Some(text.into());
        self
    }

    /// Says who detected the error.
    pub fn by(mut self, by: Jid) -> StanzaError {
        self.by = Some(by);
        self
    }

    /// Adds the application's own condition.
    pub fn application(mut self, element: Element) -> StanzaError {
        self.application = Some(Box::new(element));
        self
    }

    /// The `<error/>` element in the content namespace.
    pub fn to_element(&self) -> Element {
        let mut error = Element::new("error", ns::CLIENT).with_attr("type", self.kind.as_str());
        if let Some(by) = &self.by {
            error.set_attr("by", by.as_str());
        }
        error.push(Element::new(self.condition.as_str(), ns::STANZA_ERRORS));
        if let Some(text) = &self.text {
            let element = Element::new("text", ns::STANZA_ERRORS).with_attr("xml:lang", "en");
            error.push(element.with_text(text.as_str()));
        }
        error.with_children(self.application.as_deref().cloned())
    }

    /// Reads an `<error/>`. An unknown type reads as `cancel`, an unknown or absent condition as
    /// `undefined-condition`, as RFC 6120 §8.3.2 asks of those who do not understand one.
    pub fn from_element(error: &Element) -> StanzaError {
        let mut read = StanzaError::new(StanzaCondition::UndefinedCondition);
        for child in error.children() {
            if child.ns() != ns::STANZA_ERRORS {
                read.application
                    .get_or_insert_with(|| Box::new(child.clone()));
            } else if child.name() == "text" {
                read.text = Some(child.text());
            } else if let Some(condition) = StanzaCondition::from_name(child.name()) {
                read.condition = condition;
            }
        }
        read.kind = error
            .attr("type")
            .and_then(ErrorType::from_name)
            .unwrap_or(ErrorType::Cancel);
        read.by = error.attr("by").and_then(|by| Jid::parse(by).ok());
        read
    }
}

impl From<StanzaCondition> for StanzaError {
    fn from(condition: StanzaCondition) -> StanzaError {
        StanzaError::new(condition)
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.condition, self.kind)?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StanzaError {}

/// RFC 6120 §4.9: an error that ends the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{condition}{}{}", if text.is_some() { ": " } else { "" }, text.as_deref().unwrap_or(""))]
pub struct StreamError {
    /// The defined condition.
    pub condition: StreamCondition,
    /// Human-readable English.
    pub text: Option<Cow<'static, str>>,
    /// An element in an application's namespace beside the defined condition.
    pub application: Option<Box<Element>>,
    /// The limit that was passed, for who counts refusals; never sent.
    pub limit: Option<&'static str>,
}

impl StreamError {
    /// An error without text.
    pub fn new(condition: StreamCondition) -> StreamError {
        StreamError {
            condition,
            text: None,
            application: None,
            limit: None,
        }
    }

    /// Names the limit that was passed.
    pub fn limit(mut self, limit: &'static str) -> StreamError {
        self.limit = Some(limit);
        self
    }

    /// An error with human-readable English.
    pub fn with_text(
        condition: StreamCondition,
        text: impl Into<Cow<'static, str>>,
    ) -> StreamError {
        StreamError {
            condition,
            text: Some(text.into()),
            application: None,
            limit: None,
        }
    }
}

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> StreamError {
        StreamError::new(condition)
    }
}
