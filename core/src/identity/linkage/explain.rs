//! Why two records are, or are not, one person: a waterfall of weights.

use std::sync::Arc;

use super::super::records::Records;
use super::super::{Country, Fields, IdentityError, Matching, Rules};
use super::comparison::{Comparer, Comparison};
use super::dates::Birth;
use super::frequency::TermFrequencies;
use super::nicknames::Nicknames;
use super::parameters::Parameters;
use super::profile::{Attribute, MISSING};
use super::score::{Evidence, Scorer};
use super::train::attributes_of;

/// A step from the prior to the match weight. All weights are in bits (log₂).
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// `prior`, the name of a comparison, or `relatives`.
    pub comparison: &'static str,
    /// Level reached; `missing` where a value is missing.
    pub level: &'static str,
    /// Normalised values of either record.
    pub left: Option<String>,
    pub right: Option<String>,
    pub m: Option<f64>,
    pub u: Option<f64>,
    /// What the rareness of the common value adds.
    pub tf_adjustment: f64,
    /// log₂ m/u and the adjustment.
    pub weight: f64,
    /// Match weight so far.
    pub cumulative: f64,
}

/// A record to be explained.
#[derive(Clone, Copy)]
pub struct Explained<'a> {
    pub fields: &'a Fields,
    /// Where phone numbers and dates without a country belong.
    pub country: Option<Country>,
    /// Name of the source that it is of, if any.
    pub source: &'a str,
}

/// Explains a pair. The first step is the prior; the last one is what being relatives would explain just as well.
///
/// # Errors
/// Parameters that make no sense.
pub fn explain(
    left: Explained<'_>,
    right: Explained<'_>,
    rules: &Rules,
    nicknames: &Arc<Nicknames>,
    parameters: &Parameters,
    frequencies: &TermFrequencies,
) -> Result<Vec<Step>, IdentityError> {
    let mut records = Records::with(rules.clone(), &["left", "right"], nicknames.clone())?;
    for (source, explained) in [left, right].into_iter().enumerate() {
        let record = records.add(source as u16, "")?;
        records.describe(record, explained.fields, explained.country)?;
    }
    Matching::new(records)?.explain_first_two(parameters, frequencies, [left.source, right.source])
}

/// Steps between records 0 and 1.
pub fn steps(comparer: &Comparer<'_>, scorer: &Scorer, parameters: &Parameters) -> Vec<Step> {
    let mut cumulative = f64::from(scorer.prior());
    let mut steps = vec![Step {
        comparison: "prior",
        level: "",
        left: None,
        right: None,
        m: None,
        u: None,
        tf_adjustment: 0.0,
        weight: cumulative,
        cumulative,
    }];
    let mut sum = Evidence::default();
    for comparison in Comparison::ALL {
        let [left, right] = [0, 1].map(|record| values(comparer, comparison, record));
        if left.is_none() && right.is_none() {
            continue;
        }
        let (level, value) = comparer.outcome(comparison, 0, 1);
        let trust = scorer.trust(comparison, comparer, 0, 1);
        let evidence = if level == 0 { Evidence::default() } else { scorer.evidence(comparison, level, value, trust) };
        sum.own += evidence.own;
        sum.related += evidence.related;
        cumulative += f64::from(evidence.own);
        let name = if level == 0 { "missing" } else { comparison.levels()[usize::from(level) - 1].name };
        let of_level = parameters
            .comparison(comparison)
            .and_then(|comparison| comparison.levels.iter().find(|parameters| parameters.level == name));
        steps.push(Step {
            comparison: comparison.name(),
            level: name,
            left,
            right,
            m: of_level.map(|level| level.m),
            u: of_level.map(|level| level.u),
            tf_adjustment: f64::from(scorer.adjustment(comparison, level, value) * trust),
            weight: f64::from(evidence.own),
            cumulative,
        });
    }
    let relief = f64::from(scorer.relief(sum));
    steps.push(Step {
        comparison: "relatives",
        level: "",
        left: None,
        right: None,
        m: None,
        u: None,
        tf_adjustment: 0.0,
        weight: relief,
        cumulative: cumulative + relief,
    });
    steps
}

/// What a record has for a comparison, normalised.
fn values(comparer: &Comparer<'_>, comparison: Comparison, record: u32) -> Option<String> {
    let texts: Vec<String> = attributes_of(comparison)
        .iter()
        .flat_map(|&attribute| {
            comparer.profiles.values(record, attribute).filter(|value| *value != MISSING).map(move |value| {
                match attribute {
                    Attribute::DateOfBirth => Birth::of_number(value).to_string(),
                    attribute => comparer.text(attribute, value).to_owned(),
                }
            })
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}
