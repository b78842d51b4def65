//! The threads that own the connections. Writes that wait together share one transaction and one flush to the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::archive_commit::{WORDS_STEP_TEXTS, index_words};
use super::error;
use crate::heads::Heads;
use crate::{Error, PoolState};

/// Calls that may wait for the writer, and for the readers.
const QUEUE_CALLS_MAX: usize = 4096;
/// Writes that share a transaction.
const GROUP_WRITES_MAX: usize = 64;

/// The process's exit code after a commit that the disk failed (`EX_IOERR` of sysexits).
const EXIT_DISK_FAILED: i32 = 74;

/// Without a write for this long, what has gathered is indexed.
const IDLE: Duration = Duration::from_millis(100);

/// What only the writing thread knows.
#[derive(Default)]
pub(crate) struct WriterState {
    pub heads: Heads,
    /// The next message's id; 0: not read yet.
    pub next_message: i64,
    /// Texts that wait to be indexed, counted until there are enough.
    pub unindexed: u32,
}

/// Where a write stands; the caller whose deadline passes has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Queued,
    Cancelled,
    Running,
}

/// Shared by a write and its caller.
pub(crate) type StageCell = Arc<Mutex<Stage>>;

trait Write: Send {
    /// False: nobody wants it any more.
    fn begin(&mut self) -> bool;
    /// False: to be rolled back.
    fn run(&mut self, connection: &Connection, state: &mut WriterState) -> bool;
    /// The transaction's outcome.
    fn finish(self: Box<Self>, committed: Result<(), Error>);
}

struct WriteJob<T, F, D> {
    stage: StageCell,
    work: Option<F>,
    result: Option<Result<T, Error>>,
    done: Option<D>,
}

impl<T, F, D> Write for WriteJob<T, F, D>
where
    T: Send,
    F: FnOnce(&Connection, &mut WriterState) -> Result<T, Error> + Send,
    D: FnOnce(Result<T, Error>) + Send,
{
    fn begin(&mut self) -> bool {
        let mut stage = self.stage.lock();
        if *stage == Stage::Queued {
            *stage = Stage::Running;
        }
        *stage == Stage::Running
    }

    fn run(&mut self, connection: &Connection, state: &mut WriterState) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        // A panic of one write costs that write, not the thread that all others need.
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(connection, state)))
                .unwrap_or_else(|_| Err(Error::Other("a write panicked".into())));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn finish(mut self: Box<Self>, committed: Result<(), Error>) {
        let not_run = || Error::Unavailable("the transaction ended before this write".into());
        let result = match (self.result.take(), committed) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(failure)) => Err(failure),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(not_run()),
        };
        if let Some(done) = self.done.take() {
            done(result);
        }
    }
}

struct Threads<J> {
    sender: Mutex<Option<SyncSender<J>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    deadline: Duration,
    waiting: Arc<AtomicU32>,
}

impl<J> Threads<J> {
    fn send(&self, job: J) -> Result<(), Error> {
        let sender = self
            .sender
            .lock()
            .clone()
            .ok_or_else(|| Error::Unavailable("database is closed".into()))?;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        sender.try_send(job).map_err(|e| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            Error::Unavailable(match e {
                TrySendError::Full(_) => "too many calls wait for the database".into(),
                TrySendError::Disconnected(_) => "database is closed".into(),
            })
        })
    }

    async fn close(&self) {
        drop(self.sender.lock().take());
        let threads = std::mem::take(&mut *self.threads.lock());
        // The join waits for what is queued; blocking is for the blocking pool.
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|t| drop(t.join())))
                .await;
        drop(joined);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|e| Error::Other(e.to_string()))
}

/// The writing thread.
pub(crate) struct Writer(Threads<Box<dyn Write>>);

impl Writer {
    pub(crate) fn start(connection: Connection, deadline: Duration) -> Result<Writer, Error> {
        let (sender, receiver) = sync_channel(QUEUE_CALLS_MAX);
        let waiting = Arc::new(AtomicU32::new(0));
        let counter = waiting.clone();
        let thread = spawn("sqlite-writer", move || {
            write_loop(&connection, &receiver, &counter)
        })?;
        Ok(Writer(Threads {
            sender: Mutex::new(Some(sender)),
            threads: Mutex::new(vec![thread]),
            deadline,
            waiting,
        }))
    }

