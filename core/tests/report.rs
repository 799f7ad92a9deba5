//! The page as a whole: whatever users name their things, and however much or little there is to tell.

use decisioning_core::report::{
    day, overview, Bin, Budget, Captured, Change, Finding, GroupSize, Guardrail, Heading, Insight, Lift, LiftDay, Line,
    Measure, PolicyDay, Report, SendTime, Share,
};

const SCRIPT: &str = "<script>alert(1)</script>";
const IMAGE: &str = "\"><img src=x onerror=alert(1)>";

fn heading(decisions: i64) -> Heading {
    Heading {
        campaign: SCRIPT.into(),
        description: Some(IMAGE.into()),
        status: "active".into(),
        mode: "live".into(),
        time_zone: "Europe/Vienna".into(),
        currency: Some("EUR".into()),
        decisions,
        has_worth: true,
        ..Heading::default()
    }
}

fn lift(verdict: &str, kind: &str) -> Lift {
    Lift {
        goal: IMAGE.into(),
        kind: kind.into(),
        measure: "conversion rate".into(),
        treated_group: "optimise".into(),
        baseline_group: "holdout".into(),
        absolute_lift: Some(0.03),
        lower: Some(0.01),
        upper: Some(0.05),
        verdict: verdict.into(),
        ..Lift::default()
    }
}

/// Every part of the page, with hostile names wherever users give names.
fn full(days: i32) -> Report {
    let each = |make: &dyn Fn(i32) -> Vec<Share>| (0..days).flat_map(make).collect::<Vec<_>>();
    let captured = |at, group: &str| Captured {
        day: day(at),
        treatment_group: group.into(),
        decisions: 100,
        responses: i64::from(at % 7),
        net_worth: 0.4,
    };
    Report {
        heading: heading(1000),
        lifts: vec![lift("positive", "conversion")],
        lift_days: (0..days)
            .map(|at| LiftDay {
                goal: IMAGE.into(),
                measure: "conversion rate".into(),
                day: day(at),
                absolute_lift: Some(0.02),
                lower: Some(-0.01),
                upper: Some(0.05),
                ..LiftDay::default()
            })
            .collect(),
        health: vec![Finding {
            topic: SCRIPT.into(),
            status: "bad".into(),
            finding: IMAGE.into(),
            advice: Some(SCRIPT.into()),
        }],
        groups: vec![
            GroupSize {
                treatment_group: "optimise".into(),
                customers: 900,
                expected: 899.5,
                balanced: true,
                ..GroupSize::default()
            },
            GroupSize {
                treatment_group: "holdout".into(),
                customers: 100,
                expected: 100.5,
                balanced: true,
                ..GroupSize::default()
            },
        ],
        policy: (0..days)
            .map(|at| PolicyDay {
                day: day(at),
                decisions: 100,
                entropy: Some(0.5),
                effective_actions: 3.0,
                candidates: 7.0,
                most_frequent_action: SCRIPT.into(),
                most_frequent_share: 0.95,
                collapsed: true,
            })
            .collect(),
        captured: (0..days).flat_map(|at| [captured(at, "optimise"), captured(at, "holdout")]).collect(),
        shares: [
            each(&|at| {
                (0..12)
                    .map(|level| Share {
                        dimension: None,
                        level: format!("{SCRIPT}{level}"),
                        day: day(at),
                        decisions: 20 - level,
                    })
                    .collect()
            }),
            each(&|at| vec![Share { dimension: Some(IMAGE.into()), level: IMAGE.into(), day: day(at), decisions: 9 }]),
        ]
        .concat(),
        sends: vec![SendTime { weekday: 2, hour: 9, sends: 40 }, SendTime { weekday: 6, hour: 23, sends: 1 }],
        guardrails: vec![
            Guardrail { guardrail: "none".into(), decisions: 70, ..Guardrail::default() },
            Guardrail {
                guardrail: SCRIPT.into(),
                decisions: 30,
                without_any_send: 10,
                lost_responses: Some(2.0),
                lost_lower: Some(1.0),
                lost_upper: Some(3.0),
                estimated_days: 2,
                days: 3,
                ..Guardrail::default()
            },
        ],
        budgets: vec![Budget {
            budget: format!("action {IMAGE}: cost per day"),
            unit: "cost".into(),
            amount: 100.0,
            spent: 20.0,
            reserved: 10.0,
            planned: Some(50.0),
            starts_on: Some(day(0)),
            ends_on: Some(day(29)),
            charged: vec![(day(0), 10.0), (day(1), 30.0)],
            ..Budget::default()
        }],
        insights: vec![Insight {
            segment: SCRIPT.into(),
            dimension: IMAGE.into(),
            level: SCRIPT.into(),
            ratio: Some(2.0),
            lower: Some(1.4),
            upper: Some(2.9),
            sentence: IMAGE.into(),
            ..Insight::default()
        }],
        insights_found_on: None,
        calibration: vec![Bin {
            decisions: 100,
            predicted: 0.1,
            observed: 0.12,
            lower: 0.07,
            upper: 0.2,
            calibrated: true,
        }],
        identity: vec![Measure { measure: "records".into(), value: Some(10.0) }],
        changes: vec![Change {
            day: day(1),
            changed_by: SCRIPT.into(),
            relation: "actions".into(),
            operation: "UPDATE".into(),
            rows: 1,
            row: Some(IMAGE.into()),
            columns: vec![format!("content: {SCRIPT} → {IMAGE}")],
        }],
    }
}

