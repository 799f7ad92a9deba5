//! Where decisions are linearised, as bytes: all that sums over them need to be taken wherever the decisions are.

use std::collections::BTreeMap;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use super::layout::{Arm, Dimensions, Layout};
use super::posterior::{linearise, Local, Posterior};
use super::prior::{Prior, Scales};
use super::rows::{Link, Misfit, Observed, Rows};
use super::statistics::Statistics;

/// Start of the serialised form; the last byte is its version.
const MAGIC: &[u8; 8] = b"dpoint\0\x01";

/// Coefficients at most. Sums take memory by their square, and bytes may come from anywhere.
const MOST_COEFFICIENTS: usize = 4096;

/// A model to linearise at.
#[derive(Clone, Debug)]
pub struct Point {
    definition: Definition,
    arms: Vec<Arm>,
    /// Index of the arm of each action.
    by_action: BTreeMap<i32, u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Definition {
    link: Link,
    layout: Layout,
    scales: Scales,
    coefficients: Vec<f64>,
    /// By id; 0 is no-send and not among them.
    actions: BTreeMap<i32, Dimensions>,
}

/// Where a Newton step leads.
#[derive(Debug)]
pub struct Step {
    /// The point at the posterior's mean.
    pub next: Point,
    pub posterior: Posterior,
    /// The longest way that a coefficient went, in posterior standard deviations.
    pub moved: f64,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PointError {
    /// The bytes are not a point, are damaged, or their parts do not fit each other.
    #[error("not a point of linearisation")]
    Damaged,
    /// A decision chose an action that the point does not have.
    #[error("action {0} is unknown")]
    UnknownAction(i32),
    /// [`Misfit`].
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Sums have another number of coefficients.
    #[error("the sums have {found} coefficients, not {wanted}")]
    OtherLength { found: usize, wanted: usize },
    /// The precision matrix is not positive definite even with jitter, or a number is not finite.
    #[error("the normal equations cannot be solved")]
    Singular,
}

impl Point {
    /// # Errors
    /// [`PointError::Damaged`] if `coefficients` are not those of `layout`, or not finite.
    pub fn new(
        link: Link,
        layout: Layout,
        scales: Scales,
        coefficients: Vec<f64>,
        actions: BTreeMap<i32, Dimensions>,
    ) -> Result<Self, PointError> {
        Definition { link, layout, scales, coefficients, actions }.compile()
    }

    /// Magic, checksum and a document.
    ///
    /// # Errors
    /// [`PointError::Damaged`]; it cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PointError> {
        let document = serde_json::to_vec(&self.definition).map_err(|_| PointError::Damaged)?;
        Ok([MAGIC.as_slice(), &checksum(&document).to_le_bytes(), &document].concat())
    }

    /// # Errors
    /// [`PointError::Damaged`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PointError> {
        let (key, document) = split(bytes)?;
        if key != checksum(document) {
            return Err(PointError::Damaged);
        }
        let definition: Definition = serde_json::from_slice(document).map_err(|_| PointError::Damaged)?;
        definition.compile()
    }

    /// What tells a point from others without reading it: its checksum.
    ///
    /// # Errors
    /// [`PointError::Damaged`].
    pub fn key(bytes: &[u8]) -> Result<u64, PointError> {
        split(bytes).map(|(key, _)| key)
    }

    /// Number of coefficients.
    pub fn len(&self) -> usize {
        self.definition.layout.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn layout(&self) -> &Layout {
        &self.definition.layout
    }

    /// A closed decision that chose `action` (0 is no-send).
    ///
    /// # Errors
    /// [`PointError::UnknownAction`].
    pub fn observed(&self, action: i32, encoded: Vec<f32>, weight: f64, reward: f64) -> Result<Observed, PointError> {
        let arm = match action {
            0 => None,
            id => Some(*self.by_action.get(&id).ok_or(PointError::UnknownAction(id))?),
        };
        Ok(Observed { encoded, arm, weight, reward, reported: 1.0 })
    }

    /// An empty batch for this point.
    pub fn rows(&self) -> Rows {
        Rows::new(self.definition.link, self.layout().columns.len())
    }

    /// Sums of `rows`, linearised here.
    ///
    /// # Errors
    /// [`PointError::Misfit`].
    pub fn linearise(&self, rows: &Rows) -> Result<Statistics, PointError> {
        linearise::<Misfit>(self.layout(), &self.arms, &self.definition.coefficients, |add| {
            add(rows);
            Ok(())
        })
        .map_err(|_| Misfit.into())
    }

    /// Non-zero entries of the design row of a decision, its curvature ω w and its score ω ((y − p) + w η).
    pub(super) fn row(&self, observed: &Observed, row: &mut Vec<(u32, f64)>) -> (f64, f64) {
        let arm = observed.arm.and_then(|arm| self.arms.get(arm as usize));
        self.layout().design(&observed.encoded, arm, row);
        let eta: f64 = row.iter().map(|(at, x)| self.definition.coefficients[*at as usize] * x).sum();
        let offset = f64::from(self.layout().offset_of(self.definition.link, &observed.encoded));
        let local = Local::of(self.definition.link, eta + offset, observed.reward, observed.reported);
        (observed.weight * local.curvature, observed.weight * (local.score + local.curvature * eta))
    }

    /// One full Newton step from here, given `sums` taken here.
    ///
    /// # Errors
    /// [`PointError::OtherLength`], [`PointError::Singular`].
    pub fn step(&self, sums: &Statistics) -> Result<Step, PointError> {
        if sums.len() != self.len() {
            return Err(PointError::OtherLength { found: sums.len(), wanted: self.len() });
        }
        let prior = Prior::new(self.definition.link, self.layout(), &self.definition.scales);
        let posterior = Posterior::of(&prior, sums).ok_or(PointError::Singular)?;
        let steps = posterior.mean.iter().zip(&self.definition.coefficients).zip(posterior.standard_errors());
        let moved = steps.map(|((to, from), error)| (to - from).abs() / error).fold(0.0, f64::max);
        let mut next = self.clone();
        next.definition.coefficients = posterior.mean.clone();
        Ok(Step { next, posterior, moved })
    }
}

impl Definition {
    fn compile(self) -> Result<Point, PointError> {
        let fits = self.layout.is_consistent()
            && self.layout.len() <= MOST_COEFFICIENTS
            && self.coefficients.len() == self.layout.len()
            && self.coefficients.iter().all(|x| x.is_finite());
        if !fits {
            return Err(PointError::Damaged);
        }
        let arms = self.actions.values().map(|dimensions| self.layout.arm(dimensions)).collect();
        let by_action = self.actions.keys().copied().zip(0..).collect();
        Ok(Point { definition: self, arms, by_action })
    }
}

fn split(bytes: &[u8]) -> Result<(u64, &[u8]), PointError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(PointError::Damaged)?;
    let (key, document) = rest.split_first_chunk::<8>().ok_or(PointError::Damaged)?;
    Ok((u64::from_le_bytes(*key), document))
}

fn checksum(document: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(document);
    hasher.finish()
}
