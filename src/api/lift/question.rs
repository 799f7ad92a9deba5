//! What is asked of the log, and the samples it answers with.

use std::collections::BTreeMap;

use decisioning_core::measure::{Responders, Sample};
use pgrx::prelude::*;

use super::parts::{EVENTS, GOALS, STRATA};
use crate::pg::error::{Error, Result};
use crate::pg::query::{self, Row};

/// Which events of a customer count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// From exposure until the moment of the look.
    SinceExposure,
    /// For so many seconds from exposure, of customers for whom they are over.
    For(f64),
    /// For so many seconds before exposure, where groups must not differ.
    Before(f64),
}

/// What was known of a customer before exposure, to take noise away.
#[derive(Clone, Debug, PartialEq)]
pub enum Covariate {
    /// A feature, as logged with the first decision.
    Feature(String),
    /// The goal itself, in so many seconds before exposure.
    History(f64),
}

/// A question about lift.
#[derive(Clone, Debug)]
pub struct Question {
    pub campaign: Option<String>,
    pub goal: Option<String>,
    pub as_of: TimestampWithTimeZone,
    pub span: Span,
    /// Only customers who could have been sent something at exposure.
    pub treatable: bool,
    /// Also customers who turned out to be one with somebody of another group.
    pub mixed: bool,
    pub covariate: Option<Covariate>,
    /// Quantile, of the totals of customers who have one, beyond which they count as that.
    pub winsorise: f64,
    pub confidence: f64,
}

/// Totals beyond this quantile count as that, unless told otherwise.
pub const WINSORISE: f64 = 0.99;

/// Customers with a total below which quantiles say little, and totals count as they are.
pub const FEWEST_TOTALS: i64 = 100;

impl Question {
    /// All of a campaign's goals, or all campaigns', since exposure.
    pub fn new(campaign: Option<&str>, as_of: TimestampWithTimeZone, confidence: f64) -> Self {
        Question {
            campaign: campaign.map(str::to_owned),
            goal: None,
            as_of,
            span: Span::SinceExposure,
            treatable: true,
            mixed: true,
            covariate: None,
            winsorise: WINSORISE,
            confidence,
        }
    }
}

/// A goal of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub campaign: String,
    pub goal: String,
}

/// A group in a stratum.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    pub customers: f64,
    pub responders: f64,
    /// Whether a customer responded, how often, for how much, and that per event.
    pub rate: Sample,
    pub events: Sample,
    pub value: Sample,
    pub value_per_event: Sample,
}

/// What is known of a goal of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub kind: String,
    /// By stratum (customers drawn under the same shares) and group.
    pub strata: BTreeMap<i32, BTreeMap<String, Cell>>,
    /// Total at which totals are cut off, if they are.
    pub winsorised_at: Option<f64>,
    /// Increase of a harm, or decrease of a success, that a stop rule tolerates.
    pub tolerated: Option<f64>,
}

impl Known {
    /// What there is of two groups in each stratum that has both: others have nobody to compare with.
    pub fn comparable(&self, treated: &str, baseline: &str) -> Vec<[&Cell; 2]> {
        let both = |cells: &'_ BTreeMap<String, Cell>| cells.contains_key(treated) && cells.contains_key(baseline);
        self.strata.values().filter(|cells| both(cells)).map(|cells| [&cells[treated], &cells[baseline]]).collect()
    }

    pub fn responders(&self, treated: &str, baseline: &str) -> Responders {
        let strata = self.comparable(treated, baseline);
        let of = |group: usize| strata.iter().map(|cells| cells[group].responders).sum();
        Responders { treated: of(0), baseline: of(1) }
    }
}

