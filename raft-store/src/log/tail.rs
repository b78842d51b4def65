//! The newest entries in memory, bounded by bytes; who appended the others, and where they lie on disk.

use super::{Entry, LogId};
use std::collections::VecDeque;

/// A run of consecutive entries that ends with the last one of the log. What is not on disk yet is never dropped.
pub struct Tail {
    entries: VecDeque<Entry>,
    /// The first entry of each leader in the log, in order, held or not: these are few, and tell every entry's id.
    firsts: VecDeque<LogId>,
    /// Index of the first entry held, or of the next one to come.
    first: u64,
    bytes: usize,
    limit_bytes: usize,
}

/// Memory that an entry takes beside its body.
const ENTRY_OVERHEAD_BYTES: usize = 96;

fn weight(entry: &Entry) -> usize {
    entry.body.len() + ENTRY_OVERHEAD_BYTES
}

impl Tail {
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            firsts: VecDeque::new(),
            first: 0,
            bytes: 0,
            limit_bytes,
        }
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the next entry. It stays until [`Tail::evict`] hears that it is on disk.
    pub fn push(&mut self, entry: Entry) {
        debug_assert_eq!(entry.id.index, self.first + self.entries.len() as u64);
        self.bytes += weight(&entry);
        let leader = |id: &LogId| (id.term, id.node);
        if self.firsts.back().map(leader) != Some(leader(&entry.id)) {
            self.firsts.push_back(entry.id);
        }
        self.entries.push_back(entry);
    }

    /// Drops what is over the limit, from the oldest on. Entries from `unwritten_from` on are not on disk yet and
    /// stay; `None`: all are there.
    pub fn evict(&mut self, unwritten_from: Option<u64>) {
        while self.bytes > self.limit_bytes && unwritten_from.is_none_or(|at| self.first < at) {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= weight(&entry);
            self.first += 1;
        }
    }

    /// Drops entries from `since` on.
    pub fn truncate(&mut self, since: u64) {
        while self.first + self.entries.len() as u64 > since {
            let Some(entry) = self.entries.pop_back() else {
                break;
            };
            self.bytes -= weight(&entry);
        }
        self.first = self.first.min(since);
        while self.firsts.back().is_some_and(|id| id.index >= since) {
            self.firsts.pop_back();
        }
    }

    /// Drops entries below `index`, on disk or not: nobody reads them any more.
    pub fn forget_below(&mut self, index: u64) {
        while self.first < index {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= weight(&entry);
            self.first += 1;
        }
        while self.firsts.get(1).is_some_and(|id| id.index <= index) {
            self.firsts.pop_front();
        }
    }

    /// Drops everything; the next entry has this index.
    pub fn restart(&mut self, next: u64) {
        self.entries.clear();
        self.firsts.clear();
        self.bytes = 0;
        self.first = next;
    }

    pub fn get(&self, index: u64) -> Option<&Entry> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(at)
    }

    /// Id of the entry at `index`, which must be in the log; held or not.
    pub fn id_at(&self, index: u64) -> Option<LogId> {
        let after = self.firsts.partition_point(|first| first.index <= index);
        let first = self.firsts.get(after.checked_sub(1)?)?;
        Some(LogId { index, ..*first })
    }
}

/// A frame at which reading may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// First entry of the frame.
    pub index: u64,
    pub segment: u64,
    pub offset: u64,
}

/// Marks at every few frames: entries of a mark lie behind it, in order and in its segment, up to the next mark.
#[derive(Default)]
pub struct Marks {
    marks: VecDeque<Mark>,
    /// The next entries do not go on where the last frame ended.
    broken: bool,
}

/// A new mark follows after this many bytes.
const MARK_EVERY_BYTES: u64 = 64 << 10;

impl Marks {
    /// Entries from `mark.index` on were written in the frame there.
    pub fn written(&mut self, mark: Mark) {
        let near = self.marks.back().is_some_and(|last| {
            last.segment == mark.segment && mark.offset - last.offset < MARK_EVERY_BYTES
        });
        if self.broken || !near {
            self.marks.push_back(mark);
            self.broken = false;
        }
    }

    /// Entries from `since` on are void.
    pub fn truncate(&mut self, since: u64) {
        while self.marks.back().is_some_and(|mark| mark.index >= since) {
            self.marks.pop_back();
        }
        self.broken = true;
    }

