//! XEP-0077: In-Band Registration

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eider_storage::Storage;
use eider_xmpp::error::{ErrorType, StanzaCondition, StanzaError};
use eider_xmpp::jid::BareJid;
use eider_xmpp::ns;
use eider_xmpp::payload::register::{self, Request as Wanted};
use eider_xmpp::stanza::{Stanza, error_reply, iq_result};
use parking_lot::Mutex;

use crate::access::{Policy, Subject, counted_address};
use crate::admin::accounts::{Account, Change};
use crate::admin::metrics::Metrics;
use crate::admin::protocol::{Failure, FailureKind};
use crate::admin::sessions::SessionsAdmin;
use crate::c2s::control::Kick;
use crate::cluster::sessions::SessionHandle;
use crate::config::{Action, Config, ConfigWatch, Feature};
use crate::stream::BeforeLogin;
use crate::xep::{Access, Answer, Request, Route, Spec, Status, Target, handler, request_kind};

/// See [`Spec`].
pub const SPEC: Spec = Spec {
    number: 77,
    name: "In-Band Registration",
    version: "2.4",
    status: Status::Complete,
    note: "making accounts is off unless a host allows it",
    features: &[(Target::Server, ns::REGISTER)],
    switch: Some(Feature::Registration),
};

const HOUR: Duration = Duration::from_secs(3_600);

/// What registration reaches.
pub struct RegistrationParts {
    /// The configuration valid now.
    pub config: ConfigWatch,
    /// Accounts.
    pub storage: Arc<dyn Storage>,
    /// What is remembered of accounts, and who is told of their removal.
    pub live: Arc<dyn SessionsAdmin>,
    /// Who may register from where.
    pub policy: Arc<Policy>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Accounts, as their users make, change and remove them.
pub struct Registration {
    parts: RegistrationParts,
    recent: Mutex<Recent>,
}

/// Accounts made within the last hour.
#[derive(Default)]
struct Recent {
    by_address: HashMap<IpAddr, Vec<Instant>>,
    all: Vec<Instant>,
}

impl Recent {
    /// Notes one more unless there are too many.
    fn admit(&mut self, address: IpAddr, config: &Config, now: Instant) -> bool {
        let fresh = |made: &Instant| now.duration_since(*made) < HOUR;
        self.all.retain(fresh);
        self.by_address.retain(|_, made| {
            made.retain(fresh);
            !made.is_empty()
        });
        let of_address = self.by_address.get(&address).map_or(0, Vec::len);
        let limits = &config.registration;
        if of_address >= limits.per_address_per_hour as usize
            || self.all.len() >= limits.per_hour as usize
        {
            return false;
        }
        self.by_address.entry(address).or_default().push(now);
        self.all.push(now);
        true
    }
}

fn refuse(condition: StanzaCondition) -> StanzaError {
    StanzaError::new(condition)
}

/// What went wrong, as far as a client is told.
fn failure(error: &Failure) -> StanzaError {
    match error.kind {
        FailureKind::Exists => refuse(StanzaCondition::Conflict),
        FailureKind::Usage => refuse(StanzaCondition::NotAcceptable),
        FailureKind::NotFound => refuse(StanzaCondition::RegistrationRequired),
        FailureKind::Database => refuse(StanzaCondition::ResourceConstraint).kind(ErrorType::Wait),
        _ => {
            tracing::error!(error = %error.what, "an account could not be changed");
            refuse(StanzaCondition::InternalServerError)
        }
    }
}

/// The password as the host wants it.
fn check_password(config: &Config, password: &str) -> Result<(), StanzaError> {
    let least = config.registration.password_min_characters as usize;
    if password.chars().count() < least {
        let text = format!("the password needs at least {least} characters");
        return Err(refuse(StanzaCondition::NotAcceptable).text(text));
    }
    Ok(())
}

impl Registration {
    /// Over its parts.
    pub fn new(parts: RegistrationParts) -> Registration {
        Registration {
            parts,
            recent: Mutex::default(),
        }
    }

    /// For who has an account: asked of the host or of the account itself.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        [Target::Server, Target::Account]
            .map(|target| Route {
                target,
                ns: ns::REGISTER,
                name: "query",
                access: Access::Own,
                switch: Some(Feature::Registration),
                handler: handler(
                    self,
                    |this, request| async move { this.change(&request).await },
                ),
            })
            .into()
    }

