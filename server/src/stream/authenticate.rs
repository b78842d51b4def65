//! RFC 6120 §6.3: what each mechanism must prove, and who may log in then

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use eider_storage::LoginRecord;
use eider_xmpp::jid::{BareJid, Jid};
use eider_xmpp::sasl::scram::downgrade_hash;
use eider_xmpp::sasl::{
    self, ClientFirst, Failure, Mechanism, Plain, ScramError, ScramHash, ScramKeys,
};

use super::features::Offer;
use super::negotiation::Negotiation;
use super::sasl::{Failed, Refusal};
use super::{Identity, random};
use crate::access::{AttemptLimits, SessionPermit, Subject};
use crate::admin::metrics::LoginOutcome;
use crate::config::{Action, Host};
use crate::tls::xmpp_addresses;

/// Bytes of randomness in the server's half of a nonce.
const NONCE_BYTES: usize = 18;
/// Tried in this order against a password: the cheapest first that is not SHA-1.
const PLAIN_HASHES: [ScramHash; 3] = [ScramHash::Sha256, ScramHash::Sha512, ScramHash::Sha1];

/// A login that was proven and is allowed.
#[derive(Debug)]
pub struct Proven {
    pub identity: Identity,
    pub login: Option<LoginRecord>,
    pub session: SessionPermit,
}

