//! Scores from elsewhere, as the offset of the base.

mod common;

use common::{dimensions, normal, random, sigmoid};
use decisioning_core::decide::{Cost, Policy, Terms};
use decisioning_core::features::{Declared, Encoder, Feature, FeatureKind, OffsetScale, Profile, Value};
use decisioning_core::learn::{
    fit, linearise, Arm, DrawBank, Layout, Link, Misfit, Observed, Posterior, Prior, Roles, Rows, Scales, Statistics,
    DRAWS,
};
use rand::RngExt;

/// Columns intercept, x and the score; one action by e-mail.
fn layout() -> (Layout, Vec<Arm>) {
    let email = dimensions(&[("channel", "email")]);
    let columns = ["intercept", "x", "score (offset)"].map(str::to_owned).to_vec();
    let layout =
        Layout::with_roles(columns, Roles { offset: Some(2), ..Roles::default() }, &[1.0, 1.0, 1.0], [&email], 1024)
            .unwrap();
    let arms = vec![layout.arm(&email)];
    (layout, arms)
}

fn row(x: f32, offset: f32, arm: Option<u32>, weight: f64, reward: f64) -> Observed {
    Observed { encoded: vec![1.0, x, offset], arm, weight, reward, reported: 1.0 }
}

fn posterior(link: Link, rows: &[Observed]) -> (Vec<f64>, Posterior, Statistics) {
    let (layout, arms) = layout();
    let prior = Prior::new(link, &layout, &Scales::default());
    let rows = Rows::collect(link, 3, rows).unwrap();
    let fitted = fit::<Misfit>(&layout, &prior, &arms, &Statistics::new(layout.len()), &prior.mean, |add| {
        add(&rows);
        Ok(())
    })
    .unwrap();
    let posterior = Posterior::of(&prior, &fitted.sums).unwrap();
    (fitted.mode, posterior, fitted.sums)
}

#[test]
fn the_offset_has_no_coefficient() {
    let (layout, _) = layout();
    let names = ["base: intercept", "base: x", "send: intercept", "send: x", "channel=email", "channel=email × x"];
    assert_eq!(layout.coefficient_names(), names);
    assert!(layout.left_out(&[1.0; 3]).is_empty());
    let stored = serde_json::to_string(&layout).unwrap();
    assert_eq!(serde_json::from_str::<Layout>(&stored).unwrap(), layout);
}

// The reference: objective, gradient and Hessian written afresh in numpy (2.4), minimised by scipy (1.17).
//
//   X = [[1, x, sent, sent * x, sent, sent * x]], o, w, y: the rows below
//   sd = np.array([3, 0.5, 0.4, 0.2, 0.4, 0.2])
//   f = lambda b: -(w * (y * (o + X @ b) - np.logaddexp(0, o + X @ b))).sum() + ((b / sd) ** 2).sum() / 2
//   g = lambda b: -X.T @ (w * (y - expit(o + X @ b))) + b / sd**2
//   h = lambda b: (X.T * (w * expit(o + X @ b) * expit(-o - X @ b))) @ X + np.diag(sd**-2)
//   b = minimize(f, 0 * sd, jac=g, hess=h, method="trust-exact", options=dict(gtol=1e-13)).x
//   se = np.sqrt(np.diag(np.linalg.inv(h(b))))
#[test]
fn agrees_with_scipy() {
    let rows = [
        row(0.5, -3.0, None, 1.0, 0.0),
        row(-1.0, -1.0, None, 1.0, 0.0),
        row(2.0, 0.5, None, 0.5, 1.0),
        row(0.25, -2.0, Some(0), 1.0, 1.0),
        row(-0.5, -4.0, Some(0), 1.0, 0.0),
        row(1.5, 1.0, Some(0), 0.5, 1.0),
        row(-2.0, -0.5, Some(0), 1.0, 0.0),
        row(1.0, -2.5, Some(0), 1.0, 1.0),
    ];
    let (_, posterior, _) = posterior(Link::Logistic, &rows);
    let mode = [1.241640254260, 0.510370598669, 0.115749727586, 0.065593946286, 0.115749727586, 0.065593946286];
    let errors = [0.931205732191, 0.426688090630, 0.390638397315, 0.196338100518, 0.390638397315, 0.196338100518];
    let found = [(posterior.mean.clone(), mode, 1e-8), (posterior.standard_errors(), errors, 1e-6)];
    for (found, reference, tolerance) in found {
        for (at, (a, b)) in found.iter().zip(reference).enumerate() {
            assert!((a - b).abs() < tolerance, "{at}: {a} is not {b}");
        }
    }
}

