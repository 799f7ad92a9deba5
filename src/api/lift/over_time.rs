//! Lift over time: as it stood day by day, week by week, and by time since exposure.

use std::collections::BTreeMap;

use decisioning_core::measure::{plain_means, read_out, Arms, ClusterSums, Clusters, Responders, Response, Sample};
use pgrx::datum::Date;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::line::{bounds_of_harm, Measure, COMPARISONS};
use super::parts::GOALS;
use super::question::{Question, Subject, WINSORISE};
use super::totals::{Place, Totals};
use super::{campaign, now};
use crate::api::census::{only, Census};
use crate::api::evaluate::checked_confidence;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;

/// What a point of the series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Everything since exposure, as it stood at the end of a day.
    Day,
    /// What happened in a calendar week, of customers exposed before it.
    Week,
    /// What happened in so many days from exposure, of customers for whom the day is over.
    DaysSinceExposure,
}

impl By {
    fn parse(text: &str) -> Result<By> {
        match text {
            "day" => Ok(By::Day),
            "week" => Ok(By::Week),
            "days since exposure" => Ok(By::DaysSinceExposure),
            other => Err(Error::invalid(format!("lift cannot be shown by \"{other}\""))
                .hint("Give day (as it stood at its end), week (what happened in it) or days since exposure.")),
        }
    }

    /// Number of the first point of a customer `u`, or of the first that is not his any more where he was there from the first on. Points
    /// are numbers of days from 2000-01-01 in the campaign's zone, of weeks from Monday 2000-01-03, or of days since exposure.
    pub fn of_customer(self) -> &'static str {
        match self {
            By::Day => "(s.exposed_at AT TIME ZONE c.time_zone)::date - '2000-01-01'::date",
            By::Week => "((s.exposed_at AT TIME ZONE c.time_zone)::date - '2000-01-03'::date) / 7 + 1",
            By::DaysSinceExposure => "floor(date_part('epoch', $2 - s.exposed_at) / 86400)::integer",
        }
    }

    /// Whether an event at that point counts for the customer.
    pub fn counts(self) -> &'static str {
        match self {
            By::Day | By::Week => ">=",
            By::DaysSinceExposure => "<",
        }
    }

    /// Number of the first point that is not over of a goal `g`; NULL where it depends on customers.
    fn end(self) -> &'static str {
        match self {
            By::Day => "($2 AT TIME ZONE g.time_zone)::date - '2000-01-01'::date + 1",
            By::Week => "(($2 AT TIME ZONE g.time_zone)::date - '2000-01-03'::date) / 7",
            By::DaysSinceExposure => "NULL::integer",
        }
    }

    /// Number of the point of an event `o` of a customer `u`.
    pub fn of_event(self) -> &'static str {
        match self {
            By::Day => "(o.occurred_at AT TIME ZONE u.time_zone)::date - '2000-01-01'::date",
            By::Week => "((o.occurred_at AT TIME ZONE u.time_zone)::date - '2000-01-03'::date) / 7",
            By::DaysSinceExposure => "floor(date_part('epoch', o.occurred_at - u.exposed_at) / 86400)::integer",
        }
    }

    /// The day, or the Monday, of a point.
    fn day(self, at: i32) -> Option<Date> {
        match self {
            By::Day => Some(Date::saturating_from_raw(at)),
            By::Week => Some(Date::saturating_from_raw(7 * at + 2)),
            By::DaysSinceExposure => None,
        }
    }
}

/// What comes in at a point: customers, and what they did.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    customers: f64,
    responders: f64,
    /// Sums and sums of squares: of events, and of value.
    value: f64,
    squares: f64,
    /// Where households are drawn: by bucket, what the measure is made of.
    buckets: ClusterSums,
}

impl Change {
    fn add(&mut self, other: &Change) {
        self.customers += other.customers;
        self.responders += other.responders;
        self.value += other.value;
        self.squares += other.squares;
        self.buckets += other.buckets;
    }

    /// Takes customers away.
    fn leave(&mut self, gone: &Change) {
        self.customers -= gone.customers;
        self.buckets -= gone.buckets;
    }

    fn outcome(&self, measure: Measure) -> f64 {
        match measure {
            Measure::ValuePerCustomer => self.value,
            _ => self.responders,
        }
    }

