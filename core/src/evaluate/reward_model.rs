//! The reward model behind the direct and the doubly robust estimator.

use crate::learn::{fit, Arm, FitError, Layout, Link, Prior, Rows, Scales, Statistics};

/// Most steps of the prior scales towards their fixed point.
const SCALE_STEPS: usize = 20;

/// E[reward | context, action] by the learner's regression, fitted to rows that it must not be asked about.
#[derive(Debug)]
pub struct RewardModel<'a> {
    layout: &'a Layout,
    arms: &'a [Arm],
    mode: Vec<f64>,
}

impl<'a> RewardModel<'a> {
    /// Fits the mode to `rows` alone, under prior scales from the same rows. `tick` runs before each pass over a batch.
    ///
    /// # Errors
    /// [`FitError`].
    pub fn fit(
        layout: &'a Layout,
        arms: &'a [Arm],
        rows: &[&Rows],
        tick: impl Fn(),
    ) -> Result<Self, FitError<std::convert::Infallible>> {
        let nothing = Statistics::new(layout.len());
        let fit = |scales: &Scales, start: &[f64]| {
            fit(layout, &Prior::new(Link::Logistic, layout, scales), arms, &nothing, start, |visit| {
                rows.iter().for_each(|rows| {
                    tick();
                    visit(rows);
                });
                Ok(())
            })
        };
        let scales = Scales::default();
        let first = fit(&scales, &Prior::new(Link::Logistic, layout, &scales).mean)?;
        let scales = scales.estimate(Link::Logistic, layout, &[&first.sums], SCALE_STEPS, &tick);
        let scales = scales.ok_or(FitError::Singular)?;
        Ok(RewardModel { layout, arms, mode: fit(&scales, &first.mode)?.mode })
    }

    /// Expected reward of an arm (`None` is no-send) in an encoded context.
    pub fn predict(&self, encoded: &[f32], arm: Option<usize>) -> f64 {
        let eta = self.layout.predictor(Link::Logistic, &self.mode, encoded, arm.map(|arm| &self.arms[arm]));
        1.0 / (1.0 + (-eta).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::{Dimensions, Observed};

    #[test]
    fn finds_the_rate_of_every_arm() {
        let action: Dimensions = [("message".to_owned(), "m".to_owned())].into();
        let layout = Layout::new(vec!["intercept".to_owned()], &[1.0], [&action], 16).unwrap();
        let arms = [layout.arm(&action)];
        let observed = |n: u32| {
            let arm = n.is_multiple_of(2).then_some(0);
            let reward = f64::from(u8::from(if arm.is_some() { n.is_multiple_of(5) } else { n % 20 == 1 }));
            Observed { encoded: vec![1.0], arm, weight: 1.0, reward, reported: 1.0 }
        };
        let rows = Rows::collect(Link::Logistic, 1, &(0..4000).map(observed).collect::<Vec<_>>()).unwrap();
        let model = RewardModel::fit(&layout, &arms, &[&rows], || ()).unwrap();
        assert!((model.predict(&[1.0], Some(0)) - 0.2).abs() < 0.01);
        assert!((model.predict(&[1.0], None) - 0.1).abs() < 0.01);
    }
}
