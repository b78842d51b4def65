//! RFC 4086: tokens that nobody can guess

use aws_lc_rs::rand::SecureRandom;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Text of `N` random bytes, in the alphabet of base64url: fit for nonces, ids and
/// localparts after lower-casing.
pub fn token<const N: usize>(random: &dyn SecureRandom) -> String {
    let mut bytes = [0u8; N];
    random
        .fill(&mut bytes)
        .expect("the system's random source does not fail once seeded");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A localpart of 128 random bits, in hexadecimal.
pub fn localpart(random: &dyn SecureRandom) -> String {
    let mut bytes = [0u8; 16];
    random
        .fill(&mut bytes)
        .expect("the system's random source does not fail once seeded");
    format!("{:032x}", u128::from_be_bytes(bytes))
}