    /// §3.2 and §3.3: only at home, for oneself.
    async fn change(&self, request: &Request) -> Answer {
        let session = request.own_session()?;
        let at_home = request.to.domain() == session.bare.domain();
        let (true, Some(_), Some(localpart)) = (at_home, session.account, session.bare.localpart())
        else {
            return Err(refuse(StanzaCondition::NotAllowed));
        };
        if !request.set {
            return Ok(Some(register::fields(Some(localpart))));
        }
        let account = Account {
            localpart: localpart.to_owned(),
            host: session.bare.domain().to_owned(),
        };
        let wanted = Wanted::parse(&request.payload).map_err(|error| error.to_error(false))?;
        match wanted {
            Wanted::Remove => self.remove(request, session, account).await,
            Wanted::Set { username, password } => {
                let named = BareJid::new(Some(&username), &account.host);
                if named.is_ok_and(|named| named != session.bare) {
                    return Err(refuse(StanzaCondition::NotAllowed));
                }
                check_password(&request.config, &password)?;
                // Whoever else is logged in has used the old password.
                self.apply(request, account, Change::Password(password))
                    .await?;
                Ok(None)
            }
        }
    }

    async fn apply(
        &self,
        request: &Request,
        account: Account,
        change: Change,
    ) -> Result<(), StanzaError> {
        let (config, asking) = (request.config.clone(), request.session.clone());
        let done = self.parts.live.change(config, account, change, asking);
        done.await.map(drop).map_err(|error| failure(&error))
    }

    /// §3.2: the result, then `not-authorized` on every stream of the account. What follows the
    /// result waits for the session's end, so that nothing comes after it.
    async fn remove(
        &self,
        request: &Request,
        session: &Arc<SessionHandle>,
        account: Account,
    ) -> Answer {
        self.apply(request, account, Change::Remove).await?;
        tracing::info!(account = %session.bare, "account removed by its user");
        let (live, own) = (self.parts.live.clone(), session.full.clone());
        request.afterwards.set(async move {
            live.kick(own.as_str(), Kick::AccountGone).await;
        });
        Ok(None)
    }

    /// §3.1: a new account from a stream that is not logged in.
    async fn register(
        &self,
        config: &Config,
        host: &str,
        peer: SocketAddr,
        stanza: &Stanza,
    ) -> Answer {
        let Some(query) = stanza.child("query", ns::REGISTER) else {
            return Err(refuse(StanzaCondition::NotAuthorized));
        };
        if request_kind(stanza) == Some(false) {
            return Ok(Some(register::fields(None)));
        }
        let wanted = Wanted::parse(&query).map_err(|error| error.to_error(true))?;
        let Wanted::Set { username, password } = wanted else {
            return Err(refuse(StanzaCondition::UnexpectedRequest));
        };
        let jid = BareJid::new(Some(&username), host)
            .map_err(|_| refuse(StanzaCondition::NotAcceptable).text("not a user name"))?;
        let localpart = jid.localpart().unwrap_or_default().to_owned();
        if config.registration.reserved.contains(&localpart) {
            return Err(refuse(StanzaCondition::Conflict));
        }
        check_password(config, &password)?;
        let address = counted_address(peer.ip());
        if !self.recent.lock().admit(address, config, Instant::now()) {
            let text = "too many accounts were made, try again later";
            return Err(StanzaError::over("registration")
                .kind(ErrorType::Wait)
                .text(text));
        }
        let account = Account {
            localpart,
            host: host.to_owned(),
        };
        let (config, change) = (Arc::new(config.clone()), Change::Add(password));
        let made = self.parts.live.change(config, account, change, None).await;
        made.map_err(|error| failure(&error))?;
        tracing::info!(account = %jid, address = %peer.ip(), "account registered");
        Ok(None)
    }
}

#[async_trait]
impl BeforeLogin for Registration {
    fn is_offered(&self, host: &str, peer: SocketAddr) -> bool {
        let config = self.parts.config.borrow();
        let allowed = config
            .host(host)
            .is_some_and(|host| host.registration && host.has(Feature::Registration));
        let subject = Subject {
            account: None,
            host: Some(host),
            address: Some(peer.ip()),
        };
        allowed && self.parts.policy.allows(Action::Register, &subject)
    }

    async fn answer(&self, host: &str, peer: SocketAddr, request: &Stanza) -> Option<Stanza> {
        request_kind(request)?;
        if !request.has("query", ns::REGISTER) {
            return None;
        }
        let config = self.parts.config.borrow().clone();
        let answer = if self.is_offered(host, peer) {
            self.register(&config, host, peer, request).await
        } else {
            Err(refuse(StanzaCondition::ServiceUnavailable))
        };
        match answer {
            Ok(payload) => Some(iq_result(request, payload)),
            Err(error) => {
                self.parts.metrics.stanza_error(&error);
                error_reply(request, &error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_made_at_a_bounded_rate() {
        let mut config = Config::default();
        config.registration.per_address_per_hour = 2;
        config.registration.per_hour = 3;
        let mut recent = Recent::default();
        let (a, b) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let now = Instant::now();
        assert!(recent.admit(a, &config, now) && recent.admit(a, &config, now));
        assert!(!recent.admit(a, &config, now));
        assert!(recent.admit(b, &config, now));
        assert!(!recent.admit(b, &config, now), "over all addresses");
        assert!(recent.admit(a, &config, now + HOUR));
    }
}
