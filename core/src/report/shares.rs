//! What was chosen: the shares of actions, and of the levels of each dimension, over time.

use std::collections::HashMap;

use jiff::civil::Date;
use maud::{html, Markup};

use super::format::{clipped, count, day, Unit};
use super::marks::Marks;
use super::page::{legend, table, Figure};
use super::palette::{Colour, SERIES};
use super::plot::{plot, Drawing, Frame, Result, Side};
use super::scale::{number, Axis};

/// Decisions of a day that chose a level of a dimension.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// The action, if it is none of its dimensions.
    pub dimension: Option<String>,
    pub level: String,
    pub day: Date,
    pub decisions: i64,
}

/// Levels that are shown by name; the rest is another.
const SHOWN: usize = SERIES.len() - 1;

const OTHER: &str = "other";

/// A stroke with its number must be this high to have one.
const NUMBERED: f64 = 0.07;

pub fn shares(shares: &[Share], span: (Date, Date), marks: &Marks) -> Result<Option<Markup>> {
    let figures = shares
        .chunk_by(|one, other| one.dimension == other.dimension)
        .enumerate()
        .map(|(at, shares)| figure(at, shares, span, marks))
        .collect::<Result<Vec<_>>>()?;
    Ok((!figures.is_empty())
        .then(|| html! { div.grid { @for figure in &figures { article.card { (figure.render()) } } } }))
}

fn figure(at: usize, shares: &[Share], span: (Date, Date), marks: &Marks) -> Result<Figure> {
    let mut totals: HashMap<&str, i64> = HashMap::new();
    let mut per_day: HashMap<Date, i64> = HashMap::new();
    for share in shares {
        *totals.entry(&share.level).or_default() += share.decisions;
        *per_day.entry(share.day).or_default() += share.decisions;
    }
    let all = totals.values().sum::<i64>().max(1) as f64;
    let mut levels: Vec<(&str, i64)> = totals.into_iter().collect();
    levels.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    let rest: i64 = levels.iter().skip(SHOWN).map(|level| level.1).sum();
    let place: HashMap<&str, usize> = levels.iter().enumerate().map(|(at, level)| (level.0, at.min(SHOWN))).collect();
    let mut names: Vec<(String, i64)> = levels.iter().take(SHOWN).map(|level| (level.0.to_owned(), level.1)).collect();
    if levels.len() > SHOWN {
        names.push((format!("{OTHER} ({} of them)", levels.len() - SHOWN), rest));
    }
    let mut days: HashMap<Date, [f64; SERIES.len()]> = HashMap::new();
    for share in shares {
        let of_day = per_day.get(&share.day).copied().unwrap_or(1).max(1) as f64;
        days.entry(share.day).or_default()[place[share.level.as_str()]] += share.decisions as f64 / of_day;
    }
    let mut days: Vec<(Date, [f64; SERIES.len()])> = days.into_iter().collect();
    days.sort_unstable_by_key(|day| day.0);
    let title = match &shares[0].dimension {
        None => "By action".to_owned(),
        Some(dimension) => format!("By {}", clipped(dimension, 60)),
    };
    let named = |(name, decisions): &(String, i64)| format!("{name}: {}", Unit::Share.value(*decisions as f64 / all));
    let entries: Vec<(&'static str, String)> =
        SERIES.iter().zip(&names).map(|(colour, name)| (colour.name(), named(name))).collect();
    let mut rows: Vec<Vec<String>> = shares
        .iter()
        .map(|share| {
            let of_day = per_day.get(&share.day).copied().unwrap_or(1).max(1) as f64;
            vec![
                day(share.day),
                share.level.clone(),
                count(share.decisions),
                Unit::Share.value(share.decisions as f64 / of_day),
            ]
        })
        .collect();
    rows.reverse();
    Ok(Figure {
        id: format!("shares-{at}"),
        title,
        description: format!(
            "What the optimise group got by day, as shares of its decisions. Over all days: {}.",
            names.iter().map(named).collect::<Vec<_>>().join(", ")
        ),
        drawing: draw(&days, span, marks)?,
        note: legend(&entries, true),
        table: table(
            "Choices by day",
            &[("day", false), ("choice", false), ("decisions", true), ("share", true)],
            &rows,
        ),
    })
}

fn draw(days: &[(Date, [f64; SERIES.len()])], span: (Date, Date), marks: &Marks) -> Result<Drawing> {
    let (x, y) = (Axis::days(span.0, span.1), Axis::around([0.0, 1.0], &[], 4, &Unit::Share));
    let frame = Frame { right: 24, ..Frame::new(x.clone(), y.clone()) };
    plot(&frame, |plot| {
        for (day, shares) in days {
            let at = number(*day);
            let mut from = 0.0;
            for (share, colour) in shares.iter().zip(SERIES) {
                if *share > 0.0 {
                    plot.rectangle((at - 0.46, from), (at + 0.46, from + share), colour, 0.88)?;
                }
                from += share;
            }
        }
        // Numbers of the legend, at the last day.
        if let Some((_, shares)) = days.last() {
            let mut from = 0.0;
            for (share, at) in shares.iter().zip(1..) {
                if *share >= NUMBERED {
                    let middle = (x.high, from + share / 2.0);
                    plot.text(middle, (4, 0), format!("{at}"), Colour::Ink, Side::Left)?;
                }
                from += share;
            }
        }
        marks.draw(plot, &x, &y, Colour::Ink)
    })
}