/// The offset example of docs/learning.md: scores of 0.1, 0.3, 0.2, 0.1 and 0.4, and no features.
#[test]
fn five_rows_with_an_offset() {
    let actions = [dimensions(&[("channel", "email")]), dimensions(&[("channel", "sms")])];
    let columns = ["intercept", "score (offset)"].map(str::to_owned).to_vec();
    let layout =
        Layout::with_roles(columns, Roles { offset: Some(1), ..Roles::default() }, &[1.0, 1.0], &actions, 1024)
            .unwrap();
    let arms: Vec<Arm> = actions.iter().map(|action| layout.arm(action)).collect();
    let row = |score, arm, weight, reward| {
        let log_odds = OffsetScale::Probability.log_odds(score).unwrap() as f32;
        Observed { encoded: vec![1.0, log_odds], arm, weight, reward, reported: 1.0 }
    };
    let rows = [
        row(0.1, None, 1.0, 0.0),
        row(0.3, None, 1.0, 0.0),
        row(0.2, Some(0), 1.0, 1.0),
        row(0.1, Some(0), 1.0, 0.0),
        row(0.4, Some(1), 0.5, 1.0),
    ];
    let prior = Prior::new(Link::Logistic, &layout, &Scales::default());
    assert_eq!(prior.mean[0], 0.0);
    let batch = Rows::collect(Link::Logistic, 2, &rows).unwrap();
    let fitted = fit::<Misfit>(&layout, &prior, &arms, &Statistics::new(layout.len()), &prior.mean, |add| {
        add(&batch);
        Ok(())
    });
    let mode = Posterior::of(&prior, &fitted.unwrap().sums).unwrap().mean;
    for (found, reference) in mode.iter().zip([0.587_085, 0.106_738, 0.073_122, 0.033_616]) {
        assert!((found - reference).abs() < 1e-6, "{mode:?}");
    }
    let p: Vec<f64> = rows
        .iter()
        .map(|row| {
            sigmoid(layout.predictor(Link::Logistic, &mode, &row.encoded, row.arm.map(|arm| &arms[arm as usize])))
        })
        .collect();
    for (found, reference) in p.iter().zip([0.166_569, 0.435_311, 0.349_930, 0.193_055, 0.579_805]) {
        assert!((found - reference).abs() < 1e-6, "{p:?}");
    }
}

/// Harm and amounts are not what the score is about.
#[test]
fn only_responses_have_the_offset() {
    let rows = |offset| [row(0.5, offset, None, 1.0, 0.0), row(-1.0, offset, Some(0), 1.0, 1.0)];
    for (link, alike) in [(Link::Logistic, false), (Link::LogisticAlone, true), (Link::Gaussian, true)] {
        let [with, without] = [-2.0, 0.0].map(|offset| posterior(link, &rows(offset)).0);
        assert_eq!(with == without, alike, "{link:?}");
    }
}