impl Negotiation<'_> {
    /// Runs one mechanism; with the proof the data that goes with success.
    pub async fn authenticate(
        &mut self,
        host: &Host,
        offer: &Offer,
        mechanism: Mechanism,
        initial: Option<Vec<u8>>,
    ) -> Result<(Proven, Option<String>), Failed> {
        let message = match (mechanism, initial) {
            // RFC 6120 §6.4.2: nobody asks who sends nothing for a trace.
            (Mechanism::Anonymous, initial) => initial.unwrap_or_default(),
            (_, initial) => self.initial(initial).await?,
        };
        match mechanism {
            Mechanism::Scram { hash, plus } => {
                let first =
                    ClientFirst::parse(hash, plus, offer.has_plus(), &self.bindings, &message)
                        .map_err(|error| scram_refusal(error, None))?;
                let (proven, verifier) = self.scram(host, offer, mechanism, first).await?;
                Ok((proven, Some(verifier)))
            }
            Mechanism::Plain => Ok((self.plain(host, &message).await?, None)),
            Mechanism::Anonymous => Ok((self.anonymous(host, &message)?, None)),
            Mechanism::External => Ok((self.external(host, &message).await?, None)),
        }
    }

    async fn scram(
        &mut self,
        host: &Host,
        offer: &Offer,
        mechanism: Mechanism,
        first: ClientFirst,
    ) -> Result<(Proven, String), Failed> {
        let account = BareJid::new(Some(first.username()), &host.name)
            .map_err(|_| scram_refusal(ScramError::InvalidUsernameEncoding, None))?;
        check_authzid(first.authzid(), &account)?;
        self.check_attempts(&account)?;
        let login = self.look_up(&account).await?;
        let hash = first.hash();
        let keys = login.as_ref().and_then(|login| stored_keys(login, hash));
        // An account without keys for this hash fails as one that does not exist.
        let keys = keys.unwrap_or_else(|| self.decoy(hash, &account));
        let nonce = random::token::<NONCE_BYTES>(&*self.parts.random);
        let downgrade = downgrade_hash(hash, &offer.mechanisms, &offer.bindings);
        let (challenged, server_first) = first
            .challenge(keys, &nonce, Some(&downgrade))
            .map_err(|error| scram_refusal(error, Some(&account)))?;
        let client_final = self.challenge(server_first.as_bytes()).await?;
        let verifier = challenged
            .finish(&client_final)
            .map_err(|error| scram_refusal(error, Some(&account)))?;
        let Some(login) = login else {
            return Err(scram_refusal(ScramError::InvalidProof, Some(&account)).into());
        };
        Ok((self.admit(account, mechanism, Some(login))?, verifier))
    }

    async fn plain(&mut self, host: &Host, message: &[u8]) -> Result<Proven, Failed> {
        let plain = Plain::parse(message).map_err(Refusal::malformed)?;
        let account = BareJid::new(Some(&plain.username), &host.name)
            .map_err(|_| Refusal::malformed(Failure::NotAuthorized))?;
        check_authzid(plain.authzid.as_deref(), &account)?;
        self.check_attempts(&account)?;
        let login = self.look_up(&account).await?;
        let found = login.as_ref().and_then(|login| {
            PLAIN_HASHES
                .into_iter()
                .find_map(|hash| stored_keys(login, hash))
        });
        // Who does not exist costs as much time as who does.
        let keys = found.unwrap_or_else(|| self.decoy(PLAIN_HASHES[0], &account));
        let password = plain.password;
        let fits = self
            .parts
            .passwords
            .run(move || keys.verify(&password))
            .await;
        let fits = fits.map_err(|overloaded| {
            Refusal::new(Failure::TemporaryAuthFailure, LoginOutcome::Unavailable)
                .text(overloaded.to_string())
                .account(&account)
        })?;
        match login {
            Some(login) if fits => self.admit(account, Mechanism::Plain, Some(login)),
            _ => {
                let mut refusal = Refusal::malformed(Failure::NotAuthorized).account(&account);
                refusal.counts = true;
                Err(refusal.into())
            }
        }
    }

    fn anonymous(&mut self, host: &Host, message: &[u8]) -> Result<Proven, Failed> {
        let trace = sasl::trace(message).map_err(Refusal::malformed)?;
        let localpart = random::localpart(&*self.parts.random);
        let account = BareJid::new(Some(&localpart), &host.name)
            .map_err(|_| Refusal::new(Failure::TemporaryAuthFailure, LoginOutcome::Unavailable))?;
        tracing::info!(peer = %self.peer, %account, trace, "anonymous login");
        self.admit(account, Mechanism::Anonymous, None)
    }

    /// XEP-0178 §2: the certificate was verified during the handshake; here it
    /// only remains to be said which of its addresses is meant.
    async fn external(&mut self, host: &Host, message: &[u8]) -> Result<Proven, Failed> {
        let wished = sasl::requested_identity(message).map_err(Refusal::malformed)?;
        let invalid = || Refusal::malformed(Failure::InvalidAuthzid);
        let stated = self.certified(host);
        let account = match (&wished, &stated[..]) {
            (Some(wished), _) => {
                let wished = BareJid::parse(wished).map_err(|_| invalid())?;
                stated
                    .into_iter()
                    .find(|stated| *stated == wished)
                    .ok_or_else(invalid)?
            }
            (None, [only]) => only.clone(),
            (None, _) => return Err(invalid().into()),
        };
        self.check_attempts(&account)?;
        match self.look_up(&account).await? {
            Some(login) => self.admit(account, Mechanism::External, Some(login)),
            None => Err(Refusal::malformed(Failure::NotAuthorized)
                .account(&account)
                .into()),
        }
    }

    /// The accounts of the host that the client's certificate states.
    fn certified(&self, host: &Host) -> Vec<BareJid> {
        let certificate = self
            .tls
            .as_ref()
            .and_then(|tls| tls.client_certificate.as_ref());
        let stated = certificate.map(|certificate| xmpp_addresses(certificate));
        let mut accounts: Vec<BareJid> = stated
            .unwrap_or_default()
            .iter()
            .filter_map(|address| BareJid::parse(address).ok())
            .filter(|account| account.domain() == host.name && account.localpart().is_some())
            .collect();
        accounts.dedup();
        accounts
    }

    /// Whether EXTERNAL can succeed on this connection.
    pub fn has_certificate_for(&self, host: &Host) -> bool {
        !self.certified(host).is_empty()
    }

    /// What remains once identity is proven: may it log in, here and now?
    fn admit(
        &mut self,
        account: BareJid,
        mechanism: Mechanism,
        login: Option<LoginRecord>,
    ) -> Result<Proven, Failed> {
        let refused = |failure, text: &str| {
            Refusal::new(failure, LoginOutcome::Forbidden)
                .text(text)
                .account(&account)
        };
        if let Some(Err(wait)) = self
            .attempt
            .as_ref()
            .map(|attempt| attempt.may_tell(Instant::now()))
        {
            return Err(throttled(wait).account(&account).into());
        }
        if login.as_ref().is_some_and(|login| login.disabled) {
            return Err(refused(Failure::AccountDisabled, "the account is disabled").into());
        }
        let anonymous = mechanism == Mechanism::Anonymous;
        let subject = Subject {
            account: (!anonymous).then(|| account.as_str()),
            host: Some(account.domain()),
            address: Some(self.peer.ip()),
        };
        if !self.parts.policy.allows(Action::Login, &subject) {
            return Err(refused(Failure::NotAuthorized, "not allowed from here").into());
        }
        let session = self
            .parts
            .admission
            .log_in(self.peer.ip(), &self.config.limits);
        let session = session.map_err(|refusal| {
            self.parts.metrics.refused(refusal.as_str());
            refused(
                Failure::TemporaryAuthFailure,
                "too many sessions from this address",
            )
        })?;
        if let Some(attempt) = self.attempt.take() {
            attempt.succeeded(Instant::now());
        }
        Ok(Proven {
            identity: Identity {
                account,
                mechanism,
                anonymous,
            },
            login,
            session,
        })
    }

    fn check_attempts(&mut self, account: &BareJid) -> Result<(), Refusal> {
        let limits = AttemptLimits::new(&self.config.login, &self.config.limits);
        let now = Instant::now();
        // One at a time: what became of the last one is known.
        self.attempt = None;
        let attempts = &self.parts.attempts;
        let begun = attempts.begin(account.as_str(), self.peer.ip(), &limits, now);
        self.attempt = Some(begun.map_err(|wait| throttled(wait).account(account))?);
        Ok(())
    }

    async fn look_up(&self, account: &BareJid) -> Result<Option<LoginRecord>, Refusal> {
        let localpart = account.localpart().unwrap_or_default();
        let found = self
            .parts
            .storage
            .account_login(account.domain(), localpart)
            .await;
        found.map_err(|error| {
            tracing::warn!(%error, "login without storage");
            Refusal::new(Failure::TemporaryAuthFailure, LoginOutcome::Unavailable).account(account)
        })
    }

    fn decoy(&self, hash: ScramHash, account: &BareJid) -> ScramKeys {
        let iterations = NonZeroU32::new(self.config.login.iterations).unwrap_or(NonZeroU32::MIN);
        self.parts.decoys.keys(hash, account.as_str(), iterations)
    }
}

