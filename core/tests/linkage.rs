//! Linkage by similarity: a case worked by hand, and what must hold whatever the data: bounded work, no panic, one result.

use std::collections::BTreeMap;
use std::sync::Arc;

use decisioning_core::identity::{
    explain, BlockingRules, ComparisonParameters, Explained, FieldKind, Fields, LevelOverride, LevelParameters,
    Linkage, Matching, Nicknames, Overrides, Parameters, Records, Resolution, Rules, TermFrequencies,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

type Row = Vec<(&'static str, String)>;

fn fields(row: &[(&str, String)]) -> Fields {
    let mut fields = Fields::new();
    row.iter().for_each(|(kind, value)| fields.push(&kind.parse::<FieldKind>().unwrap(), value));
    fields
}

/// The rows under their numbers as keys, read in this order.
fn matching(rows: &[Row], order: impl Iterator<Item = usize>) -> Matching {
    let mut records = Records::new(Rules::default(), &["crm"]).unwrap();
    for number in order {
        let record = records.add(0, &number.to_string()).unwrap();
        records.describe(record, &fields(&rows[number]), None).unwrap();
    }
    Matching::new(records).unwrap()
}

fn resolve(mut matching: Matching, threads: usize) -> (Parameters, Resolution) {
    let has = matching.attributes();
    let blocking = BlockingRules::proposed(|attribute| has.contains(&attribute));
    let frequencies = matching.frequencies(&mut || {});
    let parameters = matching.train(&frequencies, &blocking, &Overrides::default(), 1, threads, &mut || {}).unwrap();
    let linkage = Linkage { parameters: &parameters, frequencies: &frequencies, blocking: &blocking, threads };
    let resolution = matching.resolve(Some(&linkage), &mut || {}).unwrap();
    (parameters, resolution)
}

fn run(rows: &[Row]) -> Resolution {
    resolve(matching(rows, 0..rows.len()), 2).1
}

fn customer(resolution: &Resolution, row: usize) -> String {
    resolution.customer("crm", &row.to_string()).unwrap().to_owned()
}

/// Rows of the largest person.
fn largest(resolution: &Resolution, rows: usize) -> usize {
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    (0..rows).for_each(|row| *sizes.entry(customer(resolution, row)).or_default() += 1);
    sizes.into_values().max().unwrap()
}

/// A name that is spelled from a number.
fn name(mut number: usize) -> String {
    let mut name = String::new();
    for _ in 0..4 {
        name.push_str(["ba", "ke", "lo", "mi", "nu", "ra", "se", "ti", "vo", "zu"][number % 10]);
        number /= 10;
    }
    name
}

fn one_of(random: &mut impl Rng, many: usize) -> usize {
    random.random_range(0..many)
}

/// Persons with two records each, the second one with an error in the family name; every fourth shares an address with the next.
fn population(persons: usize) -> Vec<Row> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
    let mut rows = Vec::new();
    for person in 0..persons {
        let (given, family) = (name(one_of(&mut random, 80)), name(one_of(&mut random, 3000)));
        let born =
            format!("19{}-{:02}-{:02}", 40 + one_of(&mut random, 60), 1 + one_of(&mut random, 12), 1 + person % 28);
        let street = format!("{} {} street", 1 + person / 4, name(person / 4 * 7 % 900));
        let row: Row = vec![
            ("given_name", given),
            ("family_name", family.clone()),
            ("date_of_birth", born),
            ("street", street),
            ("city", name(person % 50)),
            ("email", format!("person{person}@example.com")),
        ];
        let mut other = row.clone();
        other[1].1 = format!("{}x{}", &family[..3], &family[4..]);
        if person % 3 > 0 {
            other.truncate(5);
        }
        rows.extend([row, other]);
    }
    rows
}

#[test]
fn a_pair_worked_by_hand() {
    let level = |level: &str, m, u, related| LevelParameters {
        level: level.to_owned(),
        m,
        u,
        related,
        m_observed: true,
        u_observed: true,
        matches: 100.0,
    };
    let comparison = |comparison: &str, level| ComparisonParameters {
        by_source: Vec::new(),
        comparison: comparison.to_owned(),
        factor: 1.0,
        levels: vec![level],
    };
    let parameters = Parameters {
        prior: 0.001,
        prior_related: 0.0005,
        threshold: 0.0,
        review_threshold: -6.6,
        comparisons: vec![
            comparison("given_name", level("exact", 0.7, 0.002, 0.002)),
            comparison("family_name", level("exact", 0.9, 0.001, 0.75)),
            comparison("date_of_birth", level("different", 0.01, 0.99, 0.99)),
        ],
    };
    // Two records in a thousand agree in their given name; eight are called Anna, four times as many as that.
    let mut frequencies = TermFrequencies::default();
    frequencies.set("given_name", None, 1000, Some(0.002)).unwrap();
    frequencies.set("given_name", Some("anna"), 8, None).unwrap();
    let of = |born: &str| {
        fields(&[
            ("given_name", "Anna".to_owned()),
            ("family_name", "Weber".to_owned()),
            ("date_of_birth", born.to_owned()),
        ])
    };
    let (left, right) = (of("1951-03-07"), of("1984-11-22"));
    let nicknames = Arc::new(Nicknames::default());
    let [left, right] = [&left, &right].map(|fields| Explained { fields, country: None, source: "crm" });
    let steps = explain(left, right, &Rules::default(), &nicknames, &parameters, &frequencies).unwrap();
    // log₂(.001/.9985); log₂(.7/.002) + log₂(.002/.008); log₂(.9/.001); log₂(.01/.99); what relatives explain of it:
    // −log₂(1 + .0005/.9985 · .75/.001).
    let expected = [
        ("prior", "", 0.0, -9.963_619),
        ("given_name", "exact", -2.0, 6.451_211),
        ("family_name", "exact", 0.0, 9.813_781),
        ("date_of_birth", "different", 0.0, -6.629_357),
        ("relatives", "", 0.0, -0.460_026),
    ];
    let mut cumulative = 0.0;
    assert_eq!(steps.len(), expected.len());
    for (step, (comparison, level, adjustment, weight)) in steps.iter().zip(expected) {
        assert_eq!((step.comparison, step.level), (comparison, level));
        cumulative += weight;
        for (found, wanted) in [(step.tf_adjustment, adjustment), (step.weight, weight), (step.cumulative, cumulative)]
        {
            assert!((found - wanted).abs() < 1e-4, "{comparison}: {found}, not {wanted}");
        }
    }

    // Family names of the web shop count by half, whichever side it is on; its own factor, not that of the other source.
    let mut distrusting = parameters;
    distrusting.comparisons[1].by_source = vec![("crm".to_owned(), 3.0), ("web".to_owned(), 0.5)];
    for (sources, factor) in
        [(["crm", "web"], 0.5), (["web", "crm"], 0.5), (["crm", "crm"], 3.0), (["web", "till"], 0.5)]
    {
        let [left, right] = [(&left, sources[0]), (&right, sources[1])].map(|(of, source)| Explained {
            fields: of.fields,
            country: None,
            source,
        });
        let steps = explain(left, right, &Rules::default(), &nicknames, &distrusting, &frequencies).unwrap();
        assert!((steps[2].weight - 9.813_781 * factor).abs() < 1e-4, "{sources:?}: {}", steps[2].weight);
        assert!((steps[1].weight - 6.451_211).abs() < 1e-4);
    }
}

#[test]
fn what_a_source_says_counts_as_it_is_trusted() {
    // The same people in two sources, twice in the first; the second one has other birth dates.
    let read = || {
        let mut records = Records::new(Rules::default(), &["crm", "web"]).unwrap();
        for person in 0..300 {
            for (source, key, born) in [(0, "a", person), (0, "b", person), (1, "a", person + 7000)] {
                let row = [
                    ("given_name", name(person)),
                    ("family_name", name(person * 7 + 3)),
                    ("date_of_birth", format!("{}-{:02}-{:02}", 1930 + born % 71, 1 + born % 12, 1 + born % 28)),
                ];
                let record = records.add(source, &format!("{person}{key}")).unwrap();
                records.describe(record, &fields(&row), None).unwrap();
            }
        }
        Matching::new(records).unwrap()
    };
    let persons = |factor| {
        let mut matching = read();
        let has = matching.attributes();
        let blocking = BlockingRules::proposed(|attribute| has.contains(&attribute));
        let frequencies = matching.frequencies(&mut || {});
        let different = LevelOverride {
            comparison: "date_of_birth".to_owned(),
            level: "different".to_owned(),
            m: Some(1e-9),
            u: Some(0.99),
        };
        let overrides = Overrides {
            levels: vec![different],
            source_factors: vec![("date_of_birth".to_owned(), "web".to_owned(), factor)],
            ..Overrides::default()
        };
        let trained = matching.train(&frequencies, &blocking, &Overrides::default(), 1, 2, &mut || {}).unwrap();
        let parameters = trained.with(&overrides).unwrap();
        let linkage = Linkage { parameters: &parameters, frequencies: &frequencies, blocking: &blocking, threads: 2 };
        matching.resolve(Some(&linkage), &mut || {}).unwrap().persons()
    };
    assert!(persons(1.0) > 590); // a birth date or two are alike by chance
    assert_eq!(persons(0.0), 300);
}

#[test]
fn the_result_is_the_same_for_any_number_of_threads_and_any_order_of_rows() {
    let rows = population(1500);
    let shape = |(parameters, resolution): (Parameters, Resolution)| {
        let customers: Vec<String> = (0..rows.len()).map(|row| customer(&resolution, row)).collect();
        let own = |pair: decisioning_core::identity::PairLink<'_>| {
            (pair.left.1.to_owned(), pair.right.1.to_owned(), pair.weight.to_bits(), pair.reason)
        };
        let (links, uncertain): (Vec<_>, Vec<_>) =
            (resolution.links().map(own).collect(), resolution.uncertain().map(own).collect());
        (serde_json::to_string(&parameters).unwrap(), customers, links, uncertain)
    };
    let one = shape(resolve(matching(&rows, 0..rows.len()), 1));
    assert!(one.1.chunks(2).filter(|pair| pair[0] == pair[1]).count() > 1400, "records of a person find each other");
    for threads in [2, 3] {
        assert!(one == shape(resolve(matching(&rows, 0..rows.len()), threads)), "{threads} threads");
    }
    assert!(one == shape(resolve(matching(&rows, (0..rows.len()).rev()), 2)), "rows in reverse");
}

