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
    in_step: bool,
    /// One for each task.
    pub slots: Arc<Vec<Slot>>,
}

impl Pacer {
    /// A schedule for this many tasks: one after the other, or (`in_step`) all at the same moment,
    /// as clients that were started together send.
    pub fn new(tasks: usize, rate: f64, in_step: bool) -> Self {
        let slots = Arc::new((0..tasks).map(|_| Slot::default()).collect());
        Self {
            start: Instant::now() + Duration::from_millis(50),
            rate,
            in_step,
            slots,
        }
    }

    /// Nanoseconds from the start at which send number `nth` of task `slot` is due.
    pub fn due_at(&self, slot: usize, nth: u64) -> u64 {
        self.position_at(nth * self.slots.len() as u64 + slot as u64)
    }

    fn position_at(&self, position: u64) -> u64 {
        let tasks = self.slots.len() as u64;
        let position = if self.in_step {
            position / tasks * tasks
        } else {
            position
        };
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
                let due = pacer.start + Duration::from_nanos(pacer.position_at(sent));
                let wait = due.saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    std::thread::sleep(wait);
                }
                let now = pacer.now();
                while pacer.position_at(sent) <= now && !stop.load(Ordering::Relaxed) {
                    let slot = &pacer.slots[(sent % tasks) as usize];
                    slot.due.store(sent / tasks + 1, Ordering::Release);
                    slot.waker.wake();
                    sent += 1;
                }
            }
        })
    }
}
