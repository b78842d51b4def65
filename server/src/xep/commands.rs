//! XEP-0050: Ad-Hoc Commands, the frame

mod administration;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eider_xmpp::error::StanzaError;
use eider_xmpp::jid::{BareJid, Jid};
use eider_xmpp::ns;
use eider_xmpp::payload::commands::{Action, Error, NoteKind, Reply, Request as Asked};
use eider_xmpp::payload::data_forms::{Form, FormKind};
use eider_xmpp::payload::disco::{Identity, Info, Item};
use parking_lot::Mutex;

pub use administration::{Administration, SPEC as ADMINISTRATION_SPEC};

use crate::config::Feature;
use crate::xep::pep::token;
use crate::xep::{Access, Answer, Request, Route, Spec, Status, Target, handler};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 50,
    name: "Ad-Hoc Commands",
    version: "1.3.0",
    status: Status::Complete,
    note: "",
    features: &[(Target::Server, ns::COMMANDS)],
    switch: Some(Feature::Commands),
};

/// An execution that nobody goes on with is forgotten after this time.
const LIFETIME: Duration = Duration::from_secs(600);
/// Executions under way, over all requesters.
const MAX_EXECUTIONS: usize = 10_000;

/// How a command ended.
#[derive(Debug)]
pub enum Outcome {
    /// It went well; a word about it.
    Done(String),
    /// It went well; what it found.
    Found(Form),
    /// It failed (§3.6): why.
    Failed(String),
    /// It failed as the specification of the command says.
    Refused(StanzaError),
}

/// One command of a host.
#[async_trait]
pub trait Command: Send + Sync {
    /// Its node.
    fn node(&self) -> &'static str;

    /// What people read.
    fn name(&self) -> &'static str;

    /// Whether this requester may use it.
    fn is_allowed(&self, request: &Request) -> bool;

    /// The form to fill in; none for a command that needs nothing.
    fn form(&self) -> Option<Form>;

    /// Does it. The form is the submitted one, or empty.
    async fn run(&self, request: &Request, form: &Form) -> Outcome;
}

/// An execution between its stages.
struct Execution {
    requester: Jid,
    service: BareJid,
    node: &'static str,
    since: Instant,
}

/// All commands, and executions that wait for their form.
pub struct Commands {
    commands: Vec<Box<dyn Command>>,
    executions: Mutex<HashMap<String, Execution>>,
}

impl Commands {
    /// These commands.
    pub fn new(commands: Vec<Box<dyn Command>>) -> Commands {
        Commands {
            commands,
            executions: Mutex::default(),
        }
    }

