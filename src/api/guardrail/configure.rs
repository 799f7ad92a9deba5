//! Configure: guardrails. Plain DML on their tables does the same.

use decisioning_core::guardrail::{Selector, Weekdays};
use pgrx::datum::{Interval, Time, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;

use super::binding::{check_channel, check_dimension, scope};
use crate::api::campaign;
use crate::api::configuration;
use crate::api::configure::check_editable;
use crate::api::delivery::IS_RELEASED;
use crate::api::goal::check_goal;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::relation::{check_predicate, ColumnKind, RelationName};

/// Tables of rules, the column that names them, and whether a campaign is part of the name.
const TABLES: [(&str, &str, bool); 6] = [
    ("eligibility_rules", "rule", true),
    ("order_rules", "rule", true),
    ("consent_columns", "consent_column", true),
    ("consent_sources", "consent_source", false),
    ("frequency_caps", "cap", false),
    ("quiet_hours", "rule", false),
];

/// Calendar periods; any other is an interval.
const CALENDAR: [&str; 4] = ["day", "week", "month", "ever"];

pub fn selector(actions: Option<JsonB>, name: &str) -> Result<Selector> {
    serde_json::from_value(required(actions, name)?.0).map_err(|_| {
        Error::invalid(format!("{name} must say levels of dimensions"))
            .hint("For example '{\"channel\": [\"sms\", \"push\"]}'; '{}' means every action.")
    })
}

/// The elements of an argument that limits a rule: a list that is empty would limit it to nothing.
pub fn named(list: Option<Vec<Option<String>>>, name: &str, all: &str) -> Result<Option<Vec<String>>> {
    let Some(list) = list else { return Ok(None) };
    let given: Option<Vec<String>> = list.into_iter().collect();
    match given {
        Some(given) if !given.is_empty() => Ok(Some(given)),
        given => {
            let lacks = if given.is_some() { "be empty" } else { "contain NULL" };
            Err(Error::invalid(format!("{name} must not {lacks}"))
                .hint(format!("Leave it out, or give NULL, for {all}.")))
        }
    }
}

pub fn document(selector: &Selector) -> Result<JsonB> {
    Ok(JsonB(serde_json::to_value(selector)?))
}

/// What a rule is called that was not given a name.
fn titled(campaign: Option<&str>, selector: &Selector, rest: &str) -> String {
    let scope = if selector.is_everything() { "all actions".to_owned() } else { selector.to_string() };
    let name = campaign.map_or_else(|| format!("{scope}: {rest}"), |campaign| format!("{campaign}: {scope}: {rest}"));
    name.chars().take(200).collect()
}

/// Decisions that are under way end first, and those that begin afterwards see what is set now. Runs as the owner.
pub fn wait_for_decisions() -> Result<()> {
    query::execute("LOCK TABLE decisioning._assignment IN SHARE ROW EXCLUSIVE MODE", &[])?;
    Ok(())
}

/// Assignments keep as many contacts as the guardrails of their campaign asked about; a rule that asks for more needs those of the
/// log. Runs as the owner, with the table locked.
fn recall_contacts(campaign: Option<&str>) -> Result<()> {
    query::write_large(
        &format!(
            "UPDATE decisioning._assignment s
         SET contact_decisions = f.decisions, contact_times = f.times, contact_actions = f.actions
         FROM (SELECT d.customer_id, d.campaign, array_agg(d.decision_id ORDER BY d.decision_id) AS decisions,
                      array_agg(coalesce(m.send_at, o.send_at, d.send_at) ORDER BY d.decision_id) AS times,
                      array_agg(d.action_id ORDER BY d.decision_id) AS actions
               FROM decisioning.decisions d
               LEFT JOIN decisioning.sends m ON m.decision_id = d.decision_id
               LEFT JOIN decisioning._outbox o ON o.decision_id = d.decision_id
               WHERE d.action_id > 0 AND d.send_at IS NOT NULL AND d.origin = 'live' AND ($1 IS NULL OR d.campaign = $1)
                 AND ({IS_RELEASED}) IS NOT TRUE
               GROUP BY 1, 2) AS f
         WHERE s.customer_id = f.customer_id AND s.campaign = f.campaign
           AND cardinality(f.decisions) > coalesce(cardinality(s.contact_decisions), 0)"
        ),
        &[campaign.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

#[pg_extern(sql = false)]
fn add_eligibility_rule(
    campaign: Option<&str>,
    predicate: Option<&str>,
    actions: Option<JsonB>,
    effect: Option<&str>,
    rule: Option<&str>,
    allow_volatile: Option<bool>,
) -> std::result::Result<String, ErrorReport> {
    let (name, predicate) = (required(campaign, "campaign")?, required(predicate, "predicate")?);
    let (selector, effect) = (selector(actions, "actions")?, required(effect, "effect")?);
    if !["only_if", "must_send"].contains(&effect) {
        return Err(Error::invalid(format!("unknown effect \"{effect}\""))
            .hint("Effects are only_if and must_send.")
            .into());
    }
    let loaded = as_owner(|| {
        scope(campaign, &selector)?;
        Ok(campaign::load(name)?.0)
    })?;
    check_predicate(&loaded.customers(), predicate, "predicate", allow_volatile == Some(true))?;
    let rule = rule.map_or_else(|| predicate.chars().take(100).collect(), str::to_owned);
    as_owner(|| {
        configuration::execute(
            "INSERT INTO decisioning.eligibility_rules (campaign, rule, effect, actions, predicate) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (campaign, rule) DO UPDATE
             SET effect = excluded.effect, actions = excluded.actions, predicate = excluded.predicate",
            &[name.into(), rule.as_str().into(), effect.into(), document(&selector)?.into(), predicate.into()],
        )
    })?;
    Ok(rule)
}

#[pg_extern(sql = false)]
fn set_consent_column(
    campaign: Option<&str>,
    consent_column: Option<&str>,
    channel: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    let (name, column) = (required(campaign, "campaign")?, required(consent_column, "consent_column")?);
    let loaded = as_owner(|| {
        check_editable(name)?;
        check_channel(campaign, channel)?;
        Ok(campaign::load(name)?.0)
    })?;
    let relation = loaded.customers();
    boolean(&relation, column)?;
    as_owner(|| {
        configuration::execute(
            "INSERT INTO decisioning.consent_columns (campaign, consent_column, channel) VALUES ($1, $2, coalesce($3, '*'))
             ON CONFLICT DO NOTHING",
            &[name.into(), column.into(), channel.into()],
        )
    })?;
    Ok(())
}

fn boolean(relation: &RelationName, name: &str) -> Result<()> {
    let columns = relation.columns()?;
    match relation.column(&columns, name)?.kind {
        ColumnKind::Boolean => Ok(()),
        _ => Err(Error::new(PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH, format!("column \"{name}\" is not boolean"))
            .hint("Make a view with a boolean column that is true where consent was given.")),
    }
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn add_consent_source(
    relation: Option<pg_sys::Oid>,
    customer_key: Option<&str>,
    granted: Option<&str>,
    channel_column: Option<&str>,
    channel: Option<&str>,
    campaign: Option<&str>,
    consent_source: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let relation = RelationName::of(required(relation, "relation")?)?;
    let (key, granted) = (required(customer_key, "customer_key")?, required(granted, "granted")?);
    boolean(&relation, granted)?;
    let columns = relation.columns()?;
    for column in [Some(key), channel_column].into_iter().flatten() {
        relation.column(&columns, column)?;
    }
    if channel_column.is_some() && channel.is_some() {
        return Err(Error::invalid("channel_column and channel exclude each other")
            .hint("Either a column says which channel a row is about, or all rows are about one.")
            .into());
    }
    let source = consent_source.map_or_else(|| relation.name.clone(), str::to_owned);
    as_owner(|| {
        if let Some(campaign) = campaign {
            check_editable(campaign)?;
        }
        check_channel(campaign, channel)?;
        let added = configuration::execute(
            "INSERT INTO decisioning.consent_sources (consent_source, source_schema, source_relation, customer_key, granted,
                 channel_column, channel, campaign)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            &[
                source.as_str().into(),
                relation.schema.as_str().into(),
                relation.name.as_str().into(),
                key.into(),
                granted.into(),
                channel_column.into(),
                channel.into(),
                campaign.into(),
            ],
        )?;
        match added {
            0 => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("consent source \"{source}\" already exists"),
            )
            .hint("Give another consent_source, or remove it first with decisioning.remove_guardrail.")),
            _ => Ok(()),
        }
    })?;
    Ok(source)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn add_frequency_cap(
    maximum: Option<i32>,
    period: Option<&str>,
    campaign: Option<&str>,
    actions: Option<JsonB>,
    per: Option<&str>,
    ramp_from: Option<i32>,
    ramp_starts_at: Option<TimestampWithTimeZone>,
    ramp_ends_at: Option<TimestampWithTimeZone>,
    count_transactional: Option<bool>,
    cap: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let (maximum, period) = (required(maximum, "maximum")?, required(period, "period")?);
    if !(0..=10_000).contains(&maximum) {
        return Err(Error::invalid("maximum must be between 0 and 10000").detail(format!("Given: {maximum}.")).into());
    }
    let ramp = [ramp_from.is_some(), ramp_starts_at.is_some(), ramp_ends_at.is_some()];
    if ramp.contains(&true) && ramp.contains(&false) {
        return Err(Error::invalid("a ramp needs ramp_from, ramp_starts_at and ramp_ends_at").into());
    }
    if ramp_from.is_some_and(|from| !(0..=maximum).contains(&from))
        || ramp_starts_at >= ramp_ends_at && ramp_from.is_some()
    {
        return Err(
            Error::invalid("a ramp rises from ramp_from to maximum between ramp_starts_at and ramp_ends_at").into()
        );
    }
    let selector = selector(actions, "actions")?;
    let each = per.map_or_else(String::new, |per| format!(" per {per}"));
    let name = cap.map_or_else(|| titled(campaign, &selector, &format!("per {period}{each}")), str::to_owned);
    let calendar = CALENDAR.contains(&period).then_some(period);
    if calendar.is_none() && !period.contains(|c: char| c.is_ascii_digit()) {
        return Err(Error::invalid(format!("unknown period \"{period}\""))
            .hint("Periods are day, week, month, ever, or an interval such as '7 days'.")
            .into());
    }
    as_owner(|| {
        wait_for_decisions()?;
        scope(campaign, &selector)?;
        if let Some(per) = per {
            check_dimension(campaign, per)?;
        }
        let rolling = match calendar {
            Some(_) => None,
            None => query::read_one("SELECT $1::interval", &[period.into()], |row| row.value::<Interval>(1))?,
        };
        configuration::execute(
            "INSERT INTO decisioning.frequency_caps (cap, campaign, actions, per, maximum, period, rolling, ramp_from,
                 ramp_starts_at, ramp_ends_at, count_transactional)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, false))
             ON CONFLICT (cap) DO UPDATE
             SET campaign = excluded.campaign, actions = excluded.actions, per = excluded.per, maximum = excluded.maximum,
                 period = excluded.period, rolling = excluded.rolling, ramp_from = excluded.ramp_from,
                 ramp_starts_at = excluded.ramp_starts_at, ramp_ends_at = excluded.ramp_ends_at,
                 count_transactional = excluded.count_transactional",
            &[
                name.as_str().into(),
                campaign.into(),
                document(&selector)?.into(),
                per.into(),
                maximum.into(),
                calendar.into(),
                rolling.into(),
                ramp_from.into(),
                ramp_starts_at.into(),
                ramp_ends_at.into(),
                count_transactional.into(),
            ],
        )?;
        recall_contacts(campaign)
    })?;
    Ok(name)
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn set_quiet_hours(
    starts: Option<Time>,
    ends: Option<Time>,
    campaign: Option<&str>,
    actions: Option<JsonB>,
    weekdays: Option<Vec<Option<String>>>,
    jurisdiction: Option<&str>,
    kind: Option<&str>,
    rule: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let hours = HoursOf {
        starts: required(starts, "starts")?,
        ends: required(ends, "ends")?,
        weekdays: named(weekdays, "weekdays", "every day")?
            .map(|days| days.into_iter().map(|day| day.to_lowercase()).collect()),
        jurisdiction: jurisdiction.map(str::to_owned),
        kind: required(kind, "kind")?,
    };
    let name = hours.set(campaign, &selector(actions, "actions")?, rule)?;
    warn_of_zones(campaign)?;
    Ok(name)
}

#[pg_extern(sql = false)]
fn add_quiet_hours_preset(
    preset: Option<&str>,
    campaign: Option<&str>,
    actions: Option<JsonB>,
) -> std::result::Result<SetOfIterator<'static, String>, ErrorReport> {
    let preset = required(preset, "preset")?;
    let selector = selector(actions, "actions")?;
    let hours = as_owner(|| {
        query::read(
            "SELECT p.starts, p.ends, p.weekdays, p.jurisdiction FROM decisioning.quiet_hours_presets p
             WHERE p.preset = $1 ORDER BY p.jurisdiction, p.weekdays NULLS FIRST",
            &[preset.into()],
            |row| {
                let (starts, ends) = (row.value(1)?, row.value(2)?);
                Ok(HoursOf { starts, ends, weekdays: row.get(3)?, jurisdiction: row.get(4)?, kind: "quiet" })
            },
        )
    })?;
    if hours.is_empty() {
        return Err(Error::missing(format!("there is no preset \"{preset}\""))
            .hint("SELECT DISTINCT preset FROM decisioning.quiet_hours_presets lists them.")
            .into());
    }
    let names = hours.iter().map(|hours| hours.set(campaign, &selector, None)).collect::<Result<Vec<_>>>()?;
    warn_of_zones(campaign)?;
    Ok(SetOfIterator::new(names))
}

