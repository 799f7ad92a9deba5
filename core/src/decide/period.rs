//! Calendar time: decision periods and send slots.

use jiff::civil::{time, Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// A stretch of time in which a customer gets one decision, in microseconds since the Unix epoch, end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub start: i64,
    pub end: i64,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeriodError {
    /// Not an IANA time zone name.
    #[error("time zone \"{0}\" is not known")]
    UnknownZone(String),
    /// Beyond the years that calendars cover.
    #[error("time is out of range")]
    OutOfRange,
}

fn zoned(at: i64, zone: &str) -> Result<Zoned, PeriodError> {
    let zone = TimeZone::get(zone).map_err(|_| PeriodError::UnknownZone(zone.to_owned()))?;
    Ok(Timestamp::from_microsecond(at).map_err(|_| PeriodError::OutOfRange)?.to_zoned(zone))
}

/// Lengths of calendar periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calendar {
    Day,
    /// From Monday on.
    Week,
    Month,
}

/// The calendar day of `at` (microseconds) in `zone`; 23 or 25 hours long where clocks change.
///
/// # Errors
/// [`PeriodError::UnknownZone`], [`PeriodError::OutOfRange`].
pub fn period(at: i64, zone: &str) -> Result<Period, PeriodError> {
    calendar_period(at, zone, Calendar::Day)
}

/// The calendar day, week or month of `at` (microseconds) in `zone`.
///
/// # Errors
/// [`PeriodError::UnknownZone`], [`PeriodError::OutOfRange`].
pub fn calendar_period(at: i64, zone: &str, calendar: Calendar) -> Result<Period, PeriodError> {
    let now = zoned(at, zone)?;
    let today = now.date();
    let (first, length) = match calendar {
        Calendar::Day => (Ok(today), 1.day()),
        Calendar::Week => (today.checked_sub(i64::from(today.weekday().to_monday_zero_offset()).days()), 1.week()),
        Calendar::Month => (Ok(today.first_of_month()), 1.month()),
    };
    let first = first.map_err(|_| PeriodError::OutOfRange)?;
    let next = first.checked_add(length).map_err(|_| PeriodError::OutOfRange)?;
    let start = |date: Date| {
        let midnight = date.to_zoned(now.time_zone().clone()).and_then(|midnight| midnight.start_of_day());
        midnight.map(|start| start.timestamp().as_microsecond()).map_err(|_| PeriodError::OutOfRange)
    };
    Ok(Period { start: start(first)?, end: start(next)? })
}

/// Year and month of `at` (microseconds) in UTC.
///
/// # Errors
/// [`PeriodError::OutOfRange`].
pub fn month(at: i64) -> Result<(i16, i8), PeriodError> {
    let at = Timestamp::from_microsecond(at).map_err(|_| PeriodError::OutOfRange)?.to_zoned(TimeZone::UTC);
    Ok((at.year(), at.month()))
}

/// From when to when a slot lasts, by the clock; without an end it is an hour.
type Hours = (Time, Option<Time>);

/// Hours of the slots that have a name, or are written `HH:MM`.
fn slot_hours(slot: &str) -> Option<Hours> {
    let hours = |from: i8, to: i8| Some((time(from, 0, 0, 0), Some(time(to, 0, 0, 0))));
    match slot {
        "morning" => hours(8, 11),
        "midday" => hours(11, 14),
        "afternoon" => hours(14, 17),
        "evening" => hours(17, 21),
        _ => {
            let (hour, minute) = slot.split_once(':')?;
            Some((Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()?, None))
        }
    }
}

/// Whether a slot is one of those whose hours are known. Any other is at once.
pub fn is_slot(slot: &str) -> bool {
    slot_hours(slot).is_some()
}

/// The first occurrence of a slot that is not over at `at`, end excluded; all in microseconds.
fn occurrence(at: i64, zone: &str, (from, to): Hours) -> Result<Period, PeriodError> {
    let now = zoned(at, zone)?;
    let out_of_range = |_| PeriodError::OutOfRange;
    let today = now.date();
    // One that has no end may run over midnight.
    let mut day = match to {
        None => today.checked_sub(1.day()).map_err(out_of_range)?,
        Some(_) => today,
    };
    loop {
        let start = day.to_datetime(from).to_zoned(now.time_zone().clone()).map_err(out_of_range)?;
        let end = match to {
            Some(to) => day.to_datetime(to).to_zoned(now.time_zone().clone()).map_err(out_of_range)?,
            None => start.checked_add(1.hour()).map_err(out_of_range)?,
        };
        if end > now {
            return Ok(Period { start: start.timestamp().as_microsecond(), end: end.timestamp().as_microsecond() });
        }
        day = day.checked_add(1.day()).map_err(out_of_range)?;
    }
}

/// When to send: at once inside the slot's hours of the customer's day, else when they begin next. A slot without
/// hours, or none, is at once. In microseconds.
///
/// # Errors
/// [`PeriodError::UnknownZone`], [`PeriodError::OutOfRange`].
pub fn next_slot(at: i64, zone: &str, slot: Option<&str>) -> Result<i64, PeriodError> {
    match slot.and_then(slot_hours) {
        Some(hours) => Ok(at.max(occurrence(at, zone, hours)?.start)),
        None => zoned(at, zone).map(|_| at),
    }
}

