//! What it is all about: the lift of each goal.

use maud::{html, Markup};

use super::format::{count, optional, relative, Unit};
use super::page::{table, Figure};
use super::palette::Colour;
use super::plot::Result;
use super::rows::{rows, Row};
use super::scale::Axis;

/// The lift of a goal: what the treated group did more than the baseline.
#[derive(Clone, Debug, Default)]
pub struct Lift {
    pub goal: String,
    /// conversion, value, harm.
    pub kind: String,
    pub measure: String,
    pub treated_group: String,
    pub baseline_group: String,
    pub treated_customers: i64,
    pub baseline_customers: i64,
    pub treated_mean: Option<f64>,
    pub baseline_mean: Option<f64>,
    pub absolute_lift: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub relative_lift: Option<f64>,
    pub verdict: String,
}

/// What a lift says, with a sign that does not need colours.
pub struct Verdict {
    pub sign: &'static str,
    pub short: &'static str,
    pub sentence: &'static str,
    pub colour: Colour,
}

/// What the mean of a measure counts.
pub fn unit(measure: &str, currency: Option<&str>) -> Unit {
    if measure.contains("rate") {
        Unit::Share
    } else {
        Unit::Amount(currency.map(str::to_owned))
    }
}

impl Lift {
    pub fn verdict(&self) -> Verdict {
        let verdict = |sign, short, sentence, colour| Verdict { sign, short, sentence, colour };
        let harm = self.kind == "harm";
        match self.verdict.as_str() {
            "collecting" => verdict(
                "◌",
                "Still collecting",
                "Too few customers have responded to say anything, and an interval would pretend more than is known.",
                Colour::Muted,
            ),
            "invalid: sample ratio" => verdict(
                "✕",
                "Not valid",
                "The groups do not have the sizes they should have, so that they cannot be compared. Find out why first: see the balance of groups.",
                Colour::Bad,
            ),
            "invalid: features" => verdict(
                "✕",
                "Not valid",
                "The groups were not alike before the campaign began, so that they cannot be compared. Find out why first: see the balance of features.",
                Colour::Bad,
            ),
            "tolerated" => verdict(
                "◆",
                "Within what is tolerated",
                "If there is more of this harm than without the campaign, it is no more than was declared tolerable.",
                Colour::Good,
            ),
            "negative" if harm => verdict(
                "▲",
                "Does harm",
                "There is more of this harm than without the campaign, and more than is tolerated, beyond chance.",
                Colour::Bad,
            ),
            "positive" if harm => verdict(
                "▼",
                "Less harm",
                "There is less of this harm than without the campaign, beyond chance.",
                Colour::Good,
            ),
            "positive" => verdict(
                "▲",
                "It works",
                "The campaign causes more of this than would have happened without it. The whole interval lies above zero.",
                Colour::Good,
            ),
            "negative" => verdict(
                "▼",
                "It hurts",
                "The campaign causes less of this than would have happened without it. The whole interval lies below zero.",
                Colour::Bad,
            ),
            _ if harm => verdict(
                "≈",
                "No verdict yet",
                "It may be chance, and it may be more than is tolerated. More customers or more time will narrow the interval.",
                Colour::Muted,
            ),
            _ => verdict(
                "≈",
                "No verdict yet",
                "The interval holds zero: what was seen may be chance. More customers or more time will narrow it.",
                Colour::Muted,
            ),
        }
    }
}

/// A card for each goal.
pub fn headline(lifts: &[Lift], currency: Option<&str>) -> Result<Markup> {
    let cards = (0..).zip(lifts).map(|(at, lift)| card(at, lift, currency)).collect::<Result<Vec<_>>>()?;
    Ok(html! { div.grid { @for card in cards { (card) } } })
}

fn card(at: usize, lift: &Lift, currency: Option<&str>) -> Result<Markup> {
    let unit = unit(&lift.measure, currency);
    let verdict = lift.verdict();
    let differences = unit.of_differences();
    let difference = |value: f64| differences.signed(value);
    let bounds = differences.signed_range(lift.lower, lift.upper);
    let of_baseline = lift.relative_lift.filter(|value| value.is_finite());
    let figure = match (lift.absolute_lift, lift.lower, lift.upper) {
        (Some(lift_by), Some(lower), Some(upper)) => {
            let row = Row {
                name: "95 % interval, valid at any time".to_owned(),
                estimate: Some((lift_by, lower, upper)),
                colour: Some(verdict.colour),
                ..Row::default()
            };
            let x = Axis::around([lower, upper], &[0.0], 4, &differences);
            let cells = |group: &str, customers, mean| {
                vec![group.to_owned(), count(customers), optional(mean, |mean| unit.value(mean))]
            };
            Some(Figure {
                id: format!("headline-{at}"),
                title: format!(
                    "{}{}: {} against {}",
                    lift.measure,
                    if unit == Unit::Share { ", in percentage points" } else { "" },
                    lift.treated_group,
                    lift.baseline_group
                ),
                description: format!("Lift {}, interval {bounds}. {}", difference(lift_by), verdict.sentence),
                drawing: rows(&[row], x, Some(0.0))?,
                note: html! {},
                table: table(
                    "Groups that are compared",
                    &[("group", false), ("customers", true), ("mean", true)],
                    &[
                        cells(&lift.treated_group, lift.treated_customers, lift.treated_mean),
                        cells(&lift.baseline_group, lift.baseline_customers, lift.baseline_mean),
                    ],
                ),
            })
        }
        _ => None,
    };
    Ok(html! {
        article.card {
            h3 { (lift.goal) @if lift.kind == "harm" { " " span.tag { "harm" } } }
            p.verdict { span class=(format!("sign of-{}", verdict.colour.name())) aria-hidden="true" { (verdict.sign) } " " (verdict.short) }
            p.big.unsure[lift.verdict == "collecting"] { (optional(lift.absolute_lift, difference)) }
            p.range {
                (bounds)
                @if let Some(of_baseline) = of_baseline { " · " (relative(of_baseline)) " relative" }
            }
            p { (verdict.sentence) }
            @if let Some(figure) = figure { (figure.render()) }
        }
    })
}