/// Too many tries: whether this one is right is not told.
pub fn throttled(wait: Duration) -> Refusal {
    let seconds = wait.as_secs() + 1;
    Refusal::new(Failure::TemporaryAuthFailure, LoginOutcome::Throttled)
        .text(format!("too many tries, wait {seconds} seconds"))
}

/// RFC 6120 §6.3.8: an authorization identity may only be the account's own.
fn check_authzid(authzid: Option<&str>, account: &BareJid) -> Result<(), Refusal> {
    let Some(authzid) = authzid else {
        return Ok(());
    };
    match Jid::parse(authzid) {
        Ok(jid) if jid.is_bare() && jid.as_str() == account.as_str() => Ok(()),
        _ => Err(Refusal::malformed(Failure::InvalidAuthzid).account(account)),
    }
}

fn stored_keys(login: &LoginRecord, hash: ScramHash) -> Option<ScramKeys> {
    let credentials = &login.credentials;
    let keys = match hash {
        ScramHash::Sha1 => &credentials.sha1,
        ScramHash::Sha256 => &credentials.sha256,
        ScramHash::Sha512 => &credentials.sha512,
    };
    let keys = keys.as_ref()?;
    Some(ScramKeys {
        hash,
        salt: keys.salt.clone(),
        iterations: NonZeroU32::new(keys.iterations)?,
        stored_key: keys.stored_key.clone(),
        server_key: keys.server_key.clone(),
    })
}

/// RFC 6120 has no data to go with a failure, so RFC 5802's reason is its text.
fn scram_refusal(error: ScramError, account: Option<&BareJid>) -> Refusal {
    let refusal = Refusal::malformed(error.failure()).text(format!("e={}", error.value()));
    match account {
        Some(account) => {
            let mut refusal = refusal.account(account);
            refusal.counts = refusal.failure == Failure::NotAuthorized;
            refusal
        }
        None => refusal,
    }
}
