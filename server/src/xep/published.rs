//! The supported specifications as others read them: the README's table and the DOAP file (XEP-0453), made
//! from every `SPEC`.

use std::fmt::Write;

use super::{SPECS, Spec, Status};

/// RFCs and the parts of them that are a server's for clients.
const RFCS: &[(u16, &str)] = &[
    (4013, "SASLprep"),
    (5802, "SCRAM, channel binding included"),
    (5929, "tls-server-end-point"),
    (6120, "XMPP Core"),
    (6121, "XMPP Instant Messaging and Presence"),
    (7590, "Use of TLS in XMPP"),
    (7622, "XMPP Address Format"),
    (7677, "SCRAM-SHA-256"),
    (9266, "tls-exporter"),
];

/// What is part of other files: of negotiation, or of everything that pages or delays.
const ELSEWHERE: &[Spec] = &[
    elsewhere(4, "Data Forms", "2.13.2"),
    elsewhere(203, "Delayed Delivery", "2.0"),
    elsewhere(368, "SRV records for XMPP over TLS", "1.1.0"),
    elsewhere(440, "SASL Channel-Binding Type Capability", "1.0.0"),
    elsewhere(478, "Stream Limits Advertisement", "0.2.0"),
];

const fn elsewhere(number: u16, name: &'static str, version: &'static str) -> Spec {
    let status = Status::Complete;
    Spec {
        number,
        name,
        version,
        status,
        note: "",
        features: &[],
        switch: None,
    }
}

/// Every specification once, by number.
fn specs() -> Vec<&'static Spec> {
    let mut specs: Vec<&Spec> = SPECS.iter().copied().chain(ELSEWHERE).collect();
    specs.sort_by_key(|spec| spec.number);
    specs.dedup_by_key(|spec| spec.number);
    specs
}

/// The table of the README (Markdown).
pub fn table() -> String {
    let mut text = String::from("| | | version | |\n|---|---|---|---|\n");
    for (number, name) in RFCS {
        let link = format!("https://www.rfc-editor.org/rfc/rfc{number}");
        let _ = writeln!(text, "| [RFC {number}]({link}) | {name} | | |");
    }
    for spec in specs() {
        let Spec {
            number,
            name,
            version,
            note,
            ..
        } = spec;
        let link = format!("https://xmpp.org/extensions/xep-{number:04}.html");
        let note = match spec.status {
            Status::Complete => (*note).to_owned(),
            Status::Partial => format!("partial: {note}"),
        };
        let _ = writeln!(
            text,
            "| [XEP-{number:04}]({link}) | {name} | {version} | {note} |"
        );
    }
    text
}

/// The description of the project that directories of XMPP software read.
pub fn doap() -> String {
    let mut text = String::from(
        "<?xml version='1.0' encoding='UTF-8'?>\n\
         <rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns='http://usefulinc.com/ns/doap#' \
         xmlns:xmpp='https://linkmauve.fr/ns/xmpp-doap#'>\n  <Project>\n    <name>Eider</name>\n    \
         <shortdesc xml:lang='en'>An XMPP server that is its own cluster</shortdesc>\n    \
         <programming-language>Rust</programming-language>\n    <os>Linux</os>\n    \
         <license rdf:resource='https://www.apache.org/licenses/LICENSE-2.0'/>\n    \
         <category rdf:resource='https://linkmauve.fr/ns/xmpp-doap#category-server'/>\n",
    );
    for (number, _) in RFCS {
        let link = format!("https://www.rfc-editor.org/info/rfc{number}");
        let _ = writeln!(text, "    <implements rdf:resource='{link}'/>");
    }
    for spec in specs() {
        let status = match spec.status {
            Status::Complete => "complete",
            Status::Partial => "partial",
        };
        let (number, version) = (spec.number, spec.version);
        let _ = writeln!(
            text,
            "    <implements>\n      <xmpp:SupportedXep>\n        <xmpp:xep \
             rdf:resource='https://xmpp.org/extensions/xep-{number:04}.html'/>\n        \
             <xmpp:version>{version}</xmpp:version>\n        <xmpp:status>{status}</xmpp:status>\n      \
             </xmpp:SupportedXep>\n    </implements>"
        );
    }
    text.push_str("  </Project>\n</rdf:RDF>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    #[test]
    fn readme_is_not_stale() {
        let readme = std::fs::read_to_string(format!("{ROOT}/README.md")).unwrap();
        let (_, rest) = readme.split_once("<!-- specs:begin -->\n").unwrap();
        let (written, _) = rest.split_once("<!-- specs:end -->").unwrap();
        let hint = "is stale; put between its marks what this prints: eider config specs";
        assert!(written == table(), "README.md {hint}");
    }

    #[test]
    fn doap_is_not_stale() {
        let written = std::fs::read_to_string(format!("{ROOT}/eider.doap")).unwrap_or_default();
        let hint = "is stale; write it with: eider config doap > eider.doap";
        assert!(written == doap(), "eider.doap {hint}");
    }
}
