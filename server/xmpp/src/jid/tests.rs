//! RFC 7622: the examples of §3.5 and what else has gone wrong in address parsers

use std::collections::HashSet;

use super::*;

fn parts(input: &str) -> (Option<String>, String, Option<String>) {
    let jid = Jid::parse(input).unwrap_or_else(|error| panic!("{input}: {error}"));
    let owned = |part: Option<&str>| part.map(str::to_owned);
    (
        owned(jid.localpart()),
        jid.domain().to_owned(),
        owned(jid.resource()),
    )
}

const LEGAL: &[(&str, Option<&str>, &str, Option<&str>)] = &[
    ("juliet@example.com", Some("juliet"), "example.com", None),
    (
        "juliet@example.com/foo",
        Some("juliet"),
        "example.com",
        Some("foo"),
    ),
    (
        "juliet@example.com/foo bar",
        Some("juliet"),
        "example.com",
        Some("foo bar"),
    ),
    (
        "juliet@example.com/foo@bar",
        Some("juliet"),
        "example.com",
        Some("foo@bar"),
    ),
    (
        "foo\\20bar@example.com",
        Some("foo\\20bar"),
        "example.com",
        None,
    ),
    (
        "fussball@example.com",
        Some("fussball"),
        "example.com",
        None,
    ),
    (
        "fu\u{df}ball@example.com",
        Some("fu\u{df}ball"),
        "example.com",
        None,
    ),
    ("\u{3c0}@example.com", Some("\u{3c0}"), "example.com", None),
    (
        "\u{3a3}@example.com/foo",
        Some("\u{3c3}"),
        "example.com",
        Some("foo"),
    ),
    (
        "\u{3c3}@example.com/foo",
        Some("\u{3c3}"),
        "example.com",
        Some("foo"),
    ),
    (
        "\u{3c2}@example.com/foo",
        Some("\u{3c2}"),
        "example.com",
        Some("foo"),
    ),
    (
        "king@example.com/\u{265a}",
        Some("king"),
        "example.com",
        Some("\u{265a}"),
    ),
    ("example.com", None, "example.com", None),
    ("example.com/foobar", None, "example.com", Some("foobar")),
    (
        "a.example.com/b@example.net",
        None,
        "a.example.com",
        Some("b@example.net"),
    ),
];

#[test]
fn legal_examples() {
    for &(input, localpart, domain, resource) in LEGAL {
        let expected = (
            localpart.map(str::to_owned),
            domain.to_owned(),
            resource.map(str::to_owned),
        );
        assert_eq!(parts(input), expected, "{input}");
    }
}

#[test]
fn illegal_examples() {
    for (input, error) in [
        ("\"juliet\"@example.com", JidError::Localpart),
        ("foo bar@example.com", JidError::Localpart),
        ("juliet@example.com/ foo", JidError::Resource),
        ("@example.com/", JidError::EmptyLocalpart),
        ("henry\u{2163}@example.com", JidError::Localpart),
        ("\u{265a}@example.com", JidError::Localpart),
        ("juliet@", JidError::EmptyDomain),
        ("/foobar", JidError::EmptyDomain),
        ("", JidError::EmptyDomain),
        ("@", JidError::EmptyLocalpart),
        ("/", JidError::EmptyDomain),
        ("a@example.com/", JidError::EmptyResource),
        ("@example.com", JidError::EmptyLocalpart),
        ("a@b@example.com", JidError::Domain),
        ("a@.", JidError::EmptyDomain),
    ] {
        assert_eq!(Jid::parse(input).unwrap_err(), error, "{input}");
    }
}

#[test]
fn excluded_from_localparts() {
    for excluded in [
        '"', '&', '\'', ':', '<', '>', ' ', '\u{7f}', '\u{0}', '\u{ff06}', '\u{ff20}',
    ] {
        let input = format!("a{excluded}b@example.com");
        assert!(Jid::parse(&input).is_err(), "{input:?}");
        assert!(
            prepare_localpart(&format!("a{excluded}b")).is_err(),
            "{input:?}"
        );
    }
    assert!(prepare_localpart("a/b").is_err());
    assert!(prepare_localpart("a@b").is_err());
    assert!(prepare_localpart("ab\u{200b}").is_err());
}

#[test]
fn mapping_makes_equal() {
    for (input, prepared) in [
        ("Juliet@Example.COM/Foo", "juliet@example.com/Foo"),
        ("juliet@example.com.", "juliet@example.com"),
        ("juliet@example.com./x", "juliet@example.com/x"),
        ("JULIET@xn--bcher-kva.example", "juliet@b\u{fc}cher.example"),
        ("juliet@B\u{dc}CHER.example", "juliet@b\u{fc}cher.example"),
        ("\u{ff21}bc@example.com", "abc@example.com"),
        ("e\u{301}@example.com/e\u{301}", "\u{e9}@example.com/\u{e9}"),
        ("a@example.com/x\u{a0}y", "a@example.com/x y"),
        ("a@[2001:DB8:0:0::1]/x", "a@[2001:db8::1]/x"),
        ("a@192.0.2.1", "a@192.0.2.1"),
        ("a@localhost", "a@localhost"),
        ("a@1host.example", "a@1host.example"),
        ("a@example\u{3002}com", "a@example.com"),
    ] {
        let jid = Jid::parse(input).unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(jid.as_str(), prepared, "{input}");
        let again = Jid::parse(prepared).expect("what is prepared is a JID");
        assert_eq!(again.as_str(), prepared, "preparing again changes nothing");
        assert_eq!(again, jid);
    }
}

