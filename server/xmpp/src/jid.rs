//! RFC 7622: XMPP addresses

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

mod prepare;

pub use prepare::{prepare_domain, prepare_localpart, prepare_resource};

/// Most bytes in each part after preparation (RFC 7622 §3).
pub const MAX_PART_BYTES: usize = 1023;

/// Most bytes of a JID: three parts and two separators.
pub const MAX_BYTES: usize = 3 * MAX_PART_BYTES + 2;

/// Why a string is not a JID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JidError {
    /// Nothing before `@`.
    #[error("empty localpart")]
    EmptyLocalpart,
    /// Nothing where the domain belongs.
    #[error("empty domain")]
    EmptyDomain,
    /// Nothing after `/`.
    #[error("empty resource")]
    EmptyResource,
    /// A part of more than [`MAX_PART_BYTES`].
    #[error("part longer than {MAX_PART_BYTES} bytes")]
    TooLong,
    /// Refused by UsernameCaseMapped or by RFC 7622 §3.3.1.
    #[error("localpart with characters that are not allowed")]
    Localpart,
    /// Neither a domain name by IDNA2008 nor an IP literal.
    #[error("invalid domain")]
    Domain,
    /// Refused by OpaqueString.
    #[error("resource with characters that are not allowed")]
    Resource,
    /// A resource where a bare JID is needed.
    #[error("a bare JID has no resource")]
    NotBare,
    /// No resource where a full JID is needed.
    #[error("a full JID has a resource")]
    NotFull,
}

/// No localpart.
const NO_LOCALPART: u16 = u16::MAX;

/// The prepared string with the positions of its separators. The bare JIDs of a full JID share
/// its string, so `text` may go on behind `end` there.
#[derive(Clone)]
struct Repr {
    text: Arc<str>,
    /// Bytes of the localpart, or [`NO_LOCALPART`].
    local: u16,
    /// Bytes of the bare JID.
    bare: u16,
}

impl Repr {
    fn localpart(&self) -> Option<&str> {
        (self.local != NO_LOCALPART).then(|| &self.text[..usize::from(self.local)])
    }

    fn domain(&self) -> &str {
        let start = if self.local == NO_LOCALPART {
            0
        } else {
            usize::from(self.local) + 1
        };
        &self.text[start..usize::from(self.bare)]
    }

    fn bare(&self) -> &str {
        &self.text[..usize::from(self.bare)]
    }

    fn resource(&self) -> Option<&str> {
        self.text.get(usize::from(self.bare) + 1..)
    }
}

/// Any JID, prepared: equal addresses are equal strings. A clone costs one counter.
#[derive(Clone)]
pub struct Jid(Repr);

/// A JID without resource: an account, a room, a domain.
#[derive(Clone)]
pub struct BareJid(Repr);

/// A JID with resource: a session, an occupant.
#[derive(Clone)]
pub struct FullJid(Repr);

impl Jid {
    /// Parses and prepares each part. One allocation where all parts are ASCII.
    pub fn parse(input: &str) -> Result<Jid, JidError> {
        prepare::parse(input).map(Jid)
    }

