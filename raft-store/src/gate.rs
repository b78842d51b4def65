//! Where tasks run: on tokio's runtime, in simulation through the gate of one member.
//!
//! A gate stands for a process. Closed, nothing of the member runs while time goes on, as with SIGSTOP; killed, all
//! its tasks are dropped, as with SIGKILL. Tasks that a task spawns belong to the same gate.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};

use crate::random::Random;
use crate::spawner::{Job, Next, Spawned, Spawner};

thread_local! {
    /// The gate through which a task is being polled. openraft's runtime is a type, not a value (`AsyncRuntime` has
    /// only functions without `self`): what belongs to a member can reach it in no other way.
    static CURRENT: RefCell<Option<Arc<Gate>>> = const { RefCell::new(None) };
}

/// Starts tasks of one member.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Option<Arc<Gate>>);

impl Tasks {
    /// Tasks run on the runtime and end when they end.
    pub fn system() -> Tasks {
        Tasks(None)
    }

    /// Tasks run through `gate`.
    pub fn gated(gate: Arc<Gate>) -> Tasks {
        Tasks(Some(gate))
    }

    /// The spawner of the task that asks.
    pub fn current() -> Tasks {
        Tasks(CURRENT.with_borrow(Clone::clone))
    }

    /// Starts a task. Needs a tokio runtime around it.
    pub fn spawn<T>(&self, future: T) -> JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        let Some(gate) = self.0.clone() else {
            return tokio::spawn(future);
        };
        let handle = tokio::spawn(Gated {
            gate: gate.clone(),
            future: Box::pin(future),
        });
        gate.add(handle.abort_handle());
        handle
    }

    /// The seeded randomness of a simulated member.
    pub(crate) fn random(&self) -> Option<&dyn Random> {
        self.0.as_ref().map(|gate| gate.random.as_ref())
    }
}

/// Ends a job's wait.
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// A job runs as a task: what blocks in it is simulated, and takes no time of the thread.
impl Spawner for Tasks {
    fn spawn(&self, _name: &'static str, mut job: Box<dyn Job>) -> io::Result<Spawned> {
        let woken = Arc::new(Woken(Notify::new()));
        let waker = Waker::from(woken.clone());
        Tasks::spawn(self, async move {
            loop {
                match job.step() {
                    Next::Again => tokio::task::yield_now().await,
                    Next::After(time) => tokio::time::sleep(time).await,
                    Next::Wait(None) => woken.0.notified().await,
                    Next::Wait(Some(limit)) => {
                        let _ = tokio::time::timeout(limit, woken.0.notified()).await;
                    }
                    Next::Done => break,
                }
            }
        });
        Ok(Spawned::new(waker))
    }
}

/// See the module's documentation.
pub struct Gate {
    random: Box<dyn Random>,
    state: Mutex<State>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.lock().fmt(f)
    }
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    killed: bool,
    waiting: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    /// Ended tasks are forgotten when there are so many.
    sweep_at: usize,
}

impl Gate {
    /// An open gate; `random` is what openraft draws from in its tasks.
    pub fn new(random: Box<dyn Random>) -> Arc<Gate> {
        Arc::new(Gate {
            random,
            state: Mutex::default(),
        })
    }

    /// Nothing of the member runs any more, until [`Gate::open`].
    pub fn close(&self) {
        self.state.lock().closed = true;
    }

    /// The member goes on.
    pub fn open(&self) {
        let mut state = self.state.lock();
        state.closed = false;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends the member: none of its tasks is polled again, and all are dropped.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        state.killed = true;
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        tasks.iter().for_each(AbortHandle::abort);
    }

    fn add(&self, task: AbortHandle) {
        let mut state = self.state.lock();
        if state.killed {
            drop(state);
            task.abort();
            return;
        }
        if state.tasks.len() >= state.sweep_at {
            state.tasks.retain(|task| !task.is_finished());
            state.sweep_at = 64 + 2 * state.tasks.len();
        }
        state.tasks.push(task);
    }

    /// Whether a task may be polled; else it is woken when it may.
    fn lets_through(&self, context: &Context<'_>) -> bool {
        let mut state = self.state.lock();
        if state.closed && !state.killed {
            state.waiting.push(context.waker().clone());
        }
        !state.closed && !state.killed
    }
}

/// A task that is polled only while its gate is open.
struct Gated<T> {
    gate: Arc<Gate>,
    future: Pin<Box<T>>,
}

impl<T: Future> Future for Gated<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T::Output> {
        if !self.gate.lets_through(context) {
            return Poll::Pending;
        }
        let _inside = Inside::enter(self.gate.clone());
        self.future.as_mut().poll(context)
    }
}

/// While it lives, the thread runs something of this gate's member.
struct Inside(Option<Arc<Gate>>);

impl Inside {
    fn enter(gate: Arc<Gate>) -> Inside {
        Inside(CURRENT.replace(Some(gate)))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::random::SystemRandom;

    /// Counts seconds, in a task that a task has spawned.
    fn counting(gate: &Arc<Gate>) -> Arc<AtomicU32> {
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        Tasks::gated(gate.clone()).spawn(async move {
            Tasks::current().spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        count
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_millis(seconds * 1_000 + 500)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn behind_a_closed_gate_time_goes_on_and_nothing_runs() {
        let gate = Gate::new(Box::new(SystemRandom));
        let count = counting(&gate);
        pass(2).await;
        assert_eq!(count.load(Ordering::Relaxed), 2);
        gate.close();
        pass(10).await;
        assert_eq!(count.load(Ordering::Relaxed), 2);
        gate.open();
        pass(0).await;
        assert_eq!(count.load(Ordering::Relaxed), 3, "one sleep was over");
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_killed_member_nothing_is_left() {
        let gate = Gate::new(Box::new(SystemRandom));
        let count = counting(&gate);
        pass(1).await;
        gate.kill();
        pass(5).await;
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert_eq!(Arc::strong_count(&count), 1, "its tasks are dropped");
        let late = counting(&gate);
        pass(5).await;
        assert_eq!(late.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_forgets_tasks_that_have_ended() {
        let gate = Gate::new(Box::new(SystemRandom));
        let spawner = Tasks::gated(gate.clone());
        for _ in 0..1_000 {
            let _ = spawner.spawn(async {}).await;
        }
        assert!(gate.state.lock().tasks.len() <= 64);
    }
}