/// Hours of a rule.
struct HoursOf<'a> {
    starts: Time,
    ends: Time,
    weekdays: Option<Vec<String>>,
    jurisdiction: Option<String>,
    kind: &'a str,
}

impl HoursOf<'_> {
    /// Sets them for a campaign, or for all, under a name that says what they are unless one is given.
    fn set(&self, campaign: Option<&str>, selector: &Selector, rule: Option<&str>) -> Result<String> {
        let HoursOf { starts, ends, weekdays, jurisdiction, kind } = self;
        if !["quiet", "open"].contains(kind) {
            return Err(Error::invalid(format!("unknown kind of hours \"{kind}\"")).hint("Kinds are quiet and open."));
        }
        if let Some(days) = weekdays {
            Weekdays::parse(days.iter().map(String::as_str))
                .map_err(|error| Error::invalid(error.to_string()).hint("Days are monday to sunday."))?;
        }
        let days = weekdays.as_ref().map_or_else(String::new, |days| format!(" on {}", days.join(", ")));
        let place = jurisdiction.as_ref().map_or_else(String::new, |place| format!(" in {place}"));
        let clock = |time: &Time| format!("{:02}:{:02}", time.hour(), time.minute());
        let hours = format!("{kind} {} to {}{days}{place}", clock(starts), clock(ends));
        let name = rule.map_or_else(|| titled(campaign, selector, &hours), str::to_owned);
        as_owner(|| {
            scope(campaign, selector)?;
            configuration::execute(
                "INSERT INTO decisioning.quiet_hours (rule, campaign, kind, actions, starts, ends, weekdays, jurisdiction)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (rule) DO UPDATE
                 SET campaign = excluded.campaign, kind = excluded.kind, actions = excluded.actions,
                     starts = excluded.starts, ends = excluded.ends, weekdays = excluded.weekdays,
                     jurisdiction = excluded.jurisdiction",
                &[
                    name.as_str().into(),
                    campaign.into(),
                    (*kind).into(),
                    document(selector)?.into(),
                    (*starts).into(),
                    (*ends).into(),
                    weekdays.clone().into(),
                    jurisdiction.as_deref().into(),
                ],
            )
        })?;
        Ok(name)
    }
}

