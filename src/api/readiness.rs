//! Before launch: is there enough to learn from, and to prove anything with?

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Campaign};
use super::configure::audience_size;
use super::now;
use super::power::base;
use crate::pg::error::{required, Result};
use crate::pg::guard::{as_owner, for_texts};
use crate::pg::query::{self, Row};
use crate::pg::relation::{quote_identifier, Column, ColumnKind};

/// Rows of the audience that features are looked at in.
const LOOKED_AT: i64 = 100_000;

/// Correlation of a feature with what is to be predicted from which on it is suspected to be a consequence of it.
const SUSPICIOUS: f64 = 0.8;

/// Responses that a level of a dimension takes to be told from others.
const RESPONSES_PER_LEVEL: f64 = 50.0;

/// Responses in a week of the whole audience below which there is too little to learn from.
const FEWEST_WEEKLY: f64 = 30.0;

struct Finding {
    topic: &'static str,
    status: &'static str,
    finding: String,
    advice: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        topic: &'static str,
        status: &'static str,
        finding: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.0.push(Finding { topic, status, finding: finding.into(), advice: advice.into() });
    }
}

#[pg_extern(sql = false)]
fn data_readiness(
    campaign: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (name!(topic, &'static str), name!(status, &'static str), name!(finding, String), name!(advice, String)),
    >,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    let mut found = Findings::default();
    let audience = volume(&campaign, &mut found)?;
    keys(&campaign, &mut found)?;
    features(&campaign, &mut found)?;
    goals(&campaign, audience, &mut found)?;
    let row = |Finding { topic, status, finding, advice }| (topic, status, finding, advice);
    Ok(TableIterator::new(found.0.into_iter().map(row).collect::<Vec<_>>()))
}

/// Reads the customers relation as the caller.
fn volume(campaign: &Campaign, found: &mut Findings) -> Result<f64> {
    let audience = audience_size(&campaign.customers(), &campaign.customer_key, campaign.audience.as_deref())?;
    let holdout = (audience as f64 * campaign.shares().exact()[0]).floor();
    let finding = format!("{audience} customers in the audience now, {holdout:.0} of them for the holdout");
    match holdout {
        _ if audience == 0 => {
            found.add("volume", "bad", finding, "nobody satisfies the audience: look at its predicate")
        }
        holdout if holdout < 100.0 => {
            found.add(
                "volume",
                "bad",
                finding,
                "no lift can be proved with so few: widen the audience, or give the holdout a larger share",
            );
        }
        holdout if holdout < 1000.0 => {
            found.add("volume", "warning", finding, "only a large lift can be proved: see power_analysis")
        }
        _ => found.add("volume", "good", finding, ""),
    }
    Ok(audience as f64)
}

/// Reads the customers relation as the caller.
fn keys(campaign: &Campaign, found: &mut Findings) -> Result<()> {
    let key = quote_identifier(&campaign.customer_key);
    let sql = format!(
        "SELECT pg_catalog.count(*), pg_catalog.count(DISTINCT relation.{key}), pg_catalog.count(*) FILTER (WHERE relation.{key} IS NULL)
         FROM {} AS relation",
        campaign.customers().quoted()
    );
    let counts =
        query::read_one(&sql, &[], |row| Ok((row.value::<i64>(1)?, row.value::<i64>(2)?, row.value::<i64>(3)?)))?;
    let (rows, distinct, missing) = counts.unwrap_or_default();
    let repeated = rows - distinct - missing;
    match (repeated, missing) {
        (0, 0) => found.add("keys", "good", format!("{rows} rows, each with an id of its own"), ""),
        (0, missing) => {
            found.add("keys", "warning", format!("{missing} of {rows} rows have no id"), "they are left out")
        }
        (repeated, _) => found.add(
            "keys",
            "bad",
            format!("{repeated} of {rows} rows repeat the id of another"),
            "give the campaign a view with one row per customer, such as decisioning.golden_records after resolve_all",
        ),
    }
    Ok(())
}

/// What is said of a feature.
struct Feature {
    name: String,
    rows: i64,
    missing: i64,
    distinct: i64,
    /// Days since the latest time in it, of a column with times.
    latest: Option<f64>,
    correlation: Option<f64>,
}

