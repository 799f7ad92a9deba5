//! What may be said: rules about content, checked with the place of every finding.
//!
//! Content is a JSON document; its texts are the fields. Phrases are compared as people read them (case, width, typographic quotes,
//! runs of spaces and invisible characters do not matter), at the bounds of words. Places are counted in characters, so that
//! `substr(text, start, length)` shows what is meant.

mod content;
mod encoding;
mod locale;
mod phrase;
mod rule;

pub use content::{fields, Field};
pub use encoding::{encode, Encoded, Encoding};
pub use locale::{spelled, Locales};
pub use phrase::{Phrase, Span, Text};
pub use rule::{Claim, Finding, Rule, RuleError};
