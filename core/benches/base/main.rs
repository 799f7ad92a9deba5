//! Which base, and which action features? Simulated campaigns with rare and late responses, in worlds whose base is linear
//! and in worlds where it is not, through the learner that the extension has.
//!
//! For each world and form: the share of the oracle's gain over uniform choice that the optimise group captures (after the
//! first week, and on the last day), and how far the estimated uplift of all arms is from the true one at the end: its
//! bias (root mean square over customers and arms of the mean error over seeds) and its error (root mean square of all),
//! in log-odds.
//!
//!   SEEDS=101..121   seeds to report on; forms and their prior scales were chosen on 1..17
//!   FORMS="linear,hinges"  the first of them is what the others are compared with (all unless given)
//!   DAYS=28 PER_DAY=1000 THREADS=2

mod learner;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use learner::{Form, Learner, FORMS};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use world::{Customer, Shape, World, SHAPES};

/// Customers on whom policies are valued.
const PANEL: usize = 400;

/// Where the first week ends, from which on the share counts.
const FROM: usize = 7;

/// What one campaign came to.
struct Outcome {
    share: f64,
    last: f64,
    errors: Vec<f64>,
}

fn play(shape: Shape, form: Form, seed: u64, days: usize, per_day: usize) -> Outcome {
    let mut world = World::new(shape, seed);
    // The same panel for all seeds, so that errors of one customer can be averaged.
    let mut others = World::new(shape, 0);
    let panel: Vec<Customer> = (0..PANEL).map(|_| others.customer()).collect();
    let arms = world.arms.len();
    let rates: Vec<Vec<f64>> = panel
        .iter()
        .map(|customer| std::iter::once(None).chain((0..arms).map(Some)).map(|arm| world.rate(customer, arm)).collect())
        .collect();
    let uniform: f64 = rates.iter().map(|rates| rates.iter().sum::<f64>() / rates.len() as f64).sum();
    let oracle: f64 = rates.iter().map(|rates| rates.iter().copied().fold(0.0, f64::max)).sum();

    let mut learner = Learner::new(form, &world, seed);
    // What happens to customers does not depend on the form.
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xfa7e);
    let mut shares = Vec::new();
    for day in 0..days {
        for ordinal in 0..per_day {
            let customer = world.customer();
            let (group, luck) = (random.random::<f64>(), random.random::<f64>());
            // Half of all responses come on the same day, the rest on any of the next five.
            let delay = if random.random::<bool>() { 0 } else { random.random_range(1..6) };
            learner.decide(&customer, day, ordinal, group, |arm| {
                (luck < world.rate(&customer, arm)).then_some(day + delay)
            });
        }
        learner.learn(day);
        if day + 1 >= FROM {
            let value: f64 = panel
                .iter()
                .zip(&rates)
                .map(|(customer, rates)| {
                    learner.propensities(customer).iter().zip(rates).map(|(p, r)| p * r).sum::<f64>()
                })
                .sum();
            shares.push((value - uniform) / (oracle - uniform));
        }
    }
    let errors = panel
        .iter()
        .flat_map(|customer| (0..arms).map(move |arm| (customer, arm)))
        .map(|(customer, arm)| learner.uplift(customer, arm) - world.uplift(customer, arm))
        .collect();
    Outcome { share: shares.iter().sum::<f64>() / shares.len() as f64, last: *shares.last().unwrap(), errors }
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    sum / count
}

fn main() {
    let range = std::env::var("SEEDS").unwrap_or_else(|_| "101..121".to_owned());
    let (first, end) = range.split_once("..").expect("SEEDS=first..end");
    let seeds: Vec<u64> = (first.parse().expect("a number")..end.parse().expect("a number")).collect();
    let (days, per_day, threads) = (setting("DAYS", 28), setting("PER_DAY", 1000), setting("THREADS", 2));
    let named = std::env::var("FORMS").unwrap_or_default();
    let named: Vec<&str> = named.split(',').filter(|name| !name.is_empty()).collect();
    let forms: Vec<Form> = FORMS.into_iter().filter(|form| named.is_empty() || named.contains(&form.name())).collect();
    println!("{} seeds {range}, {days} days of {per_day} customers", seeds.len());
    println!("world            base                   share after a week     on the last day   bias  error");

    let jobs: Vec<(Shape, Form, u64)> = SHAPES
        .iter()
        .flat_map(|shape| forms.iter().map(move |form| (*shape, *form)))
        .flat_map(|(shape, form)| seeds.iter().map(move |seed| (shape, form, *seed)))
        .collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((shape, form, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = play(*shape, *form, *seed, days, per_day);
                    done.lock().unwrap().push((*shape, *form, *seed, outcome));
                }
            });
        }
    });
    let done = done.into_inner().unwrap();
    for shape in SHAPES {
        let of = |form: Form| {
            let mut found: Vec<_> = done.iter().filter(|(s, f, ..)| *s == shape && *f == form).collect();
            found.sort_by_key(|(_, _, seed, _)| *seed);
            found
        };
        let first = of(forms[0]);
        for form in &forms {
            let found = of(*form);
            let share = mean(found.iter().map(|found| found.3.share));
            let last = mean(found.iter().map(|found| found.3.last));
            let gains: Vec<f64> = found.iter().zip(&first).map(|(a, b)| a.3.share - b.3.share).collect();
            let gain = mean(gains.iter().copied());
            let deviation =
                (mean(gains.iter().map(|x| (x - gain).powi(2))) / (gains.len() as f64 - 1.0).max(1.0)).sqrt();
            let count = found[0].3.errors.len();
            let bias = mean((0..count).map(|at| mean(found.iter().map(|found| found.3.errors[at])).powi(2))).sqrt();
            let error = mean(found.iter().flat_map(|found| found.3.errors.iter().map(|x| x * x))).sqrt();
            println!(
                "{:<16} {:<22} {share:.3} ({gain:+.3} ± {deviation:.3})   {last:.3}             {bias:.3}  {error:.3}",
                format!("{shape:?}"),
                form.name()
            );
        }
    }
}
