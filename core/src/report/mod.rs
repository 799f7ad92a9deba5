//! The report of a campaign: one page of HTML with its charts inside, which needs no script and no network.
//!
//! What is read is given as plain rows; each part of the page is a file, and leaves itself out when it has nothing to say. Text
//! that users wrote reaches the page through templates and a drawing library that escape it.

mod balance;
mod budgets;
mod calibration;
mod format;
mod guardrails;
mod headline;
mod insights;
mod learning;
mod marks;
mod overview;
mod page;
mod palette;
mod plot;
mod progress;
mod rows;
mod scale;
mod series;
mod shares;
mod times;
mod words;

use format::Unit;
use jiff::civil::Date;
use marks::Marks;
use maud::{html, Markup};

pub use balance::GroupSize;
pub use budgets::Budget;
pub use calibration::Bin;
pub use guardrails::Guardrail;
pub use headline::Lift;
pub use insights::{Insight, SHOWN as INSIGHTS};
pub use learning::{Captured, PolicyDay};
pub use marks::Change;
pub use overview::{overview, Line};
pub use page::ROWS;
pub use plot::DrawError;
pub use progress::LiftDay;
pub use shares::Share;
pub use times::SendTime;
pub use words::{Finding, Measure};

/// Days that charts go back at most.
pub const DAYS: i32 = 90;

/// The day that comes so many days after 1970-01-01.
pub fn day(days: i32) -> Date {
    Date::constant(1970, 1, 1).saturating_add(jiff::Span::new().days(days))
}

/// What the head of the page says of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Heading {
    pub campaign: String,
    pub description: Option<String>,
    pub status: String,
    pub mode: String,
    pub time_zone: String,
    pub currency: Option<String>,
    /// When the page was made, in that zone.
    pub as_of: String,
    pub started_on: Option<Date>,
    pub ended_on: Option<Date>,
    pub customers: i64,
    pub decisions: i64,
    /// The share of the log that parts about decisions are from, if it is not all.
    pub sample: Option<f64>,
    /// Whether responses differ in worth, or actions cost something.
    pub has_worth: bool,
}

/// What a page tells. Rows are in order: days ascend within their goal, group or dimension.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub heading: Heading,
    pub lifts: Vec<Lift>,
    pub lift_days: Vec<LiftDay>,
    pub health: Vec<Finding>,
    pub groups: Vec<GroupSize>,
    pub policy: Vec<PolicyDay>,
    pub captured: Vec<Captured>,
    pub shares: Vec<Share>,
    pub sends: Vec<SendTime>,
    pub guardrails: Vec<Guardrail>,
    pub budgets: Vec<Budget>,
    pub insights: Vec<Insight>,
    /// If not just now.
    pub insights_found_on: Option<Date>,
    pub calibration: Vec<Bin>,
    pub identity: Vec<Measure>,
    pub changes: Vec<Change>,
}

