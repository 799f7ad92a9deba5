//! Changes of configuration, as marks on every axis of days.

use jiff::civil::Date;

use super::format::clipped;
use super::palette::Colour;
use super::plot::{Plot, Result, Side};
use super::scale::{number, Axis};

/// What changed in one table of the configuration on a day, by somebody.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub day: Date,
    pub changed_by: String,
    /// Table of the configuration.
    pub relation: String,
    /// INSERT, UPDATE or DELETE.
    pub operation: String,
    /// How many rows.
    pub rows: i64,
    /// The row, if it is one.
    pub row: Option<String>,
    /// Columns that changed, each with its values before and after if it is one row.
    pub columns: Vec<String>,
}

impl Change {
    /// As one would say it.
    pub fn in_words(&self) -> String {
        let what = self.relation.trim_end_matches('s').replace('_', " ");
        let what = match (&self.row, self.rows) {
            (Some(row), _) => format!("{what} {}", clipped(row, 80)),
            (None, 1) => what,
            (None, rows) => format!("{rows} × {what}"),
        };
        let done = match self.operation.as_str() {
            "INSERT" => "added",
            "DELETE" => "removed",
            _ => "changed",
        };
        if self.operation == "UPDATE" && !self.columns.is_empty() {
            let shown = self.columns.iter().take(4).map(|column| clipped(column, 80)).collect::<Vec<_>>().join(", ");
            let more = if self.columns.len() > 4 { ", …" } else { "" };
            return format!("{what} {done}: {shown}{more}");
        }
        format!("{what} {done}")
    }
}

/// Days with changes, numbered in order.
pub struct Marks(Vec<Date>);

impl Marks {
    /// Only days within the charts have a number.
    pub fn new(changes: &[Change], span: Option<(Date, Date)>) -> Self {
        let within = |day: &Date| span.is_some_and(|(first, last)| (first..=last).contains(day));
        let mut days: Vec<Date> = changes.iter().map(|change| change.day).filter(within).collect();
        days.sort_unstable();
        days.dedup();
        Marks(days)
    }

    pub fn number(&self, day: Date) -> Option<usize> {
        self.0.binary_search(&day).ok().map(|at| at + 1)
    }

    /// Marks go behind what is drawn after them.
    pub fn draw(&self, plot: &mut Plot<'_, '_>, x: &Axis, y: &Axis, colour: Colour) -> Result<()> {
        // Numbers that would overlap are left out; the days are in the table.
        let room = (x.high - x.low) / 22.0;
        let mut last = f64::NEG_INFINITY;
        for (at, day) in (1..).zip(&self.0) {
            let place = number(*day);
            if !(x.low..=x.high).contains(&place) {
                continue;
            }
            plot.dashes((place, y.low), (place, y.high), 14, colour)?;
            if place - last >= room {
                plot.text((place, y.high), (0, -8), at.to_string(), Colour::Muted, Side::Middle)?;
                last = place;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(day: Date, operation: &str, rows: i64) -> Change {
        Change { day, operation: operation.into(), relation: "actions".into(), rows, ..Change::default() }
    }

    #[test]
    fn changes_are_sentences() {
        let day = Date::constant(2026, 6, 1);
        assert_eq!(change(day, "INSERT", 6).in_words(), "6 × action added");
        let one = Change {
            row: Some("sms".into()),
            columns: vec!["status: draft → approved".into()],
            ..change(day, "UPDATE", 1)
        };
        assert_eq!(one.in_words(), "action sms changed: status: draft → approved");
    }

    #[test]
    fn a_day_has_one_number_however_much_changed_on_it() {
        let [before, one, two] = [1, 3, 4].map(|day| Date::constant(2026, 6, day));
        let changes =
            [change(two, "INSERT", 1), change(one, "INSERT", 1), change(one, "UPDATE", 2), change(before, "INSERT", 1)];
        let marks = Marks::new(&changes, Some((one, two)));
        assert_eq!([before, one, two].map(|day| marks.number(day)), [None, Some(1), Some(2)]);
    }
}