/// Asks about campaigns whose customers are drawn one by one, and about those that draw households. Runs as the owner.
pub fn ask(question: &Question) -> Result<BTreeMap<Subject, Known>> {
    let mut known: BTreeMap<Subject, Known> = BTreeMap::new();
    for clustered in units(question)? {
        let sql = Statement { question, clustered }.sql();
        let feature = match &question.covariate {
            Some(Covariate::Feature(feature)) => Some(feature.as_str()),
            Some(Covariate::History(_)) | None => None,
        };
        let arguments = [
            question.campaign.as_deref().into(),
            question.as_of.into(),
            question.goal.as_deref().into(),
            question.winsorise.into(),
            feature.into(),
        ];
        for row in query::read_large(&sql, &arguments, |row| read(row, clustered))? {
            let (subject, kind, tolerated, winsorised_at, stratum, group, cell) = row;
            let known = known.entry(subject).or_default();
            (known.kind, known.tolerated, known.winsorised_at) = (kind, tolerated, winsorised_at);
            if let Some((stratum, group)) = stratum.zip(group) {
                known.strata.entry(stratum).or_default().insert(group, cell);
            }
        }
    }
    Ok(known)
}

/// Whether there are campaigns whose units are customers (false) or households (true).
fn units(question: &Question) -> Result<Vec<bool>> {
    query::read(
        "SELECT DISTINCT c.unit = 'household' FROM decisioning.campaigns c WHERE $1 IS NULL OR c.campaign = $1 ORDER BY 1",
        &[question.campaign.as_deref().into()],
        |row| row.value(1),
    )
}

type Found = (Subject, String, Option<f64>, Option<f64>, Option<i32>, Option<String>, Cell);

fn read(row: &Row<'_, '_>, clustered: bool) -> Result<Found> {
    let customers = row.get::<i64>(7)?.unwrap_or(0) as f64;
    let sample = |ordinal: usize, per_unit: bool| -> Result<Sample> {
        let bytes = row.get::<Vec<u8>>(ordinal)?;
        let found =
            bytes.map(|bytes| Sample::from_bytes(&bytes).ok_or_else(|| Error::corrupted("a sample is damaged")));
        let mut sample = found.transpose()?.unwrap_or_default();
        if clustered {
            return Ok(sample);
        }
        // Customers who did nothing, and had done nothing, need no row.
        sample.add_zeros(customers - sample.count);
        Ok(if per_unit { sample.per_unit() } else { sample })
    };
    let cell = Cell {
        customers,
        responders: row.get::<i64>(8)?.unwrap_or(0) as f64,
        rate: sample(9, true)?,
        events: sample(10, true)?,
        value: sample(11, true)?,
        value_per_event: sample(12, false)?,
    };
    let subject = Subject { campaign: row.value(1)?, goal: row.value(2)? };
    Ok((subject, row.value(3)?, row.get(4)?, row.get(13)?, row.get(5)?, row.get(6)?, cell))
}

/// The statement that sums customers up. Members of a household share the bucket that was drawn for it, as other households now and
/// then do: buckets are what is drawn, so they are the units where whole households are.
struct Statement<'a> {
    question: &'a Question,
    clustered: bool,
}

