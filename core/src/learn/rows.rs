//! Observed decisions, laid out for sums over them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a model predicts of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Whether something happens: log-odds, on top of the layout's offset if it has one.
    Logistic,
    /// The same without the offset, which is about something else.
    LogisticAlone,
    /// How large something is, with residuals of variance 1.
    Gaussian,
}

impl Link {
    /// Whether rewards are 0 or 1.
    pub fn is_logistic(self) -> bool {
        self != Link::Gaussian
    }
}

/// A decision and what is known of its reward.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Encoded context.
    pub encoded: Vec<f32>,
    /// Index of the arm; `None` is no-send.
    pub arm: Option<u32>,
    /// 1 / overlap, discounted by age; not negative.
    pub weight: f64,
    /// Under the logistic link 1 if a counting event was seen in the window, else 0.
    pub reward: f64,
    /// F, the probability that an event of the window would have been seen by now: 1 once the window has closed, and
    /// under the Gaussian link.
    pub reported: f64,
}

/// A batch of decisions, those of one arm together: they share their coefficients, so that sums over them need no more
/// than one small dense block per arm.
#[derive(Clone, Debug)]
pub struct Rows {
    pub(super) link: Link,
    width: usize,
    len: usize,
    pub(super) threads: usize,
    pub(super) groups: BTreeMap<Option<u32>, Group>,
}

/// Decisions of one arm; `encoded` holds one row of the batch's width after another.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub encoded: Vec<f32>,
    pub responses: Vec<Response>,
}

/// What is known of the reward of a decision, and what it counts: as in [`Observed`].
#[derive(Clone, Copy, Debug)]
pub struct Response {
    pub weight: f64,
    pub reward: f64,
    pub reported: f64,
}

/// A decision has another number of columns than the batch, a number that is not finite, a negative weight, or a reward
/// or reported share that its link does not allow.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a decision does not fit the model")]
pub struct Misfit;

impl Rows {
    /// An empty batch of contexts with `width` columns.
    pub fn new(link: Link, width: usize) -> Self {
        Rows { link, width, len: 0, threads: 1, groups: BTreeMap::new() }
    }

    /// Lets sums over the batch be taken by so many threads; they are the same for any number.
    pub fn with_threads(self, threads: usize) -> Self {
        Rows { threads, ..self }
    }

    /// A batch of all of `observed`.
    ///
    /// # Errors
    /// [`Misfit`].
    pub fn collect<'a>(
        link: Link,
        width: usize,
        observed: impl IntoIterator<Item = &'a Observed>,
    ) -> Result<Self, Misfit> {
        let mut rows = Rows::new(link, width);
        observed.into_iter().try_for_each(|observed| rows.push(observed))?;
        Ok(rows)
    }

    /// Adds a decision.
    ///
    /// # Errors
    /// [`Misfit`]; the batch stays as it was.
    pub fn push(&mut self, observed: &Observed) -> Result<(), Misfit> {
        let Observed { ref encoded, arm, weight, reward, reported } = *observed;
        self.add(encoded, arm, Response { weight, reward, reported })
    }

    /// Adds a decision by its context and arm.
    ///
    /// # Errors
    /// [`Misfit`]; the batch stays as it was.
    pub fn add(&mut self, encoded: &[f32], arm: Option<u32>, response: Response) -> Result<(), Misfit> {
        let Response { weight, reward, reported } = response;
        let fits = encoded.len() == self.width
            && encoded.iter().all(|x| x.is_finite())
            && (0.0..=f64::MAX).contains(&weight)
            && match self.link {
                Link::Logistic | Link::LogisticAlone => {
                    (0.0..=1.0).contains(&reward) && (0.0..=1.0).contains(&reported)
                }
                Link::Gaussian => reward.is_finite() && reported == 1.0,
            };
        if !fits {
            return Err(Misfit);
        }
        let group = self.groups.entry(arm).or_default();
        group.encoded.extend_from_slice(encoded);
        group.responses.push(response);
        self.len += 1;
        Ok(())
    }

    /// Moves the decisions of another batch of the same link and width to the end of this one.
    ///
    /// # Errors
    /// [`Misfit`] if it has another; both stay as they were.
    pub fn append(&mut self, other: &mut Rows) -> Result<(), Misfit> {
        if (other.link, other.width) != (self.link, self.width) {
            return Err(Misfit);
        }
        for (arm, mut group) in std::mem::take(&mut other.groups) {
            let all = self.groups.entry(arm).or_default();
            all.encoded.append(&mut group.encoded);
            all.responses.append(&mut group.responses);
        }
        self.len += std::mem::take(&mut other.len);
        Ok(())
    }

    /// Lets every decision count `factor` times as much.
    pub fn scale(&mut self, factor: f64) {
        self.groups.values_mut().flat_map(|group| &mut group.responses).for_each(|row| row.weight *= factor);
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of columns of a context.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Σ weight · reward.
    pub fn rewarded(&self) -> f64 {
        self.groups.values().flat_map(|group| &group.responses).map(|row| row.weight * row.reward).sum()
    }
}
