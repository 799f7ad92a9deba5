//! The answer of the log: what customers did, as samples of what was drawn.

use std::collections::BTreeMap;

use decisioning_core::measure::{Response, Responses, Sample, Variable};

use super::parts::GOALS;
use super::question::{Cell, Covariate, Known, Question, Subject};
use super::totals::{earliest, place, Place, Totals};
use crate::api::census::{only, Census};
use crate::pg::error::{Error, Result};
use crate::pg::query;

/// By campaign and place.
type Places<T> = BTreeMap<String, BTreeMap<Place, T>>;

/// Customers of a bucket where households are drawn, or of all buckets.
#[derive(Default)]
struct Members {
    customers: f64,
    /// The covariates that are known of them.
    covariates: Sample,
}

/// The customers of a place, by bucket where households are drawn: their members share the bucket that was drawn for it, as other
/// households now and then do. Buckets are what is drawn, so they are the units where whole households are.
type Drawn = BTreeMap<Option<i16>, Members>;

/// Asks about all goals of the question. Runs as the owner.
pub fn ask(question: &Question, census: &Census) -> Result<BTreeMap<Subject, Known>> {
    answer(question, census, &mut Totals::read(question, None, &census.periods)?)
}

/// Makes samples of totals. Runs as the owner.
pub fn answer(question: &Question, census: &Census, totals: &mut Totals) -> Result<BTreeMap<Subject, Known>> {
    let drawn = drawn(question, census)?;
    let mut known = goals(question)?;
    for (subject, known) in &mut known {
        if matches!(known.kind.as_str(), "value" | "harm") {
            known.winsorised_at = totals.cap(subject, question.winsorise);
        }
        let Some(drawn) = drawn.get(&subject.campaign) else { continue };
        let reading = Reading {
            cap: known.winsorised_at.unwrap_or(f64::INFINITY),
            covariate: question.covariate.as_ref(),
            usual: usual(drawn),
        };
        let totals = totals.of(subject);
        for (place, drawn) in drawn {
            let mut none = Responses::default();
            let cell = reading.cell(drawn, totals.get_mut(place).unwrap_or(&mut none));
            known.strata.entry(place.0).or_default().insert(place.1, cell);
        }
    }
    Ok(known)
}

fn goals(question: &Question) -> Result<BTreeMap<Subject, Known>> {
    let found = query::read(
        &format!("{GOALS} AND ($2 IS NULL OR g.goal = $2)"),
        &[only(question.campaign.as_deref()), question.goal.as_deref().into()],
        |row| {
            let subject = Subject { campaign: row.value(1)?, goal: row.value(2)? };
            Ok((
                subject,
                Known { kind: row.value(3)?, tolerated: row.get(5)?, valued: !row.is_null(6), ..Known::default() },
            ))
        },
    )?;
    Ok(found.into_iter().collect())
}

/// Who is compared: counted already, unless there are covariates to be taken from the log.
fn drawn(question: &Question, census: &Census) -> Result<Places<Drawn>> {
    let mut found: Places<Drawn> = BTreeMap::new();
    let mut add = |campaign: &str, place: Place, bucket: Option<i16>, members: Members| {
        if members.customers > 0.0 {
            let places = found.entry(campaign.to_owned()).or_default();
            let known = places.entry(place).or_default().entry(bucket).or_default();
            known.customers += members.customers;
            known.covariates.merge(&members.covariates);
        }
    };
    let Some(Covariate::Feature(feature)) = &question.covariate else {
        for drawn in &census.drawn {
            let members = Members { customers: drawn.compared, covariates: Sample::default() };
            add(&drawn.campaign, (drawn.stratum, drawn.group.as_str()), drawn.bucket, members);
        }
        return Ok(found);
    };
    let sql = format!(
        "SELECT s.campaign, s.epoch, s.treatment_group, CASE c.unit WHEN 'household' THEN s.bucket END, count(*), decisioning._sample(0, 0, x.x)
         FROM decisioning._assignment s
         JOIN decisioning.campaigns c ON c.campaign = s.campaign
         LEFT JOIN ({}) AS x ON x.campaign = s.campaign AND x.customer_id = s.customer_id
         WHERE ($1 IS NULL OR s.campaign = ANY ($1)) AND {}
         GROUP BY 1, 2, 3, 4",
        earliest("$3"),
        question.members()
    );
    let arguments = [only(question.campaign.as_deref()), question.as_of.into(), feature.as_str().into()];
    query::read_large(&sql, &arguments, |row| {
        let Some((campaign, place)) = place(row, &census.periods, [1, 2, 3])? else { return Ok(()) };
        let covariates = match row.get::<Vec<u8>>(6)? {
            Some(bytes) => Sample::from_bytes(&bytes).ok_or_else(|| Error::corrupted("a sample is damaged"))?,
            None => Sample::default(),
        };
        add(&campaign, place, row.get(4)?, Members { customers: row.value::<i64>(5)? as f64, covariates });
        Ok(())
    })?;
    Ok(found)
}

