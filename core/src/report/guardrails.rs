//! What guardrails removed, and what that cost.

use maud::{html, Markup};

use super::format::{count, counted, decimal, interval, optional, Unit};
use super::page::{table, Figure};
use super::palette::Colour;
use super::plot::Result;
use super::rows::{rows, Row};
use super::scale::Axis;

/// A rule, over all days and groups.
#[derive(Clone, Debug, Default)]
pub struct Guardrail {
    /// The rule after its kind; none is decisions from which nothing was removed.
    pub guardrail: String,
    pub decisions: i64,
    pub removed_candidates: i64,
    pub without_any_send: i64,
    /// Responses of the optimise group over the days that could be estimated.
    pub lost_responses: Option<f64>,
    pub lost_lower: Option<f64>,
    pub lost_upper: Option<f64>,
    pub estimated_days: i64,
    pub days: i64,
}

/// Rules that a chart shows.
const SHOWN: usize = 12;

pub fn guardrails(guardrails: &[Guardrail]) -> Result<Option<Markup>> {
    let rules: Vec<&Guardrail> = guardrails.iter().filter(|rule| rule.guardrail != "none").collect();
    if rules.is_empty() {
        return Ok(None);
    }
    let untouched: i64 = guardrails.iter().filter(|rule| rule.guardrail == "none").map(|rule| rule.decisions).sum();
    let drawn: Vec<Row> = rules
        .iter()
        .take(SHOWN)
        .map(|rule| Row {
            name: rule.guardrail.clone(),
            note: format!("{}, {} silenced", count(rule.decisions), count(rule.without_any_send)),
            bar: vec![
                (rule.without_any_send as f64, None),
                ((rule.decisions - rule.without_any_send) as f64, Some(Colour::Orange)),
            ],
            colour: Some(Colour::Orange),
            ..Row::default()
        })
        .collect();
    let most = rules.iter().map(|rule| rule.decisions as f64);
    let whole = |value: f64| decimal(value, 1);
    let cells: Vec<Vec<String>> = rules
        .iter()
        .map(|rule| {
            let basis = match rule.estimated_days {
                0 => "not estimated".to_owned(),
                days => format!("{} of {}", counted(days, "day", "days"), count(rule.days)),
            };
            vec![
                rule.guardrail.clone(),
                count(rule.decisions),
                count(rule.removed_candidates),
                count(rule.without_any_send),
                optional(rule.lost_responses, whole),
                interval(rule.lost_lower, rule.lost_upper, whole),
                basis,
            ]
        })
        .collect();
    let figure = Figure {
        id: "guardrails".into(),
        title: "Decisions that lost a candidate".into(),
        description: format!(
            "For each rule, the decisions from which it removed an action, and those of them that had no send left. From {} nothing was removed.",
            counted(untouched, "decision", "decisions")
        ),
        drawing: rows(&drawn, Axis::around(most, &[0.0], 4, &Unit::Number), None)?,
        note: html! {
            p.note {
                "Strong: no send was left. Light: something else could still be sent. From " (counted(untouched, "decision", "decisions"))
                " nothing was removed."
                @if rules.len() > SHOWN { " The " (SHOWN) " that removed most are shown." }
            }
        },
        table: table(
            "What guardrails removed and cost",
            &[
                ("guardrail", false),
                ("decisions", true),
                ("candidates removed", true),
                ("no send left", true),
                ("responses lost", true),
                ("90 % interval", true),
                ("estimated for", false),
            ],
            &cells,
        ),
    };
    let costs: Vec<&&Guardrail> = rules.iter().filter(|rule| rule.lost_responses.is_some()).take(SHOWN).collect();
    Ok(Some(html! {
        div.grid {
            article.card { (figure.render()) }
            article.card {
                h3 { "What they cost" }
                @if costs.is_empty() { p { "Not estimated yet: attribution windows are open, too little is known of the removed actions, or maintain has not run." } }
                @else {
                    ul {
                        @for rule in costs {
                            li { strong { (rule.guardrail) } ": " (optional(rule.lost_responses, whole)) " responses (90 % interval "
                                (interval(rule.lost_lower, rule.lost_upper, whole)) ")" }
                        }
                    }
                    p.note { "Model-based: what the optimise group would have had more without the rule, all else equal, over the days that are estimated. A cost is no reason to drop a rule that protects customers; it says what the protection is worth to you." }
                }
            }
        }
    }))
}
