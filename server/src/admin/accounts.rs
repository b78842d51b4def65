//! Accounts, as administrators change them: with the server running or not.

use std::num::NonZeroU32;

use aws_lc_rs::rand;
use eider_storage::{AccountId, AccountSummary, Credentials, Fence, ScramKeys, Storage, Timestamp};
use eider_xmpp::sasl;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::protocol::{AccountInfo, Failure, FailureKind};
use crate::c2s::control::Kick;
use crate::config::Config;

/// A prepared account name of a host that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The localpart.
    pub localpart: String,
    /// The host.
    pub host: String,
}

impl Account {
    /// Parses a bare JID of a host that is served.
    ///
    /// # Errors
    /// Usage where it is none, not found where the host is not served.
    pub fn parse(text: &str, config: &Config) -> Result<Self, Failure> {
        let account = Self::parse_any(text).ok_or_else(|| {
            let example = config
                .hosts
                .first()
                .map_or("example.org", |h| h.name.as_str());
            let what = format!("\"{text}\" is no account");
            Failure::new(FailureKind::Usage, what).hint(format!("write it as anna@{example}"))
        })?;
        if config.host(&account.host).is_none() {
            let hosts: Vec<_> = config.hosts.iter().map(|h| h.name.as_str()).collect();
            let what = format!("the host {} is not served here", account.host);
            let hint = format!(
                "served are: {}; add [[hosts]] to the configuration",
                hosts.join(", ")
            );
            return Err(Failure::new(FailureKind::NotFound, what).hint(hint));
        }
        Ok(account)
    }

    fn parse_any(text: &str) -> Option<Self> {
        let jid = eider_xmpp::jid::BareJid::parse(text).ok()?;
        Some(Self {
            localpart: jid.localpart()?.to_owned(),
            host: jid.domain().to_owned(),
        })
    }

    /// The bare JID.
    pub fn jid(&self) -> String {
        format!("{}@{}", self.localpart, self.host)
    }

    fn missing(&self) -> Failure {
        let what = format!("there is no account {}", self.jid());
        Failure::new(FailureKind::NotFound, what).hint("eider user list")
    }
}

/// What is done to an account.
pub enum Change {
    /// It is made, with this password.
    Add(String),
    /// Its password becomes this.
    Password(String),
    /// It goes, with all that belongs to it.
    Remove,
    /// It may log in, or not.
    Enable(bool),
}

impl Change {
    /// What has happened, for the log.
    pub fn done(&self) -> &'static str {
        match self {
            Change::Add(_) => "account made",
            Change::Password(_) => "password changed",
            Change::Remove => "account removed",
            Change::Enable(true) => "account enabled",
            Change::Enable(false) => "account disabled",
        }
    }

    /// Why sessions of the account end once this is done.
    pub fn ends(&self) -> Option<Kick> {
        match self {
            Change::Add(_) | Change::Enable(true) => None,
            Change::Password(_) => Some(Kick::CredentialsChanged),
            Change::Remove | Change::Enable(false) => Some(Kick::AccountGone),
        }
    }
}

/// Changes an account in storage alone. A running server does it through
/// [`SessionsAdmin::change`](super::sessions::SessionsAdmin::change), which remembers things of accounts.
///
/// # Errors
/// `Exists` where one is to be made that is there, `NotFound` where it is not, `Usage` where no
/// preparation accepts the password; what the database says.
pub async fn change(
    storage: &dyn Storage,
    config: &Config,
    account: &Account,
    change: &Change,
) -> Result<(), Failure> {
    match change {
        Change::Add(password) => add(storage, config, account, password).await,
        Change::Password(password) => passwd(storage, config, account, password).await,
        Change::Remove => remove(storage, account).await,
        Change::Enable(on) => enable(storage, account, *on).await,
    }
}

/// The keys of a new password, all mechanisms. Costs milliseconds of a core: runs on a blocking thread.
///
/// # Errors
/// Usage where no preparation accepts the password.
pub async fn credentials(password: &str, iterations: u32) -> Result<Credentials, Failure> {
    let prepared = sasl::prepare_password(password)
        .map_err(|e| Failure::new(FailureKind::Usage, e.to_string()))?
        .into_owned();
    let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let derived = tokio::task::spawn_blocking(move || {
        let mut salts = [[0; sasl::scram::SALT_BYTES]; 3];
        for salt in &mut salts {
            rand::fill(salt).map_err(|_| "the system gives no random bytes".to_owned())?;
        }
        Ok(sasl::ScramKeys::derive_all(&prepared, salts, iterations))
    });
    let derived = derived.await.unwrap_or_else(|e| Err(e.to_string()));
    let [sha1, sha256, sha512] = derived
        .map_err(|e| Failure::new(FailureKind::Failed, e))?
        .map(|keys| {
            Some(ScramKeys {
                salt: keys.salt,
                iterations: keys.iterations.get(),
                stored_key: keys.stored_key,
                server_key: keys.server_key,
            })
        });
    Ok(Credentials {
        sha1,
        sha256,
        sha512,
    })
}

