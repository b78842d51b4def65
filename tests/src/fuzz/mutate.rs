//! Damage: seeded, so that the same seed makes the same inputs everywhere

/// xorshift64*.
pub struct Random(u64);

impl Random {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((self.number() >> 16) % bound as u64) as usize
    }

    /// One of `items`, of which there is at least one.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// What parsers of these formats look for.
const TOKENS: &[&str] = &[
    "<",
    ">",
    "/>",
    "</",
    "='",
    "\"",
    "'",
    "&",
    ";",
    "&lt;",
    "&#0;",
    "&#x10FFFF;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "<?",
    "<!DOCTYPE ",
    " xmlns='",
    " xmlns:p='urn:p'",
    "p:",
    "xml:",
    "stream:",
    "jabber:client",
    "@",
    "/",
    ".",
    ",",
    "=",
    "n,,",
    "p=tls-exporter,,",
    "m=",
    "c=biws",
    "\r\n",
    "\0",
    "\u{fffe}",
    "\u{200d}",
    "\u{df}",
    "\u{2163}",
    "\u{ff21}",
    "xn--",
    "[::1]",
    "0",
    "-1",
    "18446744073709551616",
    "2026-01-02T03:04:05Z",
    "PROXY TCP4 ",
    "[",
    "]",
    "{",
    "}",
    "#",
    "true",
];

/// One of the examples with a few changes, or pieces of two.
pub fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut out = random.pick(corpus).clone();
    for _ in 0..1 + random.below(4) {
        let at = random.below(out.len() + 1);
        let end = (at + random.below(24)).min(out.len());
        match random.below(8) {
            0 => drop(out.drain(at..end)),
            1 => out.truncate(at),
            2 if at < out.len() => out[at] ^= 1 << random.below(8),
            3 => out.insert(at, random.number() as u8),
            4 => {
                let piece = out[at..end].to_vec();
                let to = random.below(out.len() + 1);
                out.splice(to..to, piece);
            }
            5 => {
                let other = random.pick(corpus);
                let from = random.below(other.len() + 1);
                let piece = other[from..].iter().take(64).copied();
                out.splice(at..end, piece.collect::<Vec<_>>());
            }
            6 => {
                let piece = out[at..end].repeat(1 + random.below(64));
                out.splice(at..end, piece);
            }
            _ => drop(out.splice(at..end, random.pick(TOKENS).bytes())),
        }
    }
    out
}

/// FNV-1a, to name files by their content.
pub fn digest(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
