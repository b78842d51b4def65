//! How a connection is made and set up, and what PostgreSQL's errors mean for a caller.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use crate::{Error, PostgresConfig};

/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 250;

/// What every connection of a pool is set up with.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    options: PgConnectOptions,
    /// Runs as one simple query after connecting.
    settings: String,
    /// Refuse a server that is in recovery: a demoted primary, or a standby behind a moving address.
    primary: bool,
}

impl Setup {
    /// `statement_timeout` lets the server drop what nobody waits for any more; zero: none.
    pub(crate) fn new(
        config: &PostgresConfig,
        url: &str,
        statement_timeout: Duration,
        primary: bool,
    ) -> Result<Setup, Error> {
        let options: PgConnectOptions = url
            .parse()
            .map_err(|e: sqlx::Error| Error::Other(e.to_string()))?;
        let options = options
            .application_name("eider")
            .statement_cache_capacity(STATEMENTS_MAX)
            .disable_statement_logging();
        // A server whose client vanished must let go of its locks soon.
        let mut settings = format!(
            "SET statement_timeout = {}; SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2;
             SET tcp_keepalives_count = 3; SET tcp_user_timeout = 10000; SET jit = off;
             SET default_transaction_isolation = 'read committed';",
            statement_timeout.as_millis()
        );
        match config.synchronous_commit.as_deref() {
            Some(value @ ("off" | "local" | "remote_write" | "on" | "remote_apply")) => {
                settings.push_str(&format!("SET synchronous_commit = {value};"));
            }
            Some(_) => return Err(Error::Other("synchronous_commit has no such value".into())),
            // Weaker than `on` would break the promise of DESIGN §1.
            None => settings.push_str(
                "SELECT set_config('synchronous_commit', 'on', false)
                 WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');",
            ),
        }
        Ok(Setup {
            options,
            settings,
            primary,
        })
    }

    /// Connects and sets up.
    pub(crate) async fn connect(&self) -> Result<PgConnection, Error> {
        let mut connection = self.options.connect().await.map_err(error)?;
        sqlx::raw_sql(AssertSqlSafe(self.settings.clone()))
            .execute(&mut connection)
            .await
            .map_err(error)?;
        if self.primary {
            check_primary(&mut connection).await?;
        }
        Ok(connection)
    }

    /// True where a connection that was idle is still what it was made for.
    pub(crate) async fn check(&self, connection: &mut PgConnection) -> bool {
        if self.primary {
            check_primary(connection).await.is_ok()
        } else {
            connection.ping().await.is_ok()
        }
    }
}

async fn check_primary(connection: &mut PgConnection) -> Result<(), Error> {
    let row = sqlx::query("SELECT pg_is_in_recovery()")
        .fetch_one(connection)
        .await
        .map_err(error)?;
    if row.try_get(0).map_err(error)? {
        return Err(Error::Unavailable("the server is a standby".into()));
    }
    Ok(())
}

/// A failure before the commit was sent, in this crate's classes.
pub(crate) fn error(error: sqlx::Error) -> Error {
    let text = error.to_string();
    match &error {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some("25006") => Error::Unavailable(format!("the server is read-only: {text}")),
            Some("XX001" | "XX002") => Error::Corrupt(text),
            // Connection, resources, operator's intervention, system, deadlock, lock time-out.
            Some(code)
                if ["08", "53", "57", "58", "40"].contains(&code.get(..2).unwrap_or_default())
                    || code == "55P03" =>
            {
                Error::Unavailable(text)
            }
            _ => Error::Other(text),
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Error::Corrupt(text),
        sqlx::Error::Configuration(_) | sqlx::Error::Encode(_) => Error::Other(text),
        _ => Error::Unavailable(text),
    }
}

/// A failure of a statement that commits: only a server that answered "no" surely did not do it.
pub(crate) fn commit_error(failure: sqlx::Error) -> Error {
    let answered = match &failure {
        sqlx::Error::Database(database) => {
            // A backend that is being terminated may have committed already, waiting for its standby.
            !database
                .code()
                .is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        sqlx::Error::Encode(_) => true,
        _ => false,
    };
    if answered {
        error(failure)
    } else {
        Error::Unknown(failure.to_string())
    }
}