/// Reads the customers relation as the caller, and events of the goals as the owner.
fn features(campaign: &Campaign, found: &mut Findings) -> Result<()> {
    let columns = campaign.customers().columns()?;
    let used = |column: &&Column| {
        let apart = [Some(&campaign.customer_key), campaign.time_zone_column.as_ref(), campaign.offset_column.as_ref()];
        match &campaign.features {
            Some(features) => features.contains(&column.name),
            None => !apart.contains(&Some(&column.name)) && column.kind != ColumnKind::Other,
        }
    };
    let columns: Vec<&Column> = columns.iter().filter(used).collect();
    if columns.is_empty() {
        found.add(
            "features",
            "warning",
            "there are no features",
            "everybody gets the same action: add columns that tell customers apart",
        );
        return Ok(());
    }
    let responders = as_owner(|| responders(campaign))?;
    let (mut sparse, mut constant, mut stale, mut suspects) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for feature in look(campaign, &columns, &responders)? {
        let share = feature.missing as f64 / feature.rows.max(1) as f64;
        if share > 0.5 {
            sparse.push(format!("{} ({:.0} %)", feature.name, 100.0 * share));
        }
        if feature.distinct <= 1 && feature.rows > 0 {
            constant.push(feature.name.clone());
        }
        if let Some(days) = feature.latest.filter(|days| *days > 7.0) {
            stale.push(format!("{} ({days:.0} days)", feature.name));
        }
        if feature.latest.is_some_and(|days| days < -1.0) {
            suspects.push(format!("{} (has times to come)", feature.name));
        }
        if let Some(correlation) = feature.correlation.filter(|correlation| correlation.abs() > SUSPICIOUS) {
            suspects.push(format!("{} (correlation {correlation:.2})", feature.name));
        }
    }
    let mut say = |topic, names: Vec<String>, status, what: &str, advice: &str| match names.len() {
        0 => found.add(topic, "good", format!("there are no features that {what}"), ""),
        _ => found.add(topic, status, format!("features that {what}: {}", names.join(", ")), advice),
    };
    say(
        "missing values",
        sparse,
        "warning",
        "are missing for most customers",
        "missing is a level of its own; leave out what is missing for nearly all",
    );
    say(
        "constant features",
        constant,
        "warning",
        "have one value only",
        "they tell customers apart no better than nothing: leave them out",
    );
    say(
        "stale features",
        stale,
        "warning",
        "have had no new time for a week",
        "see whether the job that fills them still runs",
    );
    say(
        "leakage",
        suspects,
        "bad",
        "look like a consequence of the outcome",
        "a feature must be known before the decision: a column that the response itself changes makes the model believe in what it cannot know",
    );
    Ok(())
}

/// Ids of customers who have responded lately: the outcome that features must not know. Runs as the owner.
fn responders(campaign: &Campaign) -> Result<Vec<String>> {
    query::read(
        "SELECT o.customer_id FROM decisioning.outcomes o
         JOIN decisioning.campaign_goals g ON g.goal = o.goal AND g.campaign = $1
         JOIN decisioning.goals k ON k.goal = g.goal AND k.kind IN ('conversion', 'value')
         WHERE o.occurred_at <= $2 AND o.occurred_at > $2 - g.attribution_seconds * interval '1 second'
         GROUP BY o.customer_id HAVING sum(o.events) > 0 ORDER BY 1 LIMIT $3",
        &[campaign.campaign.as_str().into(), now()?.into(), LOOKED_AT.into()],
        |row| row.value(1),
    )
}

/// One pass over the first rows of the audience. Runs as the caller.
fn look(campaign: &Campaign, columns: &[&Column], responders: &[String]) -> Result<Vec<Feature>> {
    let relation = campaign.customers();
    let all = relation.columns()?;
    let key = relation.column(&all, &campaign.customer_key)?;
    let mut selected = String::from("pg_catalog.count(*)");
    for column in columns {
        let quoted = format!("audience.{}", quote_identifier(&column.name));
        let value = match column.kind {
            // As deciding reads them: there is no age of infinity.
            ColumnKind::Time | ColumnKind::LocalTime => {
                format!("(CASE WHEN pg_catalog.isfinite({quoted}) THEN {quoted} END)")
            }
            _ => quoted,
        };
        let number = match column.kind {
            ColumnKind::Numeric => Some(format!("{value}::pg_catalog.numeric::pg_catalog.float8")),
            ColumnKind::Boolean => Some(format!("{value}::pg_catalog.int4::pg_catalog.float8")),
            _ => None,
        };
        let latest = match column.kind {
            ColumnKind::Time => {
                format!("pg_catalog.date_part('epoch', $2 OPERATOR(pg_catalog.-) pg_catalog.max({value})) OPERATOR(pg_catalog./) 86400.0::float8")
            }
            ColumnKind::LocalTime => format!(
                "pg_catalog.date_part('epoch', $2 OPERATOR(pg_catalog.-) (pg_catalog.max({value})::pg_catalog.timestamp AT TIME ZONE 'UTC')) OPERATOR(pg_catalog./) 86400.0::float8"
            ),
            _ => "NULL::pg_catalog.float8".to_owned(),
        };
        let correlation = number.map_or_else(
            || "NULL::pg_catalog.float8".to_owned(),
            |number| format!("pg_catalog.corr({number}, audience.responded::pg_catalog.int4::pg_catalog.float8)"),
        );
        selected.push_str(&format!(
            ", pg_catalog.count(*) OPERATOR(pg_catalog.-) pg_catalog.count({value}), pg_catalog.count(DISTINCT {value}), {latest}, {correlation}"
        ));
    }
    let sql = format!(
        "SELECT {selected}
         FROM (SELECT relation.*, {} OPERATOR(pg_catalog.=) ANY ($1) AS responded
               FROM {} AS relation WHERE relation.{} IS NOT NULL AND (\n{}\n) IS TRUE LIMIT {LOOKED_AT}) AS audience",
        key.text("relation"),
        relation.quoted(),
        quote_identifier(&key.name),
        campaign.audience.as_deref().unwrap_or("true"),
    );
    let read = |row: &Row<'_, '_>| -> Result<Vec<Feature>> {
        let rows: i64 = row.value(1)?;
        (0..columns.len())
            .map(|at| {
                let first = 2 + 4 * at;
                Ok(Feature {
                    name: columns[at].name.clone(),
                    rows,
                    missing: row.value(first)?,
                    distinct: row.value(first + 1)?,
                    latest: row.get::<f64>(first + 2)?.filter(|days| days.is_finite()),
                    correlation: row.get(first + 3)?,
                })
            })
            .collect()
    };
    let arguments = [responders.to_vec().into(), now()?.into()];
    Ok(for_texts(|| query::read_one(&sql, &arguments, read))?.unwrap_or_default())
}

