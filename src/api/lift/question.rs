//! What is asked of the log, and the samples it answers with.

use std::collections::BTreeMap;

use decisioning_core::measure::{Responders, Sample};
use pgrx::prelude::*;

use super::over_time::By;
use crate::api::census::Census;
use crate::pg::error::Result;

/// Which events of a customer count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// From exposure until the moment of the look.
    SinceExposure,
    /// For so many seconds from exposure, of customers for whom they are over.
    For(f64),
    /// For so many seconds before exposure, where groups must not differ.
    Before(f64),
}

/// What was known of a customer before exposure, to take noise away.
#[derive(Clone, Debug, PartialEq)]
pub enum Covariate {
    /// A feature, as logged with the first decision.
    Feature(String),
    /// The goal itself, in so many seconds before exposure.
    History(f64),
}

/// A question about lift.
#[derive(Clone, Debug)]
pub struct Question {
    pub campaign: Option<String>,
    pub goal: Option<String>,
    pub as_of: TimestampWithTimeZone,
    pub span: Span,
    /// Only customers who could have been sent something at exposure.
    pub treatable: bool,
    /// Also customers who turned out to be one with somebody of another group.
    pub mixed: bool,
    pub covariate: Option<Covariate>,
    /// Quantile, of the totals of customers who have one, beyond which they count as that.
    pub winsorise: f64,
    pub confidence: f64,
}

/// Totals beyond this quantile count as that, unless told otherwise.
pub const WINSORISE: f64 = 0.99;

/// Customers with a total below which quantiles say little, and totals count as they are.
pub const FEWEST_TOTALS: usize = 100;

impl Question {
    /// All of a campaign's goals, or all campaigns', since exposure.
    pub fn new(campaign: Option<&str>, as_of: TimestampWithTimeZone, confidence: f64) -> Self {
        Question {
            campaign: campaign.map(str::to_owned),
            goal: None,
            as_of,
            span: Span::SinceExposure,
            treatable: true,
            mixed: true,
            covariate: None,
            winsorise: WINSORISE,
            confidence,
        }
    }

    /// Everybody who was exposed, and of them those who count; with `by`, by when. Runs as the owner.
    pub fn census(&self, by: Option<By>) -> Result<Census> {
        Census::take(self.campaign.as_deref(), self.as_of, by.map(By::of_customer), &self.members())
    }

    /// Customers `s` who count.
    pub(super) fn members(&self) -> String {
        let exposed = match self.span {
            Span::For(seconds) => format!("s.exposed_at <= $2 - {seconds} * interval '1 second'"),
            Span::SinceExposure | Span::Before(_) => "s.exposed_at < $2".to_owned(),
        };
        let treatable = if self.treatable { " AND s.treatable" } else { "" };
        let mixed = if self.mixed { "" } else { " AND (s.mixed_at IS NULL OR s.mixed_at >= $2)" };
        // Who has moved from control to optimise is a comparison for neither; buckets of a hash moved, so the rest stay fair.
        format!("(s.ramped_at IS NULL OR s.ramped_at >= $2) AND NOT s.global_holdout AND {exposed}{treatable}{mixed}")
    }

    /// Events `o` of customers `u` that count.
    pub(super) fn during(&self) -> String {
        match self.span {
            Span::SinceExposure => "o.occurred_at >= u.exposed_at AND o.occurred_at < $2".to_owned(),
            Span::For(seconds) => {
                format!(
                    "o.occurred_at >= u.exposed_at AND o.occurred_at < u.exposed_at + {seconds} * interval '1 second'"
                )
            }
            Span::Before(seconds) => before(seconds),
        }
    }
}

/// A goal of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub campaign: String,
    pub goal: String,
}

/// A group in a stratum.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    pub customers: f64,
    pub responders: f64,
    /// Whether a customer responded, how often, for how much, and that per event.
    pub rate: Sample,
    pub events: Sample,
    pub value: Sample,
    pub value_per_event: Sample,
}

/// What is known of a goal of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub kind: String,
    /// By stratum (customers drawn under the same shares) and group.
    pub strata: BTreeMap<usize, BTreeMap<&'static str, Cell>>,
    /// Total at which totals are cut off, if they are.
    pub winsorised_at: Option<f64>,
    /// Whether the campaign says what an event is worth: for a harm less than nothing.
    pub valued: bool,
    /// Increase of a harm, or decrease of a success, that a stop rule tolerates.
    pub tolerated: Option<f64>,
}

impl Known {
    /// What there is of two groups in each stratum that has both: others have nobody to compare with.
    pub fn comparable(&self, treated: &str, baseline: &str) -> Vec<[&Cell; 2]> {
        let both =
            |cells: &'_ BTreeMap<&'static str, Cell>| cells.contains_key(treated) && cells.contains_key(baseline);
        self.strata.values().filter(|cells| both(cells)).map(|cells| [&cells[treated], &cells[baseline]]).collect()
    }

    pub fn responders(&self, treated: &str, baseline: &str) -> Responders {
        let strata = self.comparable(treated, baseline);
        let of = |group: usize| strata.iter().map(|cells| cells[group].responders).sum();
        Responders { treated: of(0), baseline: of(1) }
    }
}

/// Events `o` in so many seconds before `u` was treated as what he is. Who was drawn anew is from then on, and counts only from the end
/// of the wash-out.
pub(super) fn before(seconds: f64) -> String {
    format!("o.occurred_at < u.treated_at AND o.occurred_at >= u.treated_at - {seconds} * interval '1 second'")
}
