//! What two policies differ by on logged decisions: doubly robust, decision by decision.

use crate::measure::Moments;

/// One candidate of a decision.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Probability under the one policy.
    pub with: f64,
    /// Under the other.
    pub without: f64,
    /// E[reward | context, candidate] by a reward model that has not seen the decision.
    pub predicted: f64,
}

/// Sum over decisions of value under `with` less value under `without`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contrast(Moments);

/// An estimate of a sum over decisions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Total {
    pub decisions: f64,
    pub value: f64,
    pub standard_error: f64,
}

impl Contrast {
    /// Adds a decision: its candidates under both policies, the position of the one that was taken, the propensity it was taken with,
    /// and its reward. Σ (π − π₀) q + (π − π₀)(a) / p · (r − q(a)), the difference of two doubly robust values (Dudík, Langford and
    /// Li, 2011). A candidate that could not have been taken rests on the reward model alone.
    pub fn add(&mut self, choices: &[Choice], taken: Option<usize>, propensity: f64, reward: f64) {
        let modelled: f64 = choices.iter().map(|choice| (choice.with - choice.without) * choice.predicted).sum();
        let corrected = taken.map_or(0.0, |taken| {
            let Choice { with, without, predicted } = choices[taken];
            (with - without) / propensity * (reward - predicted)
        });
        self.0.add(1.0, modelled + corrected);
    }

    /// Decisions are taken as independent. `None` without any.
    pub fn total(&self) -> Option<Total> {
        let Moments { count, mean, .. } = self.0;
        let standard_error = count * self.0.standard_error();
        (count > 0.0).then_some(Total { decisions: count, value: count * mean, standard_error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    /// However wrong the reward model is, the sum is right where the log could have taken everything, and its error is honest.
    #[test]
    fn is_right_whatever_the_model_believes() {
        let (rates, logged, with, without) = ([0.1, 0.3, 0.5], [0.2, 0.3, 0.5], [0.0, 0.1, 0.9], [0.7, 0.3, 0.0]);
        let gain: f64 = (0..3).map(|a| (with[a] - without[a]) * rates[a]).sum();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut covered = 0;
        for _ in 0..400 {
            let mut contrast = Contrast::default();
            for _ in 0..300 {
                let die: f64 = random.random();
                let taken = if die < logged[0] { 0 } else { 1 + usize::from(die >= logged[0] + logged[1]) };
                let reward = f64::from(u8::from(random.random::<f64>() < rates[taken]));
                let choices: Vec<Choice> = (0..3)
                    .map(|a| Choice { with: with[a], without: without[a], predicted: [0.6, 0.2, 0.1][a] })
                    .collect();
                contrast.add(&choices, Some(taken), logged[taken], reward);
            }
            let total = contrast.total().unwrap();
            covered += u32::from((total.value - 300.0 * gain).abs() < 1.645 * total.standard_error);
        }
        assert!((340..=380).contains(&covered), "{covered} of 400 intervals at 90 % hold the truth");
    }

    #[test]
    fn what_could_not_be_taken_is_modelled() {
        let mut contrast = Contrast::default();
        let choice = |with, without, predicted| Choice { with, without, predicted };
        for reward in [0.0, 0.0, 1.0, 0.0] {
            contrast.add(&[choice(0.0, 1.0, 0.25), choice(1.0, 0.0, 0.75)], Some(0), 1.0, reward);
        }
        let total = contrast.total().unwrap();
        assert!((total.value - 4.0 * 0.5).abs() < 1e-12 && total.decisions == 4.0);
        assert_eq!(Contrast::default().total(), None);
    }
}
