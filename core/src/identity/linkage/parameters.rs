//! What was learned about the comparisons, and what the user set instead.

use serde::{Deserialize, Serialize};

use super::super::IdentityError;
use super::comparison::{Comparison, COMPARISONS};

/// Levels of a comparison at most, the missing one included.
pub const LEVELS: usize = 16;

/// Everything that turns a pattern into a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Probability that two random records are one person.
    pub prior: f64,
    /// Probability that two random records are two persons of one household.
    pub prior_related: f64,
    /// Match weight (log₂ odds) from which on two records are taken for one person.
    pub threshold: f64,
    /// Match weight from which on a pair that is not linked is worth a look.
    pub review_threshold: f64,
    pub comparisons: Vec<ComparisonParameters>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonParameters {
    pub comparison: String,
    /// What its weights are multiplied with; 1 unless the user says otherwise.
    pub factor: f64,
    /// What they are multiplied with as well where a record of a source is compared, by name of the source; of two records,
    /// the smaller factor counts.
    pub by_source: Vec<(String, f64)>,
    pub levels: Vec<LevelParameters>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelParameters {
    pub level: String,
    /// Probability of the level if both records are one person's and have the values.
    pub m: f64,
    /// Probability of the level if they are two strangers'.
    pub u: f64,
    /// Probability of the level if they are two persons' of one household.
    pub related: f64,
    /// Whether training saw the level among matches; if not, `m` is a cautious guess.
    pub m_observed: bool,
    /// Whether training saw the level among strangers; if not, `u` is an upper bound.
    pub u_observed: bool,
    /// Expected number of matching pairs with this level among the pairs that were trained on.
    pub matches: f64,
}

/// Default threshold: a match is as likely as not.
pub const THRESHOLD: f64 = 0.0;

/// Default review threshold: one in a hundred.
pub const REVIEW_THRESHOLD: f64 = -6.6;

impl Parameters {
    pub fn comparison(&self, comparison: Comparison) -> Option<&ComparisonParameters> {
        self.comparisons.iter().find(|parameters| parameters.comparison == comparison.name())
    }

    /// Levels whose probabilities are guesses: comparison, level, and which of `m` and `u`.
    pub fn unobserved(&self) -> impl Iterator<Item = (&str, &str, &'static str)> {
        self.comparisons.iter().flat_map(|comparison| {
            comparison.levels.iter().flat_map(move |level| {
                let guesses = [("m", level.m_observed), ("u", level.u_observed)];
                guesses
                    .into_iter()
                    .filter(|guess| !guess.1)
                    .map(move |guess| (comparison.comparison.as_str(), level.level.as_str(), guess.0))
            })
        })
    }

    /// These parameters with what the user set instead.
    ///
    /// # Errors
    /// A comparison or level that does not exist, a value out of its range.
    pub fn with(&self, overrides: &Overrides) -> Result<Self, IdentityError> {
        let fixed = overrides.fixed()?;
        let mut parameters = self.clone();
        parameters.prior = overrides.prior.unwrap_or(parameters.prior);
        parameters.threshold = overrides.threshold.unwrap_or(parameters.threshold);
        parameters.review_threshold = overrides.review_threshold.unwrap_or(parameters.review_threshold);
        for of_comparison in &mut parameters.comparisons {
            let comparison = find_comparison(&of_comparison.comparison)?;
            of_comparison.factor = overrides.factor(comparison)?;
            of_comparison.by_source = overrides.factors_by_source(comparison)?;
            for level in &mut of_comparison.levels {
                let (m, u) = fixed[comparison as usize][find_level(comparison, &level.level)? + 1];
                level.m = m.unwrap_or(level.m);
                level.u = u.unwrap_or(level.u);
            }
        }
        parameters.check()?;
        Ok(parameters)
    }

    /// # Errors
    /// A comparison or level that does not exist, a probability out of its range.
    pub fn check(&self) -> Result<(), IdentityError> {
        let is_probability = |p: f64| p > 0.0 && p < 1.0;
        if !is_probability(self.prior) || !(0.0..1.0).contains(&self.prior_related) {
            return Err(IdentityError::ParameterOutOfRange { name: "prior", range: "between 0 and 1" });
        }
        if !self.threshold.is_finite() || !self.review_threshold.is_finite() {
            return Err(IdentityError::ParameterOutOfRange { name: "threshold", range: "a finite number" });
        }
        for comparison in &self.comparisons {
            let known = find_comparison(&comparison.comparison)?;
            for level in &comparison.levels {
                find_level(known, &level.level)?;
                if ![level.m, level.u, level.related].into_iter().all(|p| p > 0.0 && p <= 1.0) {
                    return Err(IdentityError::ParameterOutOfRange {
                        name: "the probability of a level",
                        range: "above 0 and at most 1",
                    });
                }
            }
        }
        Ok(())
    }
}

pub fn find_comparison(name: &str) -> Result<Comparison, IdentityError> {
    Comparison::ALL
        .into_iter()
        .find(|comparison| comparison.name() == name)
        .ok_or_else(|| IdentityError::UnknownName { what: "comparison", given: name.to_owned() })
}

pub fn find_level(comparison: Comparison, name: &str) -> Result<usize, IdentityError> {
    comparison
        .levels()
        .iter()
        .position(|level| level.name == name)
        .ok_or_else(|| IdentityError::UnknownName { what: "level", given: format!("{}.{name}", comparison.name()) })
}

/// What the user sets, instead of what training finds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    pub prior: Option<f64>,
    pub threshold: Option<f64>,
    pub review_threshold: Option<f64>,
    pub levels: Vec<LevelOverride>,
    /// Comparisons that count for nothing.
    pub disabled: Vec<String>,
    /// Factors by which a comparison's weights are multiplied.
    pub factors: Vec<(String, f64)>,
    /// The same for records of one source: comparison, source, factor.
    pub source_factors: Vec<(String, String, f64)>,
}

