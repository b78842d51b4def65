//! The one connection that writes the archive: one statement for a batch, the next batch gathering while one is under
//! way.
//!
//! A connection that dies during a commit leaves the commit's fate open. The writer's session holds an advisory lock, so
//! that a new connection which has that lock knows the old backend to be gone: nothing of it can commit any more, and
//! looking one row up tells what happened to all of its batch. Only then goes the next batch out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::connection::{Setup, commit_error, error};
use super::statement::{self, Places};
use crate::heads::{Head, Heads};
use crate::ledger::CommitLedger;
use crate::{AccountId, Commit, CommitError, Error, PoolState, Position, Unknown};

/// Batches that may wait.
const QUEUE_COMMITS_MAX: usize = 1024;
/// Ids taken from the sequence at once.
pub(super) const BLOCK_MESSAGES: i64 = 65_536;
/// Between two attempts to reach the server.
const RETRY: Duration = Duration::from_millis(100);
/// The lock's first key ("eidw"); the second tells members apart.
const LOCK_CLASS: i32 = 0x6569_6477;

/// How long a start waits for another server's lock, and after how long it says so. A machine that is gone without a word is
/// noticed by keepalives within 11 s.
const CLAIM_PATIENCE: Duration = Duration::from_secs(15);
const CLAIM_SAID_AFTER: Duration = Duration::from_secs(1);
/// A granted lock `l` with the keys `$1` and `$2` in this database.
const HELD: &str = "l.locktype = 'advisory' AND l.granted AND l.classid = $1::bigint::oid
     AND l.objid = ($2::bigint & 4294967295)::oid AND l.objsubid = 2
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";

type Answer = oneshot::Sender<Result<Vec<Position>, CommitError>>;

enum Request {
    Commit {
        batch: Box<Commit>,
        ticket: u64,
        deadline: Instant,
        answer: Answer,
    },
    Forget {
        owner: AccountId,
        done: oneshot::Sender<()>,
    },
    Claim {
        answer: oneshot::Sender<Result<(), Error>>,
    },
}

/// The handle.
pub(crate) struct Writer {
    sender: Mutex<Option<mpsc::Sender<Request>>>,
    ledger: Arc<Mutex<CommitLedger>>,
    connected: Arc<AtomicU32>,
    waiting: Arc<AtomicU32>,
    next_ticket: AtomicU64,
    deadline: Duration,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the task; it connects when there is something to write.
    pub(crate) fn start(setup: Setup, deadline: Duration) -> Writer {
        let (sender, receiver) = mpsc::channel(QUEUE_COMMITS_MAX);
        let ledger = Arc::<Mutex<CommitLedger>>::default();
        let (connected, waiting) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let task = Task {
            setup,
            ledger: ledger.clone(),
            connected: connected.clone(),
            connection: None,
            backend: 0,
            member: 0,
            heads: Heads::default(),
            next_message: 0,
            block_end: 0,
            open: None,
        };
        let task = Mutex::new(Some(tokio::spawn(task.run(receiver, waiting.clone()))));
        let sender = Mutex::new(Some(sender));
        Writer {
            sender,
            ledger,
            connected,
            waiting,
            next_ticket: AtomicU64::new(1),
            deadline,
            task,
        }
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        let sender = self.sender.lock();
        let sender = sender
            .as_ref()
            .ok_or_else(|| Error::Unavailable("database is closed".into()))?;
        sender
            .try_send(request)
            .map_err(|_| Error::Unavailable("too many commits wait".into()))?;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) async fn commit(&self, batch: Commit) -> Result<Vec<Position>, CommitError> {
        let (answer, answered) = oneshot::channel();
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + self.deadline;
        self.send(Request::Commit {
            batch: Box::new(batch),
            ticket,
            deadline,
            answer,
        })?;
        // The task answers within the deadline whatever happens.
        answered
            .await
            .map_err(|_| Error::Unavailable("database is closed".into()))?
    }

    pub(crate) fn resolve(&self, unknown: &Unknown) -> Result<Option<Vec<Position>>, Error> {
        self.ledger.lock().ask(unknown.ticket)
    }

    /// The account is gone: positions must be refused from now on.
    pub(crate) async fn forget(&self, owner: AccountId) -> Result<(), Error> {
        let (done, answered) = oneshot::channel();
        self.send(Request::Forget { owner, done })?;
        answered
            .await
            .map_err(|_| Error::Unavailable("database is closed".into()))
    }

