//! XEP-0050: Ad-Hoc Commands, requests and results

use crate::element::Element;
use crate::error::{ErrorType, StanzaCondition, StanzaError};
use crate::ns;

/// What the requester wants of a command (§4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The default action of the present stage.
    Execute,
    /// Give up.
    Cancel,
    /// The stage before.
    Prev,
    /// The next stage.
    Next,
    /// Finish.
    Complete,
}

impl Action {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Execute => "execute",
            Action::Cancel => "cancel",
            Action::Prev => "prev",
            Action::Next => "next",
            Action::Complete => "complete",
        }
    }

    fn from_word(word: &str) -> Option<Action> {
        let all = [
            Action::Execute,
            Action::Cancel,
            Action::Prev,
            Action::Next,
            Action::Complete,
        ];
        all.into_iter().find(|action| action.as_str() == word)
    }
}

/// `<command/>` of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which command.
    pub node: String,
    /// The session it belongs to; none starts one.
    pub session_id: Option<String>,
    /// What is wanted.
    pub action: Action,
    /// The form that was filled in.
    pub form: Option<Element>,
}

/// §4.4: why a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The action is none of the protocol's.
    #[error("malformed action")]
    MalformedAction,
    /// The action is not allowed at this stage.
    #[error("the action is not allowed now")]
    BadAction,
    /// The form is not what the stage asks for.
    #[error("bad payload")]
    BadPayload,
    /// The session is none of this requester's and command's.
    #[error("no such session")]
    BadSessionId,
    /// The session has expired.
    #[error("the session has expired")]
    SessionExpired,
    /// There is no such command.
    #[error("no such command")]
    NoSuchCommand,
    /// The requester may not use it.
    #[error("not allowed to use this command")]
    Forbidden,
}

impl Error {
    /// The stanza error of §4.4.
    pub fn to_error(self) -> StanzaError {
        use StanzaCondition as C;
        let (condition, kind, specific) = match self {
            Error::MalformedAction => (C::BadRequest, ErrorType::Modify, Some("malformed-action")),
            Error::BadAction => (C::BadRequest, ErrorType::Modify, Some("bad-action")),
            Error::BadPayload => (C::BadRequest, ErrorType::Modify, Some("bad-payload")),
            Error::BadSessionId => (C::BadRequest, ErrorType::Modify, Some("bad-sessionid")),
            Error::SessionExpired => (C::NotAllowed, ErrorType::Cancel, Some("session-expired")),
            Error::NoSuchCommand => (C::ItemNotFound, ErrorType::Cancel, None),
            Error::Forbidden => (C::Forbidden, ErrorType::Cancel, None),
        };
        let error = StanzaError::new(condition).kind(kind);
        match specific {
            Some(name) => error.application(Element::new(name, ns::COMMANDS)),
            None => error,
        }
    }
}

impl Request {
    /// Reads `<command/>` of an iq set.
    pub fn parse(command: &Element) -> Result<Request, Error> {
        let action = match command.attr("action") {
            None => Action::Execute,
            Some(word) => Action::from_word(word).ok_or(Error::MalformedAction)?,
        };
        Ok(Request {
            node: command.attr("node").unwrap_or_default().to_owned(),
            session_id: command.attr("sessionid").map(str::to_owned),
            action,
            form: command.child("x", ns::DATA_FORMS).cloned(),
        })
    }
}

/// §4.3: the kind of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// It went well.
    Info,
    /// It went, with a reservation.
    Warn,
    /// It failed.
    Error,
}

/// `<command/>` of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply<'a> {
    /// Which command.
    pub node: &'a str,
    /// Its session.
    pub session_id: &'a str,
    /// `executing`, `completed` or `canceled`.
    pub status: &'a str,
    /// What may come next, the first being the default; none when nothing does.
    pub actions: &'a [Action],
    /// A form to fill in, or its result.
    pub form: Option<Element>,
    /// A word to the requester.
    pub note: Option<(NoteKind, &'a str)>,
}

impl Reply<'_> {
    /// `<command/>`.
    pub fn into_element(self) -> Element {
        let actions = self.actions.first().map(|default| {
            let each = self
                .actions
                .iter()
                .map(|a| Element::new(a.as_str(), ns::COMMANDS));
            Element::new("actions", ns::COMMANDS)
                .with_attr("execute", default.as_str())
                .with_children(each)
        });
        let note = self.note.map(|(kind, text)| {
            let kind = match kind {
                NoteKind::Info => "info",
                NoteKind::Warn => "warn",
                NoteKind::Error => "error",
            };
            Element::new("note", ns::COMMANDS)
                .with_attr("type", kind)
                .with_text(text)
        });
        Element::new("command", ns::COMMANDS)
            .with_attr("node", self.node)
            .with_attr("sessionid", self.session_id)
            .with_attr("status", self.status)
            .with_children(actions)
            .with_children(note)
            .with_children(self.form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(attributes: &str) -> Result<Request, Error> {
        let xml = format!("<command xmlns='{}' {attributes}/>", ns::COMMANDS);
        Request::parse(&Element::parse(xml).expect("test input"))
    }

    #[test]
    fn execute_is_the_default() {
        let read = parse("node='n'").expect("valid");
        assert_eq!(
            (read.node.as_str(), read.action, read.session_id),
            ("n", Action::Execute, None)
        );
        let next = parse("node='n' sessionid='s' action='next'").expect("valid");
        assert_eq!(
            (next.action, next.session_id.as_deref()),
            (Action::Next, Some("s"))
        );
        assert_eq!(
            parse("node='n' action='dance'"),
            Err(Error::MalformedAction)
        );
    }

    #[test]
    fn a_stage_offers_its_actions() {
        let reply = Reply {
            node: "n",
            session_id: "s",
            status: "executing",
            actions: &[Action::Complete, Action::Prev],
            form: None,
            note: Some((NoteKind::Error, "no")),
        };
        assert_eq!(
            reply.into_element().to_xml(),
            "<command xmlns='http://jabber.org/protocol/commands' node='n' sessionid='s' \
             status='executing'><actions execute='complete'><complete/><prev/></actions>\
             <note type='error'>no</note></command>"
        );
    }

    #[test]
    fn refusals_carry_their_condition() {
        let error = Error::BadSessionId.to_error();
        assert_eq!(error.condition, StanzaCondition::BadRequest);
        assert!(
            error
                .application
                .is_some_and(|e| e.is("bad-sessionid", ns::COMMANDS))
        );
        assert!(Error::Forbidden.to_error().application.is_none());
    }
}
