//! Rules about content.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

use super::content::Field;
use super::encoding::{encode, first_beyond_gsm7, Encoding};
use super::phrase::{Phrase, Readable, Span, Text};

/// A regular expression may take so much memory when it is compiled.
const PATTERN_SIZE: usize = 1 << 20;

/// Letters of a text before the share of capitals says anything.
const LETTERS_FOR_CAPITALS: usize = 10;

/// What is wrong with a content.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub message: String,
    /// Path of the field and the place in it; `None` for what is missing from the whole.
    pub place: Option<(String, Span)>,
}

/// A wording that is approved while it is in force.
#[derive(Clone, Debug)]
pub struct Claim {
    pub name: String,
    pub phrases: Vec<Phrase>,
    pub in_force: bool,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The kind is not known, or its parameters are not what it takes.
    #[error("{0}")]
    Parameters(#[from] serde_json::Error),
    /// A pattern is no regular expression, or too large.
    #[error("pattern {0}")]
    Pattern(#[from] regex::Error),
    /// There is nothing to look for.
    #[error("{0} must not be empty")]
    Empty(&'static str),
}

#[derive(Deserialize)]
#[serde(tag = "kind", content = "parameters", rename_all = "snake_case")]
enum Stored {
    BannedPhrases(Phrases),
    RequiredPhrases(Phrases),
    ApprovedClaims(Patterns),
    Length(Length),
    TextMessage(TextMessage),
    Voice(Voice),
    Links(Links),
    MergeFields(MergeFields),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Phrases {
    phrases: Vec<String>,
    /// One of them is enough.
    #[serde(default)]
    any: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patterns {
    patterns: Vec<String>,
}

/// In characters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Length {
    #[serde(default)]
    minimum: usize,
    maximum: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextMessage {
    maximum_segments: Option<usize>,
    /// Nothing that the default alphabet does not have.
    #[serde(default)]
    gsm7_only: bool,
    /// Characters that a merge field is expected to become; 0 counts it as it is written.
    #[serde(default)]
    merge_field_length: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Voice {
    maximum_exclamation_marks: Option<usize>,
    /// Share of the letters.
    maximum_capitals: Option<f64>,
    maximum_emoji: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Links {
    allowed_domains: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MergeFields {
    #[serde(default)]
    required: Vec<String>,
    allowed: Option<Vec<String>>,
}

/// A rule, ready to be checked.
#[derive(Clone, Debug)]
pub struct Rule(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Banned(Vec<(String, Phrase)>),
    Required { phrases: Vec<(String, Phrase)>, any: bool },
    Claims(Vec<Regex>),
    Length(Length),
    TextMessage(TextMessage),
    Voice(Voice),
    Links(Vec<String>),
    MergeFields(MergeFields),
}

fn phrases(all: Vec<String>) -> Result<Vec<(String, Phrase)>, RuleError> {
    let phrase = |text: String| Phrase::new(&text).map(|phrase| (text, phrase)).ok_or(RuleError::Empty("a phrase"));
    let phrases: Vec<_> = all.into_iter().map(phrase).collect::<Result<_, _>>()?;
    if phrases.is_empty() {
        return Err(RuleError::Empty("phrases"));
    }
    Ok(phrases)
}

impl Rule {
    /// # Errors
    /// [`RuleError`]: parameters that the kind does not take.
    pub fn new(kind: &str, parameters: Value) -> Result<Self, RuleError> {
        let stored = serde_json::from_value(serde_json::json!({"kind": kind, "parameters": parameters}))?;
        Ok(Rule(match stored {
            Stored::BannedPhrases(parameters) => Kind::Banned(phrases(parameters.phrases)?),
            Stored::RequiredPhrases(parameters) => {
                Kind::Required { phrases: phrases(parameters.phrases)?, any: parameters.any }
            }
            Stored::ApprovedClaims(parameters) => {
                let compile = |pattern: &String| {
                    RegexBuilder::new(pattern).case_insensitive(true).size_limit(PATTERN_SIZE).build()
                };
                let patterns: Vec<Regex> = parameters.patterns.iter().map(compile).collect::<Result<_, _>>()?;
                if patterns.is_empty() {
                    return Err(RuleError::Empty("patterns"));
                }
                Kind::Claims(patterns)
            }
            Stored::Length(length) => Kind::Length(length),
            Stored::TextMessage(limits) => Kind::TextMessage(limits),
            Stored::Voice(voice) => Kind::Voice(voice),
            Stored::Links(links) => Kind::Links(links.allowed_domains.iter().map(|name| name.to_lowercase()).collect()),
            Stored::MergeFields(fields) => Kind::MergeFields(fields),
        }))
    }

    /// Whether it says what no text may contain, and not what a content needs or how long it may be.
    pub fn forbids(&self) -> bool {
        matches!(self.0, Kind::Banned(_) | Kind::Claims(_) | Kind::Voice(_) | Kind::Links(_))
    }

    /// What is wrong with the fields that it is about.
    pub fn check(&self, fields: &[&Field], claims: &[Claim]) -> Vec<Finding> {
        match &self.0 {
            Kind::Banned(phrases) => banned(fields, phrases),
            Kind::Required { phrases, any } => required(fields, phrases, *any),
            Kind::Claims(patterns) => unproven(fields, patterns, claims),
            Kind::Length(length) => each(fields, |field| length.check(field)),
            Kind::TextMessage(limits) => each(fields, |field| limits.check(field)),
            Kind::Voice(voice) => each(fields, |field| voice.check(field)),
            Kind::Links(domains) => each(fields, |field| foreign_links(field, domains)),
            Kind::MergeFields(allowed) => allowed.check(fields),
        }
    }
}

impl Claim {
    /// Where its wording is used though it is not in force.
    pub fn check(&self, fields: &[&Field]) -> Vec<Finding> {
        if self.in_force {
            return Vec::new();
        }
        each(fields, |field| {
            let text = Text::new(&field.text);
            let spans = self.phrases.iter().flat_map(|phrase| phrase.find(&text));
            spans.map(|span| ("the claim is not in force".to_owned(), span)).collect()
        })
    }
}

/// Findings of every field by itself.
fn each(fields: &[&Field], check: impl Fn(&Field) -> Vec<(String, Span)>) -> Vec<Finding> {
    let of = |field: &&Field| {
        let path = field.path.clone();
        check(field).into_iter().map(move |(message, span)| Finding { message, place: Some((path.clone(), span)) })
    };
    fields.iter().flat_map(of).collect()
}

fn missing(message: String) -> Finding {
    Finding { message, place: None }
}

fn whole(field: &Field) -> Span {
    Span { start: 0, length: field.text.chars().count() }
}

/// A place in bytes as one in characters.
fn span_of(text: &str, range: std::ops::Range<usize>) -> Span {
    Span { start: text[..range.start].chars().count(), length: text[range].chars().count() }
}

fn banned(fields: &[&Field], phrases: &[(String, Phrase)]) -> Vec<Finding> {
    each(fields, |field| {
        let text = Text::new(&field.text);
        let find = |(name, phrase): &(String, Phrase)| {
            let message = format!("\"{name}\" must not be said");
            phrase.find(&text).into_iter().map(move |span| (message.clone(), span)).collect::<Vec<_>>()
        };
        phrases.iter().flat_map(find).collect()
    })
}

fn required(fields: &[&Field], phrases: &[(String, Phrase)], any: bool) -> Vec<Finding> {
    let texts: Vec<Text> = fields.iter().map(|field| Text::new(&field.text)).collect();
    let said = |phrase: &Phrase| texts.iter().any(|text| !phrase.find(text).is_empty());
    if any {
        let names: Vec<String> = phrases.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        return match phrases.iter().any(|(_, phrase)| said(phrase)) {
            true => Vec::new(),
            false => vec![missing(format!("one of these must be said: {}", names.join(", ")))],
        };
    }
    let silent = phrases.iter().filter(|(_, phrase)| !said(phrase));
    silent.map(|(name, _)| missing(format!("\"{name}\" must be said"))).collect()
}

/// What reads like a claim and is not one that is in force.
fn unproven(fields: &[&Field], patterns: &[Regex], claims: &[Claim]) -> Vec<Finding> {
    each(fields, |field| {
        let text = Text::new(&field.text);
        let in_force = claims.iter().filter(|claim| claim.in_force);
        let proven: Vec<Span> =
            in_force.flat_map(|claim| &claim.phrases).flat_map(|phrase| phrase.find(&text)).collect();
        let readable = Readable::new(&field.text);
        let found = patterns.iter().flat_map(|pattern| pattern.find_iter(&readable.text));
        found
            .filter(|found| !found.is_empty())
            .map(|found| readable.span(found.range()))
            .filter(|span| !proven.iter().any(|claim| claim.contains(*span)))
            .map(|span| ("this is a claim, and none that is approved and in force".to_owned(), span))
            .collect()
    })
}

impl Length {
    fn check(&self, field: &Field) -> Vec<(String, Span)> {
        let length = field.text.chars().count();
        match self.maximum {
            Some(maximum) if length > maximum => {
                let beyond = Span { start: maximum, length: length - maximum };
                vec![(format!("{length} characters, at most {maximum} are allowed"), beyond)]
            }
            _ if length < self.minimum => {
                vec![(format!("{length} characters, at least {} are needed", self.minimum), whole(field))]
            }
            _ => Vec::new(),
        }
    }
}

impl TextMessage {
    fn check(&self, field: &Field) -> Vec<(String, Span)> {
        let mut found = Vec::new();
        let text = match self.merge_field_length {
            0 => field.text.clone(),
            length => merge_field().replace_all(&field.text, "x".repeat(length).as_str()).into_owned(),
        };
        let beyond = first_beyond_gsm7(&field.text);
        if let Some(start) = beyond.filter(|_| self.gsm7_only) {
            let odd: String = field.text.chars().skip(start).take(1).collect();
            found.push((format!("\"{odd}\" is not in the alphabet of text messages"), Span { start, length: 1 }));
        }
        let encoded = encode(&text);
        if let Some(maximum) = self.maximum_segments.filter(|maximum| encoded.segments > *maximum) {
            let alphabet = match encoded.encoding {
                Encoding::Gsm7 => "septets",
                Encoding::Ucs2 => "units of UCS-2",
            };
            let message = format!(
                "{} {alphabet} are {} messages, at most {maximum} are allowed",
                encoded.units, encoded.segments
            );
            found.push((message, whole(field)));
        }
        found
    }
}

impl Voice {
    fn check(&self, field: &Field) -> Vec<(String, Span)> {
        let mut found = Vec::new();
        let mut limit = |places: Vec<Span>, maximum: Option<usize>, what: &str| {
            if let Some(first) = maximum.and_then(|maximum| places.get(maximum)) {
                let maximum = maximum.unwrap_or_default();
                found.push((format!("{} {what}, at most {maximum} are allowed", places.len()), *first));
            }
        };
        let marks = field.text.chars().enumerate().filter(|(_, c)| matches!(c, '!' | '\u{ff01}' | '\u{203c}'));
        limit(
            marks.map(|(start, _)| Span { start, length: 1 }).collect(),
            self.maximum_exclamation_marks,
            "exclamation marks",
        );
        let emoji = pattern(r"\p{Emoji_Presentation}|\p{Extended_Pictographic}\x{FE0F}");
        limit(
            emoji.find_iter(&field.text).map(|found| span_of(&field.text, found.range())).collect(),
            self.maximum_emoji,
            "emoji",
        );
        if let Some(maximum) = self.maximum_capitals {
            let cased: Vec<char> = field.text.chars().filter(|c| c.is_uppercase() || c.is_lowercase()).collect();
            let share = cased.iter().filter(|c| c.is_uppercase()).count() as f64 / cased.len().max(1) as f64;
            if cased.len() >= LETTERS_FOR_CAPITALS && share > maximum {
                let percent = |share: f64| (share * 100.0).round();
                let message = format!("{} % capitals, at most {} % are allowed", percent(share), percent(maximum));
                found.push((message, whole(field)));
            }
        }
        found
    }
}

/// Links to other than these domains and those within them.
fn foreign_links(field: &Field, domains: &[String]) -> Vec<(String, Span)> {
    let links = pattern(r#"(?i)\b(?:https?://|www\.)[^\s<>"']+"#);
    let foreign = |link: &regex::Match<'_>| {
        let host = host(link.as_str());
        let allowed = domains.iter().any(|domain| {
            host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        (!allowed).then_some(host)
    };
    let found = links.find_iter(&field.text);
    found
        .filter_map(|link| {
            Some((format!("links to {}, which is not allowed", foreign(&link)?), span_of(&field.text, link.range())))
        })
        .collect()
}

/// The host of a link: what is before an @ is not it, however much it looks like one.
fn host(link: &str) -> String {
    let rest = link.split_once("://").map_or(link, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.split(':').next().unwrap_or_default().trim_end_matches('.').to_lowercase()
}

impl MergeFields {
    fn check(&self, fields: &[&Field]) -> Vec<Finding> {
        let name = |text: &str| text.trim_matches(['{', '}']).trim().to_owned();
        let merge_field = merge_field();
        let used: BTreeSet<String> = fields
            .iter()
            .flat_map(|field| merge_field.find_iter(&field.text).map(|found| name(found.as_str())))
            .collect();
        let lacking = self.required.iter().filter(|required| !used.contains(&name(required)));
        let mut found: Vec<Finding> =
            lacking.map(|required| missing(format!("merge field {required} must be there"))).collect();
        if let Some(allowed) = &self.allowed {
            let allowed: BTreeSet<String> = allowed.iter().chain(&self.required).map(|field| name(field)).collect();
            found.extend(each(fields, |field| {
                let unknown =
                    merge_field.find_iter(&field.text).filter(|found| !allowed.contains(&name(found.as_str())));
                unknown
                    .map(|found| {
                        let message = format!("merge field {} is not known", found.as_str());
                        (message, span_of(&field.text, found.range()))
                    })
                    .collect()
            }));
        }
        found
    }
}

/// `{{first_name}}`, as most senders have it.
fn merge_field() -> Regex {
    pattern(r"\{\{\s*[^{}]*?\s*\}\}")
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("a pattern of ours is wrong: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_with(kind: &str, parameters: Value, text: &str, claims: &[Claim]) -> Vec<(String, String)> {
        let field = Field { path: "body".to_owned(), text: text.to_owned() };
        let characters: Vec<char> = text.chars().collect();
        let found = Rule::new(kind, parameters).unwrap().check(&[&field], claims);
        let excerpt = |place: Option<(String, Span)>| {
            place.map_or_else(String::new, |(_, span)| characters[span.start..span.end()].iter().collect())
        };
        found.into_iter().map(|finding| (excerpt(finding.place), finding.message)).collect()
    }

    fn check(kind: &str, parameters: Value, text: &str) -> Vec<String> {
        check_with(kind, parameters, text, &[]).into_iter().map(|(excerpt, _)| excerpt).collect()
    }

    #[test]
    fn phrases_are_banned_and_required() {
        assert_eq!(
            check("banned_phrases", json!({"phrases": ["risk free", "best"]}), "Best deal, RISK\u{a0}free."),
            ["RISK\u{a0}free", "Best"]
        );
        assert_eq!(check("required_phrases", json!({"phrases": ["Terms apply", "18+"]}), "terms apply. Play!"), [""]);
        assert!(check("required_phrases", json!({"phrases": ["a b", "c"], "any": true}), "now C").is_empty());
        assert_eq!(check("required_phrases", json!({"phrases": ["a b", "d"], "any": true}), "now C").len(), 1);
    }

    #[test]
    fn claims_are_those_that_are_proven() {
        let claim = |in_force| Claim {
            name: "tested".to_owned(),
            phrases: vec![Phrase::new("clinically proven in 2 studies").unwrap()],
            in_force,
        };
        let rule = json!({"patterns": ["clinically \\w+", "\\bno\\. ?1\\b"]});
        let text = "Clinically  proven in 2 studies. Clinically tested, No.1!";
        let found = check_with(
            "approved_claims",
            rule.clone(),
            "Clinically proven in 2 studies. Clinically tested, No.1!",
            &[claim(true)],
        );
        assert_eq!(
            found.iter().map(|(excerpt, _)| excerpt.as_str()).collect::<Vec<_>>(),
            ["Clinically tested", "No.1"]
        );
        assert_eq!(check("approved_claims", rule.clone(), text).len(), 3, "however many spaces");
        let hidden = "Clini\u{ad}cally \u{200b}te\u{2060}sted, ｎｏ. 1";
        assert_eq!(check("approved_claims", rule, hidden), ["Clini\u{ad}cally \u{200b}te\u{2060}sted", "ｎｏ. 1"]);
        assert_eq!(check("approved_claims", json!({"patterns": ["größte"]}), "Das gro\u{308}ßte"), ["gro\u{308}ßte"]);
        let field = Field { path: String::new(), text: text.to_owned() };
        assert!(claim(true).check(&[&field]).is_empty());
        assert_eq!(claim(false).check(&[&field])[0].place, Some((String::new(), Span { start: 0, length: 31 })));
    }

    #[test]
    fn lengths_and_messages_are_limited() {
        assert_eq!(check("length", json!({"maximum": 5}), "Grüße an"), [" an"]);
        assert_eq!(check("length", json!({"minimum": 5}), "Gruß"), ["Gruß"]);
        assert_eq!(check("text_message", json!({"gsm7_only": true}), "ok ‘no’"), ["‘"]);
        let long = format!("{{{{ name }}}}{}", "a".repeat(140));
        assert!(check("text_message", json!({"maximum_segments": 1}), &long).is_empty());
        assert_eq!(check("text_message", json!({"maximum_segments": 1, "merge_field_length": 30}), &long).len(), 1);
    }

    #[test]
    fn the_voice_is_kept_down() {
        assert_eq!(check("voice", json!({"maximum_exclamation_marks": 1}), "Hey! You! There"), ["!"]);
        assert_eq!(check("voice", json!({"maximum_capitals": 0.5}), "BUY NOW AND save"), ["BUY NOW AND save"]);
        assert!(check("voice", json!({"maximum_capitals": 0.5}), "OK NASA").is_empty(), "too short to shout");
        assert_eq!(check("voice", json!({"maximum_emoji": 1}), "a 😀 b ❤\u{fe0f} © 2"), ["❤\u{fe0f}"]);
    }

    #[test]
    fn links_and_merge_fields_are_known() {
        let domains = json!({"allowed_domains": ["example.com"]});
        assert!(check("links", domains.clone(), "https://www.example.com/x and HTTP://EXAMPLE.COM:8080").is_empty());
        for bad in [
            "https://example.com.evil.org/",
            "https://example.com@evil.org",
            "www.notexample.com",
            "https://evil.org\\@example.com",
        ] {
            assert_eq!(check("links", domains.clone(), &format!("see {bad} now")), [bad]);
        }
        let fields = json!({"required": ["{{unsubscribe_url}}"], "allowed": ["name"]});
        assert!(check("merge_fields", fields.clone(), "Hi {{ name }}, {{unsubscribe_url}}").is_empty());
        assert_eq!(check("merge_fields", fields, "Hi {{nmae}}"), ["", "{{nmae}}"]);
    }

    #[test]
    fn what_a_kind_does_not_take_is_refused() {
        for (kind, parameters) in [
            ("shouting", json!({})),
            ("banned_phrases", json!({"phrases": []})),
            ("banned_phrases", json!({"phrases": [" "]})),
            ("length", json!({"maximum": -1})),
            ("voice", json!({"maximum_emojis": 1})),
            ("approved_claims", json!({"patterns": ["("]})),
            ("approved_claims", json!({"patterns": ["(a{1000}){1000}"]})),
        ] {
            assert!(Rule::new(kind, parameters).is_err(), "{kind}");
        }
    }
}
