//! Texts in a plain spelling: lower-case ASCII letters, digits and single blanks.

use deunicode::deunicode_char;
use unicode_normalization::UnicodeNormalization;

/// Longest text that is looked at, in bytes; the rest says nothing more about who somebody is.
pub const TEXT_LIMIT: usize = 256;

/// `text` transliterated to ASCII and in lower case; apostrophes vanish, every other mark parts words.
pub fn fold(text: &str) -> String {
    let text = beginning(text);
    let mut folded = String::with_capacity(text.len());
    let mut parted = false;
    let mut push = |c: u8| match c {
        b'a'..=b'z' | b'0'..=b'9' | b'A'..=b'Z' => {
            if parted && !folded.is_empty() {
                folded.push(' ');
            }
            parted = false;
            folded.push(c.to_ascii_lowercase() as char);
        }
        b'\'' | b'`' => {}
        _ => parted = true,
    };
    if text.is_ascii() {
        text.bytes().for_each(push);
    } else {
        for c in text.nfkd() {
            match deunicode_char(c) {
                Some(ascii) => ascii.bytes().for_each(&mut push),
                None => push(b' '),
            }
        }
    }
    folded
}

fn beginning(text: &str) -> &str {
    if text.len() <= TEXT_LIMIT {
        return text;
    }
    let mut end = TEXT_LIMIT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_meet() {
        for (text, folded) in [
            ("  O'Brien-SMITH ", "obrien smith"),
            ("José\u{301}", "jose"),
            ("Jose\u{301}", "jose"),
            ("Łukasz", "lukasz"),
            ("Müller", "muller"),
            ("Weiß", "weiss"),
            ("Ａｎｎａ", "anna"),
            ("Анна", "anna"),
            ("\u{200f}\u{202e}", ""),
            ("", ""),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
        assert!(!fold("שלום").is_empty());
        assert!(fold(&"é".repeat(10_000)).len() <= TEXT_LIMIT);
    }
}
