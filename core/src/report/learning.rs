//! What learning brings: how much the policy still varies, and what each group earns.

use jiff::civil::Date;
use maud::{html, Markup};

use super::format::{count, day, decimal, Unit};
use super::marks::Marks;
use super::page::{table, Figure};
use super::palette::Colour;
use super::plot::{Marker, Result};
use super::series::{lines, Series};

/// The learned policy on a day.
#[derive(Clone, Debug, Default)]
pub struct PolicyDay {
    pub day: Date,
    pub decisions: i64,
    pub entropy: Option<f64>,
    pub effective_actions: f64,
    pub candidates: f64,
    pub most_frequent_action: String,
    pub most_frequent_share: f64,
    pub collapsed: bool,
}

/// What came of the decisions of a group on a day whose attribution windows are over.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    pub day: Date,
    pub treatment_group: String,
    pub decisions: i64,
    pub responses: i64,
    /// Mean over decisions, costs deducted.
    pub net_worth: f64,
}

/// Groups in the order in which they are shown, and how.
const GROUPS: [(&str, Colour, Marker); 4] = [
    ("optimise", Colour::Blue, Marker::Circle),
    ("explore", Colour::Orange, Marker::Triangle),
    ("control", Colour::Teal, Marker::Square),
    ("holdout", Colour::Grey, Marker::Cross),
];

pub fn learning(
    policy: &[PolicyDay],
    captured: &[Captured],
    has_worth: bool,
    currency: Option<&str>,
    span: (Date, Date),
    marks: &Marks,
) -> Result<Option<Markup>> {
    let mut figures = Vec::new();
    if !captured.is_empty() {
        figures.push(rates(captured, span, marks)?);
        if has_worth {
            figures.push(worth(captured, currency, span, marks)?);
        }
    }
    if !policy.is_empty() {
        figures.push(variety(policy, span, marks)?);
        figures.push(entropy(policy, span, marks)?);
    }
    let collapsed = policy.last().filter(|last| last.collapsed);
    Ok((!figures.is_empty()).then(|| {
        html! {
            @if let Some(last) = collapsed {
                p.finding { "! On " (day(last.day)) " the policy gave " (Unit::Share.value(last.most_frequent_share)) " of its customers "
                    (last.most_frequent_action) ". That is right if it is best for nearly everybody, and a warning otherwise." }
            }
            div.grid { @for figure in &figures { article.card { (figure.render()) } } }
        }
    }))
}

/// Days that a point of a line is the mean of: days of a small group jump about, and weekdays differ.
const SMOOTHED: i32 = 7;

/// Means of a value per decision over the days up to each.
fn smoothed(of_group: &[&Captured], total: impl Fn(&Captured) -> f64) -> Vec<(Date, f64)> {
    of_group
        .iter()
        .map(|at| {
            let since = at.day.saturating_sub(jiff::Span::new().days(SMOOTHED - 1));
            let days = of_group.iter().filter(|other| (since..=at.day).contains(&other.day));
            let (decisions, sum) =
                days.fold((0, 0.0), |(decisions, sum), other| (decisions + other.decisions, sum + total(other)));
            (at.day, sum / decisions.max(1) as f64)
        })
        .collect()
}

fn by_group(captured: &[Captured], total: impl Fn(&Captured) -> f64) -> Vec<Series> {
    GROUPS
        .iter()
        .map(|(group, colour, marker)| Series {
            name: (*group).to_owned(),
            colour: *colour,
            marker: *marker,
            points: smoothed(&captured.iter().filter(|at| at.treatment_group == *group).collect::<Vec<_>>(), &total),
        })
        .filter(|series| !series.points.is_empty())
        .collect()
}

fn rate(at: &Captured) -> f64 {
    at.responses as f64 / at.decisions.max(1) as f64
}

fn captured_table(captured: &[Captured], unit: &Unit) -> Markup {
    let rows: Vec<Vec<String>> = captured
        .iter()
        .rev()
        .map(|at| {
            vec![
                day(at.day),
                at.treatment_group.clone(),
                count(at.decisions),
                count(at.responses),
                Unit::Share.value(rate(at)),
                unit.value(at.net_worth),
            ]
        })
        .collect();
    table(
        "What decisions captured, by day and group",
        &[
            ("day", false),
            ("group", false),
            ("decisions", true),
            ("responded", true),
            ("rate", true),
            ("net worth per decision", true),
        ],
        &rows,
    )
}

