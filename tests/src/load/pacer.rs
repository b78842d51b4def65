//! A schedule for fixed rates: a thread of its own wakes tasks when their next send is due, finer
//! than the runtime's timer of one millisecond. Latency counts from the schedule, never from the
//! moment of sending, so that a stalled server cannot hide behind a stalled client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

/// Sends that are due for one task.
#[derive(Debug, Default)]
pub struct Slot {
    due: AtomicU64,
    waker: AtomicWaker,
}

impl Slot {
    /// How many sends were due since the start of the schedule.
    pub fn due(&self) -> u64 {
        self.due.load(Ordering::Acquire)
    }

    /// As [`Slot::due`]; wakes the task when more are.
    pub fn poll_due(&self, context: &Context<'_>) -> u64 {
        self.waker.register(context.waker());
        self.due.load(Ordering::Acquire)
    }
}

/// The schedule of all tasks: `rate` sends per second in all, each task in turn.
#[derive(Debug, Clone)]
pub struct Pacer {
    /// When it begins.
    pub start: Instant,
    rate: f64,
    /// One for each task.
    pub slots: Arc<Vec<Slot>>,
}

impl Pacer {
    /// A schedule for this many tasks.
    pub fn new(tasks: usize, rate: f64) -> Self {
        let slots = Arc::new((0..tasks).map(|_| Slot::default()).collect());
        Self { start: Instant::now() + Duration::from_millis(50), rate, slots }
    }

    /// Nanoseconds from the start at which send number `nth` of task `slot` is due.
    pub fn due_at(&self, slot: usize, nth: u64) -> u64 {
        let position = nth * self.slots.len() as u64 + slot as u64;
        (position as f64 * 1e9 / self.rate) as u64
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Starts the thread; it ends when `stop` is set.
    pub fn run(&self, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
        let pacer = self.clone();
        std::thread::spawn(move || {
            let mut sent: u64 = 0;
            let tasks = pacer.slots.len() as u64;
            while !stop.load(Ordering::Relaxed) {
                let at = Duration::from_nanos((sent as f64 * 1e9 / pacer.rate) as u64);
                let wait = (pacer.start + at).saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    std::thread::sleep(wait);
                }
                let due = (pacer.start.elapsed().as_secs_f64() * pacer.rate) as u64 + 1;
                for position in sent..due.min(sent + tasks) {
                    let slot = &pacer.slots[(position % tasks) as usize];
                    slot.due.store(position / tasks + 1, Ordering::Release);
                    slot.waker.wake();
                }
                sent = due.min(sent + tasks);
            }
        })
    }
}