    /// Queues a write; `done` is called on the writing thread with its outcome, durable if `Ok`.
    pub(crate) fn submit<T, F, D>(&self, stage: StageCell, work: F, done: D) -> Result<(), Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut WriterState) -> Result<T, Error> + Send + 'static,
        D: FnOnce(Result<T, Error>) + Send + 'static,
    {
        self.0.send(Box::new(WriteJob {
            stage,
            work: Some(work),
            result: None,
            done: Some(done),
        }))
    }

    /// Runs a write; past the deadline it is either withdrawn or of unknown outcome.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut WriterState) -> Result<T, Error> + Send + 'static,
    {
        let stage: StageCell = Arc::new(Mutex::new(Stage::Queued));
        let (answer, answered) = oneshot::channel();
        self.submit(stage.clone(), work, move |result| drop(answer.send(result)))?;
        match tokio::time::timeout(self.0.deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Unavailable("database is closed".into())),
            Err(_) => Err(withdraw(&stage)),
        }
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.0.waiting.load(Ordering::Relaxed)
    }

    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

/// Takes a write back that has not begun; says what its caller may know.
pub(crate) fn withdraw(stage: &StageCell) -> Error {
    let mut stage = stage.lock();
    if *stage == Stage::Running {
        return Error::Unknown("the disk does not answer".into());
    }
    *stage = Stage::Cancelled;
    Error::Unavailable("the database is busy".into())
}

fn write_loop(connection: &Connection, receiver: &Receiver<Box<dyn Write>>, waiting: &AtomicU32) {
    let mut state = WriterState {
        // Nobody knows what an earlier run left.
        unindexed: WORDS_STEP_TEXTS,
        ..WriterState::default()
    };
    while let Some(first) = next(connection, &mut state, receiver) {
        let mut group = vec![first];
        while group.len() < GROUP_WRITES_MAX
            && let Ok(next) = receiver.try_recv()
        {
            group.push(next);
        }
        waiting.fetch_sub(group.len() as u32, Ordering::Relaxed);
        group.retain_mut(|job| job.begin());
        let outcome = run_group(connection, &mut state, &mut group);
        if outcome.is_err() {
            state.heads.clear();
            state.next_message = 0;
            if !connection.is_autocommit() {
                drop(connection.execute_batch("ROLLBACK"));
            }
        }
        for job in group {
            job.finish(outcome.clone());
        }
    }
    // Leaves a file without a log behind, as a copy by hand expects it.
    drop(connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE)"));
}

/// The next write. Texts are indexed between writes once enough have gathered, and while no write comes.
fn next(
    connection: &Connection,
    state: &mut WriterState,
    receiver: &Receiver<Box<dyn Write>>,
) -> Option<Box<dyn Write>> {
    let mut due = state.unindexed >= WORDS_STEP_TEXTS;
    loop {
        if due {
            let indexed = index_words(connection);
            if let Err(failure) = &indexed {
                tracing::warn!(%failure, "words are not indexed yet; searches take longer");
            }
            // After a failure the next texts try again.
            state.unindexed = u32::from(indexed.unwrap_or(false)) * WORDS_STEP_TEXTS;
        }
        if state.unindexed == 0 {
            return receiver.recv().ok();
        }
        match receiver.recv_timeout(IDLE) {
            Err(RecvTimeoutError::Timeout) => due = true,
            next => return next.ok(),
        }
    }
}

fn run_group(
    connection: &Connection,
    state: &mut WriterState,
    group: &mut [Box<dyn Write>],
) -> Result<(), Error> {
    let run = |sql: &str| {
        connection
            .prepare_cached(sql)
            .and_then(|mut s| s.execute([]))
            .map(drop)
            .map_err(error)
    };
    let alone = group.len() == 1;
    if group.is_empty() {
        return Ok(());
    }
    run("BEGIN IMMEDIATE")?;
    for job in group {
        if !alone {
            run("SAVEPOINT one")?;
        }
        if job.run(connection, state) {
            if !alone {
                run("RELEASE one")?;
            }
            continue;
        }
        state.heads.clear();
        state.next_message = 0;
        if alone {
            return run("ROLLBACK");
        }
        // A disk that is full has ended the transaction by itself: then the others fail too.
        run("ROLLBACK TO one")?;
        run("RELEASE one")?;
    }
    commit(connection)
}

