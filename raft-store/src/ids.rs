//! Names of members, runs, writes and clusters: plain numbers with a type each. Those minted at random are minted by the caller.

use std::fmt;

/// A member: 64 random bits minted with its data directory; never typed by anybody, never used again after removal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberId(pub u64);

/// One run of a member: the log index of the entry that registered it. Unique and ordered, so it fences: at most
/// [`Incarnation::CEILING`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// What a record has room for: seven bytes. At a million entries a second the log reaches it in two thousand years.
    pub const CEILING: u64 = (1 << 56) - 1;
}

/// A counter in the state, one more for each event: a write that changed something, or the death of an owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

/// One proposal of one run. Sequences start at 1 and are never used for a second proposal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProposalId {
    /// The run that made it.
    pub incarnation: Incarnation,
    /// Its number within the run.
    pub sequence: u64,
}

/// A cluster: 128 random bits minted by its founder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterId(pub [u8; 16]);

/// One process start of a member: random, never stored by the member itself. Two live ones for one id mean a copied disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BootNonce(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.incarnation, self.sequence)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_in_one_form() {
        assert_eq!(MemberId(0xab).to_string(), "00000000000000ab");
        assert_eq!(
            ProposalId {
                incarnation: Incarnation(7),
                sequence: 9
            }
            .to_string(),
            "7/9"
        );
        let id: [u8; 16] = std::array::from_fn(|i| i as u8);
        assert_eq!(
            ClusterId(id).to_string(),
            "00010203-0405-0607-0809-0a0b0c0d0e0f"
        );
    }
}
