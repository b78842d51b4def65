//! `eider session`: live sessions.

use clap::Subcommand;

use super::ask::ask;
use super::{Global, output};
use crate::admin::protocol::{Count, Failure, Request};
use crate::admin::sessions::SessionInfo;

/// Sessions
#[derive(Debug, Subcommand)]
pub enum Session {
    /// Lists sessions
    List {
        /// Of this account alone
        account: Option<String>,
    },
    /// Ends one session (anna@example.org/phone) or all of an account (anna@example.org)
    Kick {
        /// Full or bare JID
        jid: String,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// Why it was not done.
pub async fn run(global: &Global, command: Session) -> Result<(), Failure> {
    match command {
        Session::List { account } => {
            let sessions: Vec<SessionInfo> = ask(global, Request::SessionList { account }).await?;
            list(global, &sessions);
        }
        Session::Kick { jid } => {
            let ended: Count = ask(global, Request::SessionKick { jid }).await?;
            if global.json {
                output::json(&ended);
            } else {
                output::line(format_args!("sessions ended: {}", ended.count));
            }
        }
    }
    Ok(())
}

/// Prints sessions.
pub fn list(global: &Global, sessions: &[SessionInfo]) {
    if global.json {
        for session in sessions {
            output::json(session);
        }
        return;
    }
    let rows: Vec<_> = sessions.iter().map(row).collect();
    let heading = ["session", "from", "TLS", "login", "age", "idle", "state"];
    output::table(&heading, &rows, "no sessions");
}

fn row(session: &SessionInfo) -> Vec<String> {
    let mut state = match (session.waiting_seconds, session.priority) {
        (Some(left), _) => format!("away, waits {}", output::seconds(left)),
        (None, Some(priority)) => format!("available {priority}"),
        (None, None) => "not available".to_owned(),
    };
    for (on, word) in [
        (session.stream_management, "sm"),
        (session.carbons, "carbons"),
        (session.inactive, "inactive"),
    ] {
        if on {
            state = format!("{state} {word}");
        }
    }
    vec![
        session.jid.clone(),
        session.address.clone().unwrap_or_default(),
        session.tls.clone().unwrap_or_default(),
        session.mechanism.clone(),
        output::seconds(session.age_seconds),
        output::seconds(session.idle_seconds),
        state,
    ]
}
