//! How the lift came about, day by day.

use jiff::civil::Date;
use maud::{html, Markup};

use super::format::{count, day, optional, Unit};
use super::headline::unit;
use super::marks::Marks;
use super::page::{table, Figure};
use super::palette::Colour;
use super::plot::{Marker, Result};
use super::series::{lines, Series};

/// The lift of a goal as of the end of a day.
#[derive(Clone, Debug, Default)]
pub struct LiftDay {
    pub goal: String,
    pub measure: String,
    pub day: Date,
    pub treated_customers: i64,
    pub baseline_customers: i64,
    pub absolute_lift: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
}

/// A chart for each goal; `None` without any day.
pub fn progress(days: &[LiftDay], currency: Option<&str>, span: (Date, Date), marks: &Marks) -> Result<Option<Markup>> {
    let figures = days
        .chunk_by(|one, other| (&one.goal, &one.measure) == (&other.goal, &other.measure))
        .enumerate()
        .map(|(at, days)| figure(at, days, currency, span, marks))
        .collect::<Result<Vec<_>>>()?;
    Ok((!figures.is_empty())
        .then(|| html! { div.grid { @for figure in &figures { article.card { (figure.render()) } } } }))
}

fn figure(at: usize, days: &[LiftDay], currency: Option<&str>, span: (Date, Date), marks: &Marks) -> Result<Figure> {
    let unit = unit(&days[0].measure, currency).of_differences();
    let points = days.iter().filter_map(|day| Some((day.day, day.absolute_lift?))).collect();
    let bounds: Vec<(Date, f64, f64)> = days.iter().filter_map(|day| Some((day.day, day.lower?, day.upper?))).collect();
    let series = [Series { name: "lift".into(), colour: Colour::Blue, marker: Marker::None, points }];
    let show = |value: f64| unit.signed(value);
    let last = &days[days.len() - 1];
    let rows: Vec<Vec<String>> = days
        .iter()
        .rev()
        .map(|at| {
            let bound = |value| optional(value, show);
            vec![
                day(at.day),
                bound(at.absolute_lift),
                bound(at.lower),
                bound(at.upper),
                count(at.treated_customers),
                count(at.baseline_customers),
            ]
        })
        .collect();
    Ok(Figure {
        id: format!("progress-{at}"),
        title: format!(
            "{}: lift in {}{}",
            days[0].goal,
            days[0].measure,
            if unit == Unit::Points { ", in percentage points" } else { "" }
        ),
        description: format!(
            "The lift with all that was seen until the end of each day, and a band in which it lies with 95 % confidence on all days at once. At the end it is {}, between {} and {}.",
            optional(last.absolute_lift, show),
            optional(last.lower, show),
            optional(last.upper, show)
        ),
        drawing: lines(&series, &bounds, &[0.0], &unit, span, marks)?,
        note: html! { p.note { "Line: the lift so far. Band: its 95 % confidence sequence, which holds on all days at once." } },
        table: table(
            "Lift by day",
            &[("day", false), ("lift", true), ("lower", true), ("upper", true), ("treated", true), ("baseline", true)],
            &rows,
        ),
    })
}
