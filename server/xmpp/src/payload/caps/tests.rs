//! The examples of XEP-0115 §5.2 and §5.3, and what is ill-formed

use super::*;
use crate::payload::data_forms::{Field, FormKind};

fn exodus() -> Info {
    Info {
        identities: vec![Identity::new("client", "pc").named("Exodus 0.9.1")],
        features: vec![
            ns::MUC.into(),
            ns::DISCO_ITEMS.into(),
            ns::CAPS.into(),
            ns::DISCO_INFO.into(),
        ],
        ..Info::default()
    }
}

fn software_info() -> Form {
    Form::typed(FormKind::Result, "urn:xmpp:dataforms:softwareinfo")
        .with(Field::new("os", FieldKind::TextSingle).value("Mac"))
        .with(Field::new("ip_version", FieldKind::TextMulti).values(["ipv6", "ipv4"]))
        .with(Field::new("software", FieldKind::TextSingle).value("Psi"))
        .with(Field::new("os_version", FieldKind::TextSingle).value("10.5.1"))
        .with(Field::new("software_version", FieldKind::TextSingle).value("0.11"))
}

fn psi() -> Info {
    let name = |lang: &str, name: &str| Identity {
        lang: Some(lang.into()),
        ..Identity::new("client", "pc").named(name)
    };
    Info {
        identities: vec![name("en", "Psi 0.11"), name("el", "\u{3a8} 0.11")],
        forms: vec![software_info()],
        ..exodus()
    }
}

#[test]
fn examples() {
    assert_eq!(
        ver(&exodus(), Hash::Sha1).unwrap(),
        "QgayPKawpkPSDYmwT/WM94uAlu0="
    );
    assert_eq!(
        ver(&psi(), Hash::Sha1).unwrap(),
        "q07IKJEyjvHSyhy//CH0CxmKi8w="
    );
    let read = Info::parse(&Element::parse(psi().to_element().to_xml()).unwrap()).unwrap();
    assert_eq!(
        ver(&read, Hash::Sha1).unwrap(),
        "q07IKJEyjvHSyhy//CH0CxmKi8w="
    );
}

#[test]
fn verdicts() {
    let caps = |hash: Option<&str>, ver: &str| Caps {
        node: "urn:x".into(),
        ver: ver.into(),
        hash: hash.map(str::to_owned),
    };
    let good = "QgayPKawpkPSDYmwT/WM94uAlu0=";
    assert_eq!(caps(Some("sha-1"), good).verify(&exodus()), Verdict::Valid);
    assert_eq!(caps(Some("sha-1"), good).verify(&psi()), Verdict::Invalid);
    assert_eq!(
        caps(Some("sha-256"), good).verify(&exodus()),
        Verdict::Invalid
    );
    assert_eq!(caps(Some("md5"), good).verify(&exodus()), Verdict::Unknown);
    assert_eq!(caps(None, "1.0").verify(&exodus()), Verdict::Unknown);
    let own = Caps::new("urn:x", Hash::Sha256, &exodus()).unwrap();
    assert_eq!(own.verify(&exodus()), Verdict::Valid);
    assert_eq!(Caps::parse(&own.to_element()), Some(own.clone()));
    assert_eq!(caps(Some("sha-1"), "v").disco_node(), "urn:x#v");
}

#[test]
fn ill_formed() {
    let mut info = psi();
    info.identities.push(info.identities[0].clone());
    assert_eq!(ver(&info, Hash::Sha1), Err(IllFormed::Identity));

    let mut info = psi();
    info.features.push(ns::MUC.into());
    assert_eq!(ver(&info, Hash::Sha1), Err(IllFormed::Feature));

    let mut info = psi();
    info.forms.push(software_info());
    assert_eq!(ver(&info, Hash::Sha1), Err(IllFormed::FormType));

    let mut info = psi();
    info.forms[0].fields[0].values.push("other".into());
    assert_eq!(ver(&info, Hash::Sha1), Err(IllFormed::FormType));

    let mut info = psi();
    info.forms[0].fields[0]
        .values
        .push("urn:xmpp:dataforms:softwareinfo".into());
    assert!(ver(&info, Hash::Sha1).is_ok());
}

#[test]
fn forms_to_ignore() {
    let expected = ver(
        &Info {
            forms: Vec::new(),
            ..psi()
        },
        Hash::Sha1,
    );
    let mut visible = psi();
    visible.forms[0].fields[0].kind = None;
    assert_eq!(ver(&visible, Hash::Sha1), expected);
    let mut nameless = psi();
    nameless.forms[0].fields.remove(0);
    assert_eq!(ver(&nameless, Hash::Sha1), expected);
}

/// A name that holds a `<` is not a name and a feature.
#[test]
fn parts_cannot_be_faked() {
    let honest = Info {
        identities: vec![Identity::new("client", "pc").named("A")],
        features: vec![ns::MUC.into()],
        ..Info::default()
    };
    let forged = Info {
        identities: vec![Identity::new("client", "pc").named(format!("A<{}", ns::MUC))],
        ..Info::default()
    };
    assert_ne!(ver(&honest, Hash::Sha1), ver(&forged, Hash::Sha1));
}

#[test]
fn caps_of_a_presence() {
    let read = |xml: &'static str| Caps::of(&Stanza::parse_stored(xml.into()).unwrap());
    let caps = read(
        "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></presence>",
    );
    assert_eq!(caps.unwrap().hash.as_deref(), Some("sha-1"));
    assert_eq!(
        read("<presence><c xmlns='http://jabber.org/protocol/caps' node='n'/></presence>"),
        None
    );
    assert_eq!(read("<presence/>"), None);
}
