//! Intervals of lift: how often they are wrong when groups are alike, one look or sixty, and how often they find what is there.

use decisioning_core::measure::{
    independence, read_out, sequential_balance, Arms, Bounded, Drawn, Readout, Responders, Sample,
};
use rand::{RngExt, SeedableRng};
use rand_distr::{Binomial, Distribution, LogNormal, Normal};
use rand_xoshiro::Xoshiro256PlusPlus;

const DAYS: usize = 60;
/// Days within which somebody responds who does.
const DELAYS: usize = 6;

fn binomial(n: f64, p: f64, random: &mut Xoshiro256PlusPlus) -> f64 {
    if n < 1.0 || p <= 0.0 {
        return 0.0;
    }
    Binomial::new(n as u64, p.min(1.0)).unwrap().sample(random) as f64
}

/// A campaign: new customers every day, of whom a share is held out, and responses that come within days.
struct World {
    daily: f64,
    rate: f64,
    holdout: f64,
    /// Treated rate over that of the holdout, less one.
    effect: f64,
}

/// What a sequence of daily looks came to.
#[derive(Default)]
struct Looks {
    fixed_ever: bool,
    fixed_at_last: bool,
    valid_ever: bool,
    balance_ever: bool,
}

impl World {
    fn run(&self, seed: u64) -> Looks {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut due = [[0.0; 2]; DAYS + DELAYS];
        let (mut customers, mut responders) = ([0.0; 2], [0.0; 2]);
        let mut looks = Looks::default();
        for day in 0..DAYS {
            let held = binomial(self.daily, self.holdout, &mut random);
            for (arm, new) in [held, self.daily - held].into_iter().enumerate() {
                customers[arm] += new;
                let rate = self.rate * if arm == 1 { 1.0 + self.effect } else { 1.0 };
                let mut left = binomial(new, rate, &mut random);
                for delay in 0..DELAYS {
                    let now = binomial(left, 1.0 / (DELAYS - delay) as f64, &mut random);
                    due[day + delay][arm] += now;
                    left -= now;
                }
            }
            (0..2).for_each(|arm| responders[arm] += due[day][arm]);
            let drawn = Drawn { observed: customers.to_vec(), shares: vec![self.holdout, 1.0 - self.holdout] };
            looks.balance_ever |= sequential_balance(&[drawn]) < 0.001;
            let Some(found) = compare(customers, responders) else { continue };
            looks.fixed_at_last = excludes_zero(found.fixed);
            looks.fixed_ever |= looks.fixed_at_last;
            looks.valid_ever |= excludes_zero(found.always_valid);
        }
        looks
    }
}

fn compare(customers: [f64; 2], responders: [f64; 2]) -> Option<Readout> {
    let of = |arm: usize| Sample::of_rate(customers[arm], responders[arm]).per_unit();
    let seen = Responders { treated: responders[1], baseline: responders[0] };
    read_out(&[Arms { treated: of(1), baseline: of(0) }], seen, false, 0.95)
}

fn excludes_zero(bounds: Option<Bounded>) -> bool {
    bounds.is_some_and(|bounds| bounds.lower > 0.0 || bounds.upper < 0.0)
}

fn share(looks: &[Looks], of: impl Fn(&Looks) -> bool) -> f64 {
    looks.iter().filter(|looks| of(looks)).count() as f64 / looks.len() as f64
}

/// A/A tests under sixty daily looks, and tests with an effect.
pub fn peeking() {
    println!(
        "{:>6} {:>8} {:>8} {:>7} | {:>10} {:>10} {:>12} {:>13}",
        "rate", "holdout", "a day", "effect", "one look", "peeking", "always valid", "sample ratio"
    );
    for (rate, holdout, daily) in [
        (0.02, 0.1, 5e3),
        (0.002, 0.1, 5e3),
        (0.02, 0.01, 5e3),
        (0.002, 0.01, 5e3),
        (0.002, 0.1, 5e4),
        (0.002, 0.01, 5e5),
    ] {
        for (effect, runs) in [(0.0, 10_000), (0.2, 2_000)] {
            let world = World { daily, rate, holdout, effect };
            let looks: Vec<Looks> = (0..runs).map(|seed| world.run(seed)).collect();
            println!(
                "{rate:>6} {holdout:>8} {daily:>8} {effect:>7} | {:>10.4} {:>10.4} {:>12.4} {:>13.4}",
                share(&looks, |looks| looks.fixed_at_last),
                share(&looks, |looks| looks.fixed_ever),
                share(&looks, |looks| looks.valid_ever),
                share(&looks, |looks| looks.balance_ever),
            );
        }
    }
}

