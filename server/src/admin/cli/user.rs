//! `eider user`: accounts.

use clap::Subcommand;

use super::ask::ask;
use super::password::PasswordSource;
use super::{Global, output, session};
use crate::admin::protocol::{AccountInfo, Count, Failure, Request};

/// Accounts
#[derive(Debug, Subcommand)]
pub enum User {
    /// Makes an account
    Add {
        /// The account, as anna@example.org
        account: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Replaces the password; sessions end
    Passwd {
        /// The account
        account: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Removes an account and all that belongs to it: roster, archive, everything
    Remove {
        /// The account
        account: String,
    },
    /// Lists accounts
    List {
        /// Of this host alone
        #[arg(long)]
        host: Option<String>,
        /// Those whose name contains this
        #[arg(long)]
        search: Option<String>,
        /// At most so many of each host
        #[arg(long, default_value_t = 10_000)]
        limit: u32,
    },
    /// Shows one account and its sessions
    Show {
        /// The account
        account: String,
    },
    /// Lets nobody log in to the account any more; sessions end, nothing is removed
    Disable {
        /// The account
        account: String,
    },
    /// Takes `disable` back
    Enable {
        /// The account
        account: String,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// Why it was not done.
pub async fn run(global: &Global, command: User) -> Result<(), Failure> {
    match command {
        User::Add { account, password } => {
            let password = password.read(&account)?;
            let info: AccountInfo = ask(global, Request::UserAdd { account, password }).await?;
            report(global, &info, || format!("{} can log in", info.account))
        }
        User::Passwd { account, password } => {
            let password = password.read(&account)?;
            let request = Request::UserPasswd {
                account: account.clone(),
                password,
            };
            let ended: Count = ask(global, request).await?;
            report(global, &ended, || {
                format!(
                    "{account} has a new password; sessions ended: {}",
                    ended.count
                )
            })
        }
        User::Remove { account } => {
            let ended: Count = ask(
                global,
                Request::UserRemove {
                    account: account.clone(),
                },
            )
            .await?;
            report(global, &ended, || {
                format!("{account} is removed; sessions ended: {}", ended.count)
            })
        }
        User::List {
            host,
            search,
            limit,
        } => {
            let accounts: Vec<AccountInfo> = ask(
                global,
                Request::UserList {
                    host,
                    search,
                    limit,
                },
            )
            .await?;
            list(global, &accounts);
            Ok(())
        }
        User::Show { account } => {
            let info: AccountInfo = ask(global, Request::UserShow { account }).await?;
            show(global, &info);
            Ok(())
        }
        User::Disable { account } => enable(global, account, false).await,
        User::Enable { account } => enable(global, account, true).await,
    }
}

async fn enable(global: &Global, account: String, enabled: bool) -> Result<(), Failure> {
    let request = Request::UserEnable {
        account: account.clone(),
        enabled,
    };
    let ended: Count = ask(global, request).await?;
    report(global, &ended, || match enabled {
        true => format!("{account} can log in"),
        false => format!("{account} cannot log in; sessions ended: {}", ended.count),
    })
}

fn report(
    global: &Global,
    value: &impl serde::Serialize,
    text: impl Fn() -> String,
) -> Result<(), Failure> {
    if global.json {
        output::json(value);
    } else {
        output::line(format_args!("{}", text()));
    }
    Ok(())
}

fn list(global: &Global, accounts: &[AccountInfo]) {
    if global.json {
        for account in accounts {
            output::json(account);
        }
        return;
    }
    let rows: Vec<_> = accounts
        .iter()
        .map(|a| {
            let state = if a.enabled { "" } else { "disabled" };
            let last = a.last_seen.clone().unwrap_or_default();
            vec![a.account.clone(), a.created.clone(), last, state.to_owned()]
        })
        .collect();
    let none = format!(
        "no accounts; make one: {} user add anna@HOST",
        global.program()
    );
    output::table(&["account", "made", "last seen", ""], &rows, &none);
}

fn show(global: &Global, info: &AccountInfo) {
    if global.json {
        return output::json(info);
    }
    output::line(format_args!("account    {}", info.account));
    output::line(format_args!(
        "log in     {}",
        if info.enabled { "allowed" } else { "disabled" }
    ));
    output::line(format_args!("made       {}", info.created));
    output::line(format_args!(
        "last seen  {}",
        info.last_seen.as_deref().unwrap_or("never")
    ));
    output::line("");
    session::list(global, &info.sessions);
}