async fn add(
    storage: &dyn Storage,
    config: &Config,
    account: &Account,
    password: &str,
) -> Result<(), Failure> {
    let credentials = credentials(password, config.login.iterations).await?;
    let now = crate::clock::timestamp();
    let (host, localpart) = (&account.host, &account.localpart);
    let made = storage
        .account_create(Fence::single(), host, localpart, &credentials, now)
        .await;
    made.map(drop).map_err(|e| match e {
        eider_storage::Error::Conflict(_) => {
            let what = format!("the account {} exists already", account.jid());
            Failure::new(FailureKind::Exists, what)
                .hint(format!("eider user passwd {}", account.jid()))
        }
        other => other.into(),
    })
}

async fn passwd(
    storage: &dyn Storage,
    config: &Config,
    account: &Account,
    password: &str,
) -> Result<(), Failure> {
    let id = id(storage, account).await?;
    let credentials = credentials(password, config.login.iterations).await?;
    let done = storage
        .account_set_keys(Fence::single(), id, &credentials)
        .await?;
    if done { Ok(()) } else { Err(account.missing()) }
}

async fn remove(storage: &dyn Storage, account: &Account) -> Result<(), Failure> {
    let id = id(storage, account).await?;
    let done = storage.account_remove(Fence::single(), id).await?;
    if done { Ok(()) } else { Err(account.missing()) }
}

async fn enable(storage: &dyn Storage, account: &Account, on: bool) -> Result<(), Failure> {
    let id = id(storage, account).await?;
    let done = storage
        .account_set_disabled(Fence::single(), id, !on)
        .await?;
    if done { Ok(()) } else { Err(account.missing()) }
}

/// Shows one account, without its sessions.
///
/// # Errors
/// `NotFound`; what the database says.
pub async fn show(storage: &dyn Storage, account: &Account) -> Result<AccountInfo, Failure> {
    let found = storage
        .account_show(&account.host, &account.localpart)
        .await?;
    found.map(info).ok_or_else(|| account.missing())
}

/// Lists accounts of one host or of all, at most `limit` of each, without their sessions.
///
/// # Errors
/// What the database says.
pub async fn list(
    storage: &dyn Storage,
    config: &Config,
    host: Option<&str>,
    search: Option<&str>,
    limit: u32,
) -> Result<Vec<AccountInfo>, Failure> {
    const PAGE: u32 = 500;
    let mut all = Vec::new();
    for served in config
        .hosts
        .iter()
        .filter(|h| host.is_none_or(|host| host == h.name))
    {
        let mut left = limit;
        let mut after: Option<String> = None;
        while left > 0 {
            let wanted = left.min(PAGE);
            let page = storage
                .account_list(&served.name, after.as_deref(), search, wanted)
                .await?;
            let got = u32::try_from(page.len()).unwrap_or(wanted);
            after = page.last().map(|a| a.localpart.clone());
            all.extend(page.into_iter().map(info));
            left = left.saturating_sub(got);
            if got < wanted {
                break;
            }
        }
    }
    Ok(all)
}

async fn id(storage: &dyn Storage, account: &Account) -> Result<AccountId, Failure> {
    let id = storage
        .account_id(&account.host, &account.localpart)
        .await?;
    id.ok_or_else(|| account.missing())
}

fn info(summary: AccountSummary) -> AccountInfo {
    AccountInfo {
        account: format!("{}@{}", summary.localpart, summary.host),
        enabled: !summary.disabled,
        created: date(summary.created_at),
        last_seen: summary.last_activity.map(|last| date(last.at)),
        sessions: Vec::new(),
    }
}

/// A time in whole seconds: `2026-03-01T12:00:00Z`.
pub fn date(at: Timestamp) -> String {
    let at = OffsetDateTime::from(at.to_system());
    let at = at.replace_nanosecond(0).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_of_hosts_that_are_served() {
        let config = Config::default();
        let anna = Account::parse("anna@localhost", &config).unwrap();
        assert_eq!(anna.jid(), "anna@localhost");
        assert_eq!(
            Account::parse("anna", &config).unwrap_err().kind,
            FailureKind::Usage
        );
        assert_eq!(
            Account::parse("a@localhost/x", &config).unwrap_err().kind,
            FailureKind::Usage
        );
        let other = Account::parse("anna@example.org", &config).unwrap_err();
        assert_eq!(other.kind, FailureKind::NotFound);
        assert!(other.hint.unwrap().contains("localhost"));
    }

    #[tokio::test]
    async fn keys_of_equal_passwords_differ_by_salt_and_verify() {
        let a = credentials("pencil", 4096).await.unwrap();
        let b = credentials("pencil", 4096).await.unwrap();
        assert_ne!(a.sha256, b.sha256);
        let keys = a.sha256.unwrap();
        let again = sasl::ScramKeys::derive(
            sasl::ScramHash::Sha256,
            "pencil",
            &keys.salt,
            NonZeroU32::new(4096).unwrap(),
        );
        assert_eq!(again.stored_key, keys.stored_key);
        assert!(credentials("", 4096).await.is_err());
    }

    #[test]
    fn dates_are_in_utc_seconds() {
        assert_eq!(
            date(Timestamp(1_700_000_000_123_456)),
            "2023-11-14T22:13:20Z"
        );
    }
}
