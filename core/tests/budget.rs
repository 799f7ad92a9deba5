//! Budgets are never exceeded and, with a price, spent where they earn most.

mod common;

use common::random;
use decisioning_core::decide::{
    demand, millionths, price, spread, Demand, Draws, Ledger, Pace, Progress, Scope, SLOTS,
};
use proptest::prelude::*;
use rand::RngExt;
use rand_distr::{Distribution, Exp1, Poisson};

proptest! {
    #[test]
    fn spreading_keeps_the_total_and_its_sign(total in -10_000_000_000_i64..10_000_000_000) {
        let slots = spread(total);
        prop_assert_eq!(slots.iter().sum::<i64>(), total);
        prop_assert!(slots.iter().all(|slot| slot.signum() * total.signum() >= 0));
        prop_assert!(slots.iter().max().unwrap() - slots.iter().min().unwrap() <= 1);
    }

    /// Whoever is served in turn, by whatever choice among what can be paid, nothing is given out twice; and whoever was not
    /// served could not have been.
    #[test]
    fn a_ledger_gives_out_no_more_than_it_holds(seed: u64, held in prop::collection::vec(0_i64..20_000_000, 3)) {
        let mut random = random(seed);
        let scopes: Vec<Scope> = [Draws::Cost, Draws::Sends, Draws::Cost]
            .into_iter()
            .map(|draws| Scope { draws, arms: (0..4).map(|_| random.random()).collect() })
            .collect();
        let mut ledger = Ledger::new(&scopes, held.clone());
        let mut spent = [0_i64; 3];
        for _ in 0..50 {
            let costs: Vec<i64> = (0..4).map(|_| random.random_range(0..2_000_000)).collect();
            let open: Vec<usize> = (0..4).filter(|arm| ledger.lacking(*arm, costs[*arm]).is_none()).collect();
            for arm in (0..4).filter(|arm| !open.contains(arm)) {
                let short = ledger.lacking(arm, costs[arm]).unwrap();
                prop_assert!(spent[short] + scopes[short].need(arm, costs[arm]) > held[short]);
            }
            if open.is_empty() {
                continue;
            }
            let arm = open[random.random_range(0..open.len())];
            ledger.pay(arm, costs[arm]);
            for (spent, scope) in spent.iter_mut().zip(&scopes) {
                *spent += scope.need(arm, costs[arm]);
            }
        }
        for ((spent, held), left) in spent.iter().zip(&held).zip(ledger.left()) {
            prop_assert!(spent <= held);
            prop_assert_eq!(held - spent, *left);
        }
    }
}

#[test]
fn demand_is_the_dearest_and_the_cheapest_that_needs_anything() {
    let scope = Scope { draws: Draws::Cost, arms: vec![true, true, false, true] };
    let found = demand(&scope, [(0, 300), (1, 0), (2, 900), (3, 200)]);
    assert_eq!(found, Demand { most: 300, least: Some(200) });
    assert_eq!(found.and(Demand { most: 50, least: Some(50) }), Demand { most: 350, least: Some(50) });
    assert_eq!(found.and(Demand::default()), found);
    let sends = Scope { draws: Draws::Sends, ..scope };
    assert_eq!(demand(&sends, [(1, 0)]), Demand { most: 1_000_000, least: Some(1_000_000) });
    assert_eq!((millionths(0.07), millionths(1e300)), (70_000, i64::MAX));
    assert_eq!(spread(5)[..6], [1, 1, 1, 1, 1, 0]);
    assert_eq!(SLOTS, 64);
}

const HOUR: f64 = 3600.0 * 1e6;
const WEEK: usize = 7 * 24;

/// Spent and gained in a week.
#[derive(Clone, Copy, Default)]
struct Week {
    spent: f64,
    gain: f64,
}