#[test]
fn bad_domains() {
    let long_label = format!("a@{}.example", "x".repeat(64));
    let long_name = format!("a@{}example", "abc.".repeat(63));
    for input in [
        "a@example..com",
        "a@.example.com",
        "a@example.com..",
        "a@-example.com",
        "a@example-.com",
        "a@exa mple.com",
        "a@exa_mple.com",
        "a@exa&mple.com",
        "a@[::1",
        "a@[::g]",
        "a@[]",
        "a@::1",
        "a@256.1.1.1",
        "a@1.2.3",
        "a@1.2.3.4.5",
        "a@example.com:5222",
        "a@xn--\u{fc}.example",
        "a@xn--a.example",
        "a@\u{2665}.example",
        "a@xn--g6h.example",
        "a@b\u{a9}.example",
        "a@\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "a@ex\u{200b}ample.com\u{0}",
        long_label.as_str(),
        long_name.as_str(),
    ] {
        assert!(
            Jid::parse(input).is_err(),
            "{input} gave {:?}",
            Jid::parse(input)
        );
    }
    assert!(Jid::parse(&format!("a@{}.example", "x".repeat(63))).is_ok());
}

#[test]
fn bounds_of_parts() {
    let most = "x".repeat(MAX_PART_BYTES);
    let more = "x".repeat(MAX_PART_BYTES + 1);
    assert!(Jid::parse(&format!("{most}@example.com/{most}")).is_ok());
    assert_eq!(
        Jid::parse(&format!("{more}@example.com")).unwrap_err(),
        JidError::TooLong
    );
    assert_eq!(
        Jid::parse(&format!("a@example.com/{more}")).unwrap_err(),
        JidError::TooLong
    );
    // Counted after mapping: 1023 three-byte letters become 1023 bytes.
    let wide = "\u{ff41}".repeat(MAX_PART_BYTES);
    assert_eq!(
        Jid::parse(&format!("{wide}@example.com"))
            .unwrap()
            .localpart(),
        Some("a".repeat(MAX_PART_BYTES).as_str())
    );
    let two_bytes = "\u{e9}".repeat(MAX_PART_BYTES / 2 + 1);
    assert_eq!(
        Jid::parse(&format!("a@example.com/{two_bytes}")).unwrap_err(),
        JidError::TooLong
    );
    assert!(Jid::parse(&"x".repeat(10_000_000)).is_err());
}

#[test]
fn control_characters_in_resources() {
    for bad in [
        "\u{0}",
        "a\tb",
        "a\nb",
        "\u{7f}",
        "a\u{85}b",
        "\u{200e}a",
        "\u{feff}",
    ] {
        assert!(prepare_resource(bad).is_err(), "{bad:?}");
    }
    assert_eq!(prepare_resource("a <&>\"'/b").unwrap(), "a <&>\"'/b");
}

#[test]
fn views_share_and_agree() {
    let jid = Jid::parse("romeo@example.net/orchard").unwrap();
    let full = jid.to_full().unwrap();
    let bare = jid.bare();
    assert_eq!(bare.as_str(), "romeo@example.net");
    assert_eq!(bare, BareJid::parse("romeo@example.net").unwrap());
    assert_eq!(full.bare(), bare);
    assert_eq!(full.resource(), "orchard");
    assert_eq!(bare.with_resource("orchard").unwrap(), full);
    assert_eq!(Jid::from(&bare).as_str(), "romeo@example.net");
    assert!(Jid::from(&bare).is_bare());
    assert_eq!(bare.to_jid().resource(), None);
    assert_eq!(Jid::from(full.clone()), jid);
    assert!(jid.to_bare().is_none());
    assert!(Jid::parse("example.net").unwrap().is_domain());
    assert_eq!(BareJid::parse("a@b/c").unwrap_err(), JidError::NotBare);
    assert_eq!(FullJid::parse("a@b").unwrap_err(), JidError::NotFull);
    assert_eq!(BareJid::new(Some("Romeo"), "Example.NET").unwrap(), bare);
    assert_eq!(
        BareJid::new(None, "example.net").unwrap().as_str(),
        "example.net"
    );

    let set: HashSet<BareJid> = [bare.clone()].into();
    assert!(
        set.contains("romeo@example.net"),
        "Borrow<str> hashes like str"
    );
    assert!(set.contains(&full.bare()));
}

#[test]
fn random_strings_prepare_to_a_fixed_point() {
    let mut random = crate::testing::Random::new(7622);
    let alphabet: Vec<char> =
        "aZ09.-_@/ \\:&'\"<>[]\u{df}\u{3a3}\u{ff21}\u{ff20}\u{ff0f}\u{2163}\u{265a}\u{301}\u{200d}\u{5d0}\u{661}xn--\u{3002}\u{a0}\u{212b}\u{1e9e}\u{130}"
            .chars()
            .collect();
    for _ in 0..20_000 {
        let length = random.below(12);
        let input: String = (0..length).map(|_| *random.pick(&alphabet)).collect();
        if let Ok(jid) = Jid::parse(&input) {
            let again = Jid::parse(jid.as_str());
            assert_eq!(again.as_ref(), Ok(&jid), "{input:?} became {jid:?}");
            assert!(!jid.domain().is_empty());
        }
    }
}