fn commit(connection: &Connection) -> Result<(), Error> {
    let committed = connection
        .prepare_cached("COMMIT")
        .and_then(|mut statement| statement.execute([]));
    match committed {
        Ok(_) => Ok(()),
        Err(failure) if failure.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) => {
            end_process(&failure)
        }
        Err(failure) => Err(error(failure)),
    }
}

/// The transaction may lie in the log with its mark, where the next start finds it: nobody may be told that it failed.
/// Nor does a second flush write what a failed one has lost; only a new start reads what the disk has.
fn end_process(failure: &rusqlite::Error) -> ! {
    tracing::error!(
        %failure,
        "the disk failed while messages were being stored: this server ends, so that nobody is told anything wrong; \
         look at the disk, then start it again"
    );
    std::process::exit(EXIT_DISK_FAILED)
}

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// The reading threads.
pub(crate) struct Readers {
    threads: Threads<ReadJob>,
    pub count: u32,
    busy: Arc<AtomicU32>,
}

impl Readers {
    pub(crate) fn start(
        connections: Vec<Connection>,
        deadline: Duration,
    ) -> Result<Readers, Error> {
        let (sender, receiver) = sync_channel::<ReadJob>(QUEUE_CALLS_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        let waiting = Arc::new(AtomicU32::new(0));
        let busy = Arc::new(AtomicU32::new(0));
        let count = connections.len() as u32;
        let mut threads = Vec::new();
        for connection in connections {
            let (receiver, waiting, busy) = (receiver.clone(), waiting.clone(), busy.clone());
            threads.push(spawn("sqlite-reader", move || {
                loop {
                    let job = receiver.lock().recv();
                    let Ok(job) = job else { return };
                    waiting.fetch_sub(1, Ordering::Relaxed);
                    busy.fetch_add(1, Ordering::Relaxed);
                    let ran =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&connection)));
                    if ran.is_err() && !connection.is_autocommit() {
                        drop(connection.execute_batch("ROLLBACK"));
                    }
                    busy.fetch_sub(1, Ordering::Relaxed);
                }
            })?);
        }
        let threads = Threads {
            sender: Mutex::new(Some(sender)),
            threads: Mutex::new(threads),
            deadline,
            waiting,
        };
        Ok(Readers {
            threads,
            count,
            busy,
        })
    }

    /// Runs `work` on a snapshot; past the deadline it is interrupted.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let deadline = self.threads.deadline;
        self.threads.send(Box::new(move |connection| {
            if !answer.is_closed() {
                let result = interruptible(connection, deadline, work);
                drop(answer.send(result));
            }
        }))?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Unavailable("database is closed".into())),
            Err(_) => Err(Error::Unavailable("the database is busy".into())),
        }
    }

    pub(crate) fn state(&self, name: &'static str) -> PoolState {
        PoolState {
            name,
            connections_max: self.count,
            connections_open: self.count,
            in_use: self.busy.load(Ordering::Relaxed),
            waiting: self.threads.waiting.load(Ordering::Relaxed),
        }
    }

    pub(crate) async fn close(&self) {
        self.threads.close().await;
    }
}

/// Steps of SQLite's machine between two looks at the clock.
const STEPS_PER_LOOK: std::ffi::c_int = 100_000;

fn interruptible<T>(
    connection: &Connection,
    deadline: Duration,
    work: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    let end = std::time::Instant::now() + deadline;
    connection
        .progress_handler(
            STEPS_PER_LOOK,
            Some(move || std::time::Instant::now() > end),
        )
        .map_err(error)?;
    connection.execute_batch("BEGIN").map_err(error)?;
    let result = work(connection);
    // A reader's transaction has nothing to lose; an interrupted one is over already.
    if !connection.is_autocommit() {
        connection.execute_batch("COMMIT").map_err(error)?;
    }
    result
}
