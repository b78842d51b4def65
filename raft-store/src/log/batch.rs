//! What goes into one frame.

use super::LogId;
use super::frame::{Record, put_entries};
use super::shared::{Operation, Queued, Shared};
use crate::codec;

/// What was taken from the queue for one frame.
pub struct Batch {
    pub queued: Vec<Queued>,
    /// Newest commit index noted when it was taken.
    pub committed: Option<LogId>,
    /// Encoded, without a `Begin`.
    pub body: Vec<u8>,
    pub has_entries: bool,
}

impl Batch {
    /// Takes operations for one frame, in order. One that voids entries comes before any entries of its frame, so that
    /// all entries of a frame are good together. `written` is the commit index that frames so far carry.
    pub fn take(shared: &Shared, written: Option<LogId>) -> Option<Self> {
        let limit_bytes = shared.settings.frame_bytes;
        let mut queued: Vec<Queued> = Vec::new();
        let (mut bytes, mut has_entries) = (0, false);
        let mut state = shared.lock();
        while let Some(next) = state.queue.front() {
            let voids = matches!(
                next.operation,
                Operation::Truncate { .. } | Operation::Anew { .. }
            );
            let full = bytes + next.bytes > limit_bytes;
            if !queued.is_empty() && (full || (voids && has_entries)) {
                break;
            }
            bytes += next.bytes;
            has_entries |= matches!(next.operation, Operation::Entries(_));
            queued.extend(state.queue.pop_front());
        }
        let committed = state.committed;
        drop(state);
        if queued.is_empty() {
            return None;
        }
        Some(Self {
            body: encode(&queued, (committed != written).then_some(committed)),
            queued,
            committed,
            has_entries,
        })
    }
}

/// `committed` is written if it is new.
fn encode(queued: &[Queued], committed: Option<Option<LogId>>) -> Vec<u8> {
    let mut writer = codec::Writer::new(u32::MAX as usize);
    for Queued { operation, .. } in queued {
        match operation {
            Operation::Vote(vote) => Record::Vote(*vote).put(&mut writer),
            Operation::Truncate { after } => {
                Record::Truncate { after: *after }.put(&mut writer);
            }
            Operation::Anew { at } => Record::Anew { at: *at }.put(&mut writer),
            Operation::Entries(entries) => put_entries(&mut writer, entries),
        }
    }
    if let Some(committed) = committed {
        Record::Committed(committed).put(&mut writer);
    }
    writer
        .finish("frame")
        .expect("calls are bounded by frame_bytes")
}

/// Lowest index of the entries among these operations.
pub fn first_index(queued: &[Queued]) -> Option<u64> {
    let entries = queued.iter().filter_map(|queued| match &queued.operation {
        Operation::Entries(entries) => entries.first(),
        _ => None,
    });
    entries.map(|entry| entry.id.index).min()
}