fn rates(captured: &[Captured], span: (Date, Date), marks: &Marks) -> Result<Figure> {
    Ok(Figure {
        id: "captured-rate".into(),
        title: "Response rate, mean of seven days".into(),
        description: "Share of the decisions of each group that were followed by a goal within its attribution window, over the seven days up to each. Only days whose windows are over.".into(),
        drawing: lines(&by_group(captured, |at| at.responses as f64), &[], &[0.0], &Unit::Share, span, marks)?,
        note: html! { p.note { "By day of decision; the numbers have single days. Days whose attribution window is still open are left out." } },
        table: captured_table(captured, &Unit::Amount(None)),
    })
}

fn worth(captured: &[Captured], currency: Option<&str>, span: (Date, Date), marks: &Marks) -> Result<Figure> {
    let unit = Unit::Amount(currency.map(str::to_owned));
    Ok(Figure {
        id: "captured-worth".into(),
        title: "Net worth per decision, mean of seven days".into(),
        description: "Mean worth of what followed a decision within the attribution window, less what the action costs, by group, over the seven days up to each.".into(),
        drawing: lines(&by_group(captured, |at| at.net_worth * at.decisions as f64), &[], &[0.0], &unit, span, marks)?,
        note: html! { p.note { "Worth of responses less the costs of actions, in " (currency.unwrap_or("units of the goals' value")) "." } },
        table: captured_table(captured, &unit),
    })
}

fn policy_table(policy: &[PolicyDay]) -> Markup {
    let rows: Vec<Vec<String>> = policy
        .iter()
        .rev()
        .map(|at| {
            vec![
                day(at.day),
                count(at.decisions),
                at.entropy.map_or_else(|| "–".to_owned(), |entropy| Unit::Share.value(entropy)),
                decimal(at.effective_actions, 1),
                decimal(at.candidates, 1),
                at.most_frequent_action.clone(),
                Unit::Share.value(at.most_frequent_share),
            ]
        })
        .collect();
    table(
        "The learned policy by day",
        &[
            ("day", false),
            ("decisions", true),
            ("uncertainty", true),
            ("effective actions", true),
            ("candidates", true),
            ("most frequent action", false),
            ("its share", true),
        ],
        &rows,
    )
}

fn variety(policy: &[PolicyDay], span: (Date, Date), marks: &Marks) -> Result<Figure> {
    let series = [
        Series {
            name: "possible".into(),
            colour: Colour::Grey,
            marker: Marker::None,
            points: policy.iter().map(|at| (at.day, at.candidates)).collect(),
        },
        Series {
            name: "used".into(),
            colour: Colour::Purple,
            marker: Marker::Circle,
            points: policy.iter().map(|at| (at.day, at.effective_actions)).collect(),
        },
    ];
    Ok(Figure {
        id: "variety".into(),
        title: "Actions in use".into(),
        description: "How many equally frequent actions would be as diverse as what the learned policy chose, and how many were possible, by day.".into(),
        drawing: lines(&series, &[], &[0.0], &Unit::Number, span, marks)?,
        note: html! { p.note { "Used: as many equally frequent actions as would be as diverse as what was chosen. A fall is the policy finding what works." } },
        table: policy_table(policy),
    })
}

fn entropy(policy: &[PolicyDay], span: (Date, Date), marks: &Marks) -> Result<Figure> {
    let series = [Series {
        name: "uncertainty".into(),
        colour: Colour::Purple,
        marker: Marker::Circle,
        points: policy.iter().filter_map(|at| Some((at.day, at.entropy?))).collect(),
    }];
    Ok(Figure {
        id: "uncertainty".into(),
        title: "Uncertainty of the policy".into(),
        description:
            "Entropy of the propensities of a decision, as a share of the most possible, by day: 100 % is a random choice, 0 % a certain one."
                .into(),
        drawing: lines(&series, &[], &[0.0, 1.0], &Unit::Share, span, marks)?,
        note: html! { p.note { "100 %: chooses at random. 0 %: is certain of the best action for each customer." } },
        table: policy_table(policy),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days count by their decisions, and those that are longer ago not at all.
    #[test]
    fn means_are_of_decisions() {
        let at = |day, decisions, responses| Captured {
            day: Date::constant(2026, 6, day),
            decisions,
            responses,
            ..Captured::default()
        };
        let days = [at(1, 90, 9), at(2, 10, 10), at(9, 50, 5)];
        let means = smoothed(&days.iter().collect::<Vec<_>>(), |at| at.responses as f64);
        let means: Vec<f64> = means.into_iter().map(|mean| mean.1).collect();
        assert_eq!(means, [0.1, 0.19, 0.1]);
    }
}
