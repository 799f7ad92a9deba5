//! Whether the posterior is as sure as it should be, and the draw bank a sample of it.

mod common;

use common::{absorb, covariance, grid, layout, observe, prior, random, refit, truth, try_fit};
use decisioning_core::learn::{DrawBank, Layout, Observed, Posterior, Statistics, DRAWS};

/// 95 % quantile of the standard normal: ± this many standard errors hold 90 %.
const Z: f64 = 1.6448536269514722;

/// Share of coefficients inside their 90 % interval, by block: base, send, levels, pairs; then of all.
fn coverage(batches: usize, rows: usize, seeds: std::ops::Range<u64>) -> Vec<f64> {
    let (layout, arms) = layout(3, &grid(&["email", "sms"], &["none", "ten"]));
    let block = |i: usize| {
        usize::from(i >= layout.send_offset())
            + usize::from(i >= layout.level_offset(0))
            + usize::from(i >= layout.pair_offset())
    };
    let (mut covered, mut count) = (vec![0.0; 5], vec![0.0; 5]);
    for seed in seeds {
        let mut random = random(seed);
        let truth = truth(&layout, &mut random);
        let log: Vec<Observed> = (0..rows).map(|_| observe(&layout, &arms, &truth, &mut random)).collect();
        let posterior = if batches == 1 {
            refit(&layout, &arms, &log)
        } else {
            let mut closed = Statistics::new(layout.len());
            let mut mean = prior(&layout).mean;
            for batch in log.chunks(rows.div_ceil(batches)) {
                mean = absorb(&layout, &arms, &mut closed, &mean, batch);
            }
            Posterior::of(&prior(&layout), &closed).unwrap()
        };
        let errors = posterior.standard_errors();
        for i in 0..layout.len() {
            let inside = f64::from(u8::from((truth[i] - posterior.mean[i]).abs() <= Z * errors[i]));
            for at in [block(i), 4] {
                covered[at] += inside;
                count[at] += 1.0;
            }
        }
    }
    covered.iter().zip(count).map(|(covered, count)| covered / count).collect()
}

#[test]
fn nine_in_ten_intervals_hold_the_truth() {
    for (rows, seeds) in [(100, 0..300), (1000, 300..500)] {
        let found = coverage(1, rows, seeds);
        assert!(found.iter().all(|share| (0.85..=0.95).contains(share)), "{rows} rows: {found:?}");
    }
}

#[test]
fn nine_in_ten_intervals_hold_the_truth_after_many_batches() {
    let found = coverage(10, 500, 500..700);
    assert!(found.iter().all(|share| (0.85..=0.95).contains(share)), "{found:?}");
}

fn learned() -> (Layout, Statistics) {
    let (layout, arms) = layout(2, &grid(&["email", "sms"], &["none", "ten"]));
    let mut random = random(11);
    let truth = truth(&layout, &mut random);
    let rows: Vec<Observed> = (0..400).map(|_| observe(&layout, &arms, &truth, &mut random)).collect();
    let sums = try_fit(&layout, &arms, &Statistics::new(layout.len()), &prior(&layout).mean, &rows).unwrap().sums;
    (layout, sums)
}

/// Mean and covariance over the draws of many banks.
fn moments(posterior: &Posterior, temper: f64, banks: u64) -> (Vec<f64>, Vec<Vec<f64>>) {
    let len = posterior.mean.len();
    let banks: Vec<DrawBank> = (0..banks).map(|seed| DrawBank::sample(posterior, &vec![temper; len], seed)).collect();
    let draws: Vec<Vec<f64>> = banks
        .iter()
        .flat_map(|bank| (0..DRAWS).map(|draw| (0..len).map(|i| f64::from(bank.of(i)[draw])).collect()))
        .collect();
    let n = draws.len() as f64;
    let mean: Vec<f64> = (0..len).map(|i| draws.iter().map(|draw| draw[i]).sum::<f64>() / n).collect();
    let product = |i: usize, j: usize| draws.iter().map(|d| (d[i] - mean[i]) * (d[j] - mean[j])).sum::<f64>() / n;
    let covariance = (0..len).map(|i| (0..len).map(|j| product(i, j)).collect()).collect();
    (mean, covariance)
}

#[test]
fn draws_have_the_mean_and_covariance_of_the_posterior() {
    let (layout, sums) = learned();
    let posterior = Posterior::of(&prior(&layout), &sums).unwrap();
    let exact = covariance(&layout, &sums);
    for temper in [1.0, 0.3] {
        let banks = 400;
        let (mean, found) = moments(&posterior, temper, banks);
        let n = (banks as usize * DRAWS) as f64;
        for i in 0..layout.len() {
            let deviation = temper * exact[i][i].sqrt();
            assert!((mean[i] - posterior.mean[i]).abs() < 5.0 * deviation / n.sqrt(), "mean of {i}");
            for j in 0..=i {
                let reference = temper * temper * exact[i][j];
                // Wishart: Var(s_ij) = (c_ii c_jj + c_ij²) / n
                let variance = temper.powi(4) * (exact[i][i] * exact[j][j] + exact[i][j].powi(2)) / n;
                assert!(
                    (found[i][j] - reference).abs() < 5.0 * variance.sqrt(),
                    "{i}, {j}: {} {reference}",
                    found[i][j]
                );
            }
        }
    }
}

#[test]
fn temper_scales_the_spread_draw_by_draw() {
    let (layout, sums) = learned();
    let posterior = Posterior::of(&prior(&layout), &sums).unwrap();
    let [full, half, none] = [1.0, 0.5, 0.0].map(|temper| DrawBank::sample(&posterior, &vec![temper; layout.len()], 4));
    for i in 0..layout.len() {
        let mean = posterior.mean[i] as f32;
        assert_eq!(none.of(i), &[mean; DRAWS]);
        for (full, half) in full.of(i).iter().zip(half.of(i)) {
            assert!((2.0 * (half - mean) - (full - mean)).abs() < 1e-5);
        }
    }
}

#[test]
fn a_seed_is_a_bank() {
    let (layout, sums) = learned();
    let posterior = Posterior::of(&prior(&layout), &sums).unwrap();
    let bank = DrawBank::sample(&posterior, &vec![0.6; layout.len()], 1);
    assert_eq!((bank.len(), bank.is_empty()), (layout.len(), false));
    assert_eq!(bank, DrawBank::sample(&posterior, &vec![0.6; layout.len()], 1));
    assert_ne!(bank, DrawBank::sample(&posterior, &vec![0.6; layout.len()], 2));
    assert_eq!(DrawBank::from_bytes(&bank.to_bytes(), bank.len()), Some(bank));
}

#[test]
fn a_damaged_bank_is_refused() {
    let (layout, sums) = learned();
    let bytes =
        DrawBank::sample(&Posterior::of(&prior(&layout), &sums).unwrap(), &vec![1.0; layout.len()], 1).to_bytes();
    let len = layout.len();
    assert_eq!(bytes.len(), 4 * len * DRAWS);
    for (cut, len) in [(1, len), (4, len), (4 * DRAWS, len), (0, len + 1), (0, len - 1), (0, 0), (0, usize::MAX)] {
        assert_eq!(DrawBank::from_bytes(&bytes[..bytes.len() - cut], len), None, "{cut} {len}");
    }
    assert_eq!(DrawBank::from_bytes(&[bytes.clone(), vec![0]].concat(), len), None);
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bytes = bytes.clone();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&wrong.to_le_bytes());
        assert_eq!(DrawBank::from_bytes(&bytes, len), None, "{wrong}");
    }
}