#[test]
fn rows_that_are_all_the_same() {
    let row: Row = vec![
        ("given_name", "Anna".to_owned()),
        ("family_name", "Weber".to_owned()),
        ("email", "anna@example.com".to_owned()),
        ("date_of_birth", "1980-02-03".to_owned()),
    ];
    assert_eq!(run(&vec![row.clone(); 60]).persons(), 1);
    // Beyond every limit nothing tells them apart, and nothing is compared pair by pair: 5000 rows would be 12 million.
    let many = matching(&vec![row; 5000], 0..5000);
    let has = many.attributes();
    let sizes = many.block_sizes(&BlockingRules::proposed(|attribute| has.contains(&attribute)), 2, &mut || {});
    assert_eq!(sizes.iter().map(|size| size.pairs).sum::<u64>(), 0);
    assert!(sizes.iter().all(|size| size.oversized == 1 && size.skipped_pairs == 5000 * 4999 / 2));
    assert!(resolve(many, 2).1.conflicts().any(|conflict| conflict.reason == "frequent"));
}

#[test]
fn a_value_that_a_hundred_thousand_rows_share_joins_nobody() {
    let rows: Vec<Row> = (0..100_000)
        .map(|row| {
            vec![
                ("given_name", name(row % 97)),
                ("family_name", name(row / 20)),
                ("phone", "+49 30 5550123".to_owned()),
            ]
        })
        .collect();
    let matching = matching(&rows, 0..rows.len());
    let has = matching.attributes();
    let blocking = BlockingRules::proposed(|attribute| has.contains(&attribute));
    let sizes = matching.block_sizes(&blocking, 2, &mut || {});
    let phone = sizes.iter().find(|size| size.rule == "phone").unwrap();
    assert_eq!((phone.largest, phone.oversized), (100_000, 1));
    assert!(sizes.iter().map(|size| size.pairs).sum::<u64>() < 200 * 100_000, "{sizes:?}");
    let resolution = resolve(matching, 2).1;
    assert!(largest(&resolution, rows.len()) < 20);
}

