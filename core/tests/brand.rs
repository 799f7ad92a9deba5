//! Findings in any text: places that are in it, and phrases that are found wherever they are planted.

use decisioning_core::brand::{encode, fields, Phrase, Rule, Text};
use proptest::prelude::*;
use serde_json::json;

fn rules() -> Vec<Rule> {
    [
        ("banned_phrases", json!({"phrases": ["free", "a", "straße", "!", "é"]})),
        ("approved_claims", json!({"patterns": ["\\w+", "[^a]"]})),
        ("length", json!({"minimum": 10, "maximum": 20})),
        ("text_message", json!({"maximum_segments": 0, "gsm7_only": true})),
        ("voice", json!({"maximum_exclamation_marks": 0, "maximum_capitals": 0.1, "maximum_emoji": 0})),
        ("links", json!({"allowed_domains": []})),
        ("merge_fields", json!({"allowed": []})),
    ]
    .into_iter()
    .map(|(kind, parameters)| Rule::new(kind, parameters).unwrap())
    .collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a!É ß\u{301}\u{ad}😀ﬁ]{0,30}",
        "(https://[a-z.@:/😀]{1,9}|\\{\\{[a-zé ]{0,5}\\}\\}|free| |Ⅳ){0,9}"
    ]
}

proptest! {
    #[test]
    fn places_are_in_the_text(text in text()) {
        let length = text.chars().count();
        let document = json!({"body": text});
        let fields = fields(&document);
        for rule in rules() {
            for finding in rule.check(&fields.iter().collect::<Vec<_>>(), &[]) {
                if let Some((path, span)) = finding.place {
                    prop_assert_eq!(path, "body");
                    prop_assert!(span.end() <= length && (span.length > 0 || length == 0), "{:?} of {}", span, length);
                }
            }
        }
    }

    #[test]
    fn a_phrase_is_found_wherever_it_stands_as_words(before in text(), after in text(), phrase in "[a-zäß]{1,8}( [a-z0-9%]{1,5}){0,2}") {
        let planted = format!("{before} {} {after}", phrase.to_uppercase());
        let at = before.chars().count() + 1;
        let end = at + phrase.to_uppercase().chars().count();
        // Or an earlier one that reaches into it.
        let found = Phrase::new(&phrase).unwrap().find(&Text::new(&planted));
        prop_assert!(found.iter().any(|span| span.start < end && at < span.end()), "{:?}", found);
    }

    /// By filling messages one after the other, as a phone would.
    #[test]
    fn segments_hold_what_they_must(text in text()) {
        let encoded = encode(&text);
        let (alone, joined) = match encoded.encoding {
            decisioning_core::brand::Encoding::Gsm7 => (160, 153),
            decisioning_core::brand::Encoding::Ucs2 => (70, 67),
        };
        prop_assert_eq!(encoded.segments == 1, encoded.units > 0 && encoded.units <= alone);
        if encoded.segments > 1 {
            prop_assert!(encoded.units > (encoded.segments - 1) * (joined - 1) && encoded.units <= encoded.segments * joined);
        }
    }
}
