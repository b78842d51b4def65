//! What a member says of itself when a run of it begins.

use super::maybe_incarnation;
use crate::codec::{self, Reader, Writer};
use crate::ids::{BootNonce, Incarnation, MemberId};
use crate::limits::{
    ADDRESS_BYTES, CLUSTER_FORMAT_FIRST, CLUSTER_FORMAT_KNOWN, MEMBER_ADDRESSES, ZONE_BYTES,
};

/// A run of a member asks for its incarnation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    pub member: MemberId,
    pub nonce: BootNonce,
    /// The member's last incarnation as this run knows it: a registration that was long on its way ends no later run.
    pub latest: Option<Incarnation>,
    pub info: MemberInfo,
}

/// What others must know of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberInfo {
    /// ≤ [`MEMBER_ADDRESSES`] of ≤ [`ADDRESS_BYTES`].
    pub addresses: Vec<String>,
    /// ≤ [`ZONE_BYTES`].
    pub zone: String,
    /// Cluster formats it reads, both ends included.
    pub formats: (u16, u16),
}

impl Default for MemberInfo {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            zone: String::new(),
            formats: (CLUSTER_FORMAT_FIRST, CLUSTER_FORMAT_KNOWN),
        }
    }
}

impl Registration {
    pub(crate) fn encode(&self, to: &mut Writer) {
        to.u64(self.member.0);
        to.u64(self.nonce.0);
        to.varint(self.latest.map_or(0, |latest| latest.0));
        self.info.encode(to);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let member = MemberId(from.u64("member")?);
        let nonce = BootNonce(from.u64("boot nonce")?);
        let latest = maybe_incarnation(from, "latest incarnation")?;
        let info = MemberInfo::decode(from)?;
        Ok(Self {
            member,
            nonce,
            latest,
            info,
        })
    }
}

impl MemberInfo {
    /// Appends it.
    pub(crate) fn encode(&self, to: &mut Writer) {
        to.varint(self.addresses.len() as u64);
        for address in &self.addresses {
            to.bytes(address.as_bytes());
        }
        to.bytes(self.zone.as_bytes());
        to.u16(self.formats.0);
        to.u16(self.formats.1);
    }

    /// The next one of `from`.
    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let count = from.count(MEMBER_ADDRESSES, 1, "addresses")?;
        let addresses = (0..count).map(|_| text(from, ADDRESS_BYTES, "address"));
        let addresses = addresses.collect::<Result<_, _>>()?;
        let zone = text(from, ZONE_BYTES, "zone")?;
        let formats = (from.u16("lowest format")?, from.u16("highest format")?);
        Ok(Self {
            addresses,
            zone,
            formats,
        })
    }
}

fn text(
    from: &mut Reader<'_>,
    limit_bytes: usize,
    what: &'static str,
) -> Result<String, codec::Error> {
    let bytes = from.bytes(limit_bytes, what)?;
    let text = std::str::from_utf8(bytes).map_err(|error| codec::Error::Unknown {
        what,
        value: error.valid_up_to() as u64,
    })?;
    Ok(text.to_owned())
}
