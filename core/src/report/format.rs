//! Numbers and days as people read them.

use jiff::civil::Date;

/// What a number counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Unit {
    /// A share, shown in per cent.
    Share,
    /// A difference of shares, in percentage points.
    Points,
    /// An amount, in a currency if one is known.
    Amount(Option<String>),
    Number,
}

impl Unit {
    /// A value with as many digits as are of use.
    pub fn value(&self, value: f64) -> String {
        match self {
            Unit::Share => format!("{} %", decimal(value * 100.0, digits(value * 100.0))),
            Unit::Points => format!("{} points", decimal(value * 100.0, 2)),
            Unit::Amount(currency) => with_currency(&decimal(value, 2), currency.as_deref()),
            Unit::Number => decimal(value, digits(value)),
        }
    }

    /// What differences of such values count.
    pub fn of_differences(&self) -> Unit {
        match self {
            Unit::Share => Unit::Points,
            other => other.clone(),
        }
    }

    /// A value with its sign.
    pub fn signed(&self, value: f64) -> String {
        format!("{}{}", plus(value), self.value(value))
    }

    /// The bounds of an interval, each with its sign, and what they count once.
    pub fn signed_range(&self, lower: Option<f64>, upper: Option<f64>) -> String {
        match (lower, upper) {
            (Some(lower), Some(upper)) => {
                let (upper, unit) = (self.signed(upper), self.name());
                let lower = self.signed(lower);
                let lower = unit.map_or(lower.as_str(), |unit| lower.trim_end_matches(unit).trim_end());
                format!("{lower} to {upper}")
            }
            _ => "no interval yet".to_owned(),
        }
    }

    /// What stands behind a value.
    fn name(&self) -> Option<&str> {
        match self {
            Unit::Share => Some("%"),
            Unit::Points => Some("points"),
            Unit::Amount(currency) => currency.as_deref(),
            Unit::Number => None,
        }
    }

    /// A value on an axis whose ticks are `step` apart.
    pub fn tick(&self, value: f64, step: f64) -> String {
        let factor = if matches!(self, Unit::Share | Unit::Points) { 100.0 } else { 1.0 };
        let decimals = (-(step * factor).log10().floor()).clamp(0.0, 6.0) as usize;
        let number = decimal(value * factor, decimals);
        if *self == Unit::Share {
            format!("{number} %")
        } else {
            number
        }
    }
}

fn plus(value: f64) -> &'static str {
    if value > 0.0 {
        "+"
    } else {
        ""
    }
}

/// A ratio less one, as a share of the baseline.
pub fn relative(value: f64) -> String {
    format!("{}{} %", plus(value), decimal(value * 100.0, 1))
}

fn with_currency(number: &str, currency: Option<&str>) -> String {
    match currency {
        Some(currency) => format!("{number} {currency}"),
        None => number.to_owned(),
    }
}

fn digits(value: f64) -> usize {
    match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    }
}

/// With thin spaces between thousands, and a true minus; a number that is none is a dash.
pub fn decimal(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let digits = format!("{:.decimals$}", value.abs());
    let negative = value < 0.0 && digits.bytes().any(|digit| (b'1'..=b'9').contains(&digit));
    let (whole, fraction) = digits.split_once('.').map_or((digits.as_str(), None), |(w, f)| (w, Some(f)));
    let mut text = String::from(if negative { "−" } else { "" });
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && whole.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

pub fn count(value: i64) -> String {
    decimal(value as f64, 0)
}

/// `one` or `many` of something, with the number.
pub fn counted(value: i64, one: &str, many: &str) -> String {
    format!("{} {}", count(value), if value == 1 { one } else { many })
}

pub fn optional(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

pub fn interval(lower: Option<f64>, upper: Option<f64>, show: impl Fn(f64) -> String) -> String {
    match (lower, upper) {
        (Some(lower), Some(upper)) => format!("{} to {}", show(lower), show(upper)),
        _ => "–".to_owned(),
    }
}

pub fn day(day: Date) -> String {
    day.strftime("%-d %b %Y").to_string()
}

pub fn short_day(day: Date) -> String {
    day.strftime("%-d %b").to_string()
}

/// At most `length` characters; what is left out is marked.
pub fn clipped(text: &str, length: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if flat.chars().count() <= length {
        return flat;
    }
    flat.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(Unit::Share.value(0.123_456), "12.3 %");
        assert_eq!(Unit::Share.value(0.0123), "1.23 %");
        assert_eq!(Unit::Points.signed(-0.0123), "−1.23 points");
        assert_eq!(Unit::Points.signed(0.000_001), "+0.00 points");
        assert_eq!(Unit::Points.signed(-0.000_001), "0.00 points");
        assert_eq!(Unit::Amount(Some("EUR".into())).signed(1234.5), "+1234.50 EUR");
        assert_eq!(Unit::Points.signed_range(Some(-0.01), Some(0.02)), "−1.00 to +2.00 points");
        assert_eq!(Unit::Amount(None).signed_range(Some(-1.0), Some(2.0)), "−1.00 to +2.00");
        assert_eq!(relative(0.2431), "+24.3 %");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(decimal(f64::NAN, 2), "–");
        assert_eq!(Unit::Share.tick(0.005, 0.005), "0.5 %");
    }

    #[test]
    fn texts_are_clipped_by_character() {
        assert_eq!(clipped("größer", 4), "grö…");
        assert_eq!(clipped("a\nb", 4), "a b");
    }
}
