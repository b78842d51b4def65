//! The least key of a chunk or branch, in line when short: a search through a row then touches that row alone.

/// With the byte for the length, what a boxed slice takes together with the tag of the choice.
const IN_LINE: usize = 22;

/// A key, or the beginning of one.
#[derive(Clone)]
pub(super) enum Border {
    Short(u8, [u8; IN_LINE]),
    Long(Box<[u8]>),
}

impl Border {
    /// Not above any key.
    pub(super) fn least() -> Self {
        Self::new(&[])
    }

    /// The shortest one above `left` and not above `right`.
    pub(super) fn between(left: &[u8], right: &[u8]) -> Self {
        let common = left.iter().zip(right).take_while(|(l, r)| l == r).count();
        Self::new(&right[..right.len().min(common + 1)])
    }

    fn new(key: &[u8]) -> Self {
        let mut short = [0; IN_LINE];
        match short.get_mut(..key.len()) {
            Some(into) => into.copy_from_slice(key),
            None => return Self::Long(Box::from(key)),
        }
        Self::Short(key.len() as u8, short)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

// Else a row takes more lines of cache than it was made for.
const _: () = assert!(size_of::<Border>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_lie_between() {
        let long = [b'x'; 40];
        let longer = [b'x'; 41];
        let pairs: [(&[u8], &[u8]); 6] = [
            (b"a", b"b"),
            (b"a", b"ab"),
            (b"abc/1", b"abc/2/more"),
            (b"", b"a"),
            (&long, &longer),
            (&long[..21], &long[..22]),
        ];
        for (left, right) in pairs {
            let border = Border::between(left, right);
            assert!(left < border.as_bytes() && border.as_bytes() <= right);
        }
        assert_eq!(
            Border::between(b"abc/1", b"abc/2/more").as_bytes(),
            b"abc/2"
        );
        assert_eq!(Border::least().as_bytes(), b"");
    }
}
