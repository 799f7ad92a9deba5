//! Who responds to what: findings that were confirmed on other data than those that suggested them.

use jiff::civil::Date;
use maud::{html, Markup};

use super::format::{count, day, decimal, optional, Unit};
use super::page::{table, Figure};
use super::plot::Result;
use super::rows::{rows, Row};
use super::scale::Axis;

/// A segment that responds to a level of a dimension otherwise than the rest.
#[derive(Clone, Debug, Default)]
pub struct Insight {
    pub segment: String,
    pub dimension: String,
    pub level: String,
    pub customers: i64,
    pub decisions: i64,
    pub response_rate: Option<f64>,
    pub baseline_rate: Option<f64>,
    pub ratio: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub q_value: Option<f64>,
    pub sentence: String,
}

/// Findings that are shown.
pub const SHOWN: usize = 8;

/// Of confirmed findings, the most telling first.
pub fn insights(insights: &[Insight], found_on: Option<Date>) -> Result<Option<Markup>> {
    let shown: Vec<(&Insight, f64, f64, f64)> = insights
        .iter()
        .take(SHOWN)
        .filter_map(|one| Some((one, one.ratio?, one.lower?, one.upper?)))
        .filter(|(_, ratio, lower, upper)| ratio.is_finite() && lower.is_finite() && upper.is_finite())
        .collect();
    if shown.is_empty() {
        return Ok(None);
    }
    let drawn: Vec<Row> = (1..)
        .zip(&shown)
        .map(|(at, (one, ratio, lower, upper))| Row {
            name: format!("{at} {} · {} {}", one.segment, one.dimension, one.level),
            note: format!("× {}", decimal(*ratio, 2)),
            estimate: Some((*ratio, *lower, *upper)),
            ..Row::default()
        })
        .collect();
    // One wide interval must not squeeze the others: it is cut at the edge, and is in the table.
    let widest = shown.iter().map(|(_, ratio, ..)| *ratio).fold(1.0, f64::max) * 3.0;
    let ends = shown.iter().flat_map(|(_, ratio, lower, upper)| [*ratio, lower.max(0.0), upper.min(widest)]);
    let share = |value: Option<f64>| optional(value, |value| Unit::Share.value(value));
    let ratio = |value: Option<f64>| optional(value, |value| decimal(value, 2));
    let cells: Vec<Vec<String>> = shown
        .iter()
        .map(|(one, ..)| {
            vec![
                one.segment.clone(),
                format!("{} {}", one.dimension, one.level),
                count(one.customers),
                count(one.decisions),
                share(one.response_rate),
                share(one.baseline_rate),
                ratio(one.ratio),
                ratio(one.lower),
                ratio(one.upper),
                optional(one.q_value, |q| decimal(q, 4)),
            ]
        })
        .collect();
    let figure = Figure {
        id: "insights".into(),
        title: "Response against what it would be otherwise".into(),
        description: "Ratio of response rates with its 90 % interval, for each confirmed finding. 1 is no difference."
            .into(),
        drawing: rows(&drawn, Axis::around(ends, &[1.0], 4, &Unit::Number), Some(1.0))?,
        note: html! { p.note { "Point: ratio of rates. Line: its 90 % interval. 1 is no difference." @if let Some(on) = found_on { " Found on " (day(on)) "." } } },
        table: table(
            "Confirmed findings",
            &[
                ("segment", false),
                ("level", false),
                ("customers", true),
                ("decisions", true),
                ("rate", true),
                ("otherwise", true),
                ("ratio", true),
                ("lower", true),
                ("upper", true),
                ("q", true),
            ],
            &cells,
        ),
    };
    Ok(Some(html! {
        div.grid {
            article.card { (figure.render()) }
            article.card { h3 { "In words" } ol { @for (one, ..) in &shown { li { (one.sentence) } } } }
        }
    }))
}
