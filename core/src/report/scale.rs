//! Axes with round numbers and days on them.

use std::ops::Range;

use jiff::civil::Date;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, KeyPointWeight, Ranged};

use super::format::{short_day, Unit};

/// A linear axis with labels of its own.
#[derive(Clone, Debug)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    pub fn new(low: f64, high: f64, ticks: Vec<(f64, String)>) -> Self {
        Axis { low, high, ticks }
    }

    /// An axis that holds all values, and `always` too, with about `count` round ticks.
    pub fn around(values: impl IntoIterator<Item = f64>, always: &[f64], count: usize, unit: &Unit) -> Self {
        let finite = values.into_iter().chain(always.iter().copied()).filter(|value| value.is_finite());
        let (mut low, mut high) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low <= 1e-9 * high.abs().max(low.abs()).max(1e-9) {
            (low, high) = if low > 0.0 { (0.0, 2.0 * low) } else { (low - 0.5, low + 0.5) };
        }
        let step = round_step((high - low) / count.max(1) as f64);
        // The tolerance keeps 0.3 / 0.1 from being 3 and a bit.
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil();
        let ticks = (0..=(last - first) as usize)
            .map(|at| (first + at as f64) * step)
            .map(|value| (value, unit.tick(value, step)))
            .collect();
        Axis { low: first * step, high: last * step, ticks }
    }

    /// Whole days, each of them one wide.
    pub fn days(first: Date, last: Date) -> Self {
        let (low, high) = (number(first), number(last));
        let every = ((high - low + 1.0) / 5.0).ceil().max(1.0);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        let mut at = low;
        while at <= high {
            if let Ok(day) = first.checked_add(jiff::Span::new().days((at - low) as i64)) {
                ticks.push((at, short_day(day)));
            }
            at += every;
        }
        Axis { low: low - 0.5, high: high + 0.5, ticks }
    }

    /// Names at 0, 1, 2, …
    pub fn labelled(low: f64, high: f64, labels: impl IntoIterator<Item = String>) -> Self {
        Axis { low, high, ticks: (0..).map(f64::from).zip(labels).collect() }
    }

    pub fn label(&self, value: f64) -> String {
        self.ticks.iter().find(|tick| (tick.0 - value).abs() < 1e-12).map_or_else(String::new, |tick| tick.1.clone())
    }

    pub fn ticks(&self) -> usize {
        self.ticks.len()
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// A day as a place on an axis.
pub fn number(day: Date) -> f64 {
    f64::from(day.duration_since(Date::constant(1970, 1, 1)).as_hours() as i32 / 24)
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.ticks.iter().map(|tick| tick.0).collect(),
            KeyPointWeight::Any => Vec::new(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let axis = Axis::around([0.3, 4.2], &[0.0], 4, &Unit::Number);
        assert_eq!((axis.low, axis.high), (0.0, 6.0));
        assert_eq!(axis.label(4.0), "4");
        let axis = Axis::around([-0.012, 0.03], &[0.0], 4, &Unit::Share);
        assert_eq!(axis.label(-0.02), "−2 %");
        assert!(axis.low <= -0.012 && axis.high >= 0.03);
    }

    #[test]
    fn nothing_and_one_value_have_an_axis() {
        for values in [vec![], vec![0.0], vec![7.0], vec![-3.0], vec![f64::NAN]] {
            let axis = Axis::around(values, &[], 4, &Unit::Number);
            assert!(axis.low < axis.high && axis.ticks.len() >= 2, "{axis:?}");
        }
    }

    #[test]
    fn days_are_one_wide() {
        let axis = Axis::days(Date::constant(2026, 2, 27), Date::constant(2026, 3, 3));
        assert!((axis.high - axis.low - 5.0).abs() < 1e-12);
        assert_eq!(axis.label(number(Date::constant(2026, 3, 1))), "1 Mar");
    }
}
