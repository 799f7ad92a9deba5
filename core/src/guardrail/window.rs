//! Hours in which something may be sent, by the clock on the customer's wall.
//!
//! What the clock reads decides, so that rules mean the same on days whose clocks change: an hour that comes twice is quiet
//! both times if it is quiet at all, and an hour that is left out cannot be hit.

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::decide::{next_slot, PeriodError};

/// A set of days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weekdays(u8);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no day of the week")]
pub struct WeekdayError(pub String);

const NAMES: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Weekdays {
    pub const ALL: Weekdays = Weekdays(0x7f);

    /// By their English names, in any case, whole or the first three letters.
    ///
    /// # Errors
    /// A name that is none.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, WeekdayError> {
        names.into_iter().try_fold(Weekdays(0), |days, name| {
            let lower = name.to_lowercase();
            let day = NAMES
                .iter()
                .position(|known| *known == lower || known[..3] == lower)
                .ok_or_else(|| WeekdayError(name.to_owned()))?;
            Ok(Weekdays(days.0 | 1 << day))
        })
    }

    fn has(self, day: Weekday) -> bool {
        self.0 >> day.to_monday_zero_offset() & 1 == 1
    }
}

/// From a time of the day until another, which is on the next day unless it is later; the same time twice is a whole day. The
/// days of the week are those on which it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub from: Time,
    pub to: Time,
    pub days: Weekdays,
}

impl Stretch {
    /// Of times written `HH:MM` or `HH:MM:SS`.
    pub fn parse(from: &str, to: &str, days: Weekdays) -> Option<Self> {
        Some(Stretch { from: from.parse().ok()?, to: to.parse().ok()?, days })
    }

    fn has(&self, at: DateTime) -> bool {
        let today = at.date().weekday();
        let (begun, wraps) = (at.time() >= self.from, self.to <= self.from);
        let before_end = at.time() < self.to;
        match wraps {
            false => begun && before_end && self.days.has(today),
            true => begun && self.days.has(today) || before_end && self.days.has(today.previous()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is sent in these hours.
    Quiet,
    /// Something is sent in these hours only.
    Open,
}

/// Hours of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    pub kind: Kind,
    pub stretches: Vec<Stretch>,
}

impl Hours {
    fn allow(&self, at: DateTime) -> bool {
        let inside = self.stretches.iter().any(|stretch| stretch.has(at));
        match self.kind {
            Kind::Quiet => !inside,
            Kind::Open => inside,
        }
    }
}

/// A zone, and the rules that hold in it.
pub struct Clock<'a> {
    name: &'a str,
    zone: TimeZone,
    rules: Vec<&'a Hours>,
}

impl<'a> Clock<'a> {
    /// # Errors
    /// An unknown zone.
    pub fn new(zone: &'a str, rules: Vec<&'a Hours>) -> Result<Self, PeriodError> {
        let found = TimeZone::get(zone).map_err(|_| PeriodError::UnknownZone(zone.to_owned()))?;
        Ok(Clock { name: zone, zone: found, rules })
    }

    /// Whether something may be sent at `at` (microseconds).
    ///
    /// # Errors
    /// A moment beyond the years that calendars cover.
    pub fn allows(&self, at: i64) -> Result<bool, PeriodError> {
        let at = self.zone.to_datetime(timestamp(at)?);
        Ok(self.rules.iter().all(|hours| hours.allow(at)))
    }

    /// The first moment from `at` on, and before `until`, that the rules and the slot allow, in microseconds.
    ///
    /// # Errors
    /// A moment beyond the years that calendars cover.
    pub fn next(&self, at: i64, slot: Option<&str>, until: i64) -> Result<Option<i64>, PeriodError> {
        let mut moment = at;
        while moment < until {
            let in_slot = next_slot(moment, self.name, slot)?;
            if in_slot >= until {
                return Ok(None);
            }
            match self.next_allowed(in_slot, until)? {
                Some(allowed) if allowed == in_slot => return Ok(Some(allowed)),
                Some(allowed) => moment = allowed,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The first moment from `at` on, and before `until`, that the rules allow. What they allow changes only where the clock
    /// reads an end of a stretch, at midnight, or where it is changed.
    fn next_allowed(&self, at: i64, until: i64) -> Result<Option<i64>, PeriodError> {
        if self.allows(at)? {
            return Ok(Some(at));
        }
        let ends = self.rules.iter().flat_map(|hours| &hours.stretches).flat_map(|stretch| [stretch.from, stretch.to]);
        let mut times: Vec<Time> = ends.chain([Time::midnight()]).collect();
        times.sort_unstable();
        times.dedup();
        let (start, end) = (timestamp(at)?, timestamp(until)?);
        let mut changes: Vec<i64> = self
            .zone
            .following(start)
            .map(|change| change.timestamp())
            .take_while(|change| *change < end)
            .map(Timestamp::as_microsecond)
            .collect();
        let mut date = self.zone.to_datetime(start).date();
        let last = self.zone.to_datetime(end).date();
        while date <= last {
            for time in &times {
                let reading = self.zone.to_ambiguous_timestamp(date.to_datetime(*time));
                // Both times that the clock reads it; where it is left out, it is changed.
                for moment in [reading.earlier(), reading.later()].into_iter().flatten() {
                    changes.push(moment.as_microsecond());
                }
            }
            date = date.checked_add(1.day()).map_err(|_| PeriodError::OutOfRange)?;
        }
        changes.retain(|moment| (at..until).contains(moment));
        changes.sort_unstable();
        changes.dedup();
        for moment in changes {
            if self.allows(moment)? {
                return Ok(Some(moment));
            }
        }
        Ok(None)
    }
}

fn timestamp(at: i64) -> Result<Timestamp, PeriodError> {
    Timestamp::from_microsecond(at).map_err(|_| PeriodError::OutOfRange)
}
