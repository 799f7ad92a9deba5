//! What customers did, read from the outcomes in parallel.

use std::collections::BTreeMap;

use decisioning_core::measure::{quantile_of_sizes, Responses};

use super::over_time::By;
use super::parts::{Merged, GOALS};
use super::question::{before, Covariate, Question, Subject, FEWEST_TOTALS};
use crate::api::census::{only, Periods};
use crate::api::pipeline::parse_group;
use crate::pg::error::{Error, Result};
use crate::pg::query::{self, Row};

/// Stratum and group.
pub type Place = (usize, &'static str);

/// What each customer did, by goal and place.
pub struct Totals(BTreeMap<Subject, BTreeMap<Place, Responses>>);

impl Totals {
    /// Reads what counts; with `by`, point by point. Runs as the owner.
    pub fn read(question: &Question, by: Option<By>, periods: &Periods) -> Result<Self> {
        let merged = Merged::read(question.campaign.as_deref())?;
        let sql = statement(question, by, merged.events());
        let mut arguments =
            vec![only(question.campaign.as_deref()), question.as_of.into(), question.goal.as_deref().into()];
        arguments.extend(merged.arguments());
        if let Some(Covariate::Feature(feature)) = &question.covariate {
            arguments.push(feature.as_str().into());
        }
        let mut found: BTreeMap<Subject, BTreeMap<Place, Responses>> = BTreeMap::new();
        query::read_large(&sql, &arguments, |row| {
            let Some((campaign, place)) = place(row, periods, [1, 3, 4])? else { return Ok(()) };
            let bytes: Vec<u8> = row.value(5)?;
            let responses =
                Responses::from_bytes(&bytes).ok_or_else(|| Error::corrupted("totals of customers are damaged"))?;
            let subject = Subject { campaign, goal: row.value(2)? };
            found.entry(subject).or_default().entry(place).or_default().merge(responses);
            Ok(())
        })?;
        Ok(Totals(found))
    }

    /// Of a goal, by place.
    pub fn of(&mut self, subject: &Subject) -> &mut BTreeMap<Place, Responses> {
        self.0.entry(subject.clone()).or_default()
    }

    /// Where totals of a goal are cut off; `None` if there are too few.
    pub fn cap(&mut self, subject: &Subject, quantile: f64) -> Option<f64> {
        let units = self.of(subject).values_mut().flat_map(Responses::units);
        let totals: Vec<f64> = units.map(|total| total.value).filter(|total| *total != 0.0).collect();
        quantile_of_sizes(totals.iter().copied(), quantile).filter(|_| totals.len() >= FEWEST_TOTALS)
    }
}

/// The campaign and place that columns (campaign, epoch, group) of a row say; `None` if nothing is known of how its customers
/// were drawn.
pub fn place(row: &Row<'_, '_>, periods: &Periods, columns: [usize; 3]) -> Result<Option<(String, Place)>> {
    let [campaign, epoch, group] = columns;
    let campaign: String = row.value(campaign)?;
    let Some(stratum) = periods.stratum(&campaign, row.value(epoch)?) else { return Ok(None) };
    let group = parse_group(&row.value::<String>(group)?)?.as_str();
    Ok(Some((campaign, (stratum, group))))
}

/// A feature of customers, as logged with their first decisions.
pub fn earliest(feature: &str) -> String {
    format!(
        "SELECT d.campaign, d.customer_id,
                CASE jsonb_typeof(d.context -> {feature}) WHEN 'number' THEN (d.context ->> {feature})::float8
                     WHEN 'boolean' THEN (d.context ->> {feature})::boolean::integer::float8 END AS x
         FROM decisioning.decisions d WHERE d.ordinal = 1 AND ($1 IS NULL OR d.campaign = ANY ($1))"
    )
}

/// Sums events `o` of customers `u`.
fn statement(question: &Question, by: Option<By>, all_events: &str) -> String {
    let (members, during) = (question.members(), question.during());
    let mut window = during.clone();
    let (mut events, mut value) = ("o.events".to_owned(), "o.value".to_owned());
    let (mut covariate, mut features) = ("0".to_owned(), String::new());
    match &question.covariate {
        Some(Covariate::History(seconds)) => {
            let before = before(*seconds);
            window = format!("({during} OR {before})");
            (events, value) = (counted(&during, &events), counted(&during, &value));
            covariate = counted(&before, "CASE o.kind WHEN 'value' THEN o.value ELSE o.events END");
        }
        Some(Covariate::Feature(_)) => {
            covariate = "x.x".to_owned();
            let of = earliest("$9");
            features = format!("LEFT JOIN ({of}) AS x ON x.campaign = u.campaign AND x.customer_id = u.customer_id");
        }
        None => {}
    }
    let (mut point, mut first) = ("0", "0");
    if let Some(by) = by {
        (point, first) = (by.of_event(), by.of_customer());
        window += &format!(" AND {point} {} u.at", by.counts());
    }
    format!(
        "WITH goals AS NOT MATERIALIZED ({GOALS} AND ($3 IS NULL OR g.goal = $3)), {all_events},
         units AS NOT MATERIALIZED (
             SELECT s.ctid AS unit, s.campaign, s.customer_id, s.treatment_group, s.bucket, s.exposed_at, s.epoch, c.time_zone, {first} AS at,
                    CASE WHEN s.exposed_at = c.washed_at THEN (SELECT max(n.renewed_at) FROM decisioning.renewals n WHERE n.campaign = c.campaign)
                         ELSE s.exposed_at END AS treated_at
             FROM decisioning._assignment s
             JOIN decisioning.campaigns c ON c.campaign = s.campaign
             WHERE ($1 IS NULL OR s.campaign = ANY ($1)) AND {members})
         SELECT u.campaign, o.goal, u.epoch, u.treatment_group,
                decisioning._responses(u.unit, u.bucket, {point}, {events}, {value}, {covariate})
         FROM events o JOIN units u ON u.campaign = o.campaign AND u.customer_id = o.customer_id {features}
         WHERE {window}
         GROUP BY 1, 2, 3, 4"
    )
}

fn counted(condition: &str, what: &str) -> String {
    format!("CASE WHEN {condition} THEN {what} ELSE 0 END")
}
