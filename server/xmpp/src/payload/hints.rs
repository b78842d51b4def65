//! XEP-0334: Message Processing Hints

use crate::ns;
use crate::stanza::Stanza;

/// What a message asks to be done with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Neither archive nor offline store.
    pub no_store: bool,
    /// No archive.
    pub no_permanent_store: bool,
    /// No carbons.
    pub no_copy: bool,
    /// Archive, even without a body.
    pub store: bool,
}

impl Hints {
    /// Reads the hints of a message.
    pub fn of(stanza: &Stanza) -> Hints {
        let mut hints = Hints::default();
        for child in stanza.children().filter(|child| child.ns == ns::HINTS) {
            match child.name {
                "no-store" => hints.no_store = true,
                // The second is how drafts of the specification wrote it.
                "no-permanent-store" | "no-permanent-storage" => hints.no_permanent_store = true,
                "no-copy" => hints.no_copy = true,
                "store" => hints.store = true,
                _ => {}
            }
        }
        hints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_from_messages() {
        let read = |xml: &'static str| Hints::of(&Stanza::parse_stored(xml.into()).unwrap());
        assert_eq!(read("<message><no-store/></message>"), Hints::default());
        let hints = read(
            "<message><no-store xmlns='urn:xmpp:hints'/><no-copy xmlns='urn:xmpp:hints'/></message>",
        );
        assert!(hints.no_store && hints.no_copy && !hints.store && !hints.no_permanent_store);
        assert!(read("<message><store xmlns='urn:xmpp:hints'/></message>").store);
    }
}
