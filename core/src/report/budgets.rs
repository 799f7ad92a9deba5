//! What is spent, and whether it lasts.

use jiff::civil::Date;
use maud::{html, Markup};

use super::format::{day, decimal, optional, Unit};
use super::marks::Marks;
use super::page::{table, Figure};
use super::palette::Colour;
use super::plot::{Marker, Result};
use super::rows::{rows, Row};
use super::scale::Axis;
use super::series::{lines, Series};

/// The current period of a budget.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    pub budget: String,
    /// cost or sends.
    pub unit: String,
    pub amount: f64,
    pub spent: f64,
    pub reserved: f64,
    /// What an even pace would have used by now.
    pub planned: Option<f64>,
    pub shadow_price: Option<f64>,
    pub starts_on: Option<Date>,
    /// Last day of the period.
    pub ends_on: Option<Date>,
    /// What was charged by the end of each day.
    pub charged: Vec<(Date, f64)>,
}

/// Budgets that have a chart of their own.
const SHOWN: usize = 6;

pub fn budgets(budgets: &[Budget], currency: Option<&str>, marks: &Marks) -> Result<Option<Markup>> {
    if budgets.is_empty() {
        return Ok(None);
    }
    let share = |value: f64, budget: &Budget| if budget.amount > 0.0 { value / budget.amount } else { 0.0 };
    let unit = |budget: &Budget| match budget.unit.as_str() {
        "sends" => Unit::Number,
        _ => Unit::Amount(currency.map(str::to_owned)),
    };
    let drawn: Vec<Row> = budgets
        .iter()
        .map(|budget| Row {
            name: budget.budget.clone(),
            note: format!("{} of {}", decimal(budget.spent + budget.reserved, 0), unit(budget).value(budget.amount)),
            bar: vec![(share(budget.spent, budget), None), (share(budget.reserved, budget), Some(Colour::Teal))],
            reference: budget.planned.map(|planned| share(planned, budget)),
            colour: Some(Colour::Teal),
            ..Row::default()
        })
        .collect();
    let used = budgets.iter().map(|budget| share(budget.spent + budget.reserved, budget));
    let cells: Vec<Vec<String>> = budgets
        .iter()
        .map(|budget| {
            let show = |value: f64| unit(budget).value(value);
            vec![
                budget.budget.clone(),
                budget.starts_on.map_or_else(|| "–".to_owned(), day),
                show(budget.amount),
                show(budget.spent),
                show(budget.reserved),
                optional(budget.planned, show),
                optional(budget.shadow_price, |price| decimal(price, 4)),
            ]
        })
        .collect();
    let overview = Figure {
        id: "budgets".into(),
        title: "Used of each budget".into(),
        description: "What is spent and reserved of each budget in its current period, with a stroke at what an even pace would have used.".into(),
        drawing: rows(&drawn, Axis::around(used, &[0.0, 1.0], 4, &Unit::Share), None)?,
        note: html! { p.note { "Strong: spent. Light: reserved for decisions whose attribution window is open. Stroke: an even pace." } },
        table: table(
            "Budgets",
            &[
                ("budget", false),
                ("period from", false),
                ("amount", true),
                ("spent", true),
                ("reserved", true),
                ("even pace", true),
                ("worth of one more unit", true),
            ],
            &cells,
        ),
    };
    let paces = (0..)
        .zip(budgets.iter().filter(|budget| !budget.charged.is_empty()).take(SHOWN))
        .map(|(at, budget)| pace(at, budget, &unit(budget), marks))
        .collect::<Result<Vec<_>>>()?;
    Ok(Some(html! {
        div.grid {
            article.card { (overview.render()) }
            @for pace in &paces { article.card { (pace.render()) } }
        }
    }))
}

fn pace(at: usize, budget: &Budget, unit: &Unit, marks: &Marks) -> Result<Figure> {
    let (first, last) = (budget.charged[0].0, budget.charged[budget.charged.len() - 1].0);
    let span = (budget.starts_on.map_or(first, |day| day.min(first)), budget.ends_on.map_or(last, |day| day.max(last)));
    // A total that has run for long shows its last days only; its pace is that of the whole.
    let span = (span.0.max(first.saturating_sub(jiff::Span::new().days(92))), span.1);
    let mut series = vec![Series {
        name: "used".into(),
        colour: Colour::Teal,
        marker: Marker::Circle,
        points: budget.charged.clone(),
    }];
    if let (Some(starts_on), Some(ends_on)) = (budget.starts_on, budget.ends_on) {
        if starts_on >= span.0 && starts_on < ends_on {
            series.push(Series {
                name: "even".into(),
                colour: Colour::Grey,
                marker: Marker::None,
                points: vec![(starts_on, 0.0), (ends_on, budget.amount)],
            });
        }
    }
    let level = vec![(span.0, budget.amount), (span.1, budget.amount)];
    series.push(Series { name: "amount".into(), colour: Colour::Ink, marker: Marker::None, points: level });
    let cells: Vec<Vec<String>> =
        budget.charged.iter().rev().map(|(on, charged)| vec![day(*on), unit.value(*charged)]).collect();
    Ok(Figure {
        id: format!("pace-{at}"),
        title: format!("Pace of {}", budget.budget),
        description: format!(
            "What decisions were charged in the current period by the end of each day: {} of {}.",
            unit.value(budget.charged[budget.charged.len() - 1].1),
            unit.value(budget.amount)
        ),
        drawing: lines(&series, &[], &[0.0], unit, span, marks)?,
        note: html! { p.note { "Used: charged by the end of each day, expected costs included. Even: the pace that would just last." } },
        table: table("Charged by day", &[("day", false), ("charged so far", true)], &cells),
    })
}
