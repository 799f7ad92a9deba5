//! Which actions a rule is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What rules may ask about an action.
pub trait Facts {
    /// Name of the action.
    fn action(&self) -> &str;
    /// Level of a dimension, if the action has it.
    fn level(&self, dimension: &str) -> Option<&str>;
    /// Category of what it says, if it has one.
    fn category(&self) -> Option<&str>;
}

/// One level, or any of several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
enum Levels {
    One(String),
    Any(Vec<String>),
}

impl Levels {
    fn all(&self) -> &[String] {
        match self {
            Levels::One(level) => std::slice::from_ref(level),
            Levels::Any(levels) => levels,
        }
    }
}

/// A partial combination of levels: an action is meant if it has, of each dimension named, one of the levels given. The names
/// `action` and `category` stand for the name and the category of the action. The empty selector means every action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Selector(BTreeMap<String, Levels>);

impl Selector {
    pub fn matches(&self, action: &impl Facts) -> bool {
        self.0.iter().all(|(name, levels)| {
            let level = match name.as_str() {
                "action" => Some(action.action()),
                "category" => action.category(),
                dimension => action.level(dimension),
            };
            level.is_some_and(|level| levels.all().iter().any(|known| known == level))
        })
    }

    /// Dimensions that it names, `action` and `category` among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.0.iter().map(|(name, levels)| format!("{name} {}", levels.all().join(" or ")));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Mail;

    impl Facts for Mail {
        fn action(&self) -> &str {
            "hello/email"
        }
        fn level(&self, dimension: &str) -> Option<&str> {
            match dimension {
                "message" => Some("hello"),
                "channel" => Some("email"),
                _ => None,
            }
        }
        fn category(&self) -> Option<&str> {
            None
        }
    }

    fn selects(text: &str) -> bool {
        serde_json::from_str::<Selector>(text).unwrap().matches(&Mail)
    }

    #[test]
    fn every_name_must_match_and_any_level_of_it() {
        assert!(selects("{}"));
        assert!(selects(r#"{"channel": "email"}"#));
        assert!(selects(r#"{"channel": ["sms", "email"], "message": "hello"}"#));
        assert!(selects(r#"{"action": "hello/email"}"#));
        assert!(!selects(r#"{"channel": "email", "message": "bye"}"#));
        assert!(!selects(r#"{"offer": "none"}"#), "an action without the dimension has no level of it");
        assert!(!selects(r#"{"category": "service"}"#));
        assert!(!selects(r#"{"channel": []}"#));
        assert!(serde_json::from_str::<Selector>(r#"{"channel": 3}"#).is_err());
    }
}