/// Where the score is right, nothing is left for the base to learn; where it is half of the truth, a feature learns the
/// rest. Sums that were taken batch by batch agree with one fit.
#[test]
fn a_right_score_leaves_nothing_to_learn() {
    let (layout, arms) = layout();
    let mut random = random(3);
    let rows: Vec<Observed> = (0..20_000)
        .map(|_| {
            let (x, score) = (normal(&mut random) as f32, (-2.0 + normal(&mut random)) as f32);
            let p = sigmoid(f64::from(score + 0.4 * x));
            row(x, score, None, 1.0, f64::from(u8::from(random.random::<f64>() < p)))
        })
        .collect();
    let (whole, ..) = posterior(Link::Logistic, &rows);
    assert!(whole[0].abs() < 0.06 && (whole[1] - 0.4).abs() < 0.06, "{whole:?}");

    let prior = Prior::new(Link::Logistic, &layout, &Scales::default());
    let (mut sums, mut mean) = (Statistics::new(layout.len()), prior.mean.clone());
    for batch in rows.chunks(4000) {
        let rows = Rows::collect(Link::Logistic, 3, batch).unwrap();
        let fitted = fit::<Misfit>(&layout, &prior, &arms, &sums, &mean, |add| {
            add(&rows);
            Ok(())
        });
        let at = fitted.unwrap().mode;
        let batch = linearise::<Misfit>(&layout, &arms, &at, |add| {
            add(&rows);
            Ok(())
        });
        sums.merge(&batch.unwrap());
        mean = Posterior::of(&prior, &sums).unwrap().mean;
    }
    assert!(mean.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 0.01), "{mean:?} {whole:?}");
}

/// Error of the log-odds of customers without a send, root of the mean square, after `rows` decisions: with the score as
/// offset, as a feature, and without it. The score is right but for x, and comes as a probability.
fn errors(rows: usize, seed: u64) -> [f64; 3] {
    let mut random = random(seed);
    let mut draw = || {
        let (x, log_odds) = (normal(&mut random), -2.5 + normal(&mut random));
        (x, log_odds, random.random::<f64>() < sigmoid(log_odds + 0.4 * x))
    };
    let world: Vec<_> = (0..rows + 2000).map(|_| draw()).collect();
    let declared = |kinds: &[(&str, Declared)]| kinds.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    let score = OffsetScale::Probability;
    let features: [Vec<(String, Declared)>; 3] = [
        declared(&[("x", Declared::Numeric), ("score", Declared::Offset(score))]),
        declared(&[("x", Declared::Numeric), ("score", Declared::Numeric)]),
        declared(&[("x", Declared::Numeric)]),
    ];
    features.map(|features| {
        let mut profile = Profile::new(features.clone(), 1);
        let observation = |(x, log_odds, _): &(f64, f64, bool)| {
            [Value::Number(*x), Value::Number(sigmoid(*log_odds))][..features.len()].to_vec()
        };
        world.iter().for_each(|customer| profile.add(observation(customer)));
        let encoder = profile.encoder();
        let encode = |customer| {
            let mut row = vec![0.0; encoder.width()];
            encoder.encode(&observation(customer), &mut row);
            row
        };
        let email = dimensions(&[("channel", "email")]);
        let roles = Roles { offset: encoder.offset_column(), ..Roles::default() };
        let layout = Layout::with_roles(encoder.column_names(), roles, &encoder.variances, [&email], 1024).unwrap();
        let arms = [layout.arm(&email)];
        let (seen, later) = world.split_at(rows);
        let observed = seen.iter().map(|customer| Observed {
            encoded: encode(customer),
            arm: None,
            weight: 1.0,
            reward: f64::from(u8::from(customer.2)),
            reported: 1.0,
        });
        let batch = Rows::collect(Link::Logistic, encoder.width(), &observed.collect::<Vec<_>>()).unwrap();
        let prior = Prior::new(Link::Logistic, &layout, &Scales::default());
        let fitted = fit::<Misfit>(&layout, &prior, &arms, &Statistics::new(layout.len()), &prior.mean, |add| {
            add(&batch);
            Ok(())
        });
        let mode = fitted.unwrap().mode;
        let squares = later.iter().map(|customer| {
            let truth = customer.1 + 0.4 * customer.0;
            (layout.predictor(Link::Logistic, &mode, &encode(customer), None) - truth).powi(2)
        });
        (squares.sum::<f64>() / later.len() as f64).sqrt()
    })
}