/// What a customer does: value, events, and a covariate of the given correlation with the value.
fn unit(shape: &str, treated: bool, random: &mut Xoshiro256PlusPlus) -> [f64; 3] {
    let normal = |random: &mut Xoshiro256PlusPlus| Normal::new(0.0, 1.0).unwrap().sample(random);
    match shape {
        "normal" => [10.0 + normal(random), 1.0, 0.0],
        // Two in a hundred buy, most of them little.
        "revenue" => {
            let buys = random.random::<f64>() < 0.02 * if treated { 1.1 } else { 1.0 };
            [if buys { LogNormal::new(3.0, 1.2).unwrap().sample(random) } else { 0.0 }, 1.0, 0.0]
        }
        // Orders per visit, with visitors who come often and order more.
        _ => {
            let visits = LogNormal::new(0.0_f64, 0.8).unwrap().sample(random).ceil();
            let orders = binomial(visits, 0.1 + 0.02 * visits.min(5.0), random);
            [orders, visits, 0.0]
        }
    }
}

/// Coverage of intervals of differences, by the truth from many customers.
pub fn coverage() {
    println!("{:>8} {:>8} | {:>15} {:>12}", "totals", "holdout", "fixed, 95 %", "always valid");
    for shape in ["normal", "revenue", "ratio"] {
        let sample = |n: usize, treated: bool, random: &mut Xoshiro256PlusPlus| {
            let (mut sample, mut responders) = (Sample::default(), 0.0);
            for _ in 0..n {
                let unit = unit(shape, treated, random);
                responders += f64::from(u8::from(unit[0] > 0.0));
                sample.add(unit);
            }
            (sample, responders)
        };
        let mut random = Xoshiro256PlusPlus::seed_from_u64(99);
        let truth = {
            let (treated, _) = sample(4_000_000, true, &mut random);
            let (baseline, _) = sample(4_000_000, false, &mut random);
            let (of, over) = (Arms { treated, baseline }, Responders::default());
            read_out(&[of], over, false, 0.95).unwrap().difference
        };
        let truth = if shape == "revenue" { truth } else { 0.0 };
        for (n, holdout) in [(10_000, 0.1), (10_000, 0.5)] {
            let runs = 5_000;
            let (mut fixed, mut valid) = (0.0, 0.0);
            for seed in 0..runs {
                let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
                let held = (n as f64 * holdout) as usize;
                let (treated, of) = sample(n - held, true, &mut random);
                let (baseline, over) = sample(held, false, &mut random);
                let seen = Responders { treated: of, baseline: over };
                let found = read_out(&[Arms { treated, baseline }], seen, false, 0.95).unwrap();
                let covers = |bounds: Bounded| f64::from(u8::from(bounds.lower <= truth && truth <= bounds.upper));
                fixed += found.fixed.map_or(1.0, covers);
                valid += found.always_valid.map_or(1.0, covers);
            }
            println!("{shape:>8} {holdout:>8} | {:>15.4} {:>12.4}", fixed / runs as f64, valid / runs as f64);
        }
    }
}

