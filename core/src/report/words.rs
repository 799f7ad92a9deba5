//! Parts of the page that are words and tables: health, identity, what changed.

use maud::{html, Markup};

use super::format::{count, day, decimal, Unit};
use super::marks::{Change, Marks};
use super::page::table;
use super::palette::Colour;

/// Something that was looked at, and what is to be done about it.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    pub topic: String,
    /// good, warning or bad.
    pub status: String,
    pub finding: String,
    pub advice: Option<String>,
}

/// What needs somebody first; what is well in one line.
pub fn health(findings: &[Finding]) -> Option<Markup> {
    let shown = |status: &str| match status {
        "bad" => ("✕", "Bad", Colour::Bad),
        "warning" => ("!", "Warning", Colour::Gold),
        _ => ("✓", "Good", Colour::Good),
    };
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|one| ["bad", "warning"].iter().position(|status| *status == one.status).unwrap_or(2));
    (!sorted.is_empty()).then(|| {
        html! {
            ul.health {
                @for one in sorted {
                    @let (sign, word, colour) = shown(&one.status);
                    li {
                        span class=(format!("sign of-{}", colour.name())) aria-hidden="true" { (sign) }
                        div {
                            strong { (word) } ", " (one.topic) ": " (one.finding)
                            @if let Some(advice) = one.advice.as_ref().filter(|advice| !advice.is_empty()) { p.advice { (advice) } }
                        }
                    }
                }
            }
        }
    })
}

/// A figure about who is who.
#[derive(Clone, Debug, Default)]
pub struct Measure {
    pub measure: String,
    pub value: Option<f64>,
}

/// `None` if no records are resolved here.
pub fn identity(measures: &[Measure]) -> Option<Markup> {
    let used = measures.iter().any(|one| one.measure == "records" && one.value.is_some_and(|value| value > 0.0));
    let shown = |one: &Measure| match one.value {
        None => "–".to_owned(),
        Some(value) if one.measure.starts_with("share") => Unit::Share.value(value),
        Some(value) if value.fract() == 0.0 => count(value as i64),
        Some(value) => decimal(value, 2),
    };
    used.then(|| {
        html! {
            dl.facts { @for one in measures { div { dt { (one.measure.replace('_', " ")) } dd { (shown(one)) } } } }
        }
    })
}

/// Who changed what, the latest first.
pub fn changes(changes: &[Change], marks: &Marks) -> Option<Markup> {
    let rows: Vec<Vec<String>> = changes
        .iter()
        .map(|change| {
            vec![
                marks.number(change.day).map_or_else(|| "–".to_owned(), |number| number.to_string()),
                day(change.day),
                change.in_words(),
                change.changed_by.clone(),
            ]
        })
        .collect();
    (!rows.is_empty()).then(|| {
        html! {
            details open[rows.len() <= 12] {
                summary { (count(rows.len() as i64)) " changes" }
                (table("Changes of configuration", &[("mark", true), ("day", false), ("what", false), ("who", false)], &rows))
            }
        }
    })
}