/// The covariate that a customer has of whom it is not known: the mean.
fn usual(drawn: &BTreeMap<Place, Drawn>) -> f64 {
    let mut all = Sample::default();
    drawn.values().flat_map(BTreeMap::values).for_each(|members| all.merge(&members.covariates));
    all.mean(Variable::Covariate)
}

/// What a customer, or the customers of a bucket, did.
#[derive(Clone, Copy, Default)]
struct Total {
    responders: f64,
    events: f64,
    value: f64,
    covariate: f64,
}

impl Total {
    fn add(&mut self, other: &Total) {
        self.responders += other.responders;
        self.events += other.events;
        self.value += other.value;
        self.covariate += other.covariate;
    }
}

impl Cell {
    /// Adds a unit of so many customers.
    fn add(&mut self, size: f64, total: &Total) {
        let Total { responders, events, value, covariate } = *total;
        self.responders += responders;
        self.rate.add([responders, size, covariate]);
        self.events.add([events, size, covariate]);
        self.value.add([value, size, covariate]);
        self.value_per_event.add([value, events, covariate]);
    }

    /// Adds units that did nothing, and counts each unit as one.
    fn complete(&mut self, others: &Sample) {
        for sample in [&mut self.rate, &mut self.events, &mut self.value] {
            sample.merge(others);
            *sample = sample.per_unit();
        }
        self.value_per_event.merge(others);
    }
}

/// How totals are read.
struct Reading<'a> {
    cap: f64,
    covariate: Option<&'a Covariate>,
    usual: f64,
}

impl Reading<'_> {
    fn total(&self, response: &Response) -> Total {
        let covariate = match self.covariate {
            None => 0.0,
            Some(Covariate::History(_)) => response.covariate,
            // Of a customer it is the same with each response.
            Some(Covariate::Feature(_)) if response.covariate.is_finite() => {
                response.covariate / f64::from(response.responses)
            }
            Some(Covariate::Feature(_)) => self.usual,
        };
        let events = response.events.max(0.0);
        let responders = f64::from(events > 0.0);
        Total { responders, events, value: response.value.clamp(-self.cap, self.cap), covariate }
    }

    fn cell(&self, drawn: &Drawn, responses: &mut Responses) -> Cell {
        let customers = drawn.values().map(|members| members.customers).sum();
        let mut cell = Cell { customers, ..Cell::default() };
        if let Some(members) = drawn.get(&None) {
            let mut responded = Sample::default();
            for total in responses.units() {
                let total = self.total(&total);
                responded.add([0.0, 0.0, total.covariate]);
                cell.add(1.0, &total);
            }
            cell.complete(&self.others(members, &responded));
        } else {
            let mut buckets: BTreeMap<i32, Total> = BTreeMap::new();
            for total in responses.units() {
                buckets.entry(total.cluster).or_default().add(&self.total(&total));
            }
            for (bucket, members) in drawn {
                let mut total = bucket.and_then(|bucket| buckets.remove(&i32::from(bucket))).unwrap_or_default();
                if let Some(Covariate::Feature(_)) = self.covariate {
                    let known = &members.covariates;
                    total.covariate =
                        known.count * known.mean(Variable::Covariate) + (members.customers - known.count) * self.usual;
                }
                cell.add(members.customers, &total);
            }
        }
        cell
    }

    /// Customers who did nothing: nor had they before, or their covariates are what is left of those of all.
    fn others(&self, members: &Members, responded: &Sample) -> Sample {
        let means = |covariate: f64| [0.0, 0.0, covariate];
        if let Some(Covariate::Feature(_)) = self.covariate {
            let mut all = members.covariates;
            all.merge(&Sample::of_products(members.customers - all.count, means(self.usual), [0.0; 6]));
            all.without(responded)
        } else {
            Sample::of_products(members.customers - responded.count, means(0.0), [0.0; 6])
        }
    }
}
