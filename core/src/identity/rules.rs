//! How far each identifier is trusted.

use std::collections::{BTreeMap, HashMap};

use super::normalise::normalise;
use super::placeholder::is_placeholder;
use super::provider::of_provider;
use super::{Country, Identifier, IdentifierKind, IdentityError};

/// Rule of one identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Smaller is stronger: links of stronger identifiers are made first and are not undone by weaker ones.
    pub priority: i32,
    /// Most values one person may have. What goes beyond is not linked.
    pub identity_limit: u32,
    /// Most records that may share a value; a value shared by more is taken for a placeholder.
    pub record_limit: u32,
    /// A disabled identifier links nothing.
    pub enabled: bool,
}

impl Rule {
    /// Highest identity limit; sets of this size still merge fast.
    pub const MOST_VALUES: u32 = 1000;
    /// Highest record limit.
    pub const MOST_RECORDS: u32 = 1_000_000_000;

    /// The built-in rule. One id per system and person; a handful of mailboxes and numbers; devices come and go.
    pub fn default_of(kind: IdentifierKind) -> Self {
        let (priority, identity_limit, record_limit) = match kind {
            IdentifierKind::ExternalId => (10, 1, 1000),
            IdentifierKind::Email => (20, 5, 100),
            IdentifierKind::Phone => (30, 5, 50),
            IdentifierKind::DeviceId => (40, 20, 200),
        };
        Rule { priority, identity_limit, record_limit, enabled: true }
    }
}

/// What a user changed about a rule; `None` keeps what the kind has.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleChange {
    pub priority: Option<i32>,
    pub identity_limit: Option<i32>,
    pub record_limit: Option<i32>,
    pub enabled: Option<bool>,
}

impl RuleChange {
    /// # Errors
    /// A limit is out of its range.
    pub fn applied_to(&self, rule: Rule) -> Result<Rule, IdentityError> {
        let limit = |changed: Option<i32>, kept: u32, name, most| match changed {
            None => Ok(kept),
            Some(limit) => u32::try_from(limit)
                .ok()
                .filter(|limit| (1..=most).contains(limit))
                .ok_or(IdentityError::LimitOutOfRange { name, most }),
        };
        Ok(Rule {
            priority: self.priority.unwrap_or(rule.priority),
            identity_limit: limit(self.identity_limit, rule.identity_limit, "identity_limit", Rule::MOST_VALUES)?,
            record_limit: limit(self.record_limit, rule.record_limit, "record_limit", Rule::MOST_RECORDS)?,
            enabled: self.enabled.unwrap_or(rule.enabled),
        })
    }
}

/// Whether a value may identify a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Listed by the user as good, however often it occurs.
    Allowed,
    Ordinary,
    /// Listed by the user, or a known placeholder.
    Blocked,
}

/// The rules of all identifiers, and the user's lists of blocked and allowed values.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    changed: BTreeMap<Identifier, Rule>,
    listed: HashMap<Identifier, HashMap<String, bool>>,
    /// Whether spellings of an address that a provider delivers to the same mailbox are one address.
    pub email_providers: bool,
}

impl Rules {
    /// Built-in rules with the user's changes. A change of `external_id` holds for all namespaces without their own.
    ///
    /// # Errors
    /// A limit is out of its range.
    pub fn new(changes: impl IntoIterator<Item = (Identifier, RuleChange)>) -> Result<Self, IdentityError> {
        let changes: BTreeMap<Identifier, RuleChange> = changes.into_iter().collect();
        let mut rules = Rules::default();
        // In order, so that the rule of the kind is there before those of its namespaces.
        for (identifier, change) in &changes {
            let rule = change.applied_to(rules.rule(identifier))?;
            rules.changed.insert(identifier.clone(), rule);
        }
        Ok(rules)
    }

    /// Lists a value as blocked or allowed, in the spelling of these rules, with precedence over frequency and built-in placeholders.
    pub fn list(&mut self, identifier: Identifier, raw: &str, blocked: bool) {
        // What is no valid value cannot occur either.
        if let Some(value) = self.normalise(identifier.kind, raw, None) {
            self.listed.entry(identifier).or_default().insert(value, blocked);
        }
    }

    /// `raw` in the one spelling that is compared, or `None` if it is no value of that kind.
    ///
    /// `country` is where a phone number without country code belongs.
    pub fn normalise(&self, kind: IdentifierKind, raw: &str, country: Option<Country>) -> Option<String> {
        let value = normalise(kind, raw, country)?;
        Some(match kind {
            IdentifierKind::Email if self.email_providers => of_provider(value),
            _ => value,
        })
    }

    pub fn rule(&self, identifier: &Identifier) -> Rule {
        self.changed
            .get(identifier)
            .or_else(|| self.changed.get(&identifier.kind.into()))
            .copied()
            .unwrap_or_else(|| Rule::default_of(identifier.kind))
    }

    /// Standing of a normalised value.
    pub fn standing(&self, identifier: &Identifier, value: &str) -> Standing {
        match self.listed.get(identifier).and_then(|values| values.get(value)) {
            Some(true) => Standing::Blocked,
            Some(false) => Standing::Allowed,
            None if is_placeholder(identifier.kind, value) => Standing::Blocked,
            None => Standing::Ordinary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_asked_for() {
        let mut rules = Rules::default();
        let email = |rules: &Rules| rules.normalise(IdentifierKind::Email, "Ada.L+x@GoogleMail.com", None).unwrap();
        assert_eq!(email(&rules), "ada.l@googlemail.com");
        rules.email_providers = true;
        assert_eq!(email(&rules), "adal@gmail.com");
        rules.list(identifier("email"), "a.d.a.l@gmail.com", true);
        assert_eq!(rules.standing(&identifier("email"), &email(&rules)), Standing::Blocked);
    }

    fn identifier(text: &str) -> Identifier {
        text.parse().unwrap()
    }

    #[test]
    fn namespaces_inherit() {
        let change = |limit, priority| RuleChange { identity_limit: limit, priority, ..RuleChange::default() };
        let rules = Rules::new([
            (identifier("external_id:loyalty"), change(None, Some(99))),
            (identifier("external_id"), change(Some(3), None)),
        ])
        .unwrap();
        assert_eq!(rules.rule(&identifier("external_id:crm")).identity_limit, 3);
        let loyalty = rules.rule(&identifier("external_id:loyalty"));
        assert_eq!((loyalty.identity_limit, loyalty.priority), (3, 99));
        assert_eq!(rules.rule(&identifier("email")), Rule::default_of(IdentifierKind::Email));
    }

    #[test]
    fn limits_have_a_range() {
        for limit in [0, -1, 1001] {
            let change = RuleChange { identity_limit: Some(limit), ..RuleChange::default() };
            assert!(Rules::new([(identifier("email"), change)]).is_err());
        }
    }

    #[test]
    fn lists_come_first() {
        let mut rules = Rules::default();
        rules.list(identifier("email"), "Info@Shop.com", false);
        rules.list(identifier("email"), "ada@shop.com", true);
        assert_eq!(rules.standing(&identifier("email"), "info@shop.com"), Standing::Allowed);
        assert_eq!(rules.standing(&identifier("email"), "ada@shop.com"), Standing::Blocked);
        assert_eq!(rules.standing(&identifier("email"), "info@other.com"), Standing::Blocked);
    }
}
