//! Windows and caps against slow oracles, over zones whose clocks change.

use decisioning_core::decide::Calendar;
use decisioning_core::guardrail::{Cap, Clock, Hours, Kind, Span, Stretch, Weekdays};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::Timestamp;
use proptest::prelude::*;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Zones with gaps and overlaps of an hour and of half an hour, at midnight too, and one that skipped a day.
const ZONES: [&str; 7] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Pacific/Apia",
];

const NAMES: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_microsecond()
}

/// Moments near which clocks change, and ordinary ones.
fn moments() -> impl Strategy<Value = i64> {
    let changes = prop::sample::select(vec![
        at("2026-03-29T00:30:00Z"),
        at("2026-10-25T00:00:00Z"),
        at("2026-03-08T06:30:00Z"),
        at("2026-11-01T05:00:00Z"),
        at("2018-11-04T02:30:00Z"),
        at("2018-02-18T01:00:00Z"),
        at("2026-04-23T21:30:00Z"),
        at("2026-04-04T14:30:00Z"),
        at("2026-10-03T15:00:00Z"),
        at("2011-12-30T09:30:00Z"),
        at("2026-06-15T12:00:00Z"),
    ]);
    (changes, -36 * 60_i64..36 * 60).prop_map(|(change, minutes)| change + minutes * MINUTE)
}

/// Hours as people write them: minutes of the day, days by number.
#[derive(Clone, Debug)]
struct Written {
    quiet: bool,
    from: i64,
    to: i64,
    days: Vec<usize>,
}

fn written() -> impl Strategy<Value = Written> {
    let time = prop_oneof![Just(0_i64), (0..48_i64).prop_map(|half| 30 * half), 0..1440_i64];
    (any::<bool>(), time.clone(), time, prop::collection::btree_set(0..7_usize, 1..=7))
        .prop_map(|(quiet, from, to, days)| Written { quiet, from, to, days: days.into_iter().collect() })
}

impl Written {
    fn hours(&self) -> Hours {
        let text = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let days = Weekdays::parse(self.days.iter().map(|day| NAMES[*day])).unwrap();
        let stretch = Stretch::parse(&text(self.from), &text(self.to), days).unwrap();
        Hours { kind: if self.quiet { Kind::Quiet } else { Kind::Open }, stretches: vec![stretch] }
    }

    /// The oracle: what the clock on the wall reads, minute by minute of the week.
    fn allows(&self, zone: &TimeZone, at: i64) -> bool {
        let reads = zone.to_datetime(Timestamp::from_microsecond(at).unwrap());
        let minute = i64::from(reads.hour()) * 60 + i64::from(reads.minute());
        let today = reads.weekday().to_monday_zero_offset() as usize;
        let length = if self.to > self.from { self.to - self.from } else { self.to - self.from + 1440 };
        let inside = [(today, minute), ((today + 6) % 7, minute + 1440)]
            .iter()
            .any(|(day, minute)| self.days.contains(day) && (self.from..self.from + length).contains(minute));
        inside != self.quiet
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The first moment that is allowed is the one that looking at every minute finds.
    #[test]
    fn the_next_moment_is_the_first(
        zone in prop::sample::select(ZONES.to_vec()),
        now in moments(),
        rules in prop::collection::vec(written(), 1..4),
    ) {
        let hours: Vec<Hours> = rules.iter().map(Written::hours).collect();
        let clock = Clock::new(zone, hours.iter().collect()).unwrap();
        let until = now + 3 * DAY;
        let known = TimeZone::get(zone).unwrap();
        let oracle = (now..until).step_by(MINUTE as usize).find(|at| rules.iter().all(|rule| rule.allows(&known, *at)));
        prop_assert_eq!(clock.next(now, None, until).unwrap(), oracle);
        prop_assert_eq!(clock.allows(now).unwrap(), rules.iter().all(|rule| rule.allows(&known, now)));
    }

    /// With a slot: allowed, inside the slot, and no earlier moment is both.
    #[test]
    fn the_next_moment_in_a_slot_is_the_first(
        zone in prop::sample::select(ZONES.to_vec()),
        now in moments(),
        rules in prop::collection::vec(written(), 0..3),
        slot in prop::sample::select(vec![("morning", 8, 11), ("evening", 17, 21)]),
    ) {
        let hours: Vec<Hours> = rules.iter().map(Written::hours).collect();
        let clock = Clock::new(zone, hours.iter().collect()).unwrap();
        let (name, from, to) = slot;
        let until = now + 3 * DAY;
        let known = TimeZone::get(zone).unwrap();
        let in_slot = |at: i64| {
            let hour = known.to_datetime(Timestamp::from_microsecond(at).unwrap()).hour();
            (from..to).contains(&hour)
        };
        let oracle = (now..until)
            .step_by(MINUTE as usize)
            .find(|at| in_slot(*at) && rules.iter().all(|rule| rule.allows(&known, *at)));
        prop_assert_eq!(clock.next(now, Some(name), until).unwrap(), oracle);
    }

    /// Whatever order contacts are asked for in, no stretch ever holds more than the cap.
    #[test]
    fn no_stretch_holds_more_than_the_cap(
        asked in prop::collection::vec(0..200_i64, 1..60),
        maximum in 0..5_u32,
        hours in 1..48_i64,
    ) {
        let cap = Cap { maximum, span: Span::Rolling(hours * HOUR), ramp: None };
        let mut made: Vec<i64> = Vec::new();
        for hour in asked {
            let full = cap.is_full(made.iter().copied(), hour * HOUR, "UTC").unwrap();
            let with = made.iter().copied().chain([hour * HOUR]);
            let most = with.clone().map(|start| with.clone().filter(|at| (start..start + hours * HOUR).contains(at)).count());
            prop_assert_eq!(full, most.max().unwrap() > maximum as usize, "it is refused exactly if it would break the cap");
            if !full {
                made.push(hour * HOUR);
            }
        }
    }

    /// The same by the calendar of a zone, where a day may have 23 or 25 hours.
    #[test]
    fn no_day_holds_more_than_the_cap(zone in prop::sample::select(ZONES.to_vec()), start in moments(), asked in prop::collection::vec(0..120_i64, 1..40)) {
        let cap = Cap { maximum: 2, span: Span::Calendar(Calendar::Day), ramp: None };
        let known = TimeZone::get(zone).unwrap();
        let day = |at: i64| known.to_datetime(Timestamp::from_microsecond(at).unwrap()).date();
        let mut made: Vec<i64> = Vec::new();
        for hour in asked {
            let at = start + hour * HOUR;
            let full = cap.is_full(made.iter().copied(), at, zone).unwrap();
            prop_assert_eq!(full, made.iter().filter(|other| day(**other) == day(at)).count() >= 2);
            if !full {
                made.push(at);
            }
        }
    }
}

#[test]
fn times_of_day_are_written_as_sql_writes_them() {
    let stretch = Stretch::parse("21:00:00", "08:00", Weekdays::ALL).unwrap();
    assert_eq!((stretch.from, stretch.to), (Time::constant(21, 0, 0, 0), Time::constant(8, 0, 0, 0)));
    assert!(Stretch::parse("25:00", "08:00", Weekdays::ALL).is_none());
    assert!(Weekdays::parse(["Mon", "sunday"]).is_ok());
    assert!(Weekdays::parse(["someday"]).is_err());
}
