//! Frequency caps: how many contacts a customer may get in a stretch of time.

use crate::decide::{calendar_period, Calendar, PeriodError};

/// A contact of a customer, reserved or made, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact<A> {
    pub at: i64,
    pub action: A,
}

/// The stretch of time that a cap counts in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// Any stretch of so many microseconds, wherever it begins.
    Rolling(i64),
    /// A calendar day, week or month in the zone of the customer.
    Calendar(Calendar),
    /// All time.
    Ever,
}

/// A cap that rises from `from` contacts at `starts_at` to its maximum at `ends_at`, linearly, in whole contacts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    pub from: u32,
    pub starts_at: i64,
    pub ends_at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cap {
    pub maximum: u32,
    pub span: Span,
    pub ramp: Option<Ramp>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CapError {
    /// Calendar periods need a zone that is known.
    #[error(transparent)]
    Period(#[from] PeriodError),
}

impl Cap {
    /// Most contacts, for a contact at `at`.
    pub fn maximum_at(&self, at: i64) -> u32 {
        match self.ramp {
            Some(ramp) if at < ramp.ends_at => {
                let length = (ramp.ends_at - ramp.starts_at).max(1) as f64;
                let progress = ((at - ramp.starts_at) as f64 / length).clamp(0.0, 1.0);
                let (from, to) = (f64::from(ramp.from), f64::from(self.maximum));
                (from + (to - from) * progress).floor() as u32
            }
            _ => self.maximum,
        }
    }

    /// How far before a moment contacts matter, in microseconds; `None` for ever.
    pub fn reach(&self) -> Option<i64> {
        const DAY: i64 = 86_400_000_000;
        match self.span {
            Span::Rolling(length) => Some(length),
            // Periods of zones that change their clocks are longer than others.
            Span::Calendar(Calendar::Day) => Some(2 * DAY),
            Span::Calendar(Calendar::Week) => Some(8 * DAY),
            Span::Calendar(Calendar::Month) => Some(32 * DAY),
            Span::Ever => None,
        }
    }

    /// Whether a contact at `at` would be one too many beside those at `contacts`, in any order, some of them perhaps later.
    ///
    /// # Errors
    /// An unknown zone, for calendar periods only.
    pub fn is_full(&self, contacts: impl Iterator<Item = i64>, at: i64, zone: &str) -> Result<bool, CapError> {
        let maximum = self.maximum_at(at) as usize;
        Ok(match self.span {
            Span::Ever => contacts.count() >= maximum,
            Span::Calendar(calendar) => {
                let period = calendar_period(at, zone, calendar)?;
                contacts.filter(|other| (period.start..period.end).contains(other)).count() >= maximum
            }
            Span::Rolling(length) => {
                let mut near: Vec<i64> = contacts.filter(|other| (other - at).abs() < length).collect();
                near.push(at);
                near.sort_unstable();
                // A stretch with more than the maximum holds as many in a row, and the new one is among the near ones.
                near.windows(maximum + 1).any(|row| row[maximum] - row[0] < length)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn rolling(maximum: u32, hours: i64) -> Cap {
        Cap { maximum, span: Span::Rolling(hours * HOUR), ramp: None }
    }

    fn full(cap: Cap, contacts: &[i64], at: i64) -> bool {
        cap.is_full(contacts.iter().map(|hour| hour * HOUR), at * HOUR, "Europe/Berlin").unwrap()
    }

    #[test]
    fn a_rolling_cap_counts_in_every_stretch() {
        assert!(!full(rolling(2, 24), &[0], 1));
        assert!(full(rolling(2, 24), &[0, 1], 2));
        assert!(
            !full(rolling(2, 24), &[0, 1], 24),
            "a stretch of 24 hours holds the first of two moments 24 hours apart, not both"
        );
        assert!(full(rolling(2, 24), &[10, 20], 0), "contacts that are reserved for later count");
        assert!(full(rolling(2, 24), &[-10, 10], 0), "so do those around");
        assert!(!full(rolling(2, 24), &[-20, 20], 0));
        assert!(full(rolling(0, 24), &[], 0));
    }

    #[test]
    fn a_calendar_cap_counts_in_the_zone() {
        let daily = Cap { maximum: 1, span: Span::Calendar(Calendar::Day), ramp: None };
        // 1970-01-01 in Berlin ends at 23:00 UTC.
        assert!(full(daily, &[1], 22));
        assert!(!full(daily, &[1], 23));
        assert!(daily.is_full([0].into_iter(), 0, "Mars/Olympus").is_err());
    }

    #[test]
    fn a_ramp_rises_in_whole_contacts() {
        let ramp = Ramp { from: 1, starts_at: 0, ends_at: 100 };
        let cap = Cap { maximum: 5, span: Span::Ever, ramp: Some(ramp) };
        let at = |at| cap.maximum_at(at);
        assert_eq!([at(-5), at(0), at(24), at(25), at(99), at(100), at(1000)], [1, 1, 1, 2, 4, 5, 5]);
    }
}
