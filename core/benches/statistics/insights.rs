//! How often insights are wrong in a world without effects, and how often planted ones are found and covered.

use decisioning_core::measure::{insights, Insight};

use super::audience::{log, Effects};

const SEEDS: u64 = 200;
const FALSE_DISCOVERY_RATE: f64 = 0.1;

fn is_single(insight: &Insight) -> bool {
    insight.segment == "top_activity = martial arts" && insight.level == "swimming"
}

fn is_pair(insight: &Insight) -> bool {
    insight.segment.contains("country = FR") && insight.segment.contains("member = true") && insight.level == "sms"
}

/// Whether an insight is about the segment that was planted, or one that overlaps with it.
fn is_about(insight: &Insight, effects: Effects) -> bool {
    let single = effects.single.is_some() && insight.segment.contains("top_activity") && insight.dimension == "message";
    let pair = effects.pair.is_some()
        && (insight.segment.contains("country") || insight.segment.contains("member"))
        && insight.dimension == "channel";
    single || pair
}

pub fn main() {
    println!("5 features, 10 contrasts; the policy favours actions by activity and country; 20 % random. {SEEDS} worlds each.\n");
    println!(
        "{:<26}{:>9}{:>7}{:>10}{:>10}{:>10}{:>10}{:>9}{:>8}",
        "effect", "customers", "times", "anything", "confirmed", "false", "planted", "covered", "ratio"
    );
    let none = Effects::default();
    let single = |factor| Effects { single: Some(factor), pair: None };
    let pair = |factor| Effects { single: None, pair: Some(factor) };
    for (name, customers, times, effects, factor) in [
        ("none", 20_000, 1, none, 1.0),
        ("none", 2_500, 20, none, 1.0),
        ("none", 10_000, 10, none, 1.0),
        ("martial arts: 1.5", 10_000, 10, single(1.5), 1.5),
        ("martial arts: 2", 10_000, 10, single(2.0), 2.0),
        ("martial arts: 0.5", 20_000, 10, single(0.5), 0.5),
        ("members in FR: 2", 10_000, 10, pair(2.0), 2.0),
    ] {
        let planted = |insight: &Insight| match effects {
            Effects { single: Some(_), .. } => is_single(insight),
            Effects { pair: Some(_), .. } => is_pair(insight),
            _ => false,
        };
        let (mut any, mut any_confirmed, mut any_false, mut found, mut covered, mut ratios) = (0, 0, 0, 0, 0, 0.0);
        for seed in 0..SEEDS {
            let mut log = log(seed, customers, times, effects);
            let insights = insights(&mut log, FALSE_DISCOVERY_RATE, 20, &mut || {});
            any += usize::from(!insights.is_empty());
            any_confirmed += usize::from(insights.iter().any(|insight| insight.confirmed));
            any_false += usize::from(insights.iter().any(|insight| insight.confirmed && !is_about(insight, effects)));
            if let Some(seen) = insights.iter().find(|insight| planted(insight)).and_then(|insight| insight.seen) {
                found += 1;
                covered += usize::from(seen.ratio.lower <= factor && factor <= seen.ratio.upper);
                ratios += seen.ratio.estimate;
            }
        }
        let share = |count: usize| count as f64 / SEEDS as f64;
        println!(
            "{name:<26}{customers:>9}{times:>7}{:>10.3}{:>10.3}{:>10.3}{:>10.3}{:>9.3}{:>8.2}",
            share(any),
            share(any_confirmed),
            share(any_false),
            share(found),
            covered as f64 / (found as f64).max(1.0),
            ratios / (found as f64).max(1.0),
        );
    }
    println!("\nanything, confirmed: worlds with any finding, any confirmed one. false: any confirmed one of another feature.");
    println!("planted: worlds in which the planted effect is among the findings; covered: its 90 % interval holds the truth.");
}