    /// Segments below this one are gone.
    pub fn forget_segments_below(&mut self, segment: u64) {
        while self
            .marks
            .front()
            .is_some_and(|mark| mark.segment < segment)
        {
            self.marks.pop_front();
        }
    }

    /// The mark before `index`, and the index of the next mark.
    pub fn find(&self, index: u64) -> Option<(Mark, u64)> {
        let after = self.marks.partition_point(|mark| mark.index <= index);
        let mark = self.marks.get(after.checked_sub(1)?)?;
        let next = self.marks.get(after).map_or(u64::MAX, |mark| mark.index);
        Some((*mark, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn id(term: u64, index: u64) -> LogId {
        let node = 1;
        LogId { term, node, index }
    }

    fn entry(index: u64) -> Entry {
        let body = Bytes::from(vec![0; 104]);
        let id = id(1, index);
        Entry { id, body }
    }

    #[test]
    fn ids_are_known_without_their_entries() {
        let mut tail = Tail::new(0);
        let push = |tail: &mut Tail, term, indexes: std::ops::Range<u64>| {
            for index in indexes {
                let id = id(term, index);
                tail.push(Entry { id, ..entry(index) });
                tail.evict(None);
            }
        };
        push(&mut tail, 1, 0..10);
        push(&mut tail, 3, 10..20);
        push(&mut tail, 4, 20..21);
        assert_eq!((tail.first(), tail.bytes()), (21, 0));
        assert_eq!(tail.firsts.len(), 3);
        let ids = |tail: &Tail| [0, 9, 10, 19, 20].map(|index| tail.id_at(index));
        let known = [id(1, 0), id(1, 9), id(3, 10), id(3, 19), id(4, 20)].map(Some);
        assert_eq!(ids(&tail), known);
        tail.truncate(15);
        push(&mut tail, 5, 15..21);
        assert_eq!(tail.id_at(14), Some(id(3, 14)));
        assert_eq!(tail.id_at(15), Some(id(5, 15)));
        tail.forget_below(10);
        assert_eq!((tail.firsts.len(), tail.id_at(9)), (2, None));
        tail.forget_below(14);
        assert_eq!(tail.id_at(14), Some(id(3, 14)));
        tail.truncate(10);
        push(&mut tail, 6, 10..11);
        assert_eq!((tail.firsts.len(), tail.id_at(10)), (1, Some(id(6, 10))));
        tail.restart(50);
        assert_eq!(tail.id_at(49), None);
    }

    #[test]
    fn the_tail_is_bounded_but_keeps_what_is_not_on_disk() {
        let mut tail = Tail::new(1000);
        (0..20).for_each(|index| tail.push(entry(index)));
        assert_eq!((tail.first(), tail.bytes()), (0, 4000));
        tail.evict(Some(10));
        assert_eq!(tail.first(), 10);
        tail.evict(None);
        assert_eq!((tail.first(), tail.bytes()), (15, 1000));
        assert!(tail.get(14).is_none() && tail.get(15).is_some() && tail.get(20).is_none());
        tail.truncate(5);
        assert_eq!((tail.first(), tail.bytes()), (5, 0));
        tail.push(entry(5));
        tail.forget_below(6);
        assert_eq!((tail.first(), tail.bytes()), (6, 0));
    }

    #[test]
    fn marks_lead_to_the_live_frame() {
        let mut marks = Marks::default();
        let mark = |index, segment, offset| Mark {
            index,
            segment,
            offset,
        };
        marks.written(mark(0, 1, 4096));
        marks.written(mark(5, 1, 5000));
        marks.written(mark(9, 1, 4096 + MARK_EVERY_BYTES));
        assert_eq!(marks.find(6), Some((mark(0, 1, 4096), 9)));
        marks.truncate(7);
        marks.written(mark(7, 1, 80_000));
        assert_eq!(marks.find(6), Some((mark(0, 1, 4096), 7)));
        assert_eq!(marks.find(8), Some((mark(7, 1, 80_000), u64::MAX)));
        marks.written(mark(9, 2, 4096));
        marks.forget_segments_below(2);
        assert_eq!(marks.find(8), None);
        assert_eq!(marks.find(9), Some((mark(9, 2, 4096), u64::MAX)));
    }
}