    fn sample(&self, measure: Measure) -> Sample {
        if self.buckets.clusters > 0.0 {
            return self.buckets.sample();
        }
        match measure {
            Measure::ValuePerCustomer => Sample::of_sums(self.customers, self.value, self.squares),
            _ => Sample::of_rate(self.customers, self.responders),
        }
        .per_unit()
    }
}

type Cells = BTreeMap<Place, Change>;

/// A goal over time.
#[derive(Default)]
struct Series {
    kind: String,
    /// Customers by the point that [`By::of_customer`] says.
    customers: BTreeMap<i32, Cells>,
    /// Responders and sums by point.
    responses: BTreeMap<i32, Cells>,
    end: i32,
}

impl Series {
    /// What there is at each point: customers are there from their first point on, or until their last; responses add up or do not.
    fn points(&self, by: By) -> Vec<(i32, Cells)> {
        let start = match by {
            By::Day | By::Week => self.customers.keys().next().copied().unwrap_or(self.end),
            By::DaysSinceExposure => 0,
        };
        let mut there = Cells::new();
        if by == By::DaysSinceExposure {
            self.customers.values().for_each(|cells| add(&mut there, cells));
        }
        let mut so_far = Cells::new();
        let mut points = Vec::new();
        for at in start..self.end {
            match (by, self.customers.get(&at)) {
                (By::Day | By::Week, Some(cells)) => add(&mut there, cells),
                (By::DaysSinceExposure, Some(cells)) => cells.iter().for_each(|(cell, gone)| {
                    if let Some(there) = there.get_mut(cell) {
                        there.leave(gone);
                    }
                }),
                (_, None) => {}
            }
            if by != By::Day {
                so_far.clear();
            }
            if let Some(cells) = self.responses.get(&at) {
                add(&mut so_far, cells);
            }
            let mut point = there.clone();
            add(&mut point, &so_far);
            points.push((at, point));
        }
        points
    }
}

fn add(cells: &mut Cells, others: &Cells) {
    others.iter().for_each(|(cell, change)| cells.entry(*cell).or_default().add(change));
}

/// Goals, without customers.
fn goals(question: &Question, by: By) -> Result<BTreeMap<Subject, Series>> {
    let sql =
        format!("SELECT g.campaign, g.goal, g.kind, {} FROM ({GOALS}) AS g WHERE $3 IS NULL OR g.goal = $3", by.end());
    let arguments = [only(question.campaign.as_deref()), question.as_of.into(), question.goal.as_deref().into()];
    let found = query::read(&sql, &arguments, |row| {
        let series = Series { kind: row.value(3)?, end: row.get(4)?.unwrap_or(0), ..Series::default() };
        Ok((Subject { campaign: row.value(1)?, goal: row.value(2)? }, series))
    })?;
    Ok(found.into_iter().collect())
}

/// What the points of a customer add to the sums, by point. His total changes with every day on which something happens, and with it his
/// part in them; in a week, or on a day since exposure, only what happened in it counts.
fn changes(points: &[Response], by: By, cap: f64) -> impl Iterator<Item = (i32, Change)> + '_ {
    let clip = move |value: f64| value.clamp(-cap, cap);
    let (mut events, mut value) = (0.0, 0.0);
    points.iter().map(move |point| {
        let before = if by == By::Day { (events, value) } else { (0.0, 0.0) };
        (events, value) = (before.0 + point.events, before.1 + point.value);
        let (now, then) = (clip(value), clip(before.1));
        let responders = f64::from(events > 0.0) - f64::from(before.0 > 0.0);
        (point.part, Change { responders, value: now - then, squares: now * now - then * then, ..Change::default() })
    })
}

/// What happens in the buckets of a place at a point.
#[derive(Default)]
struct Bustle {
    customers: BTreeMap<i32, f64>,
    outcomes: BTreeMap<i32, f64>,
}

/// Customers and outcomes by place, point and bucket, where households are drawn; else nothing.
struct Buckets(BTreeMap<Place, BTreeMap<i32, Bustle>>);