/// When the hours of the slot end that `at` lies in; `None` if the slot has none. In microseconds.
///
/// # Errors
/// [`PeriodError::UnknownZone`], [`PeriodError::OutOfRange`].
pub fn slot_end(at: i64, zone: &str, slot: Option<&str>) -> Result<Option<i64>, PeriodError> {
    slot.and_then(slot_hours).map(|hours| Ok(occurrence(at, zone, hours)?.end)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn days_follow_the_zone_and_its_clock_changes() {
        let ordinary = period(at("2026-07-01T22:30:00Z"), "Europe/Berlin").unwrap();
        assert_eq!(ordinary.start, at("2026-07-01T22:00:00Z"));
        assert_eq!(ordinary.end - ordinary.start, 24 * HOUR);
        let spring = period(at("2026-03-29T12:00:00Z"), "Europe/Berlin").unwrap();
        assert_eq!(spring.end - spring.start, 23 * HOUR);
        let autumn = period(at("2026-10-25T12:00:00Z"), "Europe/Berlin").unwrap();
        assert_eq!(autumn.end - autumn.start, 25 * HOUR);
        assert!(matches!(period(0, "Mars/Olympus"), Err(PeriodError::UnknownZone(_))));
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_their_first() {
        let zone = "Europe/Berlin";
        let sunday = at("2026-03-29T12:00:00Z");
        let week = calendar_period(sunday, zone, Calendar::Week).unwrap();
        assert_eq!(week, Period { start: at("2026-03-22T23:00:00Z"), end: at("2026-03-29T22:00:00Z") });
        let month = calendar_period(sunday, zone, Calendar::Month).unwrap();
        assert_eq!(month, Period { start: at("2026-02-28T23:00:00Z"), end: at("2026-03-31T22:00:00Z") });
        let next = calendar_period(week.end, zone, Calendar::Week).unwrap();
        assert_eq!(next.start, week.end, "periods follow each other without a gap");
    }

    #[test]
    fn months_are_those_of_utc() {
        assert_eq!(month(at("2026-12-31T23:59:59Z")).unwrap(), (2026, 12));
        assert_eq!(month(at("2027-01-01T00:00:00Z")).unwrap(), (2027, 1));
    }

    #[test]
    fn slots_are_the_next_in_the_customers_day() {
        let zone = "America/New_York";
        let noon = at("2026-07-01T16:00:00Z");
        assert_eq!(next_slot(noon, zone, Some("evening")).unwrap(), at("2026-07-01T21:00:00Z"));
        assert_eq!(next_slot(noon, zone, Some("morning")).unwrap(), at("2026-07-02T12:00:00Z"));
        assert_eq!(next_slot(noon, zone, Some("midday")).unwrap(), noon);
        assert_eq!(next_slot(noon, zone, Some("09:30")).unwrap(), at("2026-07-02T13:30:00Z"));
        assert_eq!(next_slot(noon, zone, Some("whenever")).unwrap(), noon);
        assert_eq!(next_slot(noon, zone, None).unwrap(), noon);
    }

    #[test]
    fn a_slot_of_a_minute_lasts_an_hour() {
        let zone = "America/New_York";
        let late = Some("23:30");
        let begins = at("2026-07-02T03:30:00Z");
        for (now, sent) in [
            ("2026-07-02T03:29:59Z", "2026-07-02T03:30:00Z"),
            ("2026-07-02T03:45:00Z", "2026-07-02T03:45:00Z"),
            ("2026-07-02T04:29:59Z", "2026-07-02T04:29:59Z"),
            ("2026-07-02T04:30:00Z", "2026-07-03T03:30:00Z"),
        ] {
            assert_eq!(next_slot(at(now), zone, late).unwrap(), at(sent), "{now}");
        }
        assert_eq!(slot_end(begins, zone, late).unwrap(), Some(begins + HOUR));
        assert!(["morning", "09:30", "23:59"].into_iter().all(is_slot));
        assert!(!["moring", "25:99", "09:60", "9", ""].into_iter().any(is_slot));
    }

    #[test]
    fn a_slot_ends_on_the_day_on_which_it_is_sent() {
        let zone = "Europe/Berlin";
        let afternoon = at("2026-07-01T11:00:00Z");
        let morning = next_slot(afternoon, zone, Some("morning")).unwrap();
        assert_eq!(morning, at("2026-07-02T06:00:00Z"));
        assert_eq!(slot_end(morning, zone, Some("morning")).unwrap(), Some(at("2026-07-02T09:00:00Z")));
        assert_eq!(slot_end(afternoon, zone, Some("midday")).unwrap(), Some(at("2026-07-01T12:00:00Z")));
        assert_eq!(slot_end(afternoon, zone, None).unwrap(), None);
    }

    #[test]
    fn a_slot_inside_a_clock_change_moves_forward() {
        // 02:30 does not exist on this day in Berlin: it becomes 03:30 local.
        let night = at("2026-03-29T00:00:00Z");
        assert_eq!(next_slot(night, "Europe/Berlin", Some("02:30")).unwrap(), at("2026-03-29T01:30:00Z"));
    }
}