    /// The localpart, where there is one.
    pub fn localpart(&self) -> Option<&str> {
        self.0.localpart()
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// The resource, where there is one.
    pub fn resource(&self) -> Option<&str> {
        self.0.resource()
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The address without its resource.
    pub fn bare_str(&self) -> &str {
        self.0.bare()
    }

    /// The address without its resource; shares the string.
    pub fn bare(&self) -> BareJid {
        BareJid(self.0.clone())
    }

    /// Whether there is no resource.
    pub fn is_bare(&self) -> bool {
        self.0.text.len() == usize::from(self.0.bare)
    }

    /// This address as a full JID, if it has a resource.
    pub fn to_full(&self) -> Option<FullJid> {
        (!self.is_bare()).then(|| FullJid(self.0.clone()))
    }

    /// This address as a bare JID, if it has no resource.
    pub fn to_bare(&self) -> Option<BareJid> {
        self.is_bare().then(|| BareJid(self.0.clone()))
    }

    /// Whether this is a domain with neither localpart nor resource.
    pub fn is_domain(&self) -> bool {
        self.is_bare() && self.0.local == NO_LOCALPART
    }
}

impl BareJid {
    /// Prepares and joins the parts.
    pub fn new(localpart: Option<&str>, domain: &str) -> Result<BareJid, JidError> {
        prepare::join(localpart, domain, None).map(BareJid)
    }

    /// Parses an address that must have no resource.
    pub fn parse(input: &str) -> Result<BareJid, JidError> {
        Jid::parse(input)?.to_bare().ok_or(JidError::NotBare)
    }

    /// The localpart, where there is one.
    pub fn localpart(&self) -> Option<&str> {
        self.0.localpart()
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.0.bare()
    }

    /// Prepares `resource` and appends it.
    pub fn with_resource(&self, resource: &str) -> Result<FullJid, JidError> {
        let resource = prepare_resource(resource)?;
        let bare = self.as_str();
        let mut text = String::with_capacity(bare.len() + 1 + resource.len());
        text.push_str(bare);
        text.push('/');
        text.push_str(&resource);
        Ok(FullJid(Repr {
            text: text.into(),
            local: self.0.local,
            bare: self.0.bare,
        }))
    }

    /// The address as a [`Jid`]; copies only if it was cut from a full JID.
    pub fn to_jid(&self) -> Jid {
        self.clone().into()
    }
}

impl FullJid {
    /// Parses an address that must have a resource.
    pub fn parse(input: &str) -> Result<FullJid, JidError> {
        Jid::parse(input)?.to_full().ok_or(JidError::NotFull)
    }

    /// The localpart, where there is one.
    pub fn localpart(&self) -> Option<&str> {
        self.0.localpart()
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// The resource.
    pub fn resource(&self) -> &str {
        self.0
            .resource()
            .expect("a full JID is only made with a resource")
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The address without its resource.
    pub fn bare_str(&self) -> &str {
        self.0.bare()
    }

    /// The address without its resource; shares the string.
    pub fn bare(&self) -> BareJid {
        BareJid(self.0.clone())
    }

    /// The address as a [`Jid`]; shares the string.
    pub fn to_jid(&self) -> Jid {
        Jid(self.0.clone())
    }
}

macro_rules! string_like {
    ($($name:ident)*) => {$(
        impl PartialEq for $name {
            fn eq(&self, other: &$name) -> bool {
                self.as_str() == other.as_str()
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &$name) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &$name) -> std::cmp::Ordering {
                self.as_str().cmp(other.as_str())
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = JidError;

            fn from_str(input: &str) -> Result<$name, JidError> {
                $name::parse(input)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = JidError;

            fn try_from(input: &str) -> Result<$name, JidError> {
                $name::parse(input)
            }
        }
    )*};
}

string_like!(Jid BareJid FullJid);

impl From<BareJid> for Jid {
    fn from(jid: BareJid) -> Jid {
        let Repr { text, local, bare } = jid.0;
        if text.len() == usize::from(bare) {
            return Jid(Repr { text, local, bare });
        }
        Jid(Repr {
            text: text[..usize::from(bare)].into(),
            local,
            bare,
        })
    }
}

impl From<&BareJid> for Jid {
    fn from(jid: &BareJid) -> Jid {
        jid.clone().into()
    }
}

impl From<FullJid> for Jid {
    fn from(jid: FullJid) -> Jid {
        Jid(jid.0)
    }
}

impl From<&FullJid> for Jid {
    fn from(jid: &FullJid) -> Jid {
        Jid(jid.0.clone())
    }
}

impl From<FullJid> for BareJid {
    fn from(jid: FullJid) -> BareJid {
        BareJid(jid.0)
    }
}

/// Splits at the first `/`, then what is before it at the first `@` (RFC 7622 §3.2).
fn split(input: &str) -> (Option<&str>, &str, Option<&str>) {
    let (bare, resource) = match input.split_once('/') {
        Some((bare, resource)) => (bare, Some(resource)),
        None => (input, None),
    };
    match bare.split_once('@') {
        Some((localpart, domain)) => (Some(localpart), domain, resource),
        None => (None, bare, resource),
    }
}

#[cfg(test)]
mod tests;