impl Buckets {
    fn of(census: &Census, subject: &Subject) -> Self {
        let mut found = Buckets(BTreeMap::new());
        for drawn in census.drawn.iter().filter(|drawn| drawn.campaign == subject.campaign && drawn.compared > 0.0) {
            if let Some(bucket) = drawn.bucket {
                let points = found.0.entry((drawn.stratum, drawn.group.as_str())).or_default();
                let customers = &mut points.entry(drawn.at.unwrap_or(0)).or_default().customers;
                *customers.entry(i32::from(bucket)).or_default() += drawn.compared;
            }
        }
        found
    }

    /// Adds the sums over buckets to those over customers, as [`Series::points`] adds them up.
    fn add_to(self, series: &mut Series, by: By) {
        for (place, points) in self.0 {
            let mut clusters = Clusters::default();
            if by == By::DaysSinceExposure {
                for (bucket, customers) in points.values().flat_map(|point| &point.customers) {
                    clusters.come(*bucket, *customers);
                }
            }
            for (at, point) in points {
                if by != By::Day {
                    clusters.forget_outcomes();
                }
                for (bucket, customers) in point.customers {
                    let sums = match by {
                        By::Day | By::Week => clusters.come(bucket, customers),
                        By::DaysSinceExposure => -clusters.come(bucket, -customers),
                    };
                    series.customers.entry(at).or_default().entry(place).or_default().buckets += sums;
                }
                for (bucket, outcome) in point.outcomes {
                    series.responses.entry(at).or_default().entry(place).or_default().buckets +=
                        clusters.act(bucket, outcome);
                }
            }
        }
    }
}

/// Every goal over time, of a census and totals that were taken by the same points. Runs as the owner.
fn series(question: &Question, by: By, census: &Census, totals: &mut Totals) -> Result<BTreeMap<Subject, Series>> {
    let mut found = goals(question, by)?;
    for (subject, series) in &mut found {
        for drawn in census.drawn.iter().filter(|drawn| drawn.campaign == subject.campaign && drawn.compared > 0.0) {
            let cells = series.customers.entry(drawn.at.unwrap_or(0)).or_default();
            cells.entry((drawn.stratum, drawn.group.as_str())).or_default().customers += drawn.compared;
        }
        if by == By::DaysSinceExposure {
            series.end = series.customers.keys().next_back().copied().unwrap_or(0);
        }
        let cap = totals.cap(subject, WINSORISE).unwrap_or(f64::INFINITY);
        let measure = Measure::of(&series.kind)[0];
        let mut buckets = Buckets::of(census, subject);
        for (place, responses) in totals.of(subject) {
            let mut changes_at: BTreeMap<i32, Change> = BTreeMap::new();
            for points in responses.histories() {
                for (at, change) in changes(points, by, cap) {
                    changes_at.entry(at).or_default().add(&change);
                    if let Some(bucket) = points.first().map(|point| point.cluster).filter(|_| !buckets.0.is_empty()) {
                        let moment = buckets.0.entry(*place).or_default().entry(at).or_default();
                        *moment.outcomes.entry(bucket).or_default() += change.outcome(measure);
                    }
                }
            }
            for (at, change) in changes_at {
                series.responses.entry(at).or_default().insert(*place, change);
            }
        }
        buckets.add_to(series, by);
    }
    // Campaigns without customers have nothing to show.
    found.retain(|_, series| !series.customers.is_empty());
    Ok(found)
}

/// A goal at a point of time, in the two groups whose comparison counts.
pub struct Moment {
    pub subject: Subject,
    pub day: Option<Date>,
    pub days_since_exposure: Option<i32>,
    pub measure: Measure,
    pub treated_group: &'static str,
    pub baseline_group: &'static str,
    /// Of the treated group and the baseline.
    pub customers: [f64; 2],
    pub means: Option<[f64; 2]>,
    pub lift: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
}

/// All goals at all points, of a census and totals that were taken by the same points. Runs as the owner.
pub fn moments(question: &Question, by: By, census: &Census, totals: &mut Totals) -> Result<Vec<Moment>> {
    let mut moments = Vec::new();
    for (subject, series) in series(question, by, census, totals)? {
        let measure = Measure::of(&series.kind)[0];
        let points = series.points(by);
        moments.extend(points.iter().filter_map(|(at, cells)| {
            let is_harm = series.kind == "harm";
            let mut moment = compare(cells, measure, is_harm, by == By::Day, question.confidence)?;
            moment.subject = subject.clone();
            moment.day = by.day(*at);
            moment.days_since_exposure = (by == By::DaysSinceExposure).then_some(*at);
            Some(moment)
        }));
    }
    Ok(moments)
}

