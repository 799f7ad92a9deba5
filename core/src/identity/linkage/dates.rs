//! Dates of birth in mixed formats.

use super::super::Country;

/// A date as one number: year, month (four bits), day (five bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Birth(u32);

/// Two-digit years up to this one are of this century.
const PIVOT: u32 = 25;

impl Birth {
    /// Reads ISO dates (with or without a time), `31.12.1980`, `12/31/1980` and compact `19801231`.
    ///
    /// Where day and month could both be either, the United States and their neighbours write the month first, others the
    /// day. Dates that forms and exports write where nothing is known (1900-01-01, 1970-01-01, 9999-12-31) are `None`.
    pub fn parse(text: &str, country: Option<Country>) -> Option<Self> {
        let text = text.trim();
        let date = text.split(['T', ' ']).next()?;
        let separator = date.chars().find(|c| matches!(c, '-' | '.' | '/'));
        let (year, month, day) = match separator {
            None => {
                if date.len() != 8 || !date.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                (number(&date[..4])?, number(&date[4..6])?, number(&date[6..])?)
            }
            Some(separator) => {
                let mut parts = date.split(separator);
                let (a, b, c) = (parts.next()?, parts.next()?, parts.next()?);
                if parts.next().is_some() {
                    return None;
                }
                if a.len() == 4 {
                    (number(a)?, number(b)?, number(c)?)
                } else {
                    let (first, second) = (number(a)?, number(b)?);
                    let month_first = separator != '.' && country.is_none_or(is_month_first);
                    let (month, day) = match (first > 12, second > 12) {
                        (true, _) => (second, first),
                        (_, true) => (first, second),
                        _ if month_first => (first, second),
                        _ => (second, first),
                    };
                    (full_year(c)?, month, day)
                }
            }
        };
        let birth = Birth(year << 9 | month << 5 | day);
        let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && (1850..=2100).contains(&year);
        (is_date && !PLACEHOLDERS.contains(&(year, month, day))).then_some(birth)
    }

    /// The number that [`Birth::of_number`] reads.
    pub fn number(self) -> u32 {
        self.0
    }

    pub fn of_number(number: u32) -> Self {
        Birth(number)
    }

    pub fn year(self) -> u32 {
        self.0 >> 9
    }

    pub fn month(self) -> u32 {
        self.0 >> 5 & 15
    }

    pub fn day(self) -> u32 {
        self.0 & 31
    }

    /// Eight digits, year first.
    fn digits(self) -> [u8; 8] {
        let packed = self.year() * 10_000 + self.month() * 100 + self.day();
        let mut digits = [0; 8];
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            *digit = (packed / 10u32.pow(place as u32) % 10) as u8;
        }
        digits
    }

    pub fn is_swapped(self, other: Self) -> bool {
        self.year() == other.year() && self.month() == other.day() && self.day() == other.month()
    }

    /// Digits in which two dates differ; two neighbours that changed places count once.
    pub fn typing_errors(self, other: Self) -> usize {
        let (a, b) = (self.digits(), other.digits());
        let differing: Vec<usize> = (0..8).filter(|&place| a[place] != b[place]).collect();
        match differing[..] {
            [first, second] if second == first + 1 && a[first] == b[second] && a[second] == b[first] => 1,
            _ => differing.len(),
        }
    }

    /// How many of year, month and day are the same.
    pub fn parts_in_common(self, other: Self) -> usize {
        usize::from(self.year() == other.year())
            + usize::from(self.month() == other.month())
            + usize::from(self.day() == other.day())
    }
}

impl std::fmt::Display for Birth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:04}-{:02}-{:02}", self.year(), self.month(), self.day())
    }
}

const PLACEHOLDERS: &[(u32, u32, u32)] =
    &[(1900, 1, 1), (1900, 1, 2), (1901, 1, 1), (1970, 1, 1), (1899, 12, 30), (1899, 12, 31), (2000, 1, 1)];

fn is_month_first(country: Country) -> bool {
    matches!(country.code(), "US" | "PH" | "CA" | "PR")
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || text.len() > 4 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn full_year(text: &str) -> Option<u32> {
    let year = number(text)?;
    match text.len() {
        4 => Some(year),
        2 if year <= PIVOT => Some(2000 + year),
        2 => Some(1900 + year),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, country: &str) -> Option<String> {
        Birth::parse(text, country.parse().ok()).map(|birth| birth.to_string())
    }

    #[test]
    fn formats_meet() {
        for (text, country) in [
            ("1980-12-31", ""),
            ("1980/12/31", "DE"),
            ("31.12.1980", "US"),
            ("31.12.80", "DE"),
            ("12/31/1980", "GB"),
            ("31/12/1980", "US"),
            ("19801231", ""),
            (" 1980-12-31T00:00:00Z", ""),
            ("1980-12-31 00:00:00+01", ""),
        ] {
            assert_eq!(of(text, country).as_deref(), Some("1980-12-31"), "{text}");
        }
        assert_eq!(of("03/04/1980", "US").as_deref(), Some("1980-03-04"));
        assert_eq!(of("03/04/1980", "GB").as_deref(), Some("1980-04-03"));
        assert_eq!(of("03.04.1980", "US").as_deref(), Some("1980-04-03"));
    }

    #[test]
    fn what_is_no_date_is_missing() {
        for text in [
            "",
            "unknown",
            "1900-01-01",
            "1970-01-01",
            "9999-12-31",
            "12345-01-01",
            "1980-13-01",
            "1980-00-10",
            "1980-1",
            "1-2-3-4",
            "---",
            "١٩٨٠-٠١-٠٢",
        ] {
            assert_eq!(of(text, ""), None, "{text}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let date = |text| Birth::parse(text, None).unwrap();
        let birth = date("1980-03-04");
        assert!(birth.is_swapped(date("1980-04-03")));
        assert_eq!(birth.typing_errors(date("1980-03-05")), 1);
        assert_eq!(birth.typing_errors(date("1908-03-04")), 1);
        assert_eq!(birth.typing_errors(date("1980-03-15")), 2);
        assert_eq!(birth.parts_in_common(date("1980-03-15")), 2);
    }
}
