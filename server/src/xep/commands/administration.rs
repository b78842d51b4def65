//! XEP-0133: Service Administration

use std::sync::Arc;

use async_trait::async_trait;
use eider_storage::Storage;
use eider_xmpp::error::{StanzaCondition, StanzaError};
use eider_xmpp::jid::BareJid;
use eider_xmpp::ns;
use eider_xmpp::payload::data_forms::{Field, FieldKind, Form, FormKind};

use super::{Command, Outcome};
use crate::access::{Policy, Subject};
use crate::admin::accounts::{Account, Change};
use crate::admin::protocol::{Failure, FailureKind};
use crate::admin::sessions::SessionsAdmin;
use crate::c2s::control::Kick;
use crate::cluster::sessions::Sessions;
use crate::config::Feature;
use crate::xep::{Request, Spec, Status};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 133,
    name: "Service Administration",
    version: "1.3.1",
    status: Status::Partial,
    note: "users: add, delete, disable, enable, password, sessions, numbers",
    features: &[],
    switch: Some(Feature::Commands),
};

/// The most users that one command is about.
const MAX_USERS: usize = 100;
const ACCOUNT: &str = "accountjid";
const ACCOUNTS: &str = "accountjids";
const PASSWORD: &str = "password";
const VERIFY: &str = "password-verify";

/// What commands of administrators reach.
pub struct Administration {
    /// Accounts.
    pub storage: Arc<dyn Storage>,
    /// Sessions that a change ends.
    pub live: Arc<dyn SessionsAdmin>,
    /// Who is online.
    pub sessions: Arc<Sessions>,
    /// Who administers what from where.
    pub policy: Arc<Policy>,
}

/// Which command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    AddUser,
    DeleteUser,
    DisableUser,
    EnableUser,
    EndSession,
    ChangePassword,
    CountRegistered,
    CountOnline,
}

const KINDS: [(Kind, &str, &str); 8] = [
    (
        Kind::AddUser,
        "http://jabber.org/protocol/admin#add-user",
        "Add User",
    ),
    (
        Kind::DeleteUser,
        "http://jabber.org/protocol/admin#delete-user",
        "Delete User",
    ),
    (
        Kind::DisableUser,
        "http://jabber.org/protocol/admin#disable-user",
        "Disable User",
    ),
    (
        Kind::EnableUser,
        "http://jabber.org/protocol/admin#reenable-user",
        "Re-Enable User",
    ),
    (
        Kind::EndSession,
        "http://jabber.org/protocol/admin#end-user-session",
        "End User Session",
    ),
    (
        Kind::ChangePassword,
        "http://jabber.org/protocol/admin#change-user-password",
        "Change User Password",
    ),
    (
        Kind::CountRegistered,
        "http://jabber.org/protocol/admin#get-registered-users-num",
        "Get Number of Registered Users",
    ),
    (
        Kind::CountOnline,
        "http://jabber.org/protocol/admin#get-online-users-num",
        "Get Number of Online Users",
    ),
];

struct AdminCommand {
    parts: Arc<Administration>,
    kind: Kind,
    node: &'static str,
    name: &'static str,
}

impl Administration {
    /// Every command.
    pub fn commands(self) -> Vec<Box<dyn Command>> {
        let parts = Arc::new(self);
        let command = |(kind, node, name)| -> Box<dyn Command> {
            Box::new(AdminCommand {
                parts: parts.clone(),
                kind,
                node,
                name,
            })
        };
        KINDS.into_iter().map(command).collect()
    }
}

fn typed(title: &str) -> Form {
    Form::typed(FormKind::Form, ns::ADMIN).title(title)
}

fn one_account() -> Field {
    Field::new(ACCOUNT, FieldKind::JidSingle)
        .label("The Jabber ID of the account")
        .required()
}

fn several_accounts() -> Field {
    Field::new(ACCOUNTS, FieldKind::JidMulti)
        .label("The Jabber IDs of the accounts")
        .required()
}

fn secret(var: &str, label: &str) -> Field {
    Field::new(var, FieldKind::TextPrivate)
        .label(label)
        .required()
}

/// What went wrong, as XEP-0133 §5 says it.
fn outcome(result: Result<(), Failure>, done: &str) -> Outcome {
    let error = match result {
        Ok(()) => return Outcome::Done(done.to_owned()),
        Err(error) => error,
    };
    let condition = match error.kind {
        FailureKind::Exists => StanzaCondition::Conflict,
        FailureKind::NotFound => StanzaCondition::ItemNotFound,
        FailureKind::Database => StanzaCondition::ResourceConstraint,
        _ => return Outcome::Failed(error.what),
    };
    Outcome::Refused(StanzaError::new(condition).text(error.what))
}

/// The account named; it must be of the host that was asked.
fn account(request: &Request, text: &str) -> Result<Account, Outcome> {
    let jid = BareJid::parse(text.trim()).ok();
    let jid = jid.filter(|jid| jid.domain() == request.to.domain());
    let localpart = jid.as_ref().and_then(BareJid::localpart);
    match localpart {
        Some(localpart) => Ok(Account {
            localpart: localpart.to_owned(),
            host: request.to.domain().to_owned(),
        }),
        None => Err(Outcome::Failed(format!(
            "{text} is no account of {}",
            request.to
        ))),
    }
}

fn accounts_of(request: &Request, form: &Form) -> Result<Vec<Account>, Outcome> {
    let named = form
        .field(ACCOUNTS)
        .map(|field| field.values.as_slice())
        .unwrap_or_default();
    if named.is_empty() || named.len() > MAX_USERS {
        return Err(Outcome::Failed(format!("name 1 to {MAX_USERS} accounts")));
    }
    named.iter().map(|text| account(request, text)).collect()
}

