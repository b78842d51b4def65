//! Certificates of members: made, asked for, and judged. One shape alone is accepted: X.509 v3 over an Ed25519 key,
//! signed directly by the cluster's authority, with one URI as its name that holds the member's id.
//!
//! Dates are the weakest of it, since a clock that is wrong is likelier than a key that was stolen months ago: among
//! members they count only when they are wrong by 30 days or more.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;

use crate::ids::MemberId;
use crate::random::Random;

pub(crate) const DAY_SECONDS: i64 = 24 * 60 * 60;
/// How long a member's certificate is valid.
pub(crate) const VALID_SECONDS: i64 = 90 * DAY_SECONDS;
/// A certificate begins so long before it was made: clocks differ a little.
const EARLIER_SECONDS: i64 = DAY_SECONDS;
/// Dates that are wrong by less are accepted, and reported.
pub(crate) const TOLERATED_SECONDS: i64 = 30 * DAY_SECONDS;
/// Nothing looks at the dates of the authority: who replaced it would replace the cluster.
const AUTHORITY_SECONDS: i64 = 100 * 365 * DAY_SECONDS;
/// Longest certificate and request that is looked at. Ours have about 400 bytes.
pub(crate) const CERTIFICATE_BYTES: usize = 2048;
const NAME_PREFIX: &str = "raft-store:member:";

/// Why a certificate is none of this cluster's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no certificate that this build reads")]
    Unreadable,
    #[error("a certificate of another authority")]
    Foreign,
    #[error("a certificate without a member's name")]
    Name,
    /// Its dates, or the clock here or there, are wrong by 30 days or more.
    #[error("clock or certificate: the dates are wrong by {days} days")]
    ClockOrCertificate { days: i64 },
    #[error("the request is over another key, or its signature does not hold")]
    Request,
    #[error("it could not be made: {0}")]
    Made(String),
}

fn made(error: impl std::fmt::Display) -> Error {
    Error::Made(error.to_string())
}

/// What a certificate of this cluster says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) member: MemberId,
    pub(crate) key: [u8; 32],
    /// Seconds since 1970.
    pub(crate) begins: i64,
    pub(crate) ends: i64,
}

impl Facts {
    /// By how many seconds the dates are wrong at `now`; zero inside them.
    pub(crate) fn wrong_by(&self, now: i64) -> i64 {
        let early = self.begins.saturating_sub(now);
        early.max(now.saturating_sub(self.ends)).max(0)
    }

    /// Refuses dates that are wrong by too much.
    pub(crate) fn check_dates(&self, now: i64) -> Result<(), Error> {
        let wrong = self.wrong_by(now);
        if wrong < TOLERATED_SECONDS {
            return Ok(());
        }
        let days = wrong / DAY_SECONDS;
        Err(Error::ClockOrCertificate { days })
    }

    /// A third of its time is over, or it has not begun.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        now < self.begins || now - self.begins >= VALID_SECONDS / 3
    }
}

/// The authority's certificate: what members trust. It proves itself by nothing but having been given by somebody who
/// knew the join secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) der: CertificateDer<'static>,
    key: [u8; 32],
    /// As encoded.
    subject: Vec<u8>,
}

impl Authority {
    pub(crate) fn parse(der: &[u8]) -> Result<Self, Error> {
        let certificate = parse(der)?;
        let key = ed25519_key(&certificate)?;
        let is_authority = certificate
            .basic_constraints()
            .map_err(|_| Error::Unreadable)?
            .is_some_and(|constraints| constraints.value.ca);
        if !is_authority || !is_signed_by(&certificate, &key) {
            return Err(Error::Unreadable);
        }
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            key,
            subject: certificate.subject().as_raw().to_vec(),
        })
    }

    /// What a certificate says, if this authority signed it. Dates are not looked at.
    pub(crate) fn check(&self, der: &[u8]) -> Result<Facts, Error> {
        let certificate = parse(der)?;
        let ours = certificate.issuer().as_raw() == self.subject;
        if !ours || !is_signed_by(&certificate, &self.key) {
            return Err(Error::Foreign);
        }
        facts(&certificate)
    }
}

/// What a certificate says that its own key has signed: of a member that has no other yet.
pub(crate) fn check_self_signed(der: &[u8]) -> Result<Facts, Error> {
    let certificate = parse(der)?;
    let facts = facts(&certificate)?;
    if !is_signed_by(&certificate, &facts.key) {
        return Err(Error::Foreign);
    }
    Ok(facts)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    if der.len() > CERTIFICATE_BYTES {
        return Err(Error::Unreadable);
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Error::Unreadable),
    }
}

fn ed25519_key(certificate: &X509Certificate<'_>) -> Result<[u8; 32], Error> {
    let key = certificate.public_key();
    if key.algorithm.algorithm != OID_SIG_ED25519 || key.subject_public_key.unused_bits != 0 {
        return Err(Error::Unreadable);
    }
    let bytes: &[u8] = &key.subject_public_key.data;
    bytes.try_into().map_err(|_| Error::Unreadable)
}

fn is_signed_by(certificate: &X509Certificate<'_>, key: &[u8; 32]) -> bool {
    let signed = certificate.tbs_certificate.as_ref();
    let algorithms = [
        &certificate.signature_algorithm,
        &certificate.tbs_certificate.signature,
    ];
    algorithms.iter().all(|it| it.algorithm == OID_SIG_ED25519)
        && UnparsedPublicKey::new(&ED25519, key)
            .verify(signed, &certificate.signature_value.data)
            .is_ok()
}