/// Probabilities of one level that are held fixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelOverride {
    pub comparison: String,
    pub level: String,
    pub m: Option<f64>,
    pub u: Option<f64>,
}

/// m and u that are held fixed, by comparison and level.
pub(super) type Fixed = [[(Option<f64>, Option<f64>); LEVELS]; COMPARISONS];

impl Overrides {
    /// # Errors
    /// A comparison or level that does not exist, a value out of its range.
    pub fn check(&self) -> Result<(), IdentityError> {
        self.fixed()?;
        Comparison::ALL.into_iter().try_for_each(|comparison| {
            self.factors_by_source(comparison)?;
            self.factor(comparison).map(drop)
        })
    }

    /// Fixed probabilities by comparison and level.
    ///
    /// # Errors
    /// A comparison or level that does not exist, a value out of its range.
    pub(super) fn fixed(&self) -> Result<Fixed, IdentityError> {
        let mut fixed = [[(None, None); LEVELS]; COMPARISONS];
        for level in &self.levels {
            let comparison = find_comparison(&level.comparison)?;
            let place = find_level(comparison, &level.level)?;
            for p in [level.m, level.u].into_iter().flatten() {
                if !(p > 0.0 && p <= 1.0) {
                    return Err(IdentityError::ParameterOutOfRange {
                        name: "the probability of a level",
                        range: "above 0 and at most 1",
                    });
                }
            }
            fixed[comparison as usize][place + 1] = (level.m, level.u);
        }
        if self.prior.is_some_and(|prior| !(prior > 0.0 && prior < 1.0)) {
            return Err(IdentityError::ParameterOutOfRange { name: "prior", range: "between 0 and 1" });
        }
        Ok(fixed)
    }

    /// What a comparison's weights are multiplied with.
    ///
    /// # Errors
    /// A comparison that does not exist, a factor that is negative or not finite.
    pub(super) fn factor(&self, comparison: Comparison) -> Result<f64, IdentityError> {
        for name in self.disabled.iter().chain(self.factors.iter().map(|factor| &factor.0)) {
            find_comparison(name)?;
        }
        if self.disabled.iter().any(|name| name == comparison.name()) {
            return Ok(0.0);
        }
        let factor = self.factors.iter().find(|factor| factor.0 == comparison.name()).map_or(1.0, |factor| factor.1);
        check_factor(factor)?;
        Ok(factor)
    }

    /// What a comparison's weights are multiplied with for records of some sources, in order of their names.
    ///
    /// # Errors
    /// As [`factor`](Self::factor).
    fn factors_by_source(&self, comparison: Comparison) -> Result<Vec<(String, f64)>, IdentityError> {
        let mut factors = Vec::new();
        for (name, source, factor) in &self.source_factors {
            check_factor(*factor)?;
            if find_comparison(name)? == comparison {
                factors.push((source.clone(), *factor));
            }
        }
        factors.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(factors)
    }
}

fn check_factor(factor: f64) -> Result<(), IdentityError> {
    match (0.0..=100.0).contains(&factor) {
        true => Ok(()),
        false => Err(IdentityError::ParameterOutOfRange { name: "the factor of a comparison", range: "from 0 to 100" }),
    }
}
