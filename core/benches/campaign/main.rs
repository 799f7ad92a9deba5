//! What the learner captures in simulated campaigns of thirty days, and on classification sets, without a database: for trying
//! changes of the learner on many seeds.
//!
//! For campaigns, the share of the oracle's gain over uniform choice, in all and by phase (days 0–5, 5–15, 15–20 after the
//! drift, 20–30 with the new message), then that of the fixed action that is best over all days, then ours by seed. For sets,
//! the share of decisions that chose the right class, each seed with an order of its own; classes are sends, one of which must
//! be chosen.
//!
//!   SEEDS=1..9 PER_DAY=2000 HALF_LIFE=30 THREADS=2
//!   CLASSES=dir  of CSV files, as `benches/learning.sh bandit --export dir` writes them; SETS="wine,vowel" for some of them

mod campaign;
mod classes;
mod learner;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use campaign::{World, DAYS, DRIFT, NEW, WINDOW};
use classes::Classes;
use decisioning_core::learn::Dimensions;
use learner::Learner;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const PHASES: [(usize, usize); 5] = [(0, DAYS), (0, 5), (5, DRIFT), (DRIFT, NEW), (NEW, DAYS)];

/// Shares captured by phase: by the learner, and by the best fixed action of all days.
type Shares = ([f64; 5], [f64; 5]);

fn play(seed: u64, per_day: usize) -> Shares {
    let mut world = World::new(seed);
    let actions = world.actions();
    let mut learner = Learner::new(&world.encoder, &actions, WINDOW as f64, setting("HALF_LIFE", 30.0), seed);
    let mut totals = vec![[0.0; 3]; DAYS];
    let mut fixed = vec![vec![0.0; actions.len() + 1]; DAYS];
    let mut coming: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for day in 0..DAYS {
        let sends = (0..actions.len()).filter(|send| world.is_allowed(*send, day));
        let candidates: Vec<Option<usize>> = std::iter::once(None).chain(sends.map(Some)).collect();
        for _ in 0..per_day {
            let customer = world.customer();
            let p = world.probabilities(&customer, day);
            let of = |arm: &Option<usize>| p[arm.map_or(0, |arm| arm + 1)];
            let (decision, arm) = learner.decide(world.encode(&customer), &candidates, day as f64);
            let (luck, late) = (world.luck.random::<f64>(), world.luck.random::<f64>());
            if luck < of(&arm) {
                coming.entry(day + world.delay(arm, late)).or_default().push(decision);
            }
            totals[day][0] += of(&arm);
            totals[day][1] += candidates.iter().map(of).fold(0.0, f64::max);
            totals[day][2] += candidates.iter().map(of).sum::<f64>() / candidates.len() as f64;
            for candidate in &candidates {
                fixed[day][candidate.map_or(0, |arm| arm + 1)] += of(candidate);
            }
        }
        for decision in coming.remove(&day).unwrap_or_default() {
            learner.answer(decision, day as f64 + 0.4);
        }
        learner.learn(day as f64 + 0.6);
    }
    // Of those that may be taken on all days; others have nothing to show for the first ones.
    let over_all = |at: &usize| fixed.iter().map(|day| day[*at]).sum::<f64>();
    let best = (0..=actions.len()).max_by(|a, b| over_all(a).total_cmp(&over_all(b))).unwrap();
    let share = |of: &dyn Fn(usize) -> f64, (from, to): (usize, usize)| {
        let sum = |f: &dyn Fn(usize) -> f64| (from..to).map(f).sum::<f64>();
        let uniform = sum(&|day| totals[day][2]);
        (sum(of) - uniform) / (sum(&|day| totals[day][1]) - uniform)
    };
    (PHASES.map(|phase| share(&|day| totals[day][0], phase)), PHASES.map(|phase| share(&|day| fixed[day][best], phase)))
}

fn classify(set: &Classes, seed: u64) -> f64 {
    let actions: Vec<Dimensions> = (0..set.count).map(|n| [("message".to_owned(), format!("a{n}"))].into()).collect();
    let mut learner = Learner::new(&set.encoder, &actions, 1.0, f64::INFINITY, seed);
    let candidates: Vec<Option<usize>> = (0..actions.len()).map(Some).collect();
    let (mut total, mut learned) = (0, 0);
    let batch = 10;
    let mut rows: Vec<usize> = (0..set.classes.len()).collect();
    rows.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
    for (n, rows) in rows.chunks(batch).enumerate() {
        for row in rows {
            let (decision, arm) = learner.decide(set.encoded[*row].clone(), &candidates, n as f64 * 1.1);
            if arm == Some(set.classes[*row]) {
                learner.answer(decision, n as f64 * 1.1 + 0.1);
                total += 1;
            }
        }
        let count = (n + 1) * batch;
        if count <= 50 * batch || count as f64 >= 1.02 * learned as f64 {
            learner.learn(n as f64 * 1.1 + 1.05);
            learned = count;
        }
    }
    total as f64 / set.classes.len() as f64
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn in_parallel<T: Sync, U: Send>(jobs: &[T], f: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..setting("THREADS", 2_usize) {
            scope.spawn(|| loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(at) else { break };
                let found = f(job);
                done.lock().unwrap().push((at, found));
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, found)| found).collect()
}

fn main() {
    let started = std::time::Instant::now();
    let range = std::env::var("SEEDS").unwrap_or_else(|_| "1..9".to_owned());
    let (first, end) = range.split_once("..").expect("SEEDS=first..end");
    let seeds: Vec<u64> = (first.parse().expect("a number")..end.parse().expect("a number")).collect();
    if let Ok(directory) = std::env::var("CLASSES") {
        let only = std::env::var("SETS").unwrap_or_default();
        let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| {
            only.is_empty() || only.split(',').any(|s| path.file_stem().unwrap().to_string_lossy() == s)
        });
        paths.sort();
        let sets: Vec<Classes> = paths.iter().map(|path| Classes::read(path)).collect();
        let jobs: Vec<(usize, u64)> =
            (0..sets.len()).flat_map(|set| seeds.iter().map(move |seed| (set, *seed))).collect();
        let rewards = in_parallel(&jobs, |(set, seed)| classify(&sets[*set], *seed));
        let mut all = 0.0;
        for (set, rewards) in sets.iter().zip(rewards.chunks(seeds.len())) {
            let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
            all += mean / sets.len() as f64;
            print!("{} {mean:.3}  ", set.name);
        }
        println!("mean {all:.4}  {:.0} s", started.elapsed().as_secs_f64());
        return;
    }
    let per_day = setting("PER_DAY", 2000);
    let found = in_parallel(&seeds, |seed| play(*seed, per_day));
    let mean = |of: &dyn Fn(&Shares) -> f64| found.iter().map(of).sum::<f64>() / found.len() as f64;
    let line = |of: &dyn Fn(&Shares, usize) -> f64| {
        (0..5).map(|phase| format!("{:.3} ", mean(&|found| of(found, phase)))).collect::<String>()
    };
    let by_seed: String = found.iter().map(|found| format!("{:.3} ", found.0[0])).collect();
    println!(
        "{} | fixed {} | {by_seed}| {:.0} s",
        line(&|f, n| f.0[n]),
        line(&|f, n| f.1[n]),
        started.elapsed().as_secs_f64()
    );
}
