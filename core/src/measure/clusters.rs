//! Clusters to which units come, and in which they do something, over time: sums from which a ratio of what they do to their number is
//! compared with the cluster as the unit.

use std::collections::HashMap;
use std::ops::{AddAssign, Neg, SubAssign};

use super::sample::Sample;

/// Sums over clusters, or what they changed by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClusterSums {
    pub clusters: f64,
    units: f64,
    units_squared: f64,
    outcome: f64,
    outcome_by_units: f64,
    outcome_squared: f64,
}

impl ClusterSums {
    /// Clusters as a sample: outcome over number of units.
    pub fn sample(&self) -> Sample {
        let ClusterSums { clusters, units, units_squared, outcome, outcome_by_units, outcome_squared } = *self;
        if clusters <= 0.0 {
            return Sample::default();
        }
        let products = [
            (outcome_squared - outcome * outcome / clusters).max(0.0),
            outcome_by_units - outcome * units / clusters,
            (units_squared - units * units / clusters).max(0.0),
        ];
        let [of_outcome, of_both, of_units] = products;
        let means = [outcome / clusters, units / clusters, 0.0];
        Sample::of_products(clusters, means, [of_outcome, of_both, of_units, 0.0, 0.0, 0.0])
    }

    fn each(&mut self, other: &Self, mut change: impl FnMut(&mut f64, f64)) {
        change(&mut self.clusters, other.clusters);
        change(&mut self.units, other.units);
        change(&mut self.units_squared, other.units_squared);
        change(&mut self.outcome, other.outcome);
        change(&mut self.outcome_by_units, other.outcome_by_units);
        change(&mut self.outcome_squared, other.outcome_squared);
    }
}

impl AddAssign for ClusterSums {
    fn add_assign(&mut self, other: Self) {
        self.each(&other, |sum, change| *sum += change);
    }
}

impl SubAssign for ClusterSums {
    fn sub_assign(&mut self, other: Self) {
        self.each(&other, |sum, change| *sum -= change);
    }
}

impl Neg for ClusterSums {
    type Output = Self;

    fn neg(self) -> Self {
        let mut negative = Self::default();
        negative -= self;
        negative
    }
}

/// Clusters at a point of time.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    units: HashMap<i32, f64>,
    outcomes: HashMap<i32, f64>,
}

impl Clusters {
    /// So many units come to a cluster, or leave it if that is negative; returns by what the sums change.
    pub fn come(&mut self, cluster: i32, units: f64) -> ClusterSums {
        let there = self.units.entry(cluster).or_default();
        let before = *there;
        *there += units;
        let is_there = |units: f64| f64::from(u8::from(units > 0.0));
        ClusterSums {
            clusters: is_there(*there) - is_there(before),
            units,
            units_squared: *there * *there - before * before,
            outcome_by_units: units * self.outcomes.get(&cluster).copied().unwrap_or(0.0),
            ..ClusterSums::default()
        }
    }

    /// Units of a cluster do so much; returns by what the sums change.
    pub fn act(&mut self, cluster: i32, outcome: f64) -> ClusterSums {
        let done = self.outcomes.entry(cluster).or_default();
        let before = *done;
        *done += outcome;
        ClusterSums {
            outcome,
            outcome_squared: *done * *done - before * before,
            outcome_by_units: outcome * self.units.get(&cluster).copied().unwrap_or(0.0),
            ..ClusterSums::default()
        }
    }

    /// What was done so far does not count any more.
    pub fn forget_outcomes(&mut self) {
        self.outcomes.clear();
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::super::sample::Variable::{Denominator, Outcome};
    use super::*;

    /// What comes and is done in any order adds up to the clusters at the end.
    #[test]
    fn changes_add_up() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let (mut clusters, mut sums) = (Clusters::default(), ClusterSums::default());
        let mut plain = vec![[0.0, 0.0]; 30];
        for step in 0..400 {
            let at = random.random_range(0..30);
            if step % 5 == 4 && plain[at][1] >= 1.0 {
                sums += clusters.come(at as i32, -1.0);
                plain[at][1] -= 1.0;
            } else if random.random::<f64>() < 0.5 {
                sums += clusters.come(at as i32, 2.0);
                plain[at][1] += 2.0;
            } else {
                sums += clusters.act(at as i32, 0.5);
                plain[at][0] += 0.5;
            }
        }
        let mut expected = Sample::default();
        plain
            .iter()
            .filter(|[_, units]| *units > 0.0)
            .for_each(|[outcome, units]| expected.add([*outcome, *units, 0.0]));
        // Outcomes of clusters without units are nobody's: none are left here.
        assert!(plain.iter().all(|[_, units]| *units > 0.0));
        let found = sums.sample();
        assert_eq!(found.count, expected.count);
        for (a, b) in [(Outcome, Outcome), (Outcome, Denominator), (Denominator, Denominator)] {
            assert!((found.products(a, b) - expected.products(a, b)).abs() < 1e-9, "{a:?} {b:?}");
        }
        for of in [Outcome, Denominator] {
            assert!((found.mean(of) - expected.mean(of)).abs() < 1e-12, "{of:?}");
        }
    }

    #[test]
    fn what_is_forgotten_does_not_count() {
        let mut clusters = Clusters::default();
        let mut there = clusters.come(1, 3.0);
        there += clusters.come(2, 1.0);
        clusters.act(1, 2.0);
        clusters.forget_outcomes();
        // Leaving takes nothing with it, then.
        there += clusters.come(1, -1.0);
        let mut now = there;
        now += clusters.act(1, 1.0);
        let mut expected = Sample::default();
        expected.add([1.0, 2.0, 0.0]);
        expected.add([0.0, 1.0, 0.0]);
        assert_eq!(now.sample(), expected);
        assert_eq!(ClusterSums::default().sample(), Sample::default());
    }
}
