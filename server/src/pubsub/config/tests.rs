//! XEP-0060 §16.4.4: configuration fields, submissions and preconditions.

use super::*;

#[test]
fn every_field_takes_back_what_it_shows() {
    let config = NodeConfig {
        title: "Princely Musings".into(),
        contact: vec!["hamlet@denmark.lit".into()],
        ..NodeConfig::default()
    };
    for field in FIELDS {
        let values = (field.get)(&config);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let again = config
            .submit(&[(field.var, values.clone())])
            .expect(field.var);
        assert_eq!(again, config, "{}", field.var);
        if let Kind::List(words) = field.kind {
            assert!(words.contains(&values[0]), "{}", field.var);
            assert!(
                config.submit(&[(field.var, vec!["no such word"])]).is_err(),
                "{}",
                field.var
            );
        }
        if field.kind == Kind::Boolean {
            for yes in ["1", "true"] {
                let set = config.submit(&[(field.var, vec![yes])]).expect(field.var);
                assert_eq!((field.get)(&set), ["1"]);
            }
            assert!(
                config.submit(&[(field.var, vec!["yes"])]).is_err(),
                "{}",
                field.var
            );
            assert!(
                config.submit(&[(field.var, vec![])]).is_err(),
                "{}",
                field.var
            );
        }
    }
}

#[test]
fn what_is_not_submitted_is_kept_and_what_is_not_known_skipped() {
    let open = NodeConfig::default()
        .submit(&[
            (
                "FORM_TYPE",
                vec!["http://jabber.org/protocol/pubsub#node_config"],
            ),
            ("pubsub#access_model", vec!["open"]),
            ("pubsub#no_such_field", vec!["1"]),
        ])
        .expect("valid");
    assert_eq!(
        open,
        NodeConfig {
            access_model: AccessModel::Open,
            ..NodeConfig::default()
        }
    );
    assert_eq!(
        open.submit(&[("pubsub#access_model", vec!["friends"])]),
        Err(Error::AccessModel)
    );
}

#[test]
fn preconditions_create_or_are_compared() {
    let wanted: Vec<Submitted> = vec![
        ("pubsub#access_model", vec!["open"]),
        ("pubsub#max_items", vec!["max"]),
        ("pubsub#persist_items", vec!["true"]),
    ];
    let made = NodeConfig::default()
        .created_with(&wanted)
        .expect("known fields");
    assert_eq!(made.access_model, AccessModel::Open);
    assert_eq!(made.max_items, Amount::Max);
    assert_eq!(made.check(&wanted), Ok(()));
    assert_eq!(
        NodeConfig::default().check(&wanted),
        Err(Error::Precondition("pubsub#access_model".into()))
    );
    let unknown = [("pubsub#color", vec!["red"])];
    assert_eq!(
        made.check(&unknown),
        Err(Error::Unknown("pubsub#color".into()))
    );
    assert!(made.created_with(&unknown).is_err());
}

#[test]
fn groups_are_a_set() {
    let config = NodeConfig::default()
        .submit(&[("pubsub#roster_groups_allowed", vec!["b", "a", "b"])])
        .expect("valid");
    assert_eq!(config.roster_groups_allowed, ["a", "b"]);
    assert_eq!(
        config.check(&[("pubsub#roster_groups_allowed", vec!["b", "a"])]),
        Ok(())
    );
}

#[test]
fn amounts_are_bounded_by_the_service() {
    let of = |v: &'static str| {
        NodeConfig::default()
            .submit(&[("pubsub#max_items", vec![v])])
            .map(|c| c.max_items)
    };
    assert_eq!(of("10"), Ok(Amount::Of(10)));
    assert_eq!(of("max"), Ok(Amount::Max));
    assert_eq!(of("99999999999"), Ok(Amount::Max));
    assert!(of("-1").is_err());
    assert_eq!(Amount::Of(5000).or_max(1000), 1000);
    assert_eq!(Amount::Max.or_max(1000), 1000);
}

#[test]
fn oversized_values_are_refused() {
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    assert!(
        NodeConfig::default()
            .submit(&[("pubsub#title", vec![&long])])
            .is_err()
    );
    let many: Vec<&str> = vec!["g"; MAX_VALUES + 1];
    assert!(
        NodeConfig::default()
            .submit(&[("pubsub#roster_groups_allowed", many)])
            .is_err()
    );
}

#[test]
fn a_stored_configuration_reads_with_fields_missing() {
    let read: NodeConfig = serde_json::from_str(r#"{"access_model":"open"}"#).expect("reads");
    assert_eq!(
        read,
        NodeConfig {
            access_model: AccessModel::Open,
            ..NodeConfig::default()
        }
    );
    let text = serde_json::to_string(&read).expect("writes");
    assert_eq!(
        serde_json::from_str::<NodeConfig>(&text).expect("reads"),
        read
    );
}
