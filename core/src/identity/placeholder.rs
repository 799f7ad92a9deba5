//! Values that stand for "none": they would join strangers.

use super::IdentifierKind;

/// Whether a normalised value is known to identify nobody.
pub fn is_placeholder(kind: IdentifierKind, value: &str) -> bool {
    match kind {
        IdentifierKind::Email => {
            let (local, domain) = value.rsplit_once('@').unwrap_or((value, ""));
            is_word_for_none(local)
                || ROLE_MAILBOXES.contains(&local)
                // Of mail at example.com alone: departments are called na, or no, elsewhere.
                || domain.split_once('.').is_some_and(|(name, rest)| !rest.contains('.') && is_word_for_none(name))
                || is_one_character(local) && local.len() > 2
        }
        IdentifierKind::Phone => {
            let digits = value.trim_start_matches('+');
            ends_in_one_digit(digits) || "01234567890".contains(digits) || "9876543210".contains(digits)
        }
        IdentifierKind::DeviceId => {
            is_word_for_none(value) || is_zero(value) || is_one_character(value) && value.len() >= 8
        }
        IdentifierKind::ExternalId => is_word_for_none(value) || is_zero(value) || value == "-1",
    }
}

/// Words that forms, exports and programmes write where nothing is known.
const WORDS_FOR_NONE: &[&str] = &[
    "anonymous",
    "blank",
    "empty",
    "guest",
    "invalid",
    "missing",
    "n.a.",
    "n/a",
    "na",
    "nan",
    "nil",
    "no",
    "noemail",
    "none",
    "not set",
    "notset",
    "null",
    "test",
    "undefined",
    "unknown",
    "void",
];

/// Mailboxes that belong to an organisation, not to a person (RFC 2142 and customs).
const ROLE_MAILBOXES: &[&str] = &[
    "abuse",
    "admin",
    "administrator",
    "billing",
    "contact",
    "donotreply",
    "hello",
    "help",
    "hostmaster",
    "info",
    "mail",
    "mailer-daemon",
    "marketing",
    "no-reply",
    "noreply",
    "office",
    "postmaster",
    "sales",
    "security",
    "service",
    "support",
    "webmaster",
];

fn is_word_for_none(value: &str) -> bool {
    let bare = value.trim_matches(|c| matches!(c, '(' | ')' | '[' | ']' | '<' | '>' | '"' | '\''));
    bare.is_empty() || WORDS_FOR_NONE.iter().any(|word| word.eq_ignore_ascii_case(bare))
}

fn is_zero(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b'0' | b'-'))
}

/// `xxxx`, `ffff-ffff`: one character only, separators aside.
fn is_one_character(value: &str) -> bool {
    let mut characters = value.chars().filter(|c| !matches!(c, '-' | '.' | '_' | ' '));
    match characters.next() {
        None => true,
        Some(first) => characters.all(|c| c == first),
    }
}

/// `+49 0000000` and `5555555`: a country code at most, then the same digit over and over.
fn ends_in_one_digit(digits: &str) -> bool {
    let Some(last) = digits.chars().next_back() else { return true };
    let repeated = digits.chars().rev().take_while(|digit| *digit == last).count();
    repeated >= 7 || digits.len() <= repeated + 3 && repeated >= 5
}

#[cfg(test)]
mod tests {
    use super::*;
    use IdentifierKind::*;

    #[test]
    fn placeholders_are_known() {
        for (kind, value) in [
            (Email, "info@shop.com"),
            (Email, "null@shop.com"),
            (Email, "ada@none.com"),
            (Email, "xxx@xxx.com"),
            (Phone, "+490000000000"),
            (Phone, "1234567"),
            (Phone, "5555555555"),
            (DeviceId, "00000000-0000-0000-0000-000000000000"),
            (DeviceId, "0"),
            (DeviceId, "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            (DeviceId, "(null)"),
            (ExternalId, "0"),
            (ExternalId, "Anonymous"),
            (ExternalId, "-1"),
        ] {
            assert!(is_placeholder(kind, value), "{kind:?} {value}");
        }
    }

    #[test]
    fn values_of_persons_pass() {
        for (kind, value) in [
            (Email, "ada@example.com"),
            (Email, "a@b.de"),
            (Email, "information@b.de"),
            (Phone, "+491701234567"),
            (Phone, "+12125550199"),
            (DeviceId, "d-1"),
            (DeviceId, "1111"),
            (ExternalId, "7"),
            (ExternalId, "111"),
            (ExternalId, "c-100"),
        ] {
            assert!(!is_placeholder(kind, value), "{kind:?} {value}");
        }
    }
}
