//! A row of nodes in the order of their borders: the chunks of a branch, the branches of a map.

use super::border::Border;
use super::chunk::insert_at;
use std::ops::Deref;
use std::sync::Arc;

/// A node and the least key that may be in it. The first of its row also holds all keys below.
#[derive(Clone)]
pub(super) struct Child<T> {
    pub(super) from: Border,
    pub(super) node: Arc<T>,
}

/// Reads as a slice of children; each change of its order goes through a method.
#[derive(Clone)]
pub(super) struct Row<T> {
    pub(super) children: Vec<Child<T>>,
    /// What stands in each border behind the part common to all (but the first), as a number: a search by these alone
    /// mostly finds the place. The first is 0.
    pub(super) heads: Vec<u64>,
    /// Bytes common to all borders but the first.
    common: usize,
}

/// The first eight bytes, so that greater ones give no lesser number.
fn head(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    let length = bytes.len().min(8);
    whole[..length].copy_from_slice(&bytes[..length]);
    u64::from_be_bytes(whole)
}

impl<T> Default for Row<T> {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl<T> Deref for Row<T> {
    type Target = [Child<T>];

    fn deref(&self) -> &[Child<T>] {
        &self.children
    }
}

impl<T> Row<T> {
    pub(super) fn of(children: Vec<Child<T>>) -> Self {
        let mut row = Self {
            children,
            heads: Vec::new(),
            common: 0,
        };
        row.changed();
        row
    }

    fn changed(&mut self) {
        let borders = self.children.iter().map(|child| child.from.as_bytes());
        let mut borders = borders.skip(1);
        let first = borders.clone().next().unwrap_or_default();
        let last = borders.clone().next_back().unwrap_or_default();
        let common = first.iter().zip(last).take_while(|(f, l)| f == l).count();
        self.common = common;
        self.heads.clear();
        self.heads.reserve_exact(self.children.len());
        self.heads.extend(self.children.first().map(|_| 0));
        self.heads
            .extend(borders.by_ref().map(|border| head(&border[common..])));
    }

    /// Where `key` belongs.
    pub(super) fn place(&self, key: &[u8]) -> usize {
        let Some(second) = self.children.get(1) else {
            return 0;
        };
        let common = &second.from.as_bytes()[..self.common];
        let (begin, end) = match key.strip_prefix(common) {
            Some(rest) => {
                let head = head(rest);
                let begin = self.heads.partition_point(|other| *other < head);
                let same = self.heads[begin..].iter();
                (
                    begin,
                    begin + same.take_while(|other| **other == head).count(),
                )
            }
            None => (0, self.children.len()),
        };
        let undecided = &self.children[begin..end];
        let below = undecided.partition_point(|child| child.from.as_bytes() <= key);
        (begin + below).saturating_sub(1)
    }

    pub(super) fn insert(&mut self, at: usize, child: Child<T>) {
        insert_at(&mut self.children, at, child);
        self.changed();
    }

    pub(super) fn remove(&mut self, at: usize) -> Child<T> {
        let child = self.children.remove(at);
        self.changed();
        child
    }

    /// Keeps what is before `at`.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let upper = self.children.split_off(at);
        self.changed();
        Self::of(upper)
    }

    /// Takes the children of the next row, whose border is `from`.
    pub(super) fn join(&mut self, other: &Self, from: Border) {
        let seam = self.children.len();
        self.children.extend(other.iter().map(|child| Child {
            from: child.from.clone(),
            node: child.node.clone(),
        }));
        // The first of a row also held what is below its own border; in the middle its border must be the row's.
        self.children[seam].from = from;
        self.changed();
    }
}

impl<T: Clone> Row<T> {
    /// A node for writing: copied if a clone holds it.
    pub(super) fn node_mut(&mut self, at: usize) -> &mut T {
        Arc::make_mut(&mut self.children[at].node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::test_random::Random;

    #[test]
    fn a_place_is_where_a_plain_search_finds_it() {
        let mut random = Random::new(8);
        for _ in 0..400 {
            let beginning = vec![b'b'; random.below(3) as usize];
            let count = 1 + random.below(30);
            let word = |random: &mut Random| {
                let length = random.below(13);
                let letters = (0..length).map(|_| [0, b'a', b'b', 255][random.below(4) as usize]);
                let word: Vec<u8> = letters.collect();
                [&beginning[..], &word].concat()
            };
            let mut words: Vec<_> = (0..count).map(|_| word(&mut random)).collect();
            words.sort();
            words.dedup();
            let child = |word: &Vec<u8>| Child {
                from: Border::Long(word.clone().into()),
                node: Arc::new(()),
            };
            let row = Row::of(words.iter().map(child).collect());
            for _ in 0..60 {
                let mut key = word(&mut random);
                key.drain(..(random.below(2) as usize).min(key.len()));
                let plain = words.partition_point(|word| *word <= key).saturating_sub(1);
                assert_eq!(row.place(&key), plain, "{key:?} in {words:?}");
            }
        }
    }
}