fn facts(certificate: &X509Certificate<'_>) -> Result<Facts, Error> {
    let mut member = None;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                member = member_of(&names.general_names);
            }
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                return Err(Error::Name);
            }
            ParsedExtension::BasicConstraints(_) | ParsedExtension::KeyUsage(_) => {}
            _ if extension.critical => return Err(Error::Unreadable),
            _ => {}
        }
    }
    Ok(Facts {
        member: member.ok_or(Error::Name)?,
        key: ed25519_key(certificate)?,
        begins: certificate.validity().not_before.timestamp(),
        ends: certificate.validity().not_after.timestamp(),
    })
}

fn member_of(names: &[GeneralName<'_>]) -> Option<MemberId> {
    match names {
        [GeneralName::URI(name)] => parse_name(name),
        _ => None,
    }
}

/// One name, one spelling.
fn parse_name(name: &str) -> Option<MemberId> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    let member = MemberId(u64::from_str_radix(digits, 16).ok()?);
    (member.to_string() == digits).then_some(member)
}

fn name_of(member: MemberId) -> Result<Vec<SanType>, Error> {
    let name = format!("{NAME_PREFIX}{member}").try_into().map_err(made)?;
    Ok(vec![SanType::URI(name)])
}

/// Sixteen random bytes that are positive and not zero.
fn serial(random: &dyn Random) -> SerialNumber {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn date(unix_seconds: i64) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp(unix_seconds).map_err(made)
}

fn params(
    common_name: String,
    serial: SerialNumber,
    begins: i64,
    ends: i64,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(serial);
    params.not_before = date(begins)?;
    params.not_after = date(ends)?;
    Ok(params)
}

fn member_params(
    member: MemberId,
    now: i64,
    random: &dyn Random,
) -> Result<CertificateParams, Error> {
    let (begins, ends) = (
        now.saturating_sub(EARLIER_SECONDS),
        now.saturating_add(VALID_SECONDS),
    );
    let mut params = params(member.to_string(), serial(random), begins, ends)?;
    params.subject_alt_names = name_of(member)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

/// A new key.
pub(crate) fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ED25519).map_err(made)
}

/// Reads a key that [`KeyPair::serialized_der`] wrote.
pub(crate) fn read_key(pkcs8: &[u8]) -> Result<KeyPair, Error> {
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8);
    KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).map_err(|_| Error::Unreadable)
}

/// The 32 bytes of a public key.
pub(crate) fn public_key(key: &KeyPair) -> [u8; 32] {
    key.public_key_raw()
        .try_into()
        .expect("every key here is Ed25519")
}

/// A new authority.
pub(crate) fn new_authority(
    key: &KeyPair,
    now: i64,
    random: &dyn Random,
) -> Result<Authority, Error> {
    let name = format!("raft-store authority {:08x}", random.u64() >> 32);
    let ends = now.saturating_add(AUTHORITY_SECONDS);
    let mut params = params(name, serial(random), now, ends)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(key).map_err(made)?;
    Authority::parse(certificate.der())
}

/// What a member shows that has no certificate yet.
pub(crate) fn self_signed(
    member: MemberId,
    key: &KeyPair,
    now: i64,
    random: &dyn Random,
) -> Result<CertificateDer<'static>, Error> {
    let params = member_params(member, now, random)?;
    Ok(params.self_signed(key).map_err(made)?.der().clone())
}

/// Asks for a certificate.
pub(crate) fn request(member: MemberId, key: &KeyPair) -> Result<Vec<u8>, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = name_of(member)?;
    let request = params.serialize_request(key).map_err(made)?;
    Ok(request.der().to_vec())
}

/// The key that a request is over and signed with.
pub(crate) struct Requested {
    pub(crate) member: MemberId,
    pub(crate) key: [u8; 32],
    public: rcgen::PublicKey,
}

/// Reads a request and checks its signature.
pub(crate) fn read_request(der: &[u8]) -> Result<Requested, Error> {
    if der.len() > CERTIFICATE_BYTES {
        return Err(Error::Unreadable);
    }
    let request =
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|_| Error::Request)?;
    let public = request.public_key;
    if public.algorithm() != &PKCS_ED25519 {
        return Err(Error::Request);
    }
    let key = public.der_bytes().try_into().map_err(|_| Error::Request)?;
    match &request.params.subject_alt_names[..] {
        [SanType::URI(name)] => {
            let member = parse_name(name.as_str()).ok_or(Error::Name)?;
            Ok(Requested {
                member,
                key,
                public,
            })
        }
        _ => Err(Error::Name),
    }
}

/// Signs with the authority's key. Only id and key are taken from the request.
pub(crate) fn issue(
    authority: &Authority,
    authority_key: &KeyPair,
    requested: &Requested,
    now: i64,
    random: &dyn Random,
) -> Result<CertificateDer<'static>, Error> {
    let issuer = Issuer::from_ca_cert_der(&authority.der, authority_key).map_err(made)?;
    let params = member_params(requested.member, now, random)?;
    let certificate = params.signed_by(&requested.public, &issuer).map_err(made)?;
    // What this member would not accept is not given away.
    let facts = authority.check(certificate.der())?;
    if (facts.member, facts.key) != (requested.member, requested.key) {
        return Err(Error::Request);
    }
    Ok(certificate.der().clone())
}

#[cfg(test)]
mod tests;