/// Reads the customers relation as the caller.
fn goals(campaign: &Campaign, audience: f64, found: &mut Findings) -> Result<()> {
    let goals: Vec<_> =
        campaign.goals.iter().filter(|goal| matches!(goal.kind.as_str(), "conversion" | "value")).collect();
    if goals.is_empty() {
        found.add("goals", "bad", "the campaign has no goal to work for", "add one with add_campaign_goal");
        return Ok(());
    }
    let approved = campaign.actions.iter().filter(|action| action.status == "approved").count();
    match approved {
        0 => found.add("actions", "bad", "no action is approved", "approve actions with approve_action"),
        1 => found.add(
            "actions",
            "warning",
            "one action is approved",
            "there is nothing to learn but whether to send it",
        ),
        _ => found.add("actions", "good", format!("{approved} actions are approved"), ""),
    }
    let levels: std::collections::BTreeSet<_> = campaign.actions.iter().flat_map(|action| &action.dimensions).collect();
    for goal in goals {
        let Some(base) = base(campaign, goal, audience)? else {
            found.add(
                "base rate",
                "warning",
                format!("fewer than 30 customers have reached \"{}\" within an attribution window", goal.goal),
                "ingest past events with add_outcome_source and ingest_outcomes, or choose a goal that is reached more often",
            );
            continue;
        };
        let shares = campaign.shares().exact();
        let detectable = base.plan(0.8, 0.95).detectable(audience * shares[3], audience * shares[0]);
        let relative = detectable.map(|difference| difference / base.mean);
        let measured = if goal.kind == "value" { "value per customer" } else { "rate" };
        let finding = format!(
            "{measured} of \"{}\" without a send {:.4} within {:.0} days ({})",
            goal.goal,
            base.mean,
            goal.attribution_seconds / 86_400.0,
            base.basis
        );
        match relative {
            Some(relative) if relative <= 0.2 => {
                found.add("base rate", "good", finding, format!("a lift of {:.0} % can be detected", 100.0 * relative))
            }
            Some(relative) => found.add(
                "base rate",
                "warning",
                finding,
                format!("only a lift of {:.0} % or more can be detected: see power_analysis", 100.0 * relative),
            ),
            None if shares[0] <= 0.0 || shares[3] <= 0.0 => found.add(
                "base rate",
                "warning",
                finding,
                "without a holdout and an optimise group no lift can be measured",
            ),
            None => found.add(
                "base rate",
                "warning",
                finding,
                "fewer than 30 of the holdout will respond, and before that no lift can be measured: see power_analysis",
            ),
        }
        if goal.kind == "value" {
            continue;
        }
        let weekly = audience * base.mean * 7.0 * 86_400.0 / goal.attribution_seconds;
        let weeks = levels.len() as f64 * RESPONSES_PER_LEVEL / weekly;
        let finding = format!("about {weekly:.0} responses a week over {} levels of dimensions", levels.len());
        if weekly < FEWEST_WEEKLY {
            found.add("time to learn", "bad", finding, "one-off or rare responses teach too little: choose a goal earlier on the way (a visit, a reply), fewer actions, or a fixed rule instead of a learned one");
        } else if weeks > 8.0 {
            found.add(
                "time to learn",
                "warning",
                finding,
                format!("expect {weeks:.0} weeks until levels are told apart: start with fewer"),
            );
        } else {
            found.add(
                "time to learn",
                "good",
                finding,
                format!(
                    "expect {:.0} days until levels are told apart",
                    (7.0 * weeks).ceil().max(goal.attribution_seconds / 86_400.0)
                ),
            );
        }
    }
    Ok(())
}
