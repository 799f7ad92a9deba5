//! How many customers, and days, it takes to see a lift.

use std::collections::HashMap;

use decisioning_core::measure::{Plan, Sample, Variable, FEWEST_RESPONDERS};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::campaign::{self, Campaign, CampaignGoal};
use super::configure::audience_size;
use super::evaluate::checked_confidence;
use super::lift::{self, Cell, Known, Question, Span, Subject};
use super::{configure, now};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, for_texts};
use crate::pg::query;

/// Days over which new customers are counted.
const DAYS: f64 = 28.0;

/// What customers do without a send, and where that is known from.
pub struct Base {
    pub mean: f64,
    /// Of a customer; where whole households are drawn, of as many customers as a household has, taken together.
    variance: f64,
    /// Share of customers who do anything.
    responding: f64,
    pub basis: &'static str,
}

impl Base {
    /// Of units that have one customer or more, by the delta method.
    fn of(sample: &Sample, responding: f64, basis: &'static str) -> Self {
        use Variable::{Denominator, Outcome};
        let size = sample.mean(Denominator);
        let mean = sample.mean(Outcome) / size;
        let squares = sample.products(Outcome, Outcome) - 2.0 * mean * sample.products(Outcome, Denominator)
            + mean * mean * sample.products(Denominator, Denominator);
        Base { mean, variance: squares / (sample.count - 1.0).max(1.0) / size, responding, basis }
    }

    pub fn plan(&self, power: f64, confidence: f64) -> Plan {
        Plan { variance: self.variance, responding: self.responding, power, confidence }
    }
}

/// Customers of past events whom the audience is asked about; of more, a sample by their hash.
const LOOKED_AT: i64 = 100_000;

/// What a campaign knows of a goal: the holdout, within the attribution window; before there is enough of that, past events of the
/// audience of so many customers, as if its window ended now. `None` if there are too few of those, too. Reads the customers relation
/// as the caller.
pub fn base(campaign: &Campaign, goal: &CampaignGoal, audience: f64) -> Result<Option<Base>> {
    if let Some(base) = as_owner(|| base_of_holdout(campaign, goal))? {
        return Ok(Some(base));
    }
    let (past, share) = as_owner(|| past(goal))?;
    let ids: Vec<&str> = past.keys().map(String::as_str).collect();
    let totals: Vec<f64> = members(campaign, &ids)?.iter().filter_map(|id| past.get(id)).copied().collect();
    let sum = |of: &dyn Fn(f64) -> f64| totals.iter().map(|total| of(*total)).sum::<f64>() / share;
    let known = totals.len() as f64 >= FEWEST_RESPONDERS;
    let sample = Sample::of_sums(audience, sum(&|x| x), sum(&|x| x * x)).per_unit();
    Ok(known.then(|| Base::of(&sample, sum(&|_| 1.0) / audience, "history")))
}

/// What customers did in a window that ends now, by today's ids, of those who did anything; and the share of them who are looked at.
/// Runs as the owner.
fn past(goal: &CampaignGoal) -> Result<(HashMap<String, f64>, f64)> {
    let mut all = 0.0;
    let found = query::read(
        "SELECT c.customer_id, c.total, c.all
         FROM (SELECT coalesce(a.customer_id, o.customer_id) AS customer_id, count(*) OVER ()::float8 AS all,
                      CASE WHEN $4 THEN greatest(sum(o.value), 0) ELSE 1 END::float8 AS total
               FROM decisioning.outcomes o LEFT JOIN decisioning._log_alias a ON a.alias = o.customer_id
               WHERE o.goal = $1 AND o.occurred_at <= $2 AND o.occurred_at > $2 - $3 * interval '1 second'
               GROUP BY 1 HAVING sum(o.events) > 0) AS c
         ORDER BY hashtext(c.customer_id), 1 LIMIT $5",
        &[
            goal.goal.as_str().into(),
            now()?.into(),
            goal.attribution_seconds.into(),
            (goal.kind == "value").into(),
            LOOKED_AT.into(),
        ],
        |row| {
            all = row.value(3)?;
            Ok((row.value::<String>(1)?, row.value::<f64>(2)?))
        },
    )?;
    let share = if found.is_empty() { 1.0 } else { found.len() as f64 / all };
    Ok((found.into_iter().collect(), share))
}