/// Weeks of a campaign with an e-mail of 2 cents and a coupon that costs much more, for customers whose uplift differs. Traffic
/// follows the hour, the weekday and chance, and grows by half in the fourth week. `look` is the number of hours between two
/// looks; `batch` decides for everybody of a day at 10 o'clock instead. Returns the weeks and what they could spend.
fn campaign(paced: bool, look: usize, batch: bool, draws: Draws, seed: u64) -> (Vec<Week>, f64) {
    const WEEKS: usize = 8;
    let mut random = random(seed);
    // About a third of what would be spent at no price.
    let amount = if draws == Draws::Cost { 1500.0 } else { 2500.0 };
    let scale = if draws == Draws::Cost { 1.0 } else { 0.01 * 30.0 };
    let scopes = [Scope { draws, arms: vec![true, true] }];
    let mut weeks = vec![Week::default(); WEEKS];
    let mut pace = Pace::default();
    let (mut used, mut decisions, mut refused, mut last) = (0.0, 0.0, 0.0, 0);
    let mut waiting = 0.0;
    for week in 0..WEEKS {
        let mut ledger = Ledger::new(&scopes, vec![millionths(amount)]);
        for hour in 0..WEEK {
            let day = hour / 24;
            let busy = 60.0
                * (1.0 + 0.8 * (std::f64::consts::TAU * (hour % 24) as f64 / 24.0).sin())
                * [1.0, 1.0, 0.9, 1.1, 1.3, 0.6, 0.5][day]
                * if week >= 3 { 1.5 } else { 1.0 };
            waiting += Poisson::new(busy).unwrap().sample(&mut random);
            let now = if batch && hour % 24 != 10 { 0 } else { waiting as usize };
            waiting -= now as f64;
            let price = if paced { price(pace.log_price, scale) } else { 0.0 };
            for _ in 0..now {
                let uplift =
                    |mean: f64, random: &mut _| mean * <Exp1 as Distribution<f64>>::sample(&Exp1, random) - 0.15;
                let coupon_cost = 0.5 + random.random::<f64>();
                let costs = [0.02, coupon_cost];
                let worth = [uplift(0.3, &mut random) - costs[0], uplift(1.6, &mut random) - costs[1]];
                let charged = |arm: usize| if draws == Draws::Cost { costs[arm] } else { 1.0 };
                let open = |arm: &usize| ledger.lacking(*arm, millionths(costs[*arm])).is_none();
                decisions += 1.0;
                refused += f64::from(u8::from(!(0..2).all(|arm| open(&arm))));
                let net = |arm: usize| worth[arm] - price * charged(arm);
                let best = (0..2).filter(open).max_by(|a, b| net(*a).total_cmp(&net(*b)));
                if let Some(arm) = best.filter(|arm| net(*arm) > 0.0) {
                    ledger.pay(arm, millionths(costs[arm]));
                    weeks[week].spent += charged(arm);
                    weeks[week].gain += worth[arm];
                }
            }
            let at = week * WEEK + hour + 1;
            if at.is_multiple_of(look) {
                let spent_by_now: f64 = weeks.iter().map(|week| week.spent).sum();
                let progress = Progress {
                    elapsed: (at - last) as f64 * HOUR,
                    decisions,
                    refused,
                    spent: spent_by_now - used,
                    amount,
                    length: WEEK as f64 * HOUR,
                    amount_left: amount - weeks[week].spent,
                    time_left: (WEEK - hour - 1) as f64 * HOUR,
                };
                if let Some(next) = pace.after(&progress) {
                    (pace, used, decisions, refused, last) = (next, spent_by_now, 0.0, 0.0, at);
                }
            }
        }
    }
    (weeks, amount)
}

/// From the third week on, a price spends the budget all the same, and gains more with it than whoever comes first.
#[test]
fn a_price_spends_the_budget_where_it_gains_most() {
    for (name, look, batch) in [("hourly", 1, false), ("daily", 24, false), ("batches", 24, true)] {
        for draws in [Draws::Cost, Draws::Sends] {
            let (mut ratios, mut least) = (Vec::new(), f64::MAX);
            for seed in 0..5 {
                let (first_come, amount) = campaign(false, look, batch, draws, seed);
                let (paced, _) = campaign(true, look, batch, draws, seed);
                assert!(first_come.iter().chain(&paced).all(|week| week.spent <= amount));
                let settled = |weeks: &[Week]| {
                    let weeks = &weeks[2..];
                    let per_money = weeks.iter().map(|week| week.gain).sum::<f64>()
                        / weeks.iter().map(|week| week.spent).sum::<f64>();
                    (per_money, weeks.iter().map(|week| week.spent / amount).fold(f64::MAX, f64::min))
                };
                let (paced, spent) = settled(&paced);
                ratios.push(paced / settled(&first_come).0);
                least = least.min(spent);
            }
            let worst = ratios.iter().copied().fold(f64::MAX, f64::min);
            println!(
                "{name} {draws:?}: spends at least {least:.3} of the budget, gains {worst:.2} times as much per money"
            );
            assert!(least >= 0.95, "{name} {draws:?} leaves {:.3} unspent", 1.0 - least);
            assert!(worst > 1.2, "{name} {draws:?} gains only {worst:.2} times as much");
        }
    }
}

/// Where nothing binds there is no price, and looks that teach nothing leave it as it is.
#[test]
fn without_scarcity_nothing_has_a_price() {
    let progress = Progress {
        elapsed: HOUR,
        decisions: 100.0,
        refused: 0.0,
        spent: 1.0,
        amount: 10_000.0,
        length: 24.0 * HOUR,
        amount_left: 9_000.0,
        time_left: 12.0 * HOUR,
    };
    let mut pace = Pace::default();
    for _ in 0..20 {
        pace = pace.after(&progress).unwrap();
    }
    assert_eq!((pace.log_price, price(pace.log_price, 3.0)), (0.0, 0.0));
    let scarce = Progress { amount_left: 1.0, ..progress };
    let dear = pace.after(&scarce).unwrap();
    assert!(dear.log_price > 0.0);
    let exhausted = Progress { refused: 100.0, spent: 0.0, ..scarce };
    assert_eq!(dear.after(&exhausted).unwrap().log_price, dear.log_price);
    assert_eq!(dear.after(&Progress { elapsed: HOUR / 60.0, ..scarce }), None);
    assert_eq!(dear.after(&Progress { length: f64::INFINITY, ..scarce }), None, "without an end there is no plan");
    let highest = (0..100).fold(dear, |pace, _| pace.after(&scarce).unwrap());
    assert_eq!(highest.log_price, 8.0);
}
