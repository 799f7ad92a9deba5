//! Identifiers in one spelling.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use super::{Country, IdentifierKind};

/// Longest usable value in bytes, before and after; longer ones are no identifiers, and no index would hold them.
pub const VALUE_LIMIT: usize = 512;

/// `raw` in the one spelling that is compared, or `None` if it is no value of that kind.
///
/// `country` is where a phone number without country code belongs.
pub fn normalise(kind: IdentifierKind, raw: &str, country: Option<Country>) -> Option<String> {
    if raw.len() > VALUE_LIMIT {
        return None;
    }
    // Compatibility forms: full-width digits and letters, ligatures, composed and decomposed accents.
    let folded: Cow<'_, str> = if raw.is_ascii() { Cow::Borrowed(raw) } else { Cow::Owned(raw.nfkc().collect()) };
    let text = folded.trim_matches(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c));
    let value = match kind {
        IdentifierKind::Email => email(text),
        IdentifierKind::Phone => phone(text, country),
        IdentifierKind::DeviceId => Some(device_id(text)),
        IdentifierKind::ExternalId => Some(text.to_owned()),
    };
    value.filter(|value| !value.is_empty() && value.len() <= VALUE_LIMIT && !value.contains('\0'))
}

/// Marks that come along with copied text and show nothing.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Lower case, without sub-address (`name+tag@`), `mailto:` and display name. Dots are kept: they matter to most providers.
fn email(text: &str) -> Option<String> {
    let text = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(start), Some(inside)) => &inside[start + 1..],
        _ => text,
    };
    let text = text.to_lowercase();
    let text = text.strip_prefix("mailto:").unwrap_or(&text).trim();
    let (local, domain) = text.rsplit_once('@')?;
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let local = match local.find('+') {
        Some(at) if at > 0 => &local[..at],
        _ => local,
    };
    let is_plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control());
    let labels_are_filled = domain.split('.').all(|label| !label.is_empty());
    (is_plain(local) && !local.contains('@') && is_plain(domain) && domain.contains('.') && labels_are_filled)
        .then(|| format!("{local}@{domain}"))
}

/// Fewest and most digits of a subscriber number with area code (E.164 allows fifteen).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// From this many digits on, a number that begins with the country's calling code includes it.
const FULL_PHONE_DIGITS: usize = 11;

/// E.164 (`+` and digits) where the country is written or known; else the bare digits, which only equal the same digits.
///
/// Reads what people write; it does not check that the number is assigned.
fn phone(text: &str, country: Option<Country>) -> Option<String> {
    let text = text.strip_prefix("tel:").unwrap_or(text);
    let without_extension = text.split(['x', 'X', 'e', 'E', '#', ';', ',']).next()?;
    let (mut digits, mut plus, mut bracketed_zero) = (String::new(), false, None);
    for (at, c) in without_extension.char_indices() {
        match c {
            '0'..='9' => {
                if c == '0' && without_extension[..at].ends_with('(') && without_extension[at..].starts_with("0)") {
                    bracketed_zero = Some(digits.len());
                }
                digits.push(c);
            }
            '+' if digits.is_empty() => plus = true,
            ' ' | '\u{a0}' | '-' | '.' | '/' | '(' | ')' | '\u{2010}'..='\u{2015}' => {}
            _ => return None,
        }
    }
    let exit_prefix = country.map_or("00", Country::exit_prefix);
    let stripped = if plus { None } else { digits.strip_prefix(exit_prefix).or_else(|| digits.strip_prefix("00")) };
    let international = plus || stripped.is_some();
    if international {
        // "+49 (0)170": the zero in brackets is for callers inside the country.
        let offset = stripped.map_or(0, |rest| digits.len() - rest.len());
        if let Some(at) = bracketed_zero.filter(|at| *at > offset) {
            digits.remove(at);
        }
        digits.drain(..offset);
        return PHONE_DIGITS.contains(&digits.len()).then(|| format!("+{digits}"));
    }
    if !PHONE_DIGITS.contains(&digits.len()) {
        return None;
    }
    let Some(country) = country else { return Some(digits) };
    let trunk = country.trunk_prefix();
    let national = match digits.strip_prefix(trunk) {
        Some(national) if !trunk.is_empty() => national,
        _ if digits.len() >= FULL_PHONE_DIGITS && digits.starts_with(country.calling_code()) => {
            return Some(format!("+{digits}"))
        }
        _ => &digits,
    };
    Some(format!("+{}{national}", country.calling_code()))
}

/// Device ids are opaque; only uuids (advertising ids) are written in either case.
fn device_id(text: &str) -> String {
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_uuid {
        text.to_ascii_lowercase()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: IdentifierKind, raw: &str) -> Option<String> {
        normalise(kind, raw, "DE".parse().ok())
    }

    #[test]
    fn emails() {
        for same in [
            "Ada@Example.com",
            " ada@example.com\t",
            "mailto:ADA@example.com",
            "Ada <ada+news@example.com.>",
            "ada@ｅxample.com",
        ] {
            assert_eq!(of(IdentifierKind::Email, same).as_deref(), Some("ada@example.com"), "{same}");
        }
        for wrong in
            ["", "@", "ada", "ada@", "@example.com", "ada@example", "a b@example.com", "a@b@c.de", "a@.de", "a@b..de"]
        {
            assert_eq!(of(IdentifierKind::Email, wrong), None, "{wrong}");
        }
        assert_eq!(of(IdentifierKind::Email, "+x@example.com").as_deref(), Some("+x@example.com"));
    }

    #[test]
    fn phones() {
        for same in [
            "0170 1234567",
            "+49 (0)170/123 45-67",
            "0049 170 1234567",
            "170.1234567",
            "491701234567",
            "+49 170 1234567 ext. 3",
        ] {
            assert_eq!(of(IdentifierKind::Phone, same).as_deref(), Some("+491701234567"), "{same}");
        }
        for wrong in ["", "12", "call me", "+1", "12345678901234567890"] {
            assert_eq!(of(IdentifierKind::Phone, wrong), None, "{wrong}");
        }
        let us = "US".parse().ok();
        for same in ["(212) 555-0199", "1-212-555-0199", "+1 212 555 0199", "011 1 212 555 0199"] {
            assert_eq!(normalise(IdentifierKind::Phone, same, us).as_deref(), Some("+12125550199"), "{same}");
        }
        assert_eq!(
            normalise(IdentifierKind::Phone, "06 1234 5678", "IT".parse().ok()).as_deref(),
            Some("+390612345678")
        );
        assert_eq!(normalise(IdentifierKind::Phone, "0170 1234567", None).as_deref(), Some("01701234567"));
    }

    #[test]
    fn ids() {
        let uuid = "6BA7B810-9DAD-11D1-80B4-00C04FD430C8";
        assert_eq!(of(IdentifierKind::DeviceId, uuid), Some(uuid.to_lowercase()));
        assert_eq!(of(IdentifierKind::DeviceId, " GA1.2.aB ").as_deref(), Some("GA1.2.aB"));
        assert_eq!(of(IdentifierKind::ExternalId, "A-1\u{200b}").as_deref(), Some("A-1"));
        assert_eq!(of(IdentifierKind::ExternalId, &"x".repeat(VALUE_LIMIT + 1)), None);
    }
}