/// No element but those of the page, no attribute that is none of ours, no address outside of the page.
fn assert_harmless(page: &str) {
    let markup = page.to_lowercase();
    for bad in ["<script", "<img", "<iframe", "javascript:", "@import", "url(", "<link", "http-equiv=\"refresh"] {
        assert!(!markup.contains(bad), "{bad}");
    }
    // The names of its namespace are the only addresses of a page; nothing fetches them.
    assert_eq!(markup.matches("http").count(), markup.matches("http://www.w3.org/2000/svg").count() + 1);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn names_are_text() {
    assert_harmless(&full(30).render().unwrap());
}

#[test]
fn what_is_from_a_sample_or_of_another_day_says_so() {
    let mut report = full(30);
    let page = report.render().unwrap();
    assert!(!page.contains("The log is large") && !page.contains("Found on 31"));
    report.heading.sample = Some(0.02);
    report.insights_found_on = Some(day(30));
    let page = report.render().unwrap();
    assert!(page.contains("from a sample of about 2.00 % of it") && page.contains("<dd>about 1"), "{page}");
    assert!(page.contains(" Found on 31 Jan 1970."), "{page}");
}

#[test]
fn every_chart_has_a_title_a_description_and_its_numbers() {
    let page = full(30).render().unwrap();
    let count = |text: &str| page.matches(text).count();
    // Lift, lift by day, balance, two of what was captured, two of the policy, two of shares, times, guardrails, two of budgets,
    // insights, calibration.
    assert_eq!(count("<figure "), 15);
    for part in
        ["<svg ", "role=\"img\"", "<desc ", "<figcaption>", "viewBox=\"0 0 720 ", "<summary>The numbers</summary>"]
    {
        assert_eq!(count(part), 15, "{part}");
    }
    assert_eq!(count("<svg "), count("</svg>"));
    assert_eq!(count("<h1>"), 1);
    assert_eq!(count("<section "), 13);
    let mut ids: Vec<&str> =
        page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id is there twice");
    for target in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()) {
        assert!(ids.contains(&target), "{target}");
    }
}

#[test]
fn changes_are_marked_on_every_axis_of_days() {
    let days = |page: &str, id: &str| {
        let from = page.find(&format!("<figure id=\"{id}\"")).unwrap();
        page[from..from + page[from..].find("</svg>").unwrap()].to_owned()
    };
    let (marked, plain) = (full(30).render().unwrap(), Report { changes: vec![], ..full(30) }.render().unwrap());
    for id in
        ["progress-0", "captured-rate", "captured-worth", "variety", "uncertainty", "shares-0", "shares-1", "pace-0"]
    {
        // The marks are the only difference: dashes, and the number 1.
        assert!(days(&marked, id).contains("\n1\n"), "{id}");
        assert!(days(&marked, id).matches("<polyline").count() > days(&plain, id).matches("<polyline").count(), "{id}");
    }
    assert_eq!(days(&marked, "calibration"), days(&plain, "calibration"));
    assert!(marked.contains("action &quot;&gt;&lt;img src=x onerror=alert(1)&gt; changed: content: &lt;script&gt;"));
}

#[test]
fn a_draft_has_a_page() {
    let page = Report { heading: heading(0), ..Report::default() }.render().unwrap();
    assert_harmless(&page);
    assert!(page.contains("Nothing decided yet"));
    assert!(page.contains("Left out, because there is nothing to show: Does it work?"));
    assert!(!page.contains("<figure"));
}

#[test]
fn little_and_missing_data_is_drawn() {
    let mut report = full(1);
    report.lifts = vec![Lift { goal: "g".into(), verdict: "collecting".into(), ..Lift::default() }];
    report.lift_days.iter_mut().for_each(|at| (at.absolute_lift, at.lower, at.upper) = (None, None, None));
    report.policy.iter_mut().for_each(|at| (at.entropy, at.effective_actions) = (None, f64::NAN));
    report.calibration[0].upper = f64::NAN;
    report.budgets[0].amount = 0.0;
    report.insights[0].upper = Some(f64::INFINITY);
    let page = report.render().unwrap();
    assert!(!page.contains("NaN") && !page.contains("inf"), "a number that is none is shown");
    assert!(page.contains("Still collecting"));
}

#[test]
fn much_data_is_bounded() {
    let page = full(90).render().unwrap();
    // Twelve actions on 90 days: seven by name, one for the rest, and 200 rows of the table.
    assert!(page.contains("other (5 of them)"));
    assert!(page.contains("the first 200 of 1080 rows"));
    assert!(page.len() < 1_000_000, "{}", page.len());
}

#[test]
fn verdicts_are_words() {
    let words = |verdict: &str, kind: &str| {
        let report = Report { lifts: vec![lift(verdict, kind)], ..full(1) };
        report.render().unwrap()
    };
    for (verdict, kind, expected) in [
        ("positive", "conversion", "It works"),
        ("negative", "value", "It hurts"),
        ("inconclusive", "conversion", "No verdict yet"),
        ("collecting", "harm", "Still collecting"),
        ("tolerated", "harm", "Within what is tolerated"),
        ("negative", "harm", "Does harm"),
        ("invalid: sample ratio", "conversion", "Not valid"),
        ("invalid: features", "conversion", "Not valid"),
    ] {
        assert!(words(verdict, kind).contains(expected), "{verdict} of {kind}");
    }
}

#[test]
fn all_campaigns_are_lines_that_are_not_added_up() {
    let line = |lifts: Vec<Lift>| Line { campaign: SCRIPT.into(), status: "active".into(), lifts, ..Line::default() };
    let page = overview(&[line(vec![lift("positive", "conversion"), lift("tolerated", "harm")]), line(vec![])], "now");
    assert_harmless(&page);
    assert!(page.contains("Do not add up the lifts of campaigns"));
    assert!(page.contains("nothing to compare yet"));
    assert_eq!(page.matches("scope=\"rowgroup\"").count(), 2);
    assert!(overview(&[], "now").contains("There is no campaign yet"));
}
