//! RFC 6120 §13.12: what one stanza may cost

/// Bounds on one top-level element of a stream; whatever is over one ends the stream with
/// `policy-violation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a top-level element, tags included (RFC 6120 §13.12 wants at least 10,000).
    pub stanza_bytes: usize,
    /// Bytes of one start tag, the stream header included.
    pub open_tag_bytes: usize,
    /// Elements within each other, the top-level element being the first.
    pub depth: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes_per_element: usize,
    /// Elements of a stanza, the top-level element being the first.
    pub elements_per_stanza: usize,
    /// Namespace declarations that are in force at one place.
    pub namespaces_in_scope: usize,
}

impl Limits {
    /// For peers that have proven nothing yet.
    pub const BEFORE_LOGIN: Limits = Limits {
        stanza_bytes: 16 * 1024,
        open_tag_bytes: 4 * 1024,
        depth: 16,
        attributes_per_element: 32,
        elements_per_stanza: 256,
        namespaces_in_scope: 32,
    };

    /// For accounts.
    pub const AFTER_LOGIN: Limits = Limits {
        stanza_bytes: 256 * 1024,
        open_tag_bytes: 32 * 1024,
        depth: 64,
        attributes_per_element: 64,
        elements_per_stanza: 8192,
        namespaces_in_scope: 128,
    };

    /// For bytes that were within other limits before, or that this server wrote itself: whatever
    /// was accepted once reads again.
    pub const TRUSTED: Limits = Limits {
        stanza_bytes: u32::MAX as usize,
        open_tag_bytes: usize::MAX,
        depth: MAX_TRUSTED_DEPTH,
        attributes_per_element: usize::MAX,
        elements_per_stanza: usize::MAX,
        namespaces_in_scope: usize::MAX,
    };
}

/// Deepest that is ever accepted, whatever a configuration says: trees are walked by recursion.
pub const MAX_DEPTH: usize = 256;

/// The same with what may be wrapped around a stanza here: carbons, archive results, events.
const MAX_TRUSTED_DEPTH: usize = MAX_DEPTH + 64;

impl Default for Limits {
    fn default() -> Limits {
        Limits::AFTER_LOGIN
    }
}
