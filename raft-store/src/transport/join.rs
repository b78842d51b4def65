//! How a certificate is asked for: by a stranger who knows the join secret, or by a member that wants its own renewed.
//!
//! Messages are `[length 2][body]`, at most 4 KiB. A joiner begins with a proof for each secret it has (≤ 2); the member
//! answers with its own proof, or a refusal; only then both believe what the other says. Then, and on a renewal at
//! once: a request (PKCS #10), and `[0][authority][certificate]` or `[1][reason]`.
//!
//! The key in the request is the one that the connection was opened with, and the registry ties each id to one key for
//! ever, so that neither a copied id nor a second joiner with the same one gets a certificate.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::authority;
use super::certificate::{self, Authority, CERTIFICATE_BYTES, Facts};
use super::credentials::Granted;
use super::registry::{Bound, Registry};
use super::secret::{JoinSecret, PROOF_BYTES, Side};
use crate::codec::{self, Reader, Writer};
use crate::ids::MemberId;
use crate::random::Random;

/// Longest message.
const MESSAGE_BYTES: usize = 4096;
/// Secrets that are valid at one time.
pub(crate) const SECRETS: usize = 2;
const FORMAT: u8 = 1;
/// What the proofs are over.
pub(crate) const EXPORTER: &[u8] = b"EXPORTER-raft-store-join";

/// Why nobody got a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the join secret is another")]
    Secret,
    /// Believed only behind a proof: whoever says so knows the secret.
    #[error("the asked one has no cluster yet")]
    NoCluster,
    #[error("the asked one cannot sign now")]
    NotNow,
    #[error("this member's id has another key")]
    OtherKey,
    #[error("this member was removed")]
    Removed,
    #[error("the request was not understood")]
    Request,
}

impl Refusal {
    const ALL: [Refusal; 6] = [
        Refusal::Secret,
        Refusal::NoCluster,
        Refusal::NotNow,
        Refusal::OtherKey,
        Refusal::Removed,
        Refusal::Request,
    ];

    fn byte(self) -> u8 {
        // Six of them.
        Self::ALL.iter().position(|it| *it == self).unwrap_or(0) as u8
    }
}

/// How an exchange ended without a certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Codec(#[from] codec::Error),
    #[error("a message of {0} bytes")]
    Length(usize),
    /// The other side was told, or has told.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The asked one does not know the secret.
    #[error("the asked one has proven nothing")]
    Unproven,
    #[error("{0}")]
    Certificate(#[from] certificate::Error),
}

/// A stream that messages go over.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

async fn send(wire: &mut impl Wire, body: &[u8]) -> Result<(), Error> {
    if body.len() > MESSAGE_BYTES {
        return Err(Error::Length(body.len()));
    }
    let mut message = (body.len() as u16).to_be_bytes().to_vec();
    message.extend(body);
    wire.write_all(&message).await?;
    Ok(wire.flush().await?)
}

pub(crate) async fn receive(wire: &mut impl Wire) -> Result<Vec<u8>, Error> {
    let length = usize::from(wire.read_u16().await?);
    if length > MESSAGE_BYTES {
        return Err(Error::Length(length));
    }
    let mut body = vec![0; length];
    wire.read_exact(&mut body).await?;
    Ok(body)
}

/// Says why not.
pub(crate) async fn refuse(wire: &mut impl Wire, reason: Refusal) -> Result<(), Error> {
    send(wire, &[1, reason.byte()]).await?;
    Err(reason.into())
}

/// An answer's body, or the refusal that it is.
fn read_answer(body: &[u8]) -> Result<Reader<'_>, Error> {
    let mut from = Reader::new(body);
    if from.u8("answer")? == 0 {
        return Ok(from);
    }
    let reason = usize::from(from.u8("reason")?);
    Err(Refusal::ALL
        .get(reason)
        .copied()
        .unwrap_or(Refusal::NotNow)
        .into())
}

/// The joiner's side of the proofs.
pub(crate) async fn prove(
    wire: &mut impl Wire,
    exporter: &[u8; 32],
    secrets: &[JoinSecret],
) -> Result<(), Error> {
    let secrets = &secrets[..secrets.len().min(SECRETS)];
    let mut to = Writer::new(MESSAGE_BYTES);
    to.u8(FORMAT);
    to.u8(secrets.len() as u8);
    for secret in secrets {
        to.raw(&secret.prove(Side::Joiner, exporter));
    }
    send(wire, &to.finish("proofs")?).await?;
    let body = receive(wire).await?;
    let mut from = read_answer(&body)?;
    let proof: [u8; PROOF_BYTES] = from.array("proof")?;
    from.finish("proof")?;
    let holds = |secret: &JoinSecret| secret.is_proof(Side::Member, exporter, &proof);
    // All are looked at, so that the time tells nothing.
    let holding = secrets.iter().filter(|secret| holds(secret)).count();
    if holding == 0 {
        return Err(Error::Unproven);
    }
    Ok(())
}