/// Warns of campaigns that would send nothing because they know no time zone of their customers.
fn warn_of_zones(campaign: Option<&str>) -> Result<()> {
    let zoneless = as_owner(|| {
        query::read(
            "SELECT c.campaign FROM decisioning.campaigns c
             WHERE c.time_zone_column IS NULL AND c.fallback_time_zone IS NULL AND c.status <> 'ended'
               AND c.campaign = coalesce($1, c.campaign) ORDER BY 1",
            &[campaign.into()],
            |row| row.value::<String>(1),
        )
    })?;
    for campaign in zoneless {
        pgrx::warning!(
            "campaign \"{campaign}\" knows no time zone of its customers and sends nothing that keeps quiet hours; \
             decisioning.set_send_options(campaign, fallback_time_zone => …) gives it one"
        );
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn add_order_rule(
    campaign: Option<&str>,
    actions: Option<JsonB>,
    requirement: Option<&str>,
    other: Option<JsonB>,
    within: Option<Interval>,
    rule: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let (campaign, requirement) = (required(campaign, "campaign")?, required(requirement, "requirement")?);
    if !["only_after", "never_after"].contains(&requirement) {
        return Err(Error::invalid(format!("unknown requirement \"{requirement}\""))
            .hint("Requirements are only_after and never_after.")
            .into());
    }
    let (actions, other) = (selector(actions, "actions")?, selector(other, "other")?);
    let title = || format!("{actions} {} {other}", requirement.replace('_', " ")).chars().take(200).collect();
    let name = rule.map_or_else(title, str::to_owned);
    as_owner(|| {
        wait_for_decisions()?;
        scope(Some(campaign), &actions)?;
        scope(Some(campaign), &other)?;
        configuration::execute(
            "INSERT INTO decisioning.order_rules (campaign, rule, requirement, actions, other, within)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (campaign, rule) DO UPDATE
             SET requirement = excluded.requirement, actions = excluded.actions, other = excluded.other, within = excluded.within",
            &[
                campaign.into(),
                name.as_str().into(),
                requirement.into(),
                document(&actions)?.into(),
                document(&other)?.into(),
                within.into(),
            ],
        )?;
        recall_contacts(Some(campaign))
    })?;
    Ok(name)
}

#[pg_extern(sql = false)]
fn set_goal_exit(
    campaign: Option<&str>,
    goal: Option<&str>,
    exit_policy: Option<&str>,
    cool_down: Option<Interval>,
) -> std::result::Result<(), ErrorReport> {
    let (campaign, goal) = (required(campaign, "campaign")?, required(goal, "goal")?);
    let policy = required(exit_policy, "exit_policy")?;
    match (policy, cool_down.is_some()) {
        ("stay" | "leave", false) | ("cool_down", true) => {}
        ("cool_down", false) => {
            return Err(Error::invalid("a cool-down needs a time").hint("For example cool_down => '14 days'.").into())
        }
        ("stay" | "leave", true) => return Err(Error::invalid("cool_down is for the policy cool_down").into()),
        _ => {
            return Err(Error::invalid(format!("unknown policy \"{policy}\""))
                .hint("Policies are stay, leave and cool_down.")
                .into())
        }
    }
    as_owner(|| {
        check_editable(campaign)?;
        check_goal(goal)?;
        let changed = configuration::execute(
            "UPDATE decisioning.campaign_goals g SET exit_policy = $3, cool_down = $4 WHERE g.campaign = $1 AND g.goal = $2",
            &[campaign.into(), goal.into(), policy.into(), cool_down.into()],
        )?;
        match changed {
            0 => Err(Error::missing(format!("campaign \"{campaign}\" does not work for goal \"{goal}\""))
                .hint("Add it with decisioning.add_campaign_goal.")),
            _ => Ok(()),
        }
    })
    .map_err(Into::into)
}

#[pg_extern(sql = false)]
fn set_send_options(
    campaign: Option<&str>,
    fallback_time_zone: Option<&str>,
    jurisdiction_column: Option<&str>,
    send_horizon: Option<Interval>,
    send_within: Option<Interval>,
) -> std::result::Result<(), ErrorReport> {
    let name = required(campaign, "campaign")?;
    if let Some(zone) = fallback_time_zone {
        decisioning_core::decide::period(0, zone)
            .map_err(|error| Error::invalid(error.to_string()).hint("Give an IANA name such as 'Europe/Berlin'."))?;
    }
    let loaded = as_owner(|| {
        check_editable(name)?;
        Ok(campaign::load(name)?.0)
    })?;
    if let Some(column) = jurisdiction_column {
        let relation = loaded.customers();
        relation.column(&relation.columns()?, column)?;
    }
    as_owner(|| {
        configuration::execute(
            "UPDATE decisioning.campaigns c
             SET fallback_time_zone = coalesce($2, c.fallback_time_zone),
                 jurisdiction_column = coalesce($3, c.jurisdiction_column), send_horizon = coalesce($4, c.send_horizon),
                 send_within = coalesce($5, c.send_within)
             WHERE c.campaign = $1",
            &[
                name.into(),
                fallback_time_zone.into(),
                jurisdiction_column.into(),
                send_horizon.into(),
                send_within.into(),
            ],
        )
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn remove_guardrail(
    relation: Option<&str>,
    rule: Option<&str>,
    campaign: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    let (relation, rule) = (required(relation, "relation")?, required(rule, "rule")?);
    let Some((table, column, keyed)) = TABLES.into_iter().find(|(table, ..)| *table == relation) else {
        let tables: Vec<&str> = TABLES.iter().map(|(table, ..)| *table).collect();
        return Err(Error::invalid(format!("there are no guardrails in \"{relation}\""))
            .hint(format!("Relations are {}.", tables.join(", ")))
            .into());
    };
    if keyed {
        required(campaign, "campaign")?;
    }
    let removed = as_owner(|| {
        query::execute(
            &format!("DELETE FROM decisioning.{table} t WHERE t.{column} = $1 AND ($2 IS NULL OR t.campaign = $2)"),
            &[rule.into(), campaign.into()],
        )
    })?;
    match removed {
        0 => Err(Error::missing(format!("{table} has no rule \"{rule}\""))
            .hint(format!("SELECT {column} FROM decisioning.{table} lists them."))
            .into()),
        _ => Ok(()),
    }
}