    /// Commands of hosts.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        vec![Route {
            target: Target::Server,
            ns: ns::COMMANDS,
            name: "command",
            access: Access::Anyone,
            switch: Some(Feature::Commands),
            handler: handler(
                self,
                |this, request| async move { this.answer(&request).await },
            ),
        }]
    }

    fn find(&self, node: &str) -> Option<&dyn Command> {
        self.commands
            .iter()
            .find(|command| command.node() == node)
            .map(Box::as_ref)
    }

    /// §2.2: the commands that the requester may use.
    pub fn items(&self, request: &Request) -> Vec<Item> {
        if !request.host().has(Feature::Commands) {
            return Vec::new();
        }
        let allowed = self
            .commands
            .iter()
            .filter(|command| command.is_allowed(request));
        allowed
            .map(|command| Item {
                node: Some(command.node().to_owned()),
                name: Some(command.name().to_owned()),
                ..Item::new(request.to.to_jid())
            })
            .collect()
    }

    /// §2.2: disco#info of the list or of one command; `None` for other nodes and for commands
    /// that the requester may not use.
    pub fn info(&self, request: &Request, node: &str) -> Option<Info> {
        if !request.host().has(Feature::Commands) {
            return None;
        }
        let identity = match node {
            ns::COMMANDS => Identity::new("automation", "command-list"),
            node => {
                let command = self
                    .find(node)
                    .filter(|command| command.is_allowed(request))?;
                Identity::new("automation", "command-node").named(command.name())
            }
        };
        Some(Info {
            node: Some(node.to_owned()),
            identities: vec![identity],
            features: vec![ns::COMMANDS.into(), ns::DATA_FORMS.into()],
            forms: Vec::new(),
        })
    }

    async fn answer(&self, request: &Request) -> Answer {
        let asked = Asked::parse(&request.payload);
        let asked = asked.map_err(Error::to_error)?;
        if !request.set {
            return Err(Error::BadAction.to_error());
        }
        let command = self
            .find(&asked.node)
            .ok_or_else(|| Error::NoSuchCommand.to_error())?;
        if !command.is_allowed(request) {
            return Err(Error::Forbidden.to_error());
        }
        match &asked.session_id {
            None => self.start(request, &asked, command).await,
            Some(id) => self.go_on(request, &asked, command, id).await,
        }
    }

    async fn start(&self, request: &Request, asked: &Asked, command: &dyn Command) -> Answer {
        if !matches!(asked.action, Action::Execute | Action::Complete) {
            return Err(Error::BadAction.to_error());
        }
        let id = token();
        let Some(form) = command.form() else {
            return finish(request, command, &id, &Form::new(FormKind::Submit)).await;
        };
        self.remember(request, command, &id)?;
        let reply = Reply {
            node: command.node(),
            session_id: &id,
            status: "executing",
            actions: &[Action::Complete],
            form: Some(form.to_element()),
            note: None,
        };
        Ok(Some(reply.into_element()))
    }

    fn remember(
        &self,
        request: &Request,
        command: &dyn Command,
        id: &str,
    ) -> Result<(), StanzaError> {
        let mut executions = self.executions.lock();
        let now = Instant::now();
        executions.retain(|_, execution| now.duration_since(execution.since) < LIFETIME);
        let most = request.config.limits.commands_per_session as usize;
        let own = executions
            .values()
            .filter(|e| e.requester == request.from)
            .count();
        if own >= most || executions.len() >= MAX_EXECUTIONS {
            return Err(StanzaError::over("commands_per_session"));
        }
        let execution = Execution {
            requester: request.from.clone(),
            service: request.to.clone(),
            node: command.node(),
            since: now,
        };
        executions.insert(id.to_owned(), execution);
        Ok(())
    }

    async fn go_on(
        &self,
        request: &Request,
        asked: &Asked,
        command: &dyn Command,
        id: &str,
    ) -> Answer {
        let is_this = |execution: &Execution| {
            execution.requester == request.from
                && execution.service == request.to
                && execution.node == command.node()
        };
        match asked.action {
            Action::Cancel => {
                self.take(id, is_this)?;
                let reply = Reply {
                    node: command.node(),
                    session_id: id,
                    status: "canceled",
                    actions: &[],
                    form: None,
                    note: None,
                };
                Ok(Some(reply.into_element()))
            }
            Action::Execute | Action::Complete => {
                let form = asked.form.as_ref().map(Form::parse).transpose();
                let form = form
                    .ok()
                    .flatten()
                    .ok_or_else(|| Error::BadPayload.to_error())?;
                // §3.5.1: a form that is cancelled counts as submitted.
                if !matches!(form.kind, FormKind::Submit | FormKind::Cancel) {
                    return Err(Error::BadPayload.to_error());
                }
                self.take(id, is_this)?;
                finish(request, command, id, &form).await
            }
            Action::Prev | Action::Next => Err(Error::BadAction.to_error()),
        }
    }

    /// Ends an execution of this requester.
    fn take(&self, id: &str, is_this: impl Fn(&Execution) -> bool) -> Result<(), StanzaError> {
        let mut executions = self.executions.lock();
        if !executions.get(id).is_some_and(is_this) {
            return Err(Error::BadSessionId.to_error());
        }
        let execution = executions.remove(id).expect("it was found under this lock");
        if execution.since.elapsed() >= LIFETIME {
            return Err(Error::SessionExpired.to_error());
        }
        Ok(())
    }
}

async fn finish(request: &Request, command: &dyn Command, id: &str, form: &Form) -> Answer {
    let outcome = command.run(request, form).await;
    let (found, kind, text) = match &outcome {
        Outcome::Refused(error) => return Err(error.clone()),
        Outcome::Found(found) => (Some(found.to_element()), NoteKind::Info, ""),
        Outcome::Done(text) => (None, NoteKind::Info, text.as_str()),
        Outcome::Failed(text) => (None, NoteKind::Error, text.as_str()),
    };
    let reply = Reply {
        node: command.node(),
        session_id: id,
        status: "completed",
        actions: &[],
        form: found,
        note: (!text.is_empty()).then_some((kind, text)),
    };
    Ok(Some(reply.into_element()))
}
