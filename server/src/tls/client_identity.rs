//! RFC 6120 §13.7.1.4: the XMPP addresses a client certificate states (XEP-0178)

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::certificate::alternative_names;

/// id-on-xmppAddr.
const XMPP_ADDR: &str = "1.3.6.1.5.5.7.8.5";
/// Most addresses read from one certificate.
const MAX_ADDRESSES: usize = 32;

/// The `xmppAddr` entries of the subjectAltName, as written. Empty for a
/// certificate that cannot be parsed or has none.
pub fn xmpp_addresses(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let names = alternative_names(&certificate).iter();
    let names = names.filter_map(|name| match name {
        GeneralName::OtherName(oid, value) if oid.to_id_string() == XMPP_ADDR => {
            utf8_string(value).map(str::to_owned)
        }
        _ => None,
    });
    names.take(MAX_ADDRESSES).collect()
}

/// The text of `[0] EXPLICIT UTF8String`, or of the bare UTF8String.
fn utf8_string(der: &[u8]) -> Option<&str> {
    const EXPLICIT_0: u8 = 0xa0;
    const UTF8_STRING: u8 = 0x0c;
    let der = match der.first()? {
        &EXPLICIT_0 => content(der)?,
        _ => der,
    };
    if *der.first()? != UTF8_STRING {
        return None;
    }
    std::str::from_utf8(content(der)?).ok()
}

/// The content of one DER element that fills its input.
fn content(der: &[u8]) -> Option<&[u8]> {
    let (header, len) = match *der.get(1)? {
        len @ 0..=0x7f => (2, usize::from(len)),
        0x81 => (3, usize::from(*der.get(2)?)),
        0x82 => (
            4,
            usize::from(*der.get(2)?) << 8 | usize::from(*der.get(3)?),
        ),
        _ => return None,
    };
    (der.len() == header + len).then(|| &der[header..])
}
