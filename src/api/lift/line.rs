//! Lines of a readout: a goal of a campaign, by one measure, in two groups.

use decisioning_core::measure::{
    alarm_bounds, plain_means, read_out, Arms, Bounded, Finding, Rate, Readout, Responders, FEWEST_RESPONDERS,
};

use super::answer::answer;
use super::question::{Cell, Known, Question, Subject};
use super::totals::Totals;
use crate::api::balance;
use crate::api::census::Census;
use crate::pg::error::Result;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    ConversionRate,
    EventsPerCustomer,
    ValuePerCustomer,
    ValuePerEvent,
}

impl Measure {
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::ConversionRate => "conversion rate",
            Measure::EventsPerCustomer => "events per customer",
            Measure::ValuePerCustomer => "value per customer",
            Measure::ValuePerEvent => "value per event",
        }
    }

    /// The measures of a kind of goal, the one that counts first.
    pub fn of(kind: &str) -> &'static [Measure] {
        use Measure::{ConversionRate, EventsPerCustomer, ValuePerCustomer, ValuePerEvent};
        match kind {
            "value" => &[ValuePerCustomer, ConversionRate, EventsPerCustomer, ValuePerEvent],
            "harm" => &[ConversionRate, EventsPerCustomer, ValuePerCustomer],
            _ => &[ConversionRate, EventsPerCustomer],
        }
    }

    fn arms(self, treated: &Cell, baseline: &Cell) -> Arms {
        let of = |cell: &Cell| match self {
            Measure::ConversionRate => cell.rate,
            Measure::EventsPerCustomer => cell.events,
            Measure::ValuePerCustomer => cell.value,
            Measure::ValuePerEvent => cell.value_per_event,
        };
        Arms { treated: of(treated), baseline: of(baseline) }
    }
}

/// Groups that are compared, the comparison that counts first.
pub const COMPARISONS: [(&str, &str); 4] =
    [("optimise", "holdout"), ("optimise", "control"), ("explore", "holdout"), ("optimise", "explore")];

/// One comparison.
pub struct Line {
    pub subject: Subject,
    pub kind: String,
    pub measure: Measure,
    pub treated_group: &'static str,
    pub baseline_group: &'static str,
    pub treated_customers: f64,
    pub baseline_customers: f64,
    /// Customers who responded.
    pub responders: [f64; 2],
    /// Of both groups; `None` if there is nobody.
    pub means: Option<[f64; 2]>,
    /// `None` if nothing varies, or there is nobody.
    pub readout: Option<Readout>,
    /// Bounds that hold at all looks, once enough have responded.
    pub bounds: Option<Bounded>,
    pub winsorised_at: Option<f64>,
    /// The one line of the goal that counts.
    pub headline: bool,
    pub finding: Finding,
}

/// All comparisons that can be made, and for every goal at least the one that counts. Runs as the owner.
pub fn lines(question: &Question) -> Result<Vec<Line>> {
    let census = question.census(None)?;
    lines_of(question, &census, &mut Totals::read(question, None, &census.periods)?)
}

/// The same of a census and totals that were taken. Runs as the owner.
pub fn lines_of(question: &Question, census: &Census, totals: &mut Totals) -> Result<Vec<Line>> {
    let invalid = balance::invalid(question.campaign.as_deref(), census)?;
    let known = answer(question, census, totals)?;
    Ok(known.iter().flat_map(|(subject, known)| of(question, subject, known, invalid.get(&subject.campaign))).collect())
}

/// `invalid` is why the groups cannot be compared, if they cannot.
fn of(question: &Question, subject: &Subject, known: &Known, invalid: Option<&Finding>) -> Vec<Line> {
    let is_there = |(treated, baseline): &&(&str, &str)| !known.comparable(treated, baseline).is_empty();
    let comparable: Vec<_> = COMPARISONS.iter().filter(is_there).collect();
    let shown = if comparable.is_empty() { vec![&COMPARISONS[0]] } else { comparable };
    let measures = Measure::of(&known.kind);
    let mut lines = Vec::new();
    for measure in measures {
        for (at, (treated, baseline)) in shown.iter().enumerate() {
            let mut line = compare(question, known, *measure, treated, baseline);
            line.subject = subject.clone();
            line.headline = at == 0 && *measure == measures[0];
            line.finding = invalid.copied().unwrap_or(line.finding);
            lines.push(line);
        }
    }
    lines
}

/// Bounds of the difference of two rates of a harm: where nobody is sent anything nobody unsubscribes, and there never will be enough who
/// did. `None` until enough have in one group.
pub fn bounds_of_harm(
    readout: Option<Readout>,
    [treated, baseline]: [f64; 2],
    responders: Responders,
    confidence: f64,
) -> Option<Bounded> {
    let readout = readout.filter(|_| responders.treated.max(responders.baseline) >= FEWEST_RESPONDERS)?;
    let treated = Rate { customers: treated, responders: responders.treated };
    let baseline = Rate { customers: baseline, responders: responders.baseline };
    Some(alarm_bounds(treated, baseline, readout.difference, readout.standard_error, confidence))
}

fn compare(
    question: &Question,
    known: &Known,
    measure: Measure,
    treated_group: &'static str,
    baseline_group: &'static str,
) -> Line {
    let cells = known.comparable(treated_group, baseline_group);
    let strata: Vec<Arms> = cells.iter().map(|[treated, baseline]| measure.arms(treated, baseline)).collect();
    let responders = known.responders(treated_group, baseline_group);
    let readout = read_out(&strata, responders, question.covariate.is_some(), question.confidence);
    let is_harm = known.kind == "harm";
    let customers = |group: usize| cells.iter().map(|cells| cells[group].customers).sum();
    let (treated_customers, baseline_customers): (f64, f64) = (customers(0), customers(1));
    let mut bounds = readout.and_then(|readout| readout.always_valid);
    if bounds.is_none() && is_harm && measure == Measure::ConversionRate {
        bounds = bounds_of_harm(readout, [treated_customers, baseline_customers], responders, question.confidence);
    }
    let finding = match (is_harm, measure) {
        // What a harm costs is less than nothing.
        (true, Measure::ValuePerCustomer) if known.valued => Finding::of_success(bounds),
        (true, Measure::ConversionRate) => Finding::of_harm(bounds, known.tolerated.unwrap_or(0.0)),
        (true, _) => Finding::of_harm(bounds, 0.0),
        (false, _) => Finding::of_success(bounds),
    };
    Line {
        subject: Subject { campaign: String::new(), goal: String::new() },
        kind: known.kind.clone(),
        measure,
        treated_group,
        baseline_group,
        treated_customers,
        baseline_customers,
        responders: [responders.treated, responders.baseline],
        means: readout.map(|readout| [readout.treated, readout.baseline]).or_else(|| plain_means(&strata)),
        readout,
        bounds,
        winsorised_at: known
            .winsorised_at
            .filter(|_| matches!(measure, Measure::ValuePerCustomer | Measure::ValuePerEvent)),
        headline: false,
        finding,
    }
}
