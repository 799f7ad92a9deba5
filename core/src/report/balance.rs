//! Do the groups have the sizes that they should have?

use maud::{html, Markup};

use super::format::{count, decimal, optional, Unit};
use super::page::{table, Figure};
use super::plot::Result;
use super::rows::{rows, Row};
use super::scale::Axis;

/// Customers of a group against what the shares in force would have given.
#[derive(Clone, Debug, Default)]
pub struct GroupSize {
    pub treatment_group: String,
    pub customers: i64,
    pub expected: f64,
    pub statistic: Option<f64>,
    pub p_value: Option<f64>,
    pub balanced: bool,
    pub acknowledged: bool,
}

pub fn balance(groups: &[GroupSize]) -> Result<Option<Markup>> {
    let Some(first) = groups.first() else { return Ok(None) };
    let drawn: Vec<Row> = groups
        .iter()
        .map(|group| Row {
            name: group.treatment_group.clone(),
            note: format!("{} of {} expected", count(group.customers), decimal(group.expected, 0)),
            bar: vec![(group.customers as f64, None)],
            reference: Some(group.expected),
            ..Row::default()
        })
        .collect();
    let most = groups.iter().flat_map(|group| [group.customers as f64, group.expected]);
    let p = optional(first.p_value, |p| if p < 0.001 { "below 0.001".to_owned() } else { decimal(p, 3) });
    let finding = if first.balanced {
        format!("The sizes are what chance would give (p = {p}).")
    } else if first.acknowledged {
        format!("The sizes are not what chance would give (p {p}). Somebody has looked into it and said so.")
    } else {
        format!("The sizes are not what chance would give (p {p}): something decides about who is in which group, or who is counted. Do not believe any lift before you know what.")
    };
    let figure = Figure {
        id: "balance".into(),
        title: "Customers per group".into(),
        description: format!("Customers of each group, with a stroke at what was expected. {finding}"),
        drawing: rows(&drawn, Axis::around(most, &[0.0], 4, &Unit::Number), None)?,
        note: html! { p.note { "Bar: customers. Stroke: what the shares in force would give." } },
        table: table(
            "Sizes of groups",
            &[("group", false), ("customers", true), ("expected", true)],
            &groups
                .iter()
                .map(|group| vec![group.treatment_group.clone(), count(group.customers), decimal(group.expected, 1)])
                .collect::<Vec<_>>(),
        ),
    };
    Ok(Some(html! {
        div.grid { article.card { p.finding { (if first.balanced { "✓ " } else { "✕ " }) (finding) } (figure.render()) } }
    }))
}
