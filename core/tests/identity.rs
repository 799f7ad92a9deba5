//! Identity resolution: examples that say what is wanted, and properties that hold whatever the data.

use std::collections::{BTreeMap, BTreeSet};

use decisioning_core::identity::{
    AliasDifference, AliasVerdict, EventKind, Identifier, IdentifierDifference, Matching, Records, Resolution, Rules,
    ONLINE,
};
use proptest::prelude::*;

const SOURCES: [&str; 3] = ["crm", "web", ONLINE];

/// Source, key, identifiers.
type Row = (u16, String, Vec<(&'static str, String)>);

/// What the extension stores.
#[derive(Clone, Default, Debug, PartialEq)]
struct Stored {
    records: BTreeMap<(String, String), String>,
    identifiers: BTreeMap<(String, String), Option<String>>,
    aliases: BTreeMap<String, String>,
}

fn row(source: u16, key: &str, identifiers: &[(&'static str, &str)]) -> Row {
    (source, key.to_owned(), identifiers.iter().map(|(identifier, value)| (*identifier, (*value).to_owned())).collect())
}

fn resolve(rows: &[Row], stored: &Stored) -> Resolution {
    let mut records = Records::new(Rules::default(), &SOURCES).unwrap();
    for (source, key, identifiers) in rows {
        let record = records.add(*source, key).unwrap();
        for (identifier, value) in identifiers {
            let column = records.column(&identifier.parse::<Identifier>().unwrap()).unwrap();
            records.identify(record, column, value).unwrap();
        }
    }
    let mut matching = Matching::new(records).unwrap();
    for ((source, key), customer) in &stored.records {
        matching.remember(source, key, customer).unwrap();
    }
    matching.resolve(None, &mut || {}).unwrap()
}

/// Applies what changed, as the extension does. Returns the number of rows written.
fn apply(stored: &mut Stored, resolution: &Resolution) -> usize {
    let mut written = 0;
    for gone in resolution.vanished_records() {
        stored.records.remove(&(gone.source.clone(), gone.key.clone())).unwrap();
        written += 1;
    }
    for (source, key, customer) in resolution.new_records().chain(resolution.changed_records()) {
        stored.records.insert((source.to_owned(), key.to_owned()), customer.to_owned());
        written += 1;
    }
    let mut identifiers = IdentifierDifference::of(resolution);
    stored.identifiers.retain(|(identifier, value), owner| {
        let keep = identifiers.compare(identifier, value, owner.as_deref());
        written += usize::from(!keep);
        keep
    });
    for (identifier, value, owner) in identifiers.missing().chain(identifiers.stale()) {
        stored.identifiers.insert((identifier, value.to_owned()), owner.map(str::to_owned));
        written += 1;
    }
    let mut aliases = AliasDifference::of(resolution);
    stored.aliases.retain(|alias, customer| match aliases.compare(alias, customer) {
        AliasVerdict::Keep => true,
        AliasVerdict::Change(to) => {
            *customer = to.to_owned();
            written += 1;
            true
        }
        AliasVerdict::Delete => {
            written += 1;
            false
        }
    });
    for (alias, customer) in aliases.missing() {
        assert_eq!(stored.aliases.insert(alias, customer.to_owned()), None);
        written += 1;
    }
    written
}

fn run(rows: &[Row], stored: &mut Stored) -> Vec<(EventKind, String, String)> {
    let resolution = resolve(rows, stored);
    apply(stored, &resolution);
    let events = resolution.events();
    events.iter().map(|event| (event.kind, event.from.to_owned(), event.into.to_owned())).collect()
}

/// The canonical id that an accepted one stands for: source:key of a record is accepted without being stored.
fn current(stored: &Stored, id: &str) -> String {
    let record = id.split_once(':').map(|(source, key)| (source.to_owned(), key.to_owned()));
    let of_record = record.and_then(|record| stored.records.get(&record));
    stored.aliases.get(id).or(of_record).cloned().unwrap_or(id.to_owned())
}

fn customer<'a>(stored: &'a Stored, source: &str, key: &str) -> &'a str {
    &stored.records[&(source.to_owned(), key.to_owned())]
}

#[test]
fn a_shared_identifier_joins_and_the_primary_key_names() {
    let mut stored = Stored::default();
    run(
        &[
            row(1, "w1", &[("email", "ada@x.de"), ("device_id", "d1")]),
            row(0, "c10", &[("email", "ada@x.de")]),
            row(0, "c9", &[("email", "ada@x.de")]),
            row(1, "w2", &[("device_id", "d1")]),
            row(1, "w3", &[("device_id", "d3")]),
        ],
        &mut stored,
    );
    for (source, key) in [("crm", "c9"), ("crm", "c10"), ("web", "w1"), ("web", "w2")] {
        assert_eq!(customer(&stored, source, key), "c9");
    }
    assert_eq!(customer(&stored, "web", "w3"), "web:w3");
    let aliases: Vec<(&str, &str)> = stored.aliases.iter().map(|(alias, id)| (alias.as_str(), id.as_str())).collect();
    assert_eq!(aliases, [("c10", "c9")]);
}

#[test]
fn a_weak_link_does_not_merge_two_customers() {
    let mut stored = Stored::default();
    let rows = [
        row(0, "1", &[("external_id", "A"), ("device_id", "tablet")]),
        row(0, "2", &[("external_id", "B"), ("device_id", "tablet")]),
        row(1, "w", &[("device_id", "tablet")]),
    ];
    run(&rows, &mut stored);
    assert_eq!(customer(&stored, "crm", "1"), "1");
    assert_eq!(customer(&stored, "crm", "2"), "2");
    assert_eq!(customer(&stored, "web", "w"), "1");
    let resolution = resolve(&rows, &stored);
    let conflicts: Vec<_> = resolution.conflicts().collect();
    assert_eq!(conflicts.len(), 1);
    assert_eq!((conflicts[0].value, conflicts[0].reason, conflicts[0].persons), ("tablet", "limit", 2));
}

#[test]
fn a_limit_on_a_weak_identifier_does_not_undo_a_strong_link() {
    let mut stored = Stored::default();
    let rows: Vec<Row> = (0..30)
        .map(|n| (1, format!("w{n}"), vec![("external_id", "A".to_owned()), ("device_id", format!("d{n}"))]))
        .collect();
    run(&rows, &mut stored);
    let customers: BTreeSet<&String> = stored.records.values().collect();
    assert_eq!(customers.len(), 1);
    let devices =
        stored.identifiers.iter().filter(|((identifier, _), owner)| identifier == "device_id" && owner.is_some());
    assert_eq!(devices.count(), 20);
}

#[test]
fn a_kiosk_joins_nobody() {
    let mut stored = Stored::default();
    let rows: Vec<Row> = (0..10)
        .map(|n| (1, format!("w{n}"), vec![("email", format!("p{n}@x.de")), ("device_id", "kiosk".to_owned())]))
        .collect();
    run(&rows, &mut stored);
    let customers: BTreeSet<&String> = stored.records.values().collect();
    assert_eq!(customers.len(), 10);
    assert_eq!(stored.identifiers[&("device_id".to_owned(), "kiosk".to_owned())], None);
}

#[test]
fn a_value_of_many_records_joins_nobody() {
    let mut stored = Stored::default();
    let rows: Vec<Row> = (0..1000).map(|n| (1, format!("w{n}"), vec![("phone", "+4930555123".to_owned())])).collect();
    run(&rows, &mut stored);
    let customers: BTreeSet<&String> = stored.records.values().collect();
    assert_eq!(customers.len(), 1000);
}

#[test]
fn somebody_unknown_becomes_known() {
    let mut stored = Stored::default();
    let visitor = row(2, "u", &[("device_id", "d")]);
    assert_eq!(run(std::slice::from_ref(&visitor), &mut stored), []);
    assert_eq!(customer(&stored, ONLINE, "u"), "online:u");

    let customer_row = row(0, "c1", &[("device_id", "d")]);
    let renamed = (EventKind::Renamed, "online:u".to_owned(), "c1".to_owned());
    assert_eq!(run(&[visitor.clone(), customer_row], &mut stored), [renamed]);
    assert_eq!(current(&stored, "online:u"), "c1");

    // The customer's row is deleted: the id stays with the records that are left, and the key is still accepted.
    assert_eq!(run(std::slice::from_ref(&visitor), &mut stored), []);
    assert_eq!(customer(&stored, ONLINE, "u"), "c1");
    assert_eq!(current(&stored, "crm:c1"), "c1");
    // The visitor is gone as well: nobody is left whom the ids could stand for.
    assert_eq!(run(&[], &mut stored), []);
    assert_eq!(current(&stored, "online:u"), "online:u");
}

#[test]
fn ids_survive_merge_and_split() {
    let mut stored = Stored::default();
    let a = row(0, "1", &[("email", "a@x.de")]);
    let b = row(0, "2", &[("email", "b@x.de")]);
    let web_of_b = row(1, "w", &[("email", "b@x.de")]);
    let bridge = row(1, "z", &[("email", "a@x.de"), ("email", "b@x.de")]);
    let apart = vec![a, b, web_of_b];
    let together = [apart.clone(), vec![bridge]].concat();

    assert_eq!(run(&apart, &mut stored), []);
    // 2 had more records, so it stays.
    assert_eq!(run(&together, &mut stored), [(EventKind::Merged, "1".to_owned(), "2".to_owned())]);
    assert_eq!(stored.aliases["1"], "2");
    assert_eq!(run(&apart, &mut stored), [(EventKind::Split, "2".to_owned(), "1".to_owned())]);
    assert!(!stored.aliases.contains_key("1"));
    assert_eq!(customer(&stored, "web", "w"), "2");
}

#[test]
fn a_merge_names_its_evidence() {
    let mut stored = Stored::default();
    run(&[row(0, "1", &[("email", "a@x.de")]), row(0, "2", &[("phone", "+491701234567")])], &mut stored);
    let rows =
        [row(0, "1", &[("email", "a@x.de"), ("phone", "+491701234567")]), row(0, "2", &[("phone", "+491701234567")])];
    let resolution = resolve(&rows, &stored);
    let events = resolution.events();
    let (identifier, value) = events[0].evidence.unwrap();
    assert_eq!((identifier.to_string().as_str(), value), ("phone", "+491701234567"));
}

#[test]
fn keys_that_look_like_qualified_ids_do_not_confuse() {
    let mut stored = Stored::default();
    run(&[row(0, "web:1", &[]), row(1, "1", &[]), row(1, ":1", &[])], &mut stored);
    let customers: BTreeSet<&String> = stored.records.values().collect();
    assert_eq!(customers.len(), 3);
    assert_eq!(customer(&stored, "crm", "web:1"), "web:1");
}

/// Few values, so that they collide a lot.
fn any_row() -> impl Strategy<Value = Row> {
    let identifier = prop_oneof![
        (0..6u8).prop_map(|n| ("external_id", format!("x{n}"))),
        (0..8u8).prop_map(|n| ("email", format!("e{n}@x.de"))),
        (0..8u8).prop_map(|n| ("phone", format!("+49170123450{n}"))),
        (0..8u8).prop_map(|n| ("device_id", format!("d{n}"))),
    ];
    (0..3u16, 0..12u8, prop::collection::vec(identifier, 0..4))
        .prop_map(|(source, key, ids)| (source, format!("{key}"), ids))
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(any_row(), 0..40)
}

fn check(stored: &Stored) -> Result<(), TestCaseError> {
    let canonical: BTreeSet<&String> = stored.records.values().collect();
    for (alias, customer) in &stored.aliases {
        prop_assert!(!canonical.contains(alias), "alias {alias} is canonical");
        prop_assert!(!stored.aliases.contains_key(customer), "chain over {customer}");
    }
    for (source, key) in stored.records.keys() {
        prop_assert!(!stored.aliases.contains_key(&format!("{source}:{key}")), "{source}:{key} is accepted anyway");
    }
    for ((source, key), customer) in &stored.records {
        prop_assert_eq!(&current(stored, &format!("{source}:{key}")), customer);
        if source == "crm" {
            prop_assert_eq!(&current(stored, key), customer);
            // The customers table is keyed by the primary key: the canonical id must be in it.
            prop_assert!(stored.records.contains_key(&("crm".to_owned(), customer.clone())), "{customer}");
        }
    }
    let mut held: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for ((identifier, _), owner) in &stored.identifiers {
        if let Some(owner) = owner {
            prop_assert!(canonical.contains(owner));
            *held.entry((owner, identifier)).or_default() += 1;
        }
    }
    for ((customer, identifier), values) in held {
        let limit = Rules::default().rule(&identifier.parse().unwrap()).identity_limit;
        prop_assert!(values <= limit, "{customer} holds {values} of {identifier}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn identity_does_not_depend_on_the_order_of_rows(
        (rows, shuffled) in any_rows().prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle()))
    ) {
        let (mut one, mut other) = (Stored::default(), Stored::default());
        run(&rows, &mut one);
        run(&shuffled, &mut other);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn identity_keeps_its_promises_through_changes(rounds in prop::collection::vec(any_rows(), 1..5)) {
        let mut stored = Stored::default();
        for rows in rounds {
            run(&rows, &mut stored);
            check(&stored)?;
            let again = resolve(&rows, &stored);
            prop_assert_eq!(again.events(), []);
            let before = stored.clone();
            prop_assert_eq!(apply(&mut stored, &again), 0);
            prop_assert_eq!(before, stored.clone());
        }
    }
}