    /// Takes the lock of the one that writes.
    pub(crate) async fn claim(&self) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Claim { answer })?;
        answered
            .await
            .map_err(|_| Error::Unavailable("database is closed".into()))?
    }

    pub(crate) fn state(&self) -> PoolState {
        let waiting = self.waiting.load(Ordering::Relaxed);
        PoolState {
            name: "writer",
            connections_max: 1,
            connections_open: self.connected.load(Ordering::Relaxed),
            in_use: u32::from(waiting > 0).min(self.connected.load(Ordering::Relaxed)),
            waiting,
        }
    }

    /// Ends the task after what is queued is written.
    pub(crate) async fn close(&self) {
        drop(self.sender.lock().take());
        let task = self.task.lock().take();
        if let Some(task) = task {
            drop(tokio::time::timeout(self.deadline + RETRY, task).await);
        }
    }
}

/// A commit whose fate is open.
struct Open {
    ticket: u64,
    positions: Vec<Position>,
    /// A row of it; `None`: it gave no position, and what it wrote may be written again.
    probe: Option<(AccountId, Position)>,
}

/// How an attempt ended.
enum Attempt {
    Done(Vec<Position>),
    /// Surely nothing is stored, and trying again would not help.
    Failed(Error),
    /// Not done or not known (then `Task::open` is set); try again.
    Again(Error),
}

struct Task {
    setup: Setup,
    ledger: Arc<Mutex<CommitLedger>>,
    connected: Arc<AtomicU32>,
    connection: Option<PgConnection>,
    /// Process id of our newest backend.
    backend: i32,
    /// The lock's second key.
    member: i32,
    heads: Heads,
    next_message: i64,
    block_end: i64,
    open: Option<Open>,
}

impl Task {
    async fn run(mut self, mut receiver: mpsc::Receiver<Request>, waiting: Arc<AtomicU32>) {
        loop {
            let request = if self.open.is_some() {
                match tokio::time::timeout(RETRY, receiver.recv()).await {
                    Ok(request) => request,
                    Err(_) => {
                        // A caller waits for the fate of its commit though nobody commits.
                        let settled = self.ready(Instant::now() + Duration::from_secs(2)).await;
                        if settled.is_err() {
                            self.disconnect();
                        }
                        continue;
                    }
                }
            } else {
                receiver.recv().await
            };
            let Some(request) = request else { break };
            waiting.fetch_sub(1, Ordering::Relaxed);
            match request {
                Request::Forget { owner, done } => {
                    self.heads.forget(owner);
                    let _nobody_waits = done.send(());
                }
                Request::Claim { answer } => drop(answer.send(self.claim().await)),
                Request::Commit {
                    batch,
                    ticket,
                    deadline,
                    answer,
                } => {
                    // A caller that left before its batch began does not want it.
                    if !answer.is_closed() {
                        let result = self.commit(&batch, ticket, deadline).await;
                        drop(answer.send(result));
                    }
                }
            }
        }
        if let Some(connection) = self.connection.take() {
            drop(tokio::time::timeout(RETRY * 10, connection.close()).await);
        }
    }

