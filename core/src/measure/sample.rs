//! Units summed up: count, means and co-moments, from which every comparison of groups is made.

/// Variables of a unit: what it did, what that is counted by, and what was known of it before.
const VARIABLES: usize = 3;

/// Pairs of variables, each with itself included.
const PAIRS: usize = VARIABLES * (VARIABLES + 1) / 2;

/// Bytes of a sample.
pub const SAMPLE_BYTES: usize = 8 * (1 + VARIABLES + PAIRS);

/// A variable of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// What is measured: whether it responded, how often, or for how much.
    Outcome = 0,
    /// What a ratio divides by: events, or members of a cluster.
    Denominator = 1,
    /// What was known before exposure, for CUPED.
    Covariate = 2,
}

/// Count, means and sums of products of deviations of units. Merges exactly (Chan, Golub, LeVeque 1979; for products Pébay
/// 2008, equation 3.9).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    pub count: f64,
    means: [f64; VARIABLES],
    products: [f64; PAIRS],
}

/// Place of a pair among the products.
const fn pair(a: usize, b: usize) -> usize {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    large * (large + 1) / 2 + small
}

impl Sample {
    /// Adds a unit: outcome, denominator, covariate.
    pub fn add(&mut self, unit: [f64; VARIABLES]) {
        self.merge(&Sample { count: 1.0, means: unit, products: [0.0; PAIRS] });
    }

    /// Adds units of which nothing is known but zeros.
    pub fn add_zeros(&mut self, count: f64) {
        self.merge(&Sample { count, ..Sample::default() });
    }

    pub fn merge(&mut self, other: &Sample) {
        if other.count <= 0.0 {
            return;
        }
        let count = self.count + other.count;
        let weight = self.count * other.count / count;
        let apart: [f64; VARIABLES] = std::array::from_fn(|at| other.means[at] - self.means[at]);
        for large in 0..VARIABLES {
            for small in 0..=large {
                let at = pair(small, large);
                self.products[at] += other.products[at] + weight * apart[small] * apart[large];
            }
        }
        for (mean, apart) in self.means.iter_mut().zip(apart) {
            *mean += apart * other.count / count;
        }
        self.count = count;
    }

    /// The units that are not in a part of it.
    #[must_use]
    pub fn without(&self, part: &Sample) -> Self {
        let count = self.count - part.count;
        if count <= 0.0 {
            return Sample::default();
        }
        let mut rest = Sample { count, ..Sample::default() };
        for at in 0..VARIABLES {
            rest.means[at] = (self.count * self.means[at] - part.count * part.means[at]) / count;
        }
        let weight = part.count * count / self.count;
        let apart: [f64; VARIABLES] = std::array::from_fn(|at| rest.means[at] - part.means[at]);
        for large in 0..VARIABLES {
            for small in 0..=large {
                let at = pair(small, large);
                rest.products[at] = self.products[at] - part.products[at] - weight * apart[small] * apart[large];
            }
            let own = &mut rest.products[pair(large, large)];
            *own = own.max(0.0);
        }
        rest
    }

    /// Units of a value that is yes or no.
    pub fn of_rate(count: f64, yes: f64) -> Self {
        let mut sample = Sample { count: yes, means: [1.0, 0.0, 0.0], products: [0.0; PAIRS] };
        sample.add_zeros(count - yes);
        sample
    }

    /// Units by their means (outcome, denominator, covariate) and sums of products of deviations: of outcome with itself, of
    /// denominator with outcome and itself, of covariate with outcome, denominator and itself.
    pub fn of_products(count: f64, means: [f64; VARIABLES], products: [f64; PAIRS]) -> Self {
        Sample { count, means, products }
    }

    /// Units of one variable, by their sum and the sum of their squares. For sums that most units add nothing to: the mean is then
    /// small beside what the others add, and nothing is lost by the subtraction.
    pub fn of_sums(count: f64, sum: f64, squares: f64) -> Self {
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        let mut sample = Sample { count, ..Sample::default() };
        sample.means[0] = mean;
        sample.products[0] = (squares - count * mean * mean).max(0.0);
        sample
    }

