//! Where members may be reached. Addresses prove nothing: whoever answers at one says, and proves, who it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::bell::Bell;
use crate::ids::MemberId;
use crate::limits::{ADDRESS_BYTES, MEMBER_ADDRESSES};

/// Hints kept, the newest.
const HINTS: usize = 64;
/// Members of whom a hello's addresses are remembered.
const HELLOS: usize = 256;

/// A handle: clones share the book. Rows of the state name the members that the link keeps connected by itself;
/// hellos and hints only help to find them.
#[derive(Clone, Default)]
pub(crate) struct AddressBook(Arc<Inner>);

#[derive(Default)]
struct Inner {
    pages: Mutex<Pages>,
    changed: Bell,
}

#[derive(Default)]
struct Pages {
    /// What the state's rows say, with the number of the change that said it last.
    rows: BTreeMap<MemberId, Vec<String>>,
    /// What a member's hello said.
    hellos: BTreeMap<MemberId, Vec<String>>,
    /// Addresses of nobody in particular, oldest first.
    hints: Vec<String>,
    version: u64,
}

impl AddressBook {
    /// The rows of the state, all of them: members without one are forgotten. This member's own may be among them.
    pub(crate) fn set_rows(&self, rows: BTreeMap<MemberId, Vec<String>>) {
        self.change(|pages| {
            let differs = pages.rows != rows;
            pages.rows = rows;
            differs
        });
    }

    /// One member's row.
    #[cfg(test)]
    pub(crate) fn set_row(&self, member: MemberId, addresses: Vec<String>) {
        self.change(|pages| pages.rows.insert(member, addresses.clone()) != Some(addresses));
    }

    /// What discovery or a person says, of whomever.
    pub(crate) fn hint(&self, address: &str) {
        if address.len() > ADDRESS_BYTES {
            return;
        }
        self.change(|pages| {
            if pages.hints.iter().any(|known| known == address) {
                return false;
            }
            if pages.hints.len() == HINTS {
                pages.hints.remove(0);
            }
            pages.hints.push(address.to_owned());
            true
        });
    }

    /// All hints, oldest first.
    #[cfg(test)]
    pub(crate) fn hints(&self) -> Vec<String> {
        self.0.pages.lock().hints.clone()
    }

    /// Members that have a row.
    pub(crate) fn members(&self) -> BTreeSet<MemberId> {
        self.0.pages.lock().rows.keys().copied().collect()
    }

    pub(super) fn has_row(&self, member: MemberId) -> bool {
        self.0.pages.lock().rows.contains_key(&member)
    }

    /// Where to look for a member, likeliest first: its row, its hello, then what is nobody else's.
    pub(crate) fn of(&self, member: MemberId) -> Vec<String> {
        let pages = self.0.pages.lock();
        let mut found: Vec<String> = Vec::new();
        let rows = pages.rows.get(&member).into_iter().flatten();
        let hellos = pages.hellos.get(&member).into_iter().flatten();
        let free = pages.hints.iter().filter(|hint| !pages.is_known(hint));
        for address in rows.chain(hellos).chain(free) {
            if !found.contains(address) {
                found.push(address.clone());
            }
        }
        found
    }

    /// What a member says of itself; the link notes it.
    pub(super) fn note_hello(&self, member: MemberId, addresses: &[String]) {
        let usable = addresses.iter().filter(|one| one.len() <= ADDRESS_BYTES);
        let addresses: Vec<_> = usable.take(MEMBER_ADDRESSES).cloned().collect();
        self.change(|pages| {
            if pages.hellos.len() >= HELLOS && !pages.hellos.contains_key(&member) {
                pages.hellos.pop_first();
            }
            pages.hellos.insert(member, addresses.clone()) != Some(addresses)
        });
    }

    /// Waits for a change after the one numbered `seen`; returns the newest number.
    pub(super) async fn changed(&self, seen: u64) -> u64 {
        let newer = || Some(self.0.pages.lock().version).filter(|version| *version != seen);
        self.0.changed.wait(newer).await
    }

    fn change(&self, change: impl FnOnce(&mut Pages) -> bool) {
        let mut pages = self.0.pages.lock();
        if change(&mut pages) {
            pages.version += 1;
            drop(pages);
            self.0.changed.ring();
        }
    }
}

impl Pages {
    fn is_known(&self, address: &str) -> bool {
        let known = self.rows.values().chain(self.hellos.values());
        known.flatten().any(|one| one == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeliest_first_and_hints_of_nobody_last() {
        let book = AddressBook::default();
        let (one, other) = (MemberId(1), MemberId(2));
        book.set_row(one, vec!["row".into()]);
        book.note_hello(one, &["hello".into(), "row".into()]);
        book.set_row(other, vec!["theirs".into()]);
        ["theirs", "free", "row"]
            .iter()
            .for_each(|hint| book.hint(hint));
        assert_eq!(book.of(one), ["row", "hello", "free"]);
        assert_eq!(book.of(other), ["theirs", "free"]);
        book.set_rows(BTreeMap::from([(other, vec!["theirs".into()])]));
        assert_eq!(book.of(one), ["hello", "row", "free"]);
        assert_eq!(book.members(), BTreeSet::from([other]));
    }

    #[test]
    fn what_anybody_can_add_is_bounded() {
        let book = AddressBook::default();
        for number in 0..1000 {
            book.hint(&format!("hint-{number}"));
            book.note_hello(MemberId(number), &["somewhere".into()]);
        }
        book.hint(&"x".repeat(ADDRESS_BYTES + 1));
        assert_eq!(book.hints().len(), HINTS);
        assert_eq!(book.0.pages.lock().hellos.len(), HELLOS);
        assert_eq!(book.hints().last().expect("one"), "hint-999");
    }
}
