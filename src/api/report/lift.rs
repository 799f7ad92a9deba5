//! Lift: as it stands, as it came about, and that of all campaigns.

use decisioning_core::report::{day, Lift, LiftDay, Line, DAYS};
use pgrx::prelude::*;

use super::CONFIDENCE;
use crate::api::lift::{self, Question};
use crate::pg::error::Result;
use crate::pg::query;

/// Lines that count, what is to be achieved before what is to be avoided.
fn headlines(lines: Vec<lift::Line>) -> Vec<lift::Line> {
    let mut lines: Vec<lift::Line> = lines.into_iter().filter(|line| line.headline).collect();
    lines.sort_by(|a, b| (a.kind == "harm", &a.subject.goal).cmp(&(b.kind == "harm", &b.subject.goal)));
    lines
}

fn shown(line: lift::Line) -> Lift {
    let readout = line.readout.as_ref();
    Lift {
        goal: line.subject.goal,
        kind: line.kind,
        measure: line.measure.as_str().to_owned(),
        treated_group: line.treated_group.to_owned(),
        baseline_group: line.baseline_group.to_owned(),
        treated_customers: line.treated_customers as i64,
        baseline_customers: line.baseline_customers as i64,
        treated_mean: line.means.map(|means| means[0]),
        baseline_mean: line.means.map(|means| means[1]),
        absolute_lift: readout.map(|readout| readout.difference),
        lower: line.bounds.map(|bounds| bounds.lower),
        upper: line.bounds.map(|bounds| bounds.upper),
        relative_lift: readout.and_then(|readout| readout.relative),
        verdict: line.finding.as_str().to_owned(),
    }
}

pub fn lifts(lines: Vec<lift::Line>) -> Vec<Lift> {
    headlines(lines).into_iter().map(shown).collect()
}

/// Of the last days.
pub fn by_day(moments: Vec<lift::Moment>) -> Vec<LiftDay> {
    let last = moments.iter().filter_map(|moment| moment.day).map(|day| day.to_unix_epoch_days()).max();
    let shown = |moment: lift::Moment| {
        let on = moment.day.map(|day| day.to_unix_epoch_days())?;
        (Some(on) > last.map(|last| last - DAYS)).then(|| LiftDay {
            goal: moment.subject.goal,
            measure: moment.measure.as_str().to_owned(),
            day: day(on),
            treated_customers: moment.customers[0] as i64,
            baseline_customers: moment.customers[1] as i64,
            absolute_lift: moment.lift,
            lower: moment.lower,
            upper: moment.upper,
        })
    };
    moments.into_iter().filter_map(shown).collect()
}

/// Every campaign with its lifts: what runs first. Runs as the owner.
pub fn all_campaigns(now: TimestampWithTimeZone) -> Result<Vec<Line>> {
    let mut lines = query::read(
        "SELECT c.campaign, c.status, c.currency, (SELECT count(*) FROM decisioning._assignment s
                                                   WHERE s.campaign = c.campaign AND s.exposed_at < 'infinity')
         FROM decisioning.campaigns c
         ORDER BY array_position('{active, paused, draft, ended}', c.status), c.campaign",
        &[],
        |row| {
            Ok(Line {
                campaign: row.value(1)?,
                status: row.value(2)?,
                currency: row.get(3)?,
                customers: row.value(4)?,
                lifts: Vec::new(),
            })
        },
    )?;
    for found in headlines(lift::lines(&Question::new(None, now, CONFIDENCE))?) {
        if let Some(line) = lines.iter_mut().find(|line| line.campaign == found.subject.campaign) {
            line.lifts.push(shown(found));
        }
    }
    Ok(lines)
}