/// Variance that a covariate takes away, which is ρ².
pub fn cuped() {
    println!("{:>5} {:>8} | {:>8} {:>8}", "ρ", "ρ²", "removed", "covers");
    for rho in [0.0, 0.3, 0.6, 0.9] {
        let (runs, n) = (1_000, 2_000);
        let (mut removed, mut covered) = (0.0, 0.0);
        for seed in 0..runs {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
            let normal = Normal::new(0.0, 1.0).unwrap();
            let mut arms = Arms::default();
            for at in 0..n {
                let x: f64 = normal.sample(&mut random);
                let y = rho * x + (1.0_f64 - rho * rho).sqrt() * normal.sample(&mut random);
                let sample = if at % 10 == 0 { &mut arms.baseline } else { &mut arms.treated };
                sample.add([y, 1.0, x]);
            }
            let all = Responders { treated: arms.treated.count, baseline: arms.baseline.count };
            let found = read_out(&[arms], all, true, 0.95).unwrap();
            removed += found.variance_removed.unwrap() / f64::from(runs as u32);
            covered += f64::from(u8::from(!excludes_zero(found.fixed))) / f64::from(runs as u32);
        }
        println!("{rho:>5} {:>8.4} | {removed:>8.4} {covered:>8.4}", rho * rho);
    }
}

/// The check of a feature, looked at every day, in campaigns whose groups are alike: how often it falls below a level at some time.
pub fn features() {
    println!("{:>7} {:>6} | {:>9} {:>9}", "levels", "a day", "< 0.001", "< 0.0001");
    for (levels, daily) in [(3, 500), (10, 500)] {
        let runs = 4_000;
        let mut alarms = [0.0; 2];
        for seed in 0..runs {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut table = vec![vec![0.0; levels]; 3];
            let mut smallest = 1.0_f64;
            for _ in 0..DAYS {
                for _ in 0..daily {
                    let draw: f64 = random.random();
                    let group = usize::from(draw >= 0.1) + usize::from(draw >= 0.15);
                    table[group][random.random_range(0..levels)] += 1.0;
                }
                smallest = smallest.min(independence(&table).map_or(1.0, |found| found.p_value));
            }
            for (alarms, level) in alarms.iter_mut().zip([0.001, 0.0001]) {
                *alarms += f64::from(u8::from(smallest < level)) / runs as f64;
            }
        }
        println!("{levels:>7} {daily:>6} | {:>9.4} {:>9.4}", alarms[0], alarms[1]);
    }
}

/// One look at groups that are alike, where hardly anybody responds: how often the p-value is below a level if it is given from so many
/// responders in each group on.
pub fn rare() {
    let fewest = [0.0, 5.0, 10.0, 30.0];
    println!(
        "{:>7} {:>8} {:>7} | share of p < 0.05, and of p < 0.001, from {fewest:?} responders on",
        "treated", "baseline", "rate"
    );
    for (treated, baseline, rate) in [
        (8_500.0, 1_000.0, 0.0006),
        (8_500.0, 1_000.0, 0.002),
        (8_500.0, 1_000.0, 0.01),
        (85_000.0, 1_000.0, 0.015),
        (85_000.0, 1_000.0, 0.03),
        (85_000.0, 10_000.0, 0.0003),
        (85_000.0, 10_000.0, 0.003),
        (1_000.0, 1_000.0, 0.01),
    ] {
        let runs = 40_000;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut below = [[0.0; 2]; 4];
        for _ in 0..runs {
            let [of, over] = [binomial(treated, rate, &mut random), binomial(baseline, rate, &mut random)];
            let arms = Arms {
                treated: Sample::of_rate(treated, of).per_unit(),
                baseline: Sample::of_rate(baseline, over).per_unit(),
            };
            // What is shown is asked for below: here, there are always enough.
            let enough = Responders { treated, baseline };
            let Some(p_value) = read_out(&[arms], enough, false, 0.95).and_then(|found| found.p_value) else {
                continue;
            };
            for (below, fewest) in below.iter_mut().zip(fewest) {
                for (below, level) in below.iter_mut().zip([0.05, 0.001]) {
                    *below += f64::from(u8::from(of.min(over) >= fewest && p_value < level)) / f64::from(runs);
                }
            }
        }
        let shown: Vec<String> = below.iter().map(|[five, thousandth]| format!("{five:.3} {thousandth:.4}")).collect();
        println!("{treated:>7} {baseline:>8} {rate:>7} | {}", shown.join("   "));
    }
}
