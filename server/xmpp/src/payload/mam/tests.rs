//! XEP-0313: queries that are read and refused

use super::*;

fn query(fields: &[(&str, &[&str])]) -> Result<Query, Error> {
    let mut xml = format!(
        "<query xmlns='{}' queryid='f27'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>",
        ns::MAM
    );
    for (var, values) in fields {
        xml += &format!("<field var='{var}'>");
        for value in *values {
            xml += &format!("<value>{value}</value>");
        }
        xml += "</field>";
    }
    xml += "</x><flip-page/></query>";
    Query::parse(&Element::parse(xml).expect("test input"))
}

#[test]
fn every_field_is_read() {
    let read = query(&[
        ("with", &["Juliet@capulet.lit"]),
        ("start", &["2010-06-07T00:00:00Z"]),
        ("end", &["2010-07-07T13:23:54Z"]),
        ("before-id", &["b"]),
        ("after-id", &["a"]),
        ("ids", &["x", "y"]),
        (FULLTEXT, &["good day"]),
    ])
    .expect("valid");
    assert_eq!(
        read.with.as_ref().map(Jid::as_str),
        Some("juliet@capulet.lit")
    );
    assert_eq!(read.start, datetime::parse("2010-06-07T00:00:00Z").ok());
    assert_eq!(read.end, datetime::parse("2010-07-07T13:23:54Z").ok());
    assert_eq!(
        (read.before_id.as_deref(), read.after_id.as_deref()),
        (Some("b"), Some("a"))
    );
    assert_eq!(read.ids, Some(vec!["x".to_owned(), "y".to_owned()]));
    assert_eq!(read.text.as_deref(), Some("good day"));
    assert_eq!((read.query_id.as_deref(), read.flip), (Some("f27"), true));
}

#[test]
fn a_query_needs_no_form() {
    let plain = Element::parse("<query xmlns='urn:xmpp:mam:2'/>").expect("test input");
    assert_eq!(Query::parse(&plain), Ok(Query::default()));
}

#[test]
fn what_is_not_understood_is_refused() {
    assert_eq!(query(&[("with", &["@"])]), Err(Error::Value("with")));
    assert_eq!(query(&[("with", &["a", "b"])]), Err(Error::Value("with")));
    assert_eq!(
        query(&[("start", &["yesterday"])]),
        Err(Error::Value("start"))
    );
    assert_eq!(
        query(&[("color", &["red"])]),
        Err(Error::UnknownField("color".into()))
    );
    let ids = vec!["x"; MAX_IDS + 1];
    assert_eq!(query(&[("ids", &ids)]), Err(Error::Value("ids")));
    let other = "<query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'>\
        <field var='FORM_TYPE'><value>other</value></field></x></query>";
    assert_eq!(
        Query::parse(&Element::parse(other).expect("test input")),
        Err(Error::Form)
    );
}

#[test]
fn the_form_lists_open_ids_and_requires_nothing() {
    let form = query_form(true).to_xml();
    assert!(form.contains("<open/>") && form.contains("{urn:xmpp:fulltext:0}fulltext"));
    assert!(!form.contains("required"));
    assert!(!query_form(false).to_xml().contains("fulltext"));
}

#[test]
fn preferences_are_read_and_shown() {
    let xml = "<prefs xmlns='urn:xmpp:mam:2' default='roster'>\
        <always><jid>romeo@montague.lit</jid></always><never/></prefs>";
    let prefs = Preferences::parse(&Element::parse(xml).expect("test input")).expect("valid");
    assert_eq!(prefs.to_element().to_xml(), xml);
    for bad in [
        "<prefs xmlns='urn:xmpp:mam:2'/>",
        "<prefs xmlns='urn:xmpp:mam:2' default='sometimes'/>",
        "<prefs xmlns='urn:xmpp:mam:2' default='always'><never><jid>@</jid></never></prefs>",
    ] {
        let read = Preferences::parse(&Element::parse(bad).expect("test input"));
        assert_eq!(read, Err(Error::Preferences), "{bad}");
    }
}

#[test]
fn metadata_names_both_ends() {
    assert_eq!(
        metadata(None).to_xml(),
        "<metadata xmlns='urn:xmpp:mam:2'/>"
    );
    assert_eq!(
        metadata(Some([("a", 0), ("z", 1_000)])).to_xml(),
        "<metadata xmlns='urn:xmpp:mam:2'><start id='a' timestamp='1970-01-01T00:00:00.000Z'/>\
         <end id='z' timestamp='1970-01-01T00:00:00.001Z'/></metadata>"
    );
}
