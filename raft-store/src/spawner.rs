//! Who runs the jobs that own a file: threads in production; in simulation whoever steps them.

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// What a job wants after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another step at once.
    Again,
    /// Another step after this time: what a simulated disk takes. A waking does not shorten it.
    After(Duration),
    /// Another step when woken, at the latest after this time.
    Wait(Option<Duration>),
    /// None; the job is dropped.
    Done,
}

/// Work in steps that may block on I/O but never on other work. A step too many does no harm.
pub trait Job: Send {
    /// Does some of it. What does not go well a job tells those who wait for it.
    fn step(&mut self) -> Next;
}

/// A job that runs.
pub struct Spawned {
    /// Ends a `Next::Wait`, also one that has not begun yet.
    pub waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Spawned {
    /// One that nobody waits for.
    pub fn new(waker: Waker) -> Self {
        let thread = None;
        Self { waker, thread }
    }

    /// Waits for the end of the job's thread, if it has one of its own.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // A job that panicked has poisoned what it owned; its callers know.
            let _ = thread.join();
        }
    }
}

/// Runs jobs, each on its own.
pub trait Spawner: Send + Sync {
    /// Steps `job` until it is done. `name` is for people. An error: nothing can run it, and it is dropped.
    fn spawn(&self, name: &'static str, job: Box<dyn Job>) -> io::Result<Spawned>;
}

/// Is dropped with its job.
struct Freed<T>(T);

impl<T: Send> Job for Freed<T> {
    fn step(&mut self) -> Next {
        Next::Done
    }
}

/// Drops in a job what takes long to drop.
pub(crate) fn free(spawner: &dyn Spawner, what: impl Send + 'static) {
    // Without a job it is dropped here.
    let _ = spawner.spawn("free", Box::new(Freed(what)));
}

/// A thread for each job.
pub struct Threads;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl Spawner for Threads {
    fn spawn(&self, name: &'static str, mut job: Box<dyn Job>) -> io::Result<Spawned> {
        let run = move || {
            loop {
                match job.step() {
                    Next::Again => {}
                    Next::After(time) => std::thread::sleep(time),
                    Next::Wait(None) => std::thread::park(),
                    Next::Wait(Some(limit)) => std::thread::park_timeout(limit),
                    Next::Done => break,
                }
            }
        };
        let builder = std::thread::Builder::new().name(name.to_owned());
        let thread = builder.spawn(run)?;
        Ok(Spawned {
            waker: Waker::from(Arc::new(Unpark(thread.thread().clone()))),
            thread: Some(thread),
        })
    }
}

/// Runs nothing by itself: [`Inline::run`] steps all jobs until they wait. Time never passes for them.
#[derive(Default)]
pub struct Inline {
    jobs: Mutex<Vec<Box<dyn Job>>>,
}

impl Inline {
    /// Steps every job until all do nothing but wait, at least twice each: what one does may give work to another.
    pub fn run(&self) {
        let mut quiet_rounds = 0;
        while quiet_rounds < 2 {
            let worked = self.round();
            quiet_rounds = if worked { 0 } else { quiet_rounds + 1 };
        }
    }

    /// Steps each job until it waits; says whether one did anything before.
    fn round(&self) -> bool {
        let mut jobs = self.jobs.lock();
        let mut worked = false;
        jobs.retain_mut(|job| {
            loop {
                match job.step() {
                    Next::Again | Next::After(_) => worked = true,
                    Next::Wait(_) => break true,
                    Next::Done => break false,
                }
            }
        });
        worked
    }

    /// One step of the job that was spawned first.
    pub fn step_once(&self) -> Option<Next> {
        self.jobs.lock().first_mut().map(|job| job.step())
    }

    /// Drops the jobs where they stand, as a kill does.
    pub fn kill(&self) {
        let jobs = std::mem::take(&mut *self.jobs.lock());
        drop(jobs);
    }
}

impl Spawner for Inline {
    fn spawn(&self, _name: &'static str, job: Box<dyn Job>) -> io::Result<Spawned> {
        self.jobs.lock().push(job);
        Ok(Spawned::new(Waker::noop().clone()))
    }
}