/// The comparison that counts at a point, if there is one: the groups of the first comparison with customers in both.
fn compare(cells: &Cells, measure: Measure, is_harm: bool, cumulative: bool, confidence: f64) -> Option<Moment> {
    let customers =
        |group: &str| cells.iter().filter(|(cell, _)| cell.1 == group).map(|(_, change)| change.customers).sum::<f64>();
    let responders = |group: &str| {
        cells.iter().filter(|(cell, _)| cell.1 == group).map(|(_, change)| change.responders).sum::<f64>()
    };
    let (treated, baseline) =
        COMPARISONS.into_iter().find(|(treated, baseline)| customers(treated) > 0.0 && customers(baseline) > 0.0)?;
    let of =
        |stratum: usize, group: &'static str| cells.get(&(stratum, group)).copied().unwrap_or_default().sample(measure);
    let mut strata: Vec<usize> = cells.keys().map(|(stratum, _)| *stratum).collect();
    strata.dedup();
    let arms: Vec<Arms> = strata
        .into_iter()
        .map(|stratum| Arms { treated: of(stratum, treated), baseline: of(stratum, baseline) })
        .collect();
    let responders = Responders { treated: responders(treated), baseline: responders(baseline) };
    let readout = read_out(&arms, responders, false, confidence);
    let sizes = [customers(treated), customers(baseline)];
    let bounds = match cumulative {
        false => readout.and_then(|found| found.fixed),
        true => readout
            .and_then(|found| found.always_valid)
            .or_else(|| bounds_of_harm(readout.filter(|_| is_harm), sizes, responders, confidence)),
    };
    Some(Moment {
        subject: Subject { campaign: String::new(), goal: String::new() },
        day: None,
        days_since_exposure: None,
        measure,
        treated_group: treated,
        baseline_group: baseline,
        customers: sizes,
        means: readout.map(|readout| [readout.treated, readout.baseline]).or_else(|| plain_means(&arms)),
        lift: readout.map(|readout| readout.difference),
        lower: bounds.map(|bounds| bounds.lower),
        upper: bounds.map(|bounds| bounds.upper),
    })
}

#[pg_extern(sql = false)]
fn lift_over_time(
    campaign: Option<&str>,
    by: Option<&str>,
    goal: Option<&str>,
    confidence: Option<f64>,
    as_of: Option<TimestampWithTimeZone>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(campaign, String),
            name!(goal, String),
            name!(day, Option<Date>),
            name!(days_since_exposure, Option<i32>),
            name!(measure, &'static str),
            name!(treated_group, &'static str),
            name!(baseline_group, &'static str),
            name!(treated_customers, i64),
            name!(baseline_customers, i64),
            name!(treated_mean, Option<f64>),
            name!(baseline_mean, Option<f64>),
            name!(absolute_lift, Option<f64>),
            name!(lower, Option<f64>),
            name!(upper, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let by = By::parse(required(by, "by")?)?;
    let as_of = as_of.map_or_else(now, Ok)?;
    let question =
        Question { goal: goal.map(str::to_owned), ..Question::new(campaign, as_of, checked_confidence(confidence)?) };
    let moments = as_owner(|| {
        if let Some(campaign) = campaign {
            campaign::load(campaign)?;
        }
        let census = question.census(Some(by))?;
        moments(&question, by, &census, &mut Totals::read(&question, Some(by), &census.periods)?)
    })?;
    let row = |moment: Moment| {
        (
            moment.subject.campaign,
            moment.subject.goal,
            moment.day,
            moment.days_since_exposure,
            moment.measure.as_str(),
            moment.treated_group,
            moment.baseline_group,
            moment.customers[0] as i64,
            moment.customers[1] as i64,
            moment.means.map(|means| means[0]),
            moment.means.map(|means| means[1]),
            moment.lift,
            moment.lower,
            moment.upper,
        )
    };
    Ok(TableIterator::new(moments.into_iter().map(row).collect::<Vec<_>>()))
}
