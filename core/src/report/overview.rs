//! A page over all campaigns.

use maud::{html, Markup};

use super::format::{counted, optional};
use super::headline::{unit, Lift};
use super::page::{document, ROWS};

/// A campaign in a line.
#[derive(Clone, Debug, Default)]
pub struct Line {
    pub campaign: String,
    pub status: String,
    pub customers: i64,
    pub currency: Option<String>,
    pub lifts: Vec<Lift>,
}

/// Renders the page.
pub fn overview(lines: &[Line], as_of: &str) -> String {
    document(
        "All campaigns",
        &html! {
            header.top { p.kicker { "decisioning" } h1 { "All campaigns" } p.facts-line { "As of " (as_of) } }
            main {
                @if lines.is_empty() { p.empty { "There is no campaign yet. create_campaign makes one." } }
                @else {
                    p.about {
                        "Do not add up the lifts of campaigns. Each says what its campaign adds while all the others run: customers are in several of them, and what one brings another would have brought in part. The total can only come from a holdout of all campaigns together."
                    }
                    (lines_table(lines))
                }
            }
        },
    )
}

fn lines_table(lines: &[Line]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="Campaigns" {
            table {
                caption { "Campaigns, with the lift of each goal" @if lines.len() > ROWS { ": the first " (ROWS) " of " (lines.len()) } }
                thead { tr {
                    th scope="col" { "campaign" } th scope="col" { "goal" } th scope="col" { "verdict" } th.number scope="col" { "lift" } th.number scope="col" { "95 % interval" }
                } }
                @for line in lines.iter().take(ROWS) {
                    tbody {
                        @if line.lifts.is_empty() { tr { (named(line, 1)) td colspan="4" { "nothing to compare yet" } } }
                        @for (at, lift) in line.lifts.iter().enumerate() {
                            @let verdict = lift.verdict();
                            @let unit = unit(&lift.measure, line.currency.as_deref()).of_differences();
                            @let show = |value: f64| unit.signed(value);
                            tr {
                                @if at == 0 { (named(line, line.lifts.len())) }
                                td { (lift.goal) }
                                td { span class=(format!("sign of-{}", verdict.colour.name())) aria-hidden="true" { (verdict.sign) } " " (verdict.short) }
                                td.number { (optional(lift.absolute_lift, show)) }
                                td.number { (unit.signed_range(lift.lower, lift.upper)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn named(line: &Line, rows: usize) -> Markup {
    html! {
        th scope="rowgroup" rowspan=(rows) {
            strong { (line.campaign) } br;
            span.aside { (line.status) ", " (counted(line.customers, "customer", "customers")) }
        }
    }
}