#[test]
fn a_block_of_fifty_thousand_is_bounded() {
    let rows: Vec<Row> = (0..50_000)
        .map(|row| {
            vec![
                ("given_name", "Anna".to_owned()),
                ("family_name", "Weber".to_owned()),
                ("email", format!("{}{row}@example.com", name(row))),
            ]
        })
        .collect();
    let matching = matching(&rows, 0..rows.len());
    let has = matching.attributes();
    let sizes = matching.block_sizes(&BlockingRules::proposed(|attribute| has.contains(&attribute)), 2, &mut || {});
    assert!(sizes.iter().map(|size| size.pairs).sum::<u64>() < 200 * 50_000, "{sizes:?}");
    assert_eq!(resolve(matching, 2).1.persons(), rows.len(), "namesakes with mailboxes of their own");
}

#[test]
fn odd_texts_are_compared_like_any_others() {
    let long = "x".repeat(10_000);
    let odd = [
        long.as_str(),
        "🙂🙃 👩‍👩‍👧‍👦",
        "שָׁלוֹם \u{202e}abc",
        "عبد الرحمن",
        "e\u{301}\u{301}\u{301}\u{301}",
        "\u{0}\u{1}\u{7f}",
        "王小明",
        "'; --",
        "9999-12-31",
        "31.12.9999",
        "-",
        "NaN",
    ];
    let kinds = "given_name family_name full_name email phone date_of_birth street city postcode company device_id text external_id country";
    let mut rows: Vec<Row> = Vec::new();
    for text in odd {
        for kind in kinds.split(' ') {
            let row: Row =
                vec![(kind, text.to_owned()), ("family_name", "Odd".to_owned()), ("given_name", text.to_owned())];
            rows.extend([row.clone(), row]);
        }
    }
    // A row with nothing at all, and one with everything.
    rows.push(Vec::new());
    rows.push(kinds.split(' ').flat_map(|kind| odd.map(|text| (kind, text.to_owned()))).collect());
    let resolution = run(&rows);
    assert!(resolution.persons() >= 2);
    let number = |name: &str| odd.iter().position(|text| *text == name).unwrap() * 14 * 2;
    assert_ne!(customer(&resolution, number("عبد الرحمن")), customer(&resolution, number("王小明")));
}

#[test]
fn what_the_user_says_comes_first_even_in_circles() {
    let rows: Vec<Row> =
        (0..6).map(|row| vec![("given_name", name(row * 31)), ("family_name", name(row * 57))]).collect();
    let mut matching = matching(&rows, 0..rows.len());
    let record = |key: &'static str| ("crm", key);
    for (left, right) in [("0", "0"), ("0", "1"), ("1", "2"), ("2", "0"), ("3", "4"), ("4", "5")] {
        assert!(matching.confirm(record(left), record(right)));
    }
    for (left, right) in [("5", "5"), ("3", "5")] {
        assert!(matching.forbid(record(left), record(right)));
    }
    assert!(!matching.confirm(record("0"), record("nobody")));
    let resolution = resolve(matching, 2).1;
    assert_eq!(customer(&resolution, 0), customer(&resolution, 2));
    assert_ne!(customer(&resolution, 3), customer(&resolution, 5), "forbidden, though confirmed by way of 4");
    assert!(resolution.uncertain().any(|pair| pair.reason == "forbidden"));
}