    /// The same units, each counted once: the ratio is a mean.
    #[must_use]
    pub fn per_unit(mut self) -> Self {
        self.means[Variable::Denominator as usize] = 1.0;
        for variable in 0..VARIABLES {
            self.products[pair(variable, Variable::Denominator as usize)] = 0.0;
        }
        self
    }

    pub fn mean(&self, variable: Variable) -> f64 {
        self.means[variable as usize]
    }

    /// Sum of products of deviations.
    pub fn products(&self, a: Variable, b: Variable) -> f64 {
        self.products[pair(a as usize, b as usize)]
    }

    pub fn to_bytes(&self) -> [u8; SAMPLE_BYTES] {
        let mut bytes = [0; SAMPLE_BYTES];
        let numbers = std::iter::once(&self.count).chain(&self.means).chain(&self.products);
        for (eight, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            eight.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None` for bytes that are no sample.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != SAMPLE_BYTES {
            return None;
        }
        let mut numbers = bytes.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap_or_default()));
        let mut next = || numbers.next().filter(|number| number.is_finite());
        let mut sample = Sample { count: next().filter(|count| *count >= 0.0)?, ..Sample::default() };
        for number in sample.means.iter_mut().chain(&mut sample.products) {
            *number = next()?;
        }
        Some(sample)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(units: &[[f64; 3]]) -> Sample {
        let mut sample = Sample::default();
        units.iter().for_each(|unit| sample.add(*unit));
        sample
    }

    /// By two passes over the units.
    fn plain(units: &[[f64; 3]], a: Variable, b: Variable) -> f64 {
        let mean = |v: Variable| units.iter().map(|unit| unit[v as usize]).sum::<f64>() / units.len() as f64;
        let (of_a, of_b) = (mean(a), mean(b));
        units.iter().map(|unit| (unit[a as usize] - of_a) * (unit[b as usize] - of_b)).sum()
    }

    proptest! {
        #[test]
        fn parts_add_up(units in prop::collection::vec(prop::array::uniform3(-1e3..1e3_f64), 1..60), cut in 0..60_usize) {
            use Variable::{Covariate, Denominator, Outcome};
            let (left, right) = units.split_at(cut.min(units.len()));
            let mut merged = of(left);
            merged.merge(&of(right));
            prop_assert_eq!(merged.count, units.len() as f64);
            for (a, b) in [(Outcome, Outcome), (Outcome, Denominator), (Covariate, Outcome), (Denominator, Covariate)] {
                let exact = plain(&units, a, b);
                prop_assert!((merged.products(a, b) - exact).abs() <= 1e-6 * (1.0 + exact.abs()));
            }
            prop_assert_eq!(Sample::from_bytes(&merged.to_bytes()), Some(merged));
            let rest = merged.without(&of(left));
            prop_assert_eq!(rest.count, right.len() as f64);
            for (a, b) in [(Outcome, Outcome), (Covariate, Outcome), (Covariate, Covariate)] {
                let exact = if right.is_empty() { 0.0 } else { plain(right, a, b) };
                prop_assert!((rest.products(a, b) - exact).abs() <= 1e-6 * (1.0 + merged.products(a, a) + merged.products(b, b)));
            }
        }
    }

    #[test]
    fn zeros_rates_and_sums_agree() {
        let mut sample = of(&[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]);
        sample.add_zeros(7.0);
        let rate = Sample::of_rate(10.0, 3.0);
        let sums = Sample::of_sums(10.0, 3.0, 3.0);
        for other in [rate, sums] {
            assert!((sample.mean(Variable::Outcome) - other.mean(Variable::Outcome)).abs() < 1e-15);
            let products = |s: &Sample| s.products(Variable::Outcome, Variable::Outcome);
            assert!((products(&sample) - products(&other)).abs() < 1e-12 && (products(&other) - 2.1).abs() < 1e-12);
        }
    }

    #[test]
    fn other_bytes_are_no_sample() {
        let mut bytes = of(&[[1.0, 2.0, 3.0]]).to_bytes();
        assert_eq!(Sample::from_bytes(&bytes[1..]), None);
        bytes[..8].copy_from_slice(&f64::NAN.to_le_bytes());
        assert_eq!(Sample::from_bytes(&bytes), None);
    }
}