/// The figures of docs/learning.md.
#[test]
fn the_offset_knows_from_the_start_what_a_feature_has_to_learn() {
    for rows in [0, 100, 1000, 10_000] {
        let worlds: Vec<[f64; 3]> = (1..=20).map(|seed| errors(rows, seed)).collect();
        let [offset, feature, without] = [0, 1, 2].map(|at| worlds.iter().map(|world| world[at]).sum::<f64>() / 20.0);
        println!("{rows} decisions: offset {offset:.2}, feature {feature:.2}, without {without:.2}");
        assert!(offset < 0.7 * feature && feature < 1.05 * without, "{rows}: {offset} {feature} {without}");
    }
}

/// A send that adds 1 to the log-odds and costs 0.05 of a goal is worth it for likely customers only.
#[test]
fn the_offset_counts_where_probabilities_do() {
    let (layout, arms) = layout();
    let bytes: Vec<u8> =
        [0.0_f32, 0.0, 1.0, 0.0, 0.0, 0.0].iter().flat_map(|x| x.to_le_bytes().repeat(DRAWS)).collect();
    let bank = DrawBank::from_bytes(&bytes, layout.len()).unwrap();
    let policy = Policy::new(layout, bank, &arms);
    let terms = Terms { costs: vec![Cost { send: 0.05, ..Cost::default() }], ..Terms::free(1) };
    let best = |offset| policy.best(&[1.0, 0.0, offset], &[None, Some(0)], &terms)[0];
    assert_eq!([-6.0, -4.0, -2.0, 0.0].map(best), [0, 0, 1, 1]);
}

#[test]
fn scores_are_encoded_as_bounded_log_odds() {
    let probability = |score| OffsetScale::Probability.log_odds(score);
    assert_eq!([0.5, 0.0, 1.0].map(probability), [Some(0.0), Some(-8.0), Some(8.0)]);
    assert_eq!([-0.1, 1.1, f64::NAN].map(probability), [None; 3]);
    assert_eq!([-1.5, 9.0, f64::INFINITY].map(|x| OffsetScale::LogOdds.log_odds(x)), [Some(-1.5), Some(8.0), None]);

    // a third of the audience has no score, which then is the median
    let declared = Declared::Offset(OffsetScale::Probability);
    let mut profile = Profile::new(vec![("age".into(), Declared::Numeric), ("score".into(), declared)], 1);
    for n in 0..300 {
        let score = if n % 3 == 0 { Value::Missing } else { Value::Number(f64::from(n) / 300.0) };
        profile.add(vec![Value::Number(f64::from(n)), score]);
    }
    let encoder = profile.encoder();
    let last = encoder.width() - 1;
    assert_eq!(encoder.offset_column(), Some(last as u32));
    assert_eq!(encoder.column_names()[last], "score (offset)");
    let encode = |score| {
        let mut row = vec![0.0; encoder.width()];
        encoder.encode(&[Value::Number(150.0), score], &mut row);
        f64::from(row[last])
    };
    assert!((encode(Value::Number(0.2)) - (0.25_f64).ln()).abs() < 1e-6);
    assert!(encode(Value::Missing).abs() < 0.02, "{}", encode(Value::Missing));
    assert_eq!(encode(Value::Missing), encode(Value::Text("high".into())));
    assert_eq!(encoder.offset().map(|feature| feature.name.as_str()), Some("score"));
    let plain =
        Encoder { features: vec![Feature { name: "a".into(), kind: FeatureKind::Boolean }], ..Encoder::default() };
    assert_eq!((plain.offset(), plain.offset_column()), (None, None));
}
