//! Phrases, found as people read them.

use unicode_normalization::char::{canonical_combining_class, is_combining_mark};
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

/// What cannot be seen, and so must not hide a phrase: Default_Ignorable_Code_Point of the Unicode Character Database, and marks of
/// direction.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Whether it has a place of its own among the marks of a letter.
fn is_mark(c: char) -> bool {
    canonical_combining_class(c) > 0
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
        // Several marks on a letter may be written in any order.
        for marks in folded.chunk_by_mut(|a, b| is_mark(a.0) && is_mark(b.0)) {
            marks.sort_by_key(|(c, _)| canonical_combining_class(*c));
        }
        Text { folded }
    }

    fn at(&self, at: usize) -> Option<char> {
        self.folded.get(at).map(|(c, _)| *c)
    }
}

/// A text as a pattern sees it: without what cannot be seen, spaces single, letters composed. Each byte knows the characters that
/// it comes from.
pub struct Readable {
    pub text: String,
    /// Of each byte: the first character, and the one after the last.
    origins: Vec<(usize, usize)>,
}

impl Readable {
    pub fn new(text: &str) -> Self {
        let mut readable = Readable { text: String::with_capacity(text.len()), origins: Vec::new() };
        let mut letters: Vec<(String, usize, usize)> = Vec::new();
        for (at, c) in text.chars().enumerate().filter(|(_, c)| !is_invisible(*c)) {
            match letters.last_mut() {
                Some((letter, _, end)) if is_combining_mark(c) => {
                    letter.push(c);
                    *end = at + 1;
                }
                _ => letters.push((plain(c).to_string(), at, at + 1)),
            }
        }
        for (letter, start, end) in letters {
            for c in letter.nfkc() {
                if c.is_whitespace() && readable.text.ends_with(' ') {
                    continue;
                }
                readable.text.push(if c.is_whitespace() { ' ' } else { c });
                readable.origins.resize(readable.text.len(), (start, end));
            }
        }
        readable
    }

    /// The place in the text as it was written of a range of bytes that is not empty.
    pub fn span(&self, range: std::ops::Range<usize>) -> Span {
        let start = self.origins.get(range.start).map_or(0, |origin| origin.0);
        let end = range.end.checked_sub(1).and_then(|last| self.origins.get(last)).map_or(start, |origin| origin.1);
        Span { start, length: end.saturating_sub(start) }
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
                let places = || here.iter().map(|(_, at)| *at);
                let (start, end) = (places().min().unwrap_or(0), places().max().map_or(0, |last| last + 1));
                found.push(Span { start, length: end - start });
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
        assert_eq!(find("free", "fr\u{2066}ee fr\u{fe0f}ee \u{202e}free"), ["fr\u{2066}ee", "fr\u{fe0f}ee", "free"]);
        assert_eq!(find("Việt", "Vi\u{ea}\u{323}t Vie\u{323}\u{302}t VIỆT").len(), 3, "marks in any order");
    }

    #[test]
    fn a_part_of_a_word_is_another_word() {
        assert_eq!(find("free", "freedom carefree free-range"), ["free"]);
        assert!(find("resume", "résumé resumé").is_empty());
        assert!(Phrase::new(" \u{200b} ").is_none());
    }
}
