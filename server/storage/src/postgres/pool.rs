//! A small pool. sqlx's own leaks permits when a dead connection is returned (launchbadge/sqlx issue 4349); here a
//! connection goes back only when its last statement has ended well, and everything else is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Setup, commit_error, error};
use crate::{Error, Fence, PoolState};

/// A connection idle for longer is asked before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// How long an idle connection may take to show that it lives. A server that is gone without a word never answers.
const CHECK_PATIENCE: Duration = Duration::from_millis(500);

/// A statement with its values.
pub(crate) type Statement<'q> = Query<'q, Postgres, PgArguments>;

struct Idle {
    connection: PgConnection,
    since: Instant,
    generation: u64,
}

/// Connections to one server for one purpose.
pub(crate) struct Pool {
    name: &'static str,
    setup: Setup,
    deadline: Duration,
    connections_max: u32,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// Raised when a connection was found dead: all that are idle are suspect then.
    generation: AtomicU64,
    open: AtomicU32,
    waiting: AtomicU32,
    closed: AtomicBool,
}

impl Pool {
    pub(crate) fn new(
        name: &'static str,
        setup: Setup,
        connections_max: u32,
        deadline: Duration,
    ) -> Arc<Pool> {
        let connections_max = connections_max.max(1);
        Arc::new(Pool {
            name,
            setup,
            deadline,
            connections_max,
            permits: Arc::new(Semaphore::new(connections_max as usize)),
            idle: Mutex::default(),
            generation: AtomicU64::new(0),
            open: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// A connection for one call; all its statements together end within the deadline.
    pub(crate) async fn acquire(self: &Arc<Pool>) -> Result<Lease, Error> {
        self.acquire_until(Instant::now() + self.deadline).await
    }

    /// The same for long work of the console.
    pub(crate) async fn acquire_until(self: &Arc<Pool>, deadline: Instant) -> Result<Lease, Error> {
        let soon = deadline.min(Instant::now() + self.deadline);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let connected = timeout_at(soon, self.connection()).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let (connection, permit) = connected
            .map_err(|_| Error::Unavailable(format!("no {} connection in time", self.name)))??;
        let generation = self.generation.load(Ordering::Relaxed);
        Ok(Lease {
            connection: Some(connection),
            pool: self.clone(),
            _permit: permit,
            deadline,
            generation,
            dirty: false,
            in_transaction: false,
        })
    }

    async fn lives(&self, connection: &mut PgConnection) -> bool {
        let check = timeout(CHECK_PATIENCE, self.setup.check(connection));
        check.await.unwrap_or(false)
    }

    async fn connection(self: &Arc<Pool>) -> Result<(PgConnection, OwnedSemaphorePermit), Error> {
        let closed = || Error::Unavailable("database is closed".into());
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        if self.closed.load(Ordering::Relaxed) {
            return Err(closed());
        }
        loop {
            let Some(mut idle) = self.idle.lock().pop() else {
                break;
            };
            self.open.fetch_sub(1, Ordering::Relaxed);
            if idle.generation != self.generation.load(Ordering::Relaxed) {
                continue;
            }
            let trusted = idle.since.elapsed() < TRUSTED_IDLE;
            if trusted || self.lives(&mut idle.connection).await {
                self.open.fetch_add(1, Ordering::Relaxed);
                return Ok((idle.connection, permit));
            }
            // What is wrong with one is wrong with all that were made before.
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        let connection = self.setup.connect().await?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok((connection, permit))
    }

    pub(crate) fn state(&self) -> PoolState {
        let open = self.open.load(Ordering::Relaxed);
        let idle = self.idle.lock().len() as u32;
        PoolState {
            name: self.name,
            connections_max: self.connections_max,
            connections_open: open,
            in_use: open.saturating_sub(idle),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock());
        for idle in idle {
            // A server that does not answer must not keep ours from ending.
            drop(tokio::time::timeout(Duration::from_secs(1), idle.connection.close()).await);
        }
    }
}

/// A connection on loan.
pub(crate) struct Lease {
    connection: Option<PgConnection>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
    deadline: Instant,
    generation: u64,
    /// A statement is under way, or the last one failed in a way that says nothing good of the connection.
    dirty: bool,
    in_transaction: bool,
}

impl Lease {
    fn connection(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("a lease has its connection until it is dropped")
    }

    async fn watched<T>(
        &mut self,
        commits: bool,
        run: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        self.dirty = true;
        let deadline = self.deadline;
        let result = match timeout_at(deadline, run(self.connection())).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err(if commits { commit_error(e) } else { error(e) }),
            Err(_) if commits => Err(Error::Unknown("the database does not answer".into())),
            Err(_) => Err(Error::Unavailable("the database does not answer".into())),
        };
        match &result {
            // Also a server that turned read-only: elsewhere there may be one that is not.
            Err(Error::Unavailable(_) | Error::Unknown(_)) => {
                self.pool.generation.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.dirty = false,
        }
        result
    }

    /// Rows changed. In a transaction, or a read.
    pub(crate) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, Error> {
        let done = self
            .watched(false, async |c: &mut PgConnection| {
                statement.execute(c).await
            })
            .await?;
        Ok(done.rows_affected())
    }

    /// Several statements without values.
    pub(crate) async fn script(&mut self, sql: AssertSqlSafe<String>) -> Result<(), Error> {
        self.watched(false, async |c: &mut PgConnection| {
            sqlx::raw_sql(sql).execute(c).await
        })
        .await?;
        Ok(())
    }

    pub(crate) async fn optional(
        &mut self,
        statement: Statement<'_>,
    ) -> Result<Option<PgRow>, Error> {
        self.watched(false, async |c: &mut PgConnection| {
            statement.fetch_optional(c).await
        })
        .await
    }

    pub(crate) async fn all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Error> {
        self.watched(false, async |c: &mut PgConnection| {
            statement.fetch_all(c).await
        })
        .await
    }

    /// Starts a transaction under `fence`.
    pub(crate) async fn begin(&mut self, fence: Fence) -> Result<(), Error> {
        self.execute(sqlx::query("BEGIN")).await?;
        self.in_transaction = true;
        let Some(token) = fence.token() else {
            return Ok(());
        };
        // The shared lock makes whoever declares this member dead wait for this transaction.
        let sql = "SELECT 1 FROM member_fence WHERE token = $1 AND dead = 0 FOR SHARE";
        match self.optional(sqlx::query(sql).bind(token)).await? {
            Some(_) => Ok(()),
            None => self.end(Err(Error::Fenced)).await,
        }
    }

    /// Starts a transaction that sees one state of the database.
    pub(crate) async fn begin_snapshot(&mut self) -> Result<(), Error> {
        self.execute(sqlx::query(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        ))
        .await?;
        self.in_transaction = true;
        Ok(())
    }

    /// Commits what went well, rolls back the rest.
    pub(crate) async fn end<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Ok(value) => {
                self.watched(true, async |c: &mut PgConnection| {
                    sqlx::query("COMMIT").execute(c).await
                })
                .await?;
                self.in_transaction = false;
                Ok(value)
            }
            Err(failure) => {
                if !self.dirty && self.execute(sqlx::query("ROLLBACK")).await.is_ok() {
                    self.in_transaction = false;
                }
                Err(failure)
            }
        }
    }

    /// One statement that is a transaction by itself.
    pub(crate) async fn write(
        &mut self,
        fence: Fence,
        statement: Statement<'_>,
    ) -> Result<Vec<PgRow>, Error> {
        if fence.token().is_none() {
            return self
                .watched(true, async |c: &mut PgConnection| {
                    statement.fetch_all(c).await
                })
                .await;
        }
        self.begin(fence).await?;
        let result = self.all(statement).await;
        self.end(result).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let reusable =
            !self.dirty && !self.in_transaction && !self.pool.closed.load(Ordering::Relaxed);
        if reusable && self.generation == self.pool.generation.load(Ordering::Relaxed) {
            let (since, generation) = (Instant::now(), self.generation);
            self.pool.idle.lock().push(Idle {
                connection,
                since,
                generation,
            });
        } else {
            self.pool.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