/// The proofs of a joiner, as it sent them.
pub(crate) fn read_proofs(body: &[u8]) -> Result<Vec<[u8; PROOF_BYTES]>, Error> {
    let mut from = Reader::new(body);
    let format = from.u8("format")?;
    let count = usize::from(from.u8("count")?);
    if format != FORMAT || count > SECRETS {
        return Err(Refusal::Request.into());
    }
    let proofs = (0..count).map(|_| from.array("proof"));
    let proofs = proofs.collect::<Result<_, _>>()?;
    from.finish("proofs")?;
    Ok(proofs)
}

/// The member's side of the proofs.
pub(crate) async fn check_proofs(
    wire: &mut impl Wire,
    exporter: &[u8; 32],
    secrets: &[JoinSecret],
) -> Result<(), Error> {
    let proofs = read_proofs(&receive(wire).await?)?;
    let mut known = None;
    for secret in secrets.iter().take(SECRETS) {
        for proof in &proofs {
            if secret.is_proof(Side::Joiner, exporter, proof) {
                known = Some(secret);
            }
        }
    }
    let Some(secret) = known else {
        return refuse(wire, Refusal::Secret).await;
    };
    let proof = secret.prove(Side::Member, exporter);
    send(wire, &[&[0], &proof[..]].concat()).await
}

/// Asks for a certificate, and checks that it is one for this member.
pub(crate) async fn ask(
    wire: &mut impl Wire,
    request: &[u8],
    owner: (MemberId, [u8; 32]),
) -> Result<Granted, Error> {
    send(wire, request).await?;
    let body = receive(wire).await?;
    let mut from = read_answer(&body)?;
    let authority = Authority::parse(from.bytes(CERTIFICATE_BYTES, "authority")?)?;
    let certificate = from.bytes(CERTIFICATE_BYTES, "certificate")?;
    let granted = Granted::new(authority, certificate, owner)?;
    from.finish("certificate")?;
    Ok(granted)
}

/// What is needed to sign.
pub(crate) struct Office<'a> {
    /// `None`: this member has no cluster yet.
    pub(crate) registry: Option<&'a dyn Registry>,
    pub(crate) secrets: &'a [JoinSecret],
    pub(crate) now: i64,
    pub(crate) random: &'a dyn Random,
}

impl Office<'_> {
    /// A certificate for `request`, whose key and name must be those the connection has `shown`.
    pub(crate) async fn grant(&self, request: &[u8], shown: &Facts) -> Result<Granted, Refusal> {
        let registry = self.registry.ok_or(Refusal::NoCluster)?;
        let requested = certificate::read_request(request).map_err(|_| Refusal::Request)?;
        let owner = (requested.member, requested.key);
        if owner != (shown.member, shown.key) {
            return Err(Refusal::Request);
        }
        let not_now = |_| Refusal::NotNow;
        let sealed = registry.authority().map_err(not_now)?;
        let (sealed, _) = sealed.ok_or(Refusal::NotNow)?;
        let opened = authority::open(&sealed, self.secrets).map_err(|error| {
            tracing::warn!(%error, "no certificates can be signed here");
            Refusal::NotNow
        })?;
        let bound = registry.bind(requested.member, requested.key).await;
        match bound.map_err(not_now)? {
            Bound::Yes => {}
            Bound::OtherKey => return Err(Refusal::OtherKey),
            Bound::Removed => return Err(Refusal::Removed),
        }
        let signer = opened.signer;
        let (authority, key) = (&signer.authority, &signer.key);
        let issued = certificate::issue(authority, key, &requested, self.now, self.random);
        issued
            .and_then(|issued| Granted::new(signer.authority.clone(), &issued, owner))
            .map_err(|error| {
                tracing::error!(%error, "a certificate could not be signed");
                Refusal::NotNow
            })
    }
}

/// Answers a request.
pub(crate) async fn answer(
    wire: &mut impl Wire,
    granted: Result<Granted, Refusal>,
) -> Result<(), Error> {
    let granted = match granted {
        Ok(granted) => granted,
        Err(reason) => return refuse(wire, reason).await,
    };
    let mut to = Writer::new(MESSAGE_BYTES);
    to.u8(0);
    to.bytes(&granted.authority.der);
    to.bytes(&granted.certificate);
    send(wire, &to.finish("certificate")?).await
}

#[cfg(test)]
mod tests;
