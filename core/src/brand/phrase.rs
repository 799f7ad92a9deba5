//! Phrases, found as people read them.

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::UnicodeNormalization;

/// A place in a text, in characters from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub length: usize,
}

impl Span {
    pub fn end(self) -> usize {
        self.start + self.length
    }

    pub fn contains(self, other: Span) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

/// A text made ready for finding phrases in it: characters as they are compared, each with the position of the one it comes from.
#[derive(Clone, Debug)]
pub struct Text {
    folded: Vec<(char, usize)>,
}

/// What cannot be seen, and so must not hide a phrase.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

fn plain(c: char) -> char {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' | '\u{2032}' | '`' | '\u{b4}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{201f}' | '\u{ab}' | '\u{bb}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        _ => c,
    }
}

impl Text {
    pub fn new(text: &str) -> Self {
        let mut folded: Vec<(char, usize)> = Vec::with_capacity(text.len());
        for (at, c) in text.chars().enumerate().filter(|(_, c)| !is_invisible(*c)) {
            // Upper and lower again, so that what has one capital is one: ß is ss, and every sigma the same.
            let cases = plain(c).to_uppercase().flat_map(char::to_lowercase);
            for c in cases.nfkd() {
                let is_space = c.is_whitespace();
                if is_space && folded.last().is_some_and(|(last, _)| *last == ' ') {
                    continue;
                }
                folded.push((if is_space { ' ' } else { c }, at));
            }
        }
        Text { folded }
    }

    fn at(&self, at: usize) -> Option<char> {
        self.folded.get(at).map(|(c, _)| *c)
    }
}

/// A phrase to look for.
#[derive(Clone, Debug)]
pub struct Phrase {
    folded: Vec<char>,
}

impl Phrase {
    /// `None` if there is nothing to look for.
    pub fn new(phrase: &str) -> Option<Self> {
        let folded: Vec<char> = Text::new(phrase.trim()).folded.into_iter().map(|(c, _)| c).collect();
        (!folded.is_empty()).then_some(Phrase { folded })
    }

    /// Where it is in a text: as whole words, and not a part of a longer one.
    pub fn find(&self, text: &Text) -> Vec<Span> {
        let (Some(first), Some(last)) = (self.folded.first(), self.folded.last()) else { return Vec::new() };
        let (length, mut at, mut found) = (self.folded.len(), 0, Vec::new());
        while at + length <= text.folded.len() {
            let here = &text.folded[at..at + length];
            let before = at.checked_sub(1).and_then(|at| text.at(at));
            let after = text.at(at + length);
            let starts =
                !first.is_alphanumeric() || before.is_none_or(|c| !c.is_alphanumeric() && !is_combining_mark(c));
            let ends = after.is_none_or(|c| !(is_combining_mark(c) || last.is_alphanumeric() && c.is_alphanumeric()));
            if starts && ends && here.iter().map(|(c, _)| c).eq(&self.folded) {
                let start = here[0].1;
                found.push(Span { start, length: here[length - 1].1 + 1 - start });
                at += length;
            } else {
                at += 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(phrase: &str, text: &str) -> Vec<String> {
        let characters: Vec<char> = text.chars().collect();
        let spans = Phrase::new(phrase).unwrap().find(&Text::new(text));
        spans.into_iter().map(|span| characters[span.start..span.end()].iter().collect()).collect()
    }

    #[test]
    fn phrases_are_found_however_they_are_written() {
        assert_eq!(find("free money", "FREE   Money, free\u{a0}money"), ["FREE   Money", "free\u{a0}money"]);
        assert_eq!(find("gratis", "GRA\u{ad}TIS, g\u{200b}ratis"), ["GRA\u{ad}TIS", "g\u{200b}ratis"]);
        assert_eq!(find("don't wait", "Don’t wait"), ["Don’t wait"]);
        assert_eq!(find("straße", "STRASSE Straße"), ["STRASSE", "Straße"]);
        assert_eq!(find("ｆｒｅｅ", "free"), ["free"], "full width");
        assert_eq!(find("café", "cafe\u{301} CAFÉ"), ["cafe\u{301}", "CAFÉ"]);
        assert_eq!(find("100 %", "100 %, 1100 %"), ["100 %"]);
    }

    #[test]
    fn a_part_of_a_word_is_another_word() {
        assert_eq!(find("free", "freedom carefree free-range"), ["free"]);
        assert!(find("resume", "résumé resumé").is_empty());
        assert!(Phrase::new(" \u{200b} ").is_none());
    }
}