    async fn commit(
        &mut self,
        batch: &Commit,
        ticket: u64,
        deadline: Instant,
    ) -> Result<Vec<Position>, CommitError> {
        loop {
            let failure = match self.attempt(batch, ticket, deadline).await {
                Attempt::Done(positions) => return Ok(positions),
                Attempt::Failed(failure) => return Err(failure.into()),
                Attempt::Again(failure) => failure,
            };
            self.disconnect();
            if Instant::now() + RETRY < deadline {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            if self.open.as_ref().is_some_and(|open| open.ticket == ticket) {
                self.ledger.lock().open(ticket);
                return Err(CommitError::Unknown(Unknown { ticket }));
            }
            return Err(Error::Unavailable(failure.to_string()).into());
        }
    }

    async fn attempt(&mut self, batch: &Commit, ticket: u64, deadline: Instant) -> Attempt {
        self.member = batch.fence.token().unwrap_or(0) as i32;
        match self.ready(deadline).await {
            Ok(Some((settled, stored))) if settled == ticket => {
                if let Some(positions) = stored {
                    return Attempt::Done(positions);
                }
            }
            Ok(_) => {}
            Err(failure) => return Attempt::Again(failure),
        }
        let places = match timeout_at(deadline, self.places(batch)).await {
            Ok(Ok(places)) => places,
            Ok(Err(failure @ Error::Other(_))) => {
                self.heads.clear();
                return Attempt::Failed(failure);
            }
            Ok(Err(failure)) => return Attempt::Again(failure),
            Err(_) => {
                return Attempt::Again(Error::Unavailable("the database does not answer".into()));
            }
        };
        self.send_batch(batch, ticket, places, deadline).await
    }

    async fn send_batch(
        &mut self,
        batch: &Commit,
        ticket: u64,
        places: Places,
        deadline: Instant,
    ) -> Attempt {
        let positions: Vec<_> = places
            .rows
            .iter()
            .map(|p| p.map_or(Position(0), |(pos, _)| pos))
            .collect();
        let (sql, arguments) = match statement::build(batch, &places) {
            Ok(Some(built)) => built,
            Ok(None) => return Attempt::Done(positions),
            Err(failure) => {
                self.heads.clear();
                return Attempt::Failed(failure);
            }
        };
        let Some(connection) = &mut self.connection else {
            return Attempt::Again(Error::Unavailable("not connected".into()));
        };
        let query = sqlx::query_with(sqlx::AssertSqlSafe(sql), arguments);
        let failure = match timeout_at(deadline, query.fetch_one(connection)).await {
            Ok(Ok(row)) if row.try_get::<bool, _>(0).unwrap_or(false) => {
                return Attempt::Done(positions);
            }
            Ok(Ok(_)) => Error::Fenced,
            Ok(Err(e)) => commit_error(e),
            Err(_) => Error::Unknown("the database does not answer".into()),
        };
        self.heads.clear();
        if !matches!(failure, Error::Unknown(_)) {
            if matches!(failure, Error::Unavailable(_)) {
                self.disconnect();
            }
            return Attempt::Failed(failure);
        }
        let probe = batch.rows.iter().zip(&positions).find(|(_, pos)| pos.0 > 0);
        let probe = probe.map(|(row, pos)| (row.owner, *pos));
        self.open = Some(Open {
            ticket,
            positions,
            probe,
        });
        Attempt::Again(failure)
    }

    /// Connects where needed and settles the commit whose fate is open: its ticket and what was stored.
    async fn ready(
        &mut self,
        deadline: Instant,
    ) -> Result<Option<(u64, Option<Vec<Position>>)>, Error> {
        let late = |_| Error::Unavailable("the database does not answer".into());
        if self.connection.is_none() {
            let connection = timeout_at(deadline, self.connect()).await.map_err(late)??;
            self.connection = Some(connection);
            self.connected.store(1, Ordering::Relaxed);
        }
        let (Some(open), Some(connection)) = (&self.open, &mut self.connection) else {
            return Ok(None);
        };
        let there = match open.probe {
            None => false,
            Some(row) => timeout_at(deadline, look_up(connection, row))
                .await
                .map_err(late)??,
        };
        let Some(open) = self.open.take() else {
            return Ok(None);
        };
        let stored = there.then_some(open.positions);
        self.ledger.lock().settle(open.ticket, stored.clone());
        Ok(Some((open.ticket, stored)))
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.connected.store(0, Ordering::Relaxed);
        // On another server, or after another's work, what memory says need not hold.
        self.heads.clear();
        self.next_message = 0;
        self.block_end = 0;
    }

    /// A connection that holds the writer's lock.
    async fn connect(&mut self) -> Result<PgConnection, Error> {
        let mut connection = self.setup.connect().await?;
        loop {
            let row = sqlx::query("SELECT pg_try_advisory_lock($1, $2), pg_backend_pid()")
                .bind(LOCK_CLASS)
                .bind(self.member)
                .fetch_one(&mut connection)
                .await
                .map_err(error)?;
            if row.try_get(0).map_err(error)? {
                self.backend = row.try_get(1).map_err(error)?;
                return Ok(connection);
            }
            // Our own former backend may not have noticed yet; somebody else's is left alone.
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_locks l WHERE {HELD} AND pid = $3"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(i64::from(LOCK_CLASS))
                .bind(i64::from(self.member))
                .bind(self.backend)
                .fetch_all(&mut connection)
                .await
                .map_err(error)?;
            tokio::time::sleep(RETRY / 4).await;
        }
    }

    /// Connects and takes the lock, or says who has it.
    async fn claim(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        for patience in [CLAIM_SAID_AFTER, CLAIM_PATIENCE] {
            if self.connection.is_some() {
                return Ok(());
            }
            match timeout_at(began + patience, self.connect()).await {
                Ok(connection) => {
                    self.connection = Some(connection?);
                    self.connected.store(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(_) if patience == CLAIM_SAID_AFTER => {
                    tracing::warn!("waits for another server to let go of the database");
                }
                Err(_) => {}
            }
        }
        let mut connection = self.setup.connect().await?;
        let holder = holder(&mut connection, self.member).await?;
        Err(Error::InUse(holder))
    }

    async fn places(&mut self, batch: &Commit) -> Result<Places, Error> {
        let Some(connection) = &mut self.connection else {
            return Err(Error::Unavailable("not connected".into()));
        };
        let mut unknown: Vec<i64> = batch
            .rows
            .iter()
            .filter(|row| !self.heads.contains(row.owner))
            .map(|row| row.owner.0)
            .collect();
        if !unknown.is_empty() {
            unknown.sort_unstable();
            unknown.dedup();
            load_heads(connection, &mut self.heads, unknown).await?;
        }
        let needed = batch.messages.len() as i64;
        if self.next_message + needed > self.block_end {
            let row = sqlx::query("SELECT nextval('message_block')")
                .fetch_one(connection)
                .await
                .map_err(error)?;
            let block: i64 = row.try_get(0).map_err(error)?;
            self.next_message = block * BLOCK_MESSAGES;
            self.block_end = self.next_message + BLOCK_MESSAGES;
        }
        let first_message = self.next_message;
        self.next_message += needed;
        let rows = batch
            .rows
            .iter()
            .map(|row| self.heads.advance(row.owner, row.at))
            .collect();
        Ok(Places {
            rows,
            first_message,
        })
    }
}

/// What the server knows of whoever holds the lock.
async fn holder(connection: &mut PgConnection, member: i32) -> Result<String, Error> {
    let sql = format!(
        "SELECT format('connected from %s since %s, process %s of PostgreSQL', coalesce(host(a.client_addr), 'this machine'),
         date_trunc('second', a.backend_start), l.pid)
         FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE {HELD}"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(i64::from(LOCK_CLASS))
        .bind(i64::from(member))
        .fetch_optional(connection)
        .await
        .map_err(error)?;
    match row {
        Some(row) => row.try_get(0).map_err(error),
        None => Err(Error::Unavailable(
            "the database does not answer in time".into(),
        )),
    }
}

async fn load_heads(
    connection: &mut PgConnection,
    heads: &mut Heads,
    owners: Vec<i64>,
) -> Result<(), Error> {
    let rows = sqlx::query(
        "SELECT o.owner, greatest(o.pos_floor, o.acked_up_to, coalesce(a.pos, 0)), coalesce(a.at, 0)
         FROM archive_owner o LEFT JOIN LATERAL
         (SELECT pos, at FROM archive WHERE owner = o.owner ORDER BY pos DESC LIMIT 1) a ON true
         WHERE o.owner = ANY ($1)",
    )
    .bind(owners)
    .fetch_all(connection)
    .await
    .map_err(error)?;
    for row in rows {
        let head = Head {
            pos: row.try_get(1).map_err(error)?,
            at: row.try_get(2).map_err(error)?,
        };
        heads.insert(AccountId(row.try_get(0).map_err(error)?), head);
    }
    Ok(())
}

/// True where the row is there, and durable as any commit now is.
async fn look_up(
    connection: &mut PgConnection,
    (owner, pos): (AccountId, Position),
) -> Result<bool, Error> {
    let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM archive WHERE owner = $1 AND pos = $2)")
        .bind(owner.0)
        .bind(pos.0)
        .fetch_one(&mut *connection)
        .await
        .map_err(error)?;
    let there: bool = row.try_get(0).map_err(error)?;
    if there {
        // The lost commit may still have waited for its standby. A commit of ours comes after it in the log: when this one
        // is acknowledged, so is that.
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ('writer_barrier', int8send(txid_current()))
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .execute(connection)
        .await
        .map_err(error)?;
    }
    Ok(there)
}
