//! Bounded readers and writers of the formats on disk and on the wire: fixed little-endian integers, varints, byte strings.
//!
//! A [`Reader`] never allocates, never panics and never reads past its slice; whoever turns a count into an
//! allocation gives the count a limit first ([`Reader::count`]). Every value has exactly one encoding, so that bytes
//! that decode are the bytes that encoding gives again.

/// Longest varint: 64 bits, 7 a byte.
pub const VARINT_BYTES: usize = 10;

/// What is wrong with bytes that were to be decoded, or with a value that was to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{what}: {missing} bytes are missing")]
    Short { what: &'static str, missing: usize },
    #[error("{what}: {value} is over the limit of {limit}")]
    TooLarge {
        what: &'static str,
        value: u64,
        limit: u64,
    },
    #[error("{what}: not a varint in its shortest form")]
    Varint { what: &'static str },
    /// A tag, flag or format number that this build does not know.
    #[error("{what}: unknown value {value}")]
    Unknown { what: &'static str, value: u64 },
    #[error("{what}: {bytes} bytes too many")]
    Trailing { what: &'static str, bytes: usize },
}

/// Takes values from the front of a slice. After an error its position is unspecified; give it up.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
        }
    }

    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Bytes taken so far.
    pub fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Exactly `length` bytes.
    pub fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            let missing = length - self.rest.len();
            return Err(Error::Short { what, missing });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Exactly `N` bytes, as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let taken = self.take(N, what)?;
        Ok(taken.try_into().expect("take gives the length asked for"))
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub fn u16(&mut self, what: &'static str) -> Result<u16, Error> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub fn u128(&mut self, what: &'static str) -> Result<u128, Error> {
        Ok(u128::from_le_bytes(self.array(what)?))
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, Error> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Error::Unknown {
                what,
                value: u64::from(other),
            }),
        }
    }

    /// A varint: 7 bits a byte, low ones first, the high bit on all but the last; in its shortest form.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, Error> {
        let mut value = 0u64;
        for at in 0..VARINT_BYTES {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds the 64th bit alone; a last byte of zero could have been left out.
            let overflows = at == VARINT_BYTES - 1 && byte > 1;
            let padded = byte == 0 && at > 0;
            if overflows || padded {
                return Err(Error::Varint { what });
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Varint { what })
    }

    /// A varint that counts things of at least `least_bytes` each, ≤ `limit`: refused when the rest could not hold them.
    pub fn count(
        &mut self,
        limit: usize,
        least_bytes: usize,
        what: &'static str,
    ) -> Result<usize, Error> {
        let value = self.varint(what)?;
        let too_large = Error::TooLarge {
            what,
            value,
            limit: limit as u64,
        };
        let count = usize::try_from(value).map_err(|_| too_large)?;
        if count > limit {
            return Err(too_large);
        }
        let needed = count.saturating_mul(least_bytes);
        if needed > self.remaining() {
            let missing = needed - self.remaining();
            return Err(Error::Short { what, missing });
        }
        Ok(count)
    }

    /// A varint length ≤ `limit_bytes` and that many bytes.
    pub fn bytes(&mut self, limit_bytes: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let length = self.count(limit_bytes, 1, what)?;
        self.take(length, what)
    }

    /// That nothing is left.
    pub fn finish(self, what: &'static str) -> Result<(), Error> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let bytes = self.rest.len();
        Err(Error::Trailing { what, bytes })
    }
}

/// Appends values to a buffer of at most `limit_bytes`. What does not fit is dropped and told by [`Writer::finish`],
/// so that encoders need no `?` on each line.
#[derive(Debug)]
pub struct Writer {
    buffer: Vec<u8>,
    limit_bytes: usize,
    /// What it would have become.
    wanted_bytes: usize,
}

impl Writer {
    pub fn new(limit_bytes: usize) -> Self {
        Self::with_buffer(Vec::new(), limit_bytes)
    }

    /// Goes on behind what `buffer` holds already; the limit counts all of it.
    pub fn with_buffer(buffer: Vec<u8>, limit_bytes: usize) -> Self {
        let wanted_bytes = buffer.len();
        Self {
            buffer,
            limit_bytes,
            wanted_bytes,
        }
    }

    /// Bytes written so far, those that did not fit included.
    pub fn len(&self) -> usize {
        self.wanted_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.wanted_bytes == 0
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.wanted_bytes = self.wanted_bytes.saturating_add(bytes.len());
        if self.wanted_bytes <= self.limit_bytes {
            self.buffer.extend_from_slice(bytes);
        }
    }

    pub fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub fn u128(&mut self, value: u128) {
        self.raw(&value.to_le_bytes());
    }

    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// See [`Reader::varint`].
    pub fn varint(&mut self, value: u64) {
        let mut encoded = [0; VARINT_BYTES];
        let length = put_varint(&mut encoded, value);
        self.raw(&encoded[..length]);
    }

    /// A varint length and the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// The buffer, or `TooLarge` named `what` when not all of it fitted.
    pub fn finish(self, what: &'static str) -> Result<Vec<u8>, Error> {
        if self.wanted_bytes <= self.limit_bytes {
            return Ok(self.buffer);
        }
        Err(Error::TooLarge {
            what,
            value: self.wanted_bytes as u64,
            limit: self.limit_bytes as u64,
        })
    }
}

/// Bytes that [`Writer::varint`] takes for `value`: 1 to 10.
pub fn varint_bytes(value: u64) -> usize {
    let bits = (64 - value.leading_zeros()).max(1) as usize;
    bits.div_ceil(7)
}

fn put_varint(into: &mut [u8; VARINT_BYTES], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        into[at] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    into[at] = value as u8;
    at + 1
}

#[cfg(test)]
mod tests;