impl Statement<'_> {
    /// Customers `s` who count.
    fn members(&self) -> String {
        let exposed = match self.question.span {
            Span::For(seconds) => format!("s.exposed_at <= $2 - {seconds} * interval '1 second'"),
            Span::SinceExposure | Span::Before(_) => "s.exposed_at < $2".to_owned(),
        };
        let treatable = if self.question.treatable { " AND s.treatable" } else { "" };
        let mixed = if self.question.mixed { "" } else { " AND (s.mixed_at IS NULL OR s.mixed_at >= $2)" };
        exposed + treatable + mixed
    }

    /// Events `o` of customers `u` that count.
    fn during(&self) -> String {
        match self.question.span {
            Span::SinceExposure => "o.occurred_at >= u.exposed_at AND o.occurred_at < $2".to_owned(),
            Span::For(seconds) => {
                format!(
                    "o.occurred_at >= u.exposed_at AND o.occurred_at < u.exposed_at + {seconds} * interval '1 second'"
                )
            }
            Span::Before(seconds) => before(seconds),
        }
    }

    /// One row for each customer with an event that counts, now or before.
    fn totals(&self) -> String {
        let during = self.during();
        let history = match self.question.covariate {
            Some(Covariate::History(seconds)) => Some(before(seconds)),
            Some(Covariate::Feature(_)) | None => None,
        };
        let (window, earlier) = match &history {
            Some(before) => (
                format!("({during} OR {before})"),
                format!("sum(CASE o.kind WHEN 'value' THEN o.value ELSE o.events END) FILTER (WHERE {before})"),
            ),
            None => (during.clone(), "NULL::float8".to_owned()),
        };
        format!(
            "SELECT u.campaign, o.goal, u.epoch, u.treatment_group, u.bucket, u.customer_id,
                    greatest(coalesce(sum(o.events) FILTER (WHERE {during}), 0), 0)::float8 AS events,
                    coalesce(sum(o.value) FILTER (WHERE {during}), 0)::float8 AS value, coalesce({earlier}, 0)::float8 AS x
             FROM events o JOIN units u ON u.campaign = o.campaign AND u.customer_id = o.customer_id
             WHERE {window}
             GROUP BY 1, 2, 3, 4, 5, 6"
        )
    }

    /// Customers with something to add to the sums: with a feature all of them, since all have one.
    fn customers(&self) -> &'static str {
        match self.question.covariate {
            Some(Covariate::Feature(_)) => {
                "SELECT u.campaign, g.goal, u.epoch, u.treatment_group, u.bucket, coalesce(t.events, 0) AS events,
                        coalesce(t.value, 0) AS value, coalesce(x.x, y.x, 0) AS x
                 FROM units u
                 JOIN goals g ON g.campaign = u.campaign
                 LEFT JOIN totals t ON t.campaign = u.campaign AND t.customer_id = u.customer_id AND t.goal = g.goal
                 LEFT JOIN earliest x ON x.campaign = u.campaign AND x.customer_id = u.customer_id
                 LEFT JOIN (SELECT e.campaign, avg(e.x) AS x FROM earliest e GROUP BY 1) AS y ON y.campaign = u.campaign"
            }
            Some(Covariate::History(_)) | None => {
                "SELECT t.campaign, t.goal, t.epoch, t.treatment_group, t.bucket, t.events, t.value, t.x FROM totals t"
            }
        }
    }

    /// What was drawn into a group, with its number of customers as `size`.
    fn drawn(&self) -> &'static str {
        if self.clustered {
            "SELECT b.campaign, g.goal, b.stratum, b.treatment_group, b.size, coalesce(c.responders, 0) AS responders,
                    coalesce(c.events, 0) AS events, coalesce(c.value, 0) AS value, coalesce(c.x, 0) AS x
             FROM (SELECT u.campaign, width_bucket(u.epoch, a.starts) AS stratum, u.treatment_group, u.bucket, count(*) AS size
                   FROM units u JOIN strata a ON a.campaign = u.campaign GROUP BY 1, 2, 3, 4) AS b
             JOIN goals g ON g.campaign = b.campaign
             LEFT JOIN (SELECT c.campaign, c.goal, c.stratum, c.treatment_group, c.bucket, sum((c.events > 0)::integer) AS responders,
                               sum(c.events) AS events, sum(c.value) AS value, sum(c.x) AS x
                        FROM clipped c GROUP BY 1, 2, 3, 4, 5) AS c
                 ON c.campaign = b.campaign AND c.goal = g.goal AND c.stratum = b.stratum
                 AND c.treatment_group = b.treatment_group AND c.bucket = b.bucket"
        } else {
            "SELECT c.campaign, c.goal, c.stratum, c.treatment_group, 1 AS size, (c.events > 0)::integer AS responders, c.events,
                    c.value, c.x
             FROM clipped c"
        }
    }

    fn sql(&self) -> String {
        let unit = if self.clustered { "household" } else { "customer" };
        let (members, totals, customers, drawn) = (self.members(), self.totals(), self.customers(), self.drawn());
        format!(
            "WITH {STRATA}, goals AS NOT MATERIALIZED ({GOALS} AND c.unit = '{unit}' AND ($3 IS NULL OR g.goal = $3)), {EVENTS},
             units AS NOT MATERIALIZED (
                 SELECT s.campaign, s.customer_id, s.treatment_group, s.bucket, s.exposed_at, s.epoch
                 FROM decisioning._assignment s
                 -- Who has moved from control to optimise is a comparison for neither; buckets of a hash moved, so the rest stay fair.
                 WHERE ($1 IS NULL OR s.campaign = $1) AND (s.ramped_at IS NULL OR s.ramped_at >= $2) AND NOT s.global_holdout AND {members}),
             totals AS MATERIALIZED ({totals}),
             earliest AS (
                 SELECT d.campaign, d.customer_id,
                        CASE jsonb_typeof(d.context -> $5) WHEN 'number' THEN (d.context ->> $5)::float8
                             WHEN 'boolean' THEN (d.context ->> $5)::boolean::integer::float8 END AS x
                 FROM decisioning.decisions d WHERE d.ordinal = 1 AND ($1 IS NULL OR d.campaign = $1)),
             caps AS MATERIALIZED (
                 SELECT t.campaign, t.goal, percentile_disc($4) WITHIN GROUP (ORDER BY abs(t.value)) AS cap
                 FROM totals t JOIN goals g ON g.campaign = t.campaign AND g.goal = t.goal AND g.kind IN ('value', 'harm')
                 WHERE t.value <> 0 GROUP BY 1, 2 HAVING count(*) >= {FEWEST_TOTALS}),
             customers AS ({customers}),
             clipped AS (
                 SELECT c.campaign, c.goal, width_bucket(c.epoch, a.starts) AS stratum, c.treatment_group, c.bucket, c.events, c.x,
                        least(greatest(c.value, -coalesce(k.cap, 'Infinity')), coalesce(k.cap, 'Infinity')) AS value
                 FROM customers c JOIN strata a ON a.campaign = c.campaign LEFT JOIN caps k ON k.campaign = c.campaign AND k.goal = c.goal),
             samples AS (
                 SELECT d.campaign, d.goal, d.stratum, d.treatment_group, sum(d.responders)::bigint AS responders,
                        decisioning._sample(d.responders, d.size, d.x) AS rate, decisioning._sample(d.events, d.size, d.x) AS events,
                        decisioning._sample(d.value, d.size, d.x) FILTER (WHERE g.kind <> 'conversion') AS value, decisioning._sample(d.value, d.events, d.x) FILTER (WHERE g.kind <> 'conversion') AS value_per_event
                 FROM ({drawn}) AS d JOIN goals g ON g.campaign = d.campaign AND g.goal = d.goal GROUP BY 1, 2, 3, 4),
             sizes AS (
                 SELECT n.campaign, width_bucket(n.epoch, a.starts) AS stratum, n.treatment_group, sum(n.customers)::bigint AS customers
                 FROM (SELECT u.campaign, u.epoch, u.treatment_group, count(*) AS customers FROM units u GROUP BY 1, 2, 3) AS n
                 JOIN strata a ON a.campaign = n.campaign GROUP BY 1, 2, 3)
             SELECT g.campaign, g.goal, g.kind, g.tolerated, z.stratum, z.treatment_group, z.customers, p.responders,
                    p.rate, p.events, p.value, p.value_per_event, k.cap
             FROM goals g
             LEFT JOIN sizes z ON z.campaign = g.campaign
             LEFT JOIN samples p ON p.campaign = g.campaign AND p.goal = g.goal AND p.stratum = z.stratum
                 AND p.treatment_group = z.treatment_group
             LEFT JOIN caps k ON k.campaign = g.campaign AND k.goal = g.goal"
        )
    }
}

/// Events `o` in so many seconds before the exposure of `u`.
fn before(seconds: f64) -> String {
    format!("o.occurred_at < u.exposed_at AND o.occurred_at >= u.exposed_at - {seconds} * interval '1 second'")
}
