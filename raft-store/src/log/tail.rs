//! The newest entries in memory, bounded by bytes, and where older ones lie on disk.

use super::Entry;
use std::collections::VecDeque;

/// A run of consecutive entries that ends with the last one of the log. What is not on disk yet is never dropped.
pub struct Tail {
    entries: VecDeque<Entry>,
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
    }

    /// Drops everything; the next entry has this index.
    pub fn restart(&mut self, next: u64) {
        self.entries.clear();
        self.bytes = 0;
        self.first = next;
    }

    pub fn get(&self, index: u64) -> Option<&Entry> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(at)
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
    use super::super::LogId;
    use super::*;
    use bytes::Bytes;

    fn entry(index: u64) -> Entry {
        let id = LogId {
            term: 1,
            node: 1,
            index,
        };
        let body = Bytes::from(vec![0; 104]);
        Entry { id, body }
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