fn new_password<'a>(request: &Request, form: &'a Form) -> Result<&'a str, Outcome> {
    let password = form.value(PASSWORD).unwrap_or_default();
    let least = request.config.registration.password_min_characters as usize;
    if password.chars().count() < least {
        let text = format!("the password needs at least {least} characters");
        return Err(Outcome::Failed(text));
    }
    if form.value(VERIFY).is_some_and(|again| again != password) {
        return Err(Outcome::Failed("the passwords differ".to_owned()));
    }
    Ok(password)
}

impl AdminCommand {
    async fn add(&self, request: &Request, form: &Form) -> Result<Outcome, Outcome> {
        let account = account(request, form.value(ACCOUNT).unwrap_or_default())?;
        let password = new_password(request, form)?;
        let added = self.change(request, &account, Change::Add(password.to_owned()));
        Ok(outcome(added.await, "The account is there."))
    }

    async fn change_password(&self, request: &Request, form: &Form) -> Result<Outcome, Outcome> {
        let account = account(request, form.value(ACCOUNT).unwrap_or_default())?;
        let password = new_password(request, form)?;
        let changed = self.change(request, &account, Change::Password(password.to_owned()));
        Ok(outcome(changed.await, "The password is changed."))
    }

    /// The asking session ends after its answer, where its own account goes.
    async fn change(
        &self,
        request: &Request,
        account: &Account,
        change: Change,
    ) -> Result<(), Failure> {
        let asking = request.session.clone();
        let goes = change.ends() == Some(Kick::AccountGone);
        let (live, config) = (self.parts.live.clone(), request.config.clone());
        live.change(config, account.clone(), change, asking.clone())
            .await?;
        if let Some(asking) = asking.filter(|asking| goes && asking.bare.as_str() == account.jid())
        {
            request.afterwards.set(async move {
                live.kick(asking.full.as_str(), Kick::AccountGone).await;
            });
        }
        Ok(())
    }

    async fn each(&self, request: &Request, form: &Form) -> Result<Outcome, Outcome> {
        for account in accounts_of(request, form)? {
            let done = match self.kind {
                Kind::DeleteUser => self.change(request, &account, Change::Remove).await,
                Kind::DisableUser => self.change(request, &account, Change::Enable(false)).await,
                Kind::EnableUser => self.change(request, &account, Change::Enable(true)).await,
                _ => {
                    self.parts
                        .live
                        .kick(&account.jid(), Kick::Administrator)
                        .await;
                    Ok(())
                }
            };
            if done.is_err() {
                return Ok(outcome(done, ""));
            }
        }
        Ok(Outcome::Done("Done.".to_owned()))
    }

    async fn count(&self, request: &Request) -> Result<Outcome, Outcome> {
        let host = request.to.domain();
        let (var, number) = match self.kind {
            Kind::CountRegistered => {
                let count = self.parts.storage.account_count(host).await;
                let refuse = |error| Outcome::Refused(crate::xep::storage_error(&error));
                ("registeredusersnum", count.map_err(refuse)?)
            }
            _ => {
                let all = self.parts.sessions.all();
                let mut online: Vec<&str> = all
                    .iter()
                    .filter(|session| session.bare.domain() == host)
                    .map(|session| session.bare.as_str())
                    .collect();
                online.sort_unstable();
                online.dedup();
                ("onlineusersnum", online.len() as u64)
            }
        };
        let field = Field::new(var, FieldKind::TextSingle).label(self.name);
        let form = Form::typed(FormKind::Result, ns::ADMIN).with(field.value(number.to_string()));
        Ok(Outcome::Found(form))
    }
}

#[async_trait]
impl Command for AdminCommand {
    fn node(&self) -> &'static str {
        self.node
    }

    fn name(&self) -> &'static str {
        self.name
    }

    /// Those whom the access rules let administer, with a session here: the host's own admins, and whom a
    /// rule names.
    fn is_allowed(&self, request: &Request) -> bool {
        let Some(session) = &request.session else {
            return false;
        };
        let subject = Subject {
            account: session.account.map(|_| session.bare.as_str()),
            host: Some(session.bare.domain()),
            address: session.peer(),
        };
        self.parts
            .policy
            .may_administer(request.to.domain(), &subject)
    }

    fn form(&self) -> Option<Form> {
        let password = || {
            [
                secret(PASSWORD, "The password"),
                secret(VERIFY, "Once more"),
            ]
        };
        let form = typed(self.name);
        match self.kind {
            Kind::AddUser | Kind::ChangePassword => {
                let [password, verify] = password();
                Some(form.with(one_account()).with(password).with(verify))
            }
            Kind::DeleteUser | Kind::DisableUser | Kind::EnableUser | Kind::EndSession => {
                Some(form.with(several_accounts()))
            }
            Kind::CountRegistered | Kind::CountOnline => None,
        }
    }

    async fn run(&self, request: &Request, form: &Form) -> Outcome {
        let outcome = match self.kind {
            Kind::AddUser => self.add(request, form).await,
            Kind::ChangePassword => self.change_password(request, form).await,
            Kind::DeleteUser | Kind::DisableUser | Kind::EnableUser | Kind::EndSession => {
                self.each(request, form).await
            }
            Kind::CountRegistered | Kind::CountOnline => self.count(request).await,
        };
        outcome.unwrap_or_else(|refused| refused)
    }
}
