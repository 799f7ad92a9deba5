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

/// Hours of the slots that have a name; any other slot may be written `HH:MM`.
fn slot_times(slot: &str) -> Option<(Time, Time)> {
    let hours = |from: i8, to: i8| Some((time(from, 0, 0, 0), time(to, 0, 0, 0)));
    match slot {
        "morning" => hours(8, 11),
        "midday" => hours(11, 14),
        "afternoon" => hours(14, 17),
        "evening" => hours(17, 21),
        _ => {
            let (hour, minute) = slot.split_once(':')?;
            let at = Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()?;
            Some((at, at))
        }
    }
}

/// When to send: at once inside the slot's hours of the customer's day, else when they begin next. A slot without
/// hours, or none, is at once. In microseconds.
///
/// # Errors
/// [`PeriodError::UnknownZone`], [`PeriodError::OutOfRange`].
pub fn next_slot(at: i64, zone: &str, slot: Option<&str>) -> Result<i64, PeriodError> {
    let now = zoned(at, zone)?;
    let Some((from, to)) = slot.and_then(slot_times) else { return Ok(at) };
    if from <= now.time() && now.time() < to {
        return Ok(at);
    }
    let day = if now.time() <= from {
        now.date()
    } else {
        now.date().checked_add(1.day()).map_err(|_| PeriodError::OutOfRange)?
    };
    let start = day.to_datetime(from).to_zoned(now.time_zone().clone()).map_err(|_| PeriodError::OutOfRange)?;
    Ok(start.timestamp().as_microsecond())
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
    fn a_slot_inside_a_clock_change_moves_forward() {
        // 02:30 does not exist on this day in Berlin: it becomes 03:30 local.
        let night = at("2026-03-29T00:00:00Z");
        assert_eq!(next_slot(night, "Europe/Berlin", Some("02:30")).unwrap(), at("2026-03-29T01:30:00Z"));
    }
}