/// Which of some customers are in the audience. Runs as the caller.
fn members(campaign: &Campaign, ids: &[&str]) -> Result<Vec<String>> {
    let relation = campaign.customers();
    let columns = relation.columns()?;
    let key = relation.column(&columns, &campaign.customer_key)?.text("relation");
    let sql = format!(
        "SELECT {key} FROM {} AS relation WHERE {key} OPERATOR(pg_catalog.=) ANY ($1) AND (\n{}\n) IS TRUE",
        relation.quoted(),
        campaign.audience.as_deref().unwrap_or("true"),
    );
    let mut found = for_texts(|| query::read(&sql, &[ids.to_vec().into()], |row| row.value::<String>(1)))?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// What the holdout did within the attribution window; `None` if too few responded. Runs as the owner.
fn base_of_holdout(campaign: &Campaign, goal: &CampaignGoal) -> Result<Option<Base>> {
    let question = Question {
        goal: Some(goal.goal.clone()),
        span: Span::For(goal.attribution_seconds),
        ..Question::new(Some(&campaign.campaign), now()?, 0.95)
    };
    let subject = Subject { campaign: campaign.campaign.clone(), goal: goal.goal.clone() };
    let known = lift::ask(&question, &question.census(None)?)?.remove(&subject).unwrap_or_default();
    let is_value = goal.kind == "value";
    let of = |known: &Known, group: &str| {
        let mut merged = Sample::default();
        for cell in known.strata.values().filter_map(|cells| cells.get(group)) {
            merged.merge(if is_value { &cell.value } else { &cell.rate });
        }
        merged
    };
    let enough = known.responders("optimise", "holdout").baseline >= FEWEST_RESPONDERS;
    let holdout = || known.strata.values().filter_map(|cells| cells.get("holdout"));
    let sum = |of: fn(&Cell) -> f64| holdout().map(of).sum::<f64>();
    let responding = sum(|cell| cell.responders) / sum(|cell| cell.customers);
    Ok(enough.then(|| Base::of(&of(&known, "holdout"), responding, "holdout")))
}

/// Customers exposed so far, and new ones per day lately. Runs as the owner.
fn traffic(campaign: &str) -> Result<(f64, f64)> {
    let found = query::read_one(
        "SELECT count(*)::float8,
                count(*) FILTER (WHERE s.exposed_at > $2 - $3 * interval '1 day')
                    / greatest(least($3, date_part('epoch', $2 - min(s.exposed_at)) / 86400), 1)
         FROM decisioning._assignment s WHERE s.campaign = $1 AND s.exposed_at < $2",
        &[campaign.into(), now()?.into(), DAYS.into()],
        |row| Ok((row.value::<f64>(1)?, row.get::<f64>(2)?.unwrap_or(0.0))),
    )?;
    Ok(found.unwrap_or_default())
}

/// Days until so many customers have been exposed, and their windows are over: at once if the audience waits to be decided for, and
/// at the pace of new customers if it does not. `None` if they will never be.
fn days(needed: f64, exposed: f64, waiting: f64, daily: f64, window: f64) -> Option<f64> {
    let missing = needed - exposed - waiting;
    let days = match missing {
        missing if missing <= 0.0 => 0.0,
        missing if daily > 0.0 => missing / daily,
        _ => return None,
    };
    Some((days + window / 86_400.0).ceil())
}

/// The lift that is to be seen, and how surely.
struct Asked {
    relative: f64,
    power: f64,
    confidence: f64,
}

/// What it takes to see it in a goal.
struct Analysis {
    goal: String,
    measure: &'static str,
    base: Option<Base>,
    /// Customers so far, and new ones per day.
    exposed: f64,
    daily: f64,
    needed: Option<f64>,
    days: Option<f64>,
    /// Smallest relative lift that would be seen among all customers there are.
    detectable: Option<f64>,
    holdout: f64,
    suggested: Option<f64>,
    advice: String,
}

/// Goals of a campaign that are measured, or one of them. Reads the customers relation as the caller.
fn analyse(campaign: &Campaign, audience: f64, asked: &Asked, goal: Option<&str>) -> Result<Vec<Analysis>> {
    let Asked { relative, power, confidence } = *asked;
    let shares = campaign.shares().exact();
    let (holdout, optimise) = (shares[0], shares[3]);
    let (exposed, daily) = as_owner(|| traffic(&campaign.campaign))?;
    let all = exposed.max(audience);
    let goals = campaign.goals.iter().filter(|known| known.kind != "engagement");
    let mut found = Vec::new();
    for known in goals.filter(|known| goal.is_none_or(|goal| goal == known.goal)) {
        let base = base(campaign, known, audience)?;
        let usable = base.as_ref().filter(|base| base.mean > 0.0 && base.variance > 0.0);
        let usable = usable.map(|base| (base.mean, base.plan(power, confidence)));
        let compared = holdout + optimise;
        let needed = usable.and_then(|(mean, plan)| {
            let both = plan.needed(relative * mean, holdout / compared)?;
            Some((both / compared).ceil())
        });
        let detectable = usable.and_then(|(mean, plan)| Some(plan.detectable(all * optimise, all * holdout)? / mean));
        let suggested = usable
            .and_then(|(mean, plan)| plan.smallest_holdout(relative * mean, all * compared))
            .map(|share| ((100.0 * share).ceil() / 100.0).max(0.01));
        let waiting = (audience - exposed).max(0.0);
        let days = needed.and_then(|needed| days(needed, exposed, waiting, daily, known.attribution_seconds));
        let advice = match (usable, suggested) {
            (None, _) => "nothing is known of this goal yet: ingest past events, or look again when 30 customers of the holdout have responded".to_owned(),
            (Some(_), _) if holdout == 0.0 => "without a holdout no lift can be measured: give the campaign a holdout_share".to_owned(),
            (Some(_), None) => match detectable {
                Some(detectable) => format!("with {all:.0} customers such a lift cannot be detected at any holdout share: expect {:.0} % or more, or take a larger audience", 100.0 * detectable),
                None => format!("with {all:.0} customers such a lift cannot be detected at any holdout share: take a larger audience"),
            },
            (Some(_), Some(share)) if share > holdout + 0.005 => format!("a holdout of {:.0} % would detect it with the audience there is", 100.0 * share),
            (Some(_), Some(_)) => "the holdout is large enough".to_owned(),
        };
        found.push(Analysis {
            goal: known.goal.clone(),
            measure: lift::Measure::of(&known.kind)[0].as_str(),
            base,
            exposed,
            daily,
            needed,
            days,
            detectable,
            holdout,
            suggested,
            advice,
        });
    }
    Ok(found)
}

/// What a campaign can make of a goal that it was just given, in a sentence; `None` if nothing is known of the goal yet, or the caller
/// may not count the audience.
pub fn outlook(campaign: &str, goal: &str) -> Result<Option<String>> {
    let known = as_owner(|| {
        let (campaign, _) = campaign::load(campaign)?;
        let seen = query::read_one(
            "SELECT EXISTS (SELECT FROM decisioning.outcomes o WHERE o.goal = $1)",
            &[goal.into()],
            |row| row.value::<bool>(1),
        )?;
        Ok(seen.unwrap_or(false).then_some(campaign))
    })?;
    let Some(campaign) = known else { return Ok(None) };
    if !campaign.customers().may_read()? {
        return Ok(None);
    }
    let audience = audience_size(&campaign.customers(), &campaign.customer_key, campaign.audience.as_deref())?;
    let asked = Asked { relative: 0.1, power: 0.8, confidence: 0.95 };
    let found = analyse(&campaign, audience as f64, &asked, Some(goal))?;
    let sentence = |found: Analysis| {
        let (base, detectable) = found.base.zip(found.detectable)?;
        Some(format!(
            "goal \"{goal}\": {} of {} so far ({}); smallest detectable lift (80 % power, 95 % confidence however often one looks): {:.0} % of it with the {audience} customers there are. A lift of 10 %: {}",
            found.measure,
            (1000.0 * base.mean).round() / 1000.0,
            base.basis,
            100.0 * detectable,
            found.advice,
        ))
    };
    Ok(found.into_iter().find_map(sentence))
}

#[pg_extern(sql = false)]
fn power_analysis(
    campaign: Option<&str>,
    relative_lift: Option<f64>,
    power: Option<f64>,
    confidence: Option<f64>,
    goal: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(goal, String),
            name!(measure, &'static str),
            name!(base, Option<f64>),
            name!(basis, &'static str),
            name!(relative_lift, f64),
            name!(audience, i64),
            name!(exposed, i64),
            name!(customers_per_day, f64),
            name!(customers_needed, Option<i64>),
            name!(days_needed, Option<i32>),
            name!(detectable_lift, Option<f64>),
            name!(holdout_share, f64),
            name!(suggested_holdout_share, Option<f64>),
            name!(advice, String),
        ),
    >,
    ErrorReport,
> {
    let name = required(campaign, "campaign")?;
    let relative = required(relative_lift, "relative_lift")?;
    if !(relative > 0.0 && relative <= 100.0) {
        return Err(Error::invalid("relative_lift must be above 0, 0.1 for ten per cent").into());
    }
    let power = configure::share(power, "power", 0.999)?;
    if power <= 0.5 {
        return Err(Error::invalid("power must be above 0.5").hint("0.8 is usual.").into());
    }
    let confidence = checked_confidence(confidence)?;
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    let audience = audience_size(&campaign.customers(), &campaign.customer_key, campaign.audience.as_deref())?;
    let asked = Asked { relative, power, confidence };
    let found = analyse(&campaign, audience as f64, &asked, goal)?;
    if let (Some(goal), true) = (goal, found.is_empty()) {
        return Err(Error::missing(format!("campaign \"{name}\" has no goal \"{goal}\" that is measured"))
            .hint("SELECT goal FROM decisioning.campaign_goals lists its goals; engagement is not measured.")
            .into());
    }
    let row = |found: Analysis| {
        (
            found.goal,
            found.measure,
            found.base.as_ref().map(|base| base.mean),
            found.base.as_ref().map_or("none", |base| base.basis),
            relative,
            audience,
            found.exposed as i64,
            found.daily,
            found.needed.map(|needed| needed as i64),
            found.days.map(|days| days.min(f64::from(i32::MAX)) as i32),
            found.detectable,
            found.holdout,
            found.suggested,
            found.advice,
        )
    };
    Ok(TableIterator::new(found.into_iter().map(row).collect::<Vec<_>>()))
}