/// A part of the page: its id, title, and what it tells and when not to trust it.
type Part = (&'static str, &'static str, &'static str);

/// Parts with a single chart.
const SMALL: [&str; 3] = ["balance-part", "send-times", "calibration-part"];

impl Report {
    /// First and last day of anything that has days: one axis for all charts.
    fn span(&self) -> Option<(Date, Date)> {
        let days = (self.lift_days.iter().map(|at| at.day))
            .chain(self.policy.iter().map(|at| at.day))
            .chain(self.captured.iter().map(|at| at.day))
            .chain(self.shares.iter().map(|at| at.day));
        days.fold(None, |span, day| match span {
            None => Some((day, day)),
            Some((first, last)) => Some((first.min(day), last.max(day))),
        })
    }

    /// Renders the page.
    ///
    /// # Errors
    /// A chart could not be drawn.
    pub fn render(&self) -> Result<String, DrawError> {
        let heading = &self.heading;
        let currency = heading.currency.as_deref();
        let span = self.span();
        let marks = Marks::new(&self.changes, span);
        let over_time = |draw: &dyn Fn((Date, Date)) -> plot::Result<Option<Markup>>| match span {
            Some(span) => draw(span),
            None => Ok(None),
        };
        let lifts = (!self.lifts.is_empty()).then(|| headline::headline(&self.lifts, currency)).transpose()?;
        let parts: Vec<(Part, Option<Markup>)> = vec![
            (("lift", "Does it work?", "What the campaign causes: the treated group against the one that is left alone, over everybody who was exposed, whatever was sent. The intervals hold however often you look."), lifts),
            (("health", "Health", "What was checked, the most urgent first."), words::health(&self.health)),
            (("progress", "How the lift came about", "All that was seen until the end of each day. The band narrows as customers come in; a line that wanders inside of it says nothing."), over_time(&|span| progress::progress(&self.lift_days, currency, span, &marks))?),
            (("learning", "What learning brings", "By day of decision. The gap between optimise and explore is what was learned; that to the holdout is what sending does to those days' customers. It is a picture and no proof: the proof is above."), over_time(&|span| learning::learning(&self.policy, &self.captured, heading.has_worth, currency, span, &marks))?),
            (("insights-part", "Who responds to what", "Found on one part of the data and confirmed on another, with many comparisons accounted for. Still a hint of what to try, and no promise."), insights::insights(&self.insights, self.insights_found_on)?),
            (("shares", "What was chosen", "Shares of the decisions of the optimise group, no_send included."), over_time(&|span| shares::shares(&self.shares, span, &marks))?),
            (("balance-part", "Are the groups comparable?", "Customers are drawn into groups by a hash. If the sizes are off by more than chance, so may be everything else."), balance::balance(&self.groups)?),
            (("send-times", "When it is sent", "Planned moments of the sends that were decided; what was cancelled since is in it."), times::times(&self.sends, &heading.time_zone)?),
            (("calibration-part", "Are predictions right?", "Decisions by how likely a response was said to be, against how often it came. Predictions are of the model that decided, which had not seen what came of it."), calibration::calibration(&self.calibration)?),
            (("guardrail-part", "What guardrails removed", "A candidate is counted with the first rule that removed it, so that a rule that comes later looks smaller than it is."), guardrails::guardrails(&self.guardrails)?),
            (("budget-part", "Budgets", "Current periods. Costs of goals are expected until the attribution window is over, and then what they were."), budgets::budgets(&self.budgets, currency, &marks)?),
            (("identity", "Who is who", "How records were put together into customers, over all campaigns."), words::identity(&self.identity)),
            (("changes", "What was changed, and by whom", "Numbers are those of the upright marks in the charts. A step in a chart at a mark is likely to be the change, and no trend."), words::changes(&self.changes, &marks)),
        ];
        let missing: Vec<&str> =
            parts.iter().filter(|(_, content)| content.is_none()).map(|((_, title, _), _)| *title).collect();
        let body = html! {
            (head(heading))
            @if parts.iter().any(|(_, content)| content.is_some()) {
                nav aria-label="Parts of the report" {
                    ul { @for ((id, title, _), content) in &parts { @if content.is_some() { li { a href=(format!("#{id}")) { (title) } } } } }
                }
            }
            main {
                @if let Some(share) = heading.sample {
                    p.about { "The log is large. Parts that tell of decisions one by one (what learning brings, who responds to what, what was chosen and when it is sent, predictions, guardrails) are from a sample of about " (Unit::Share.value(share)) " of it, and so are the numbers of decisions there. Lift, groups and budgets are of everybody." }
                }
                @if heading.decisions == 0 {
                    p.empty { "Nothing decided yet. Once the campaign is active and decide_all has run, this page says what came of it." }
                }
                @for ((id, title, about), content) in &parts { @if let Some(content) = content { (page::section(id, title, about, SMALL.contains(id), content)) } }
            }
            footer {
                @if !missing.is_empty() { p { "Left out, because there is nothing to show: " (missing.join(" · ")) "." } }
                p { "Charts go back " (DAYS) " days at most, tables have " (ROWS) " rows at most; the views of the schema decisioning have the rest. Days are those of " (heading.time_zone) "." }
            }
        };
        Ok(page::document(&format!("{}: report", heading.campaign), &body))
    }
}

fn head(heading: &Heading) -> Markup {
    let on = |day: Option<Date>| day.map(format::day);
    html! {
        header.top {
            p.kicker { "Campaign report" }
            h1 { (heading.campaign) }
            @if let Some(description) = &heading.description { p.description { (description) } }
            dl.facts {
                div { dt { "Status" } dd { (heading.status) @if heading.mode != "live" { " (" (heading.mode) ")" } } }
                div { dt { "Customers" } dd { (format::count(heading.customers)) } }
                div { dt { "Decisions" } dd { @if heading.sample.is_some() { "about " } (format::count(heading.decisions)) } }
                @if let Some(day) = on(heading.started_on) { div { dt { "Started" } dd { (day) } } }
                @if let Some(day) = on(heading.ended_on) { div { dt { "Ended" } dd { (day) } } }
                div { dt { "As of" } dd { (heading.as_of) } }
            }
        }
    }
}
