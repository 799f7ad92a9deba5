//! Which pairs of records are compared at all: those that meet in a block.

use std::fmt;
use std::str::FromStr;

use siphasher::sip::SipHasher13;

use super::super::IdentityError;
use super::dates::Birth;
use super::nicknames::Nicknames;
use super::profile::{Attribute, Row, MISSING};

/// A part of a blocking key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyPart {
    pub source: KeySource,
    /// Letters that count from the beginning; zero for all.
    pub prefix: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeySource {
    Attribute(Attribute),
    YearOfBirth,
    /// Given and family name in either order.
    Names,
    /// The name of which the given name is a short form.
    Nickname,
}

impl KeySource {
    const OTHER: [(KeySource, &'static str); 3] =
        [(Self::YearOfBirth, "year_of_birth"), (Self::Names, "names"), (Self::Nickname, "nickname")];

    /// Attributes that a record must have.
    pub(super) fn needs(self) -> &'static [Attribute] {
        match self {
            Self::YearOfBirth => &[Attribute::DateOfBirth],
            Self::Names => &[Attribute::GivenName, Attribute::FamilyName],
            Self::Nickname => &[Attribute::GivenName],
            Self::Attribute(attribute) => &Attribute::ALL.as_slice()[attribute as usize..attribute as usize + 1],
        }
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.source {
            KeySource::Attribute(attribute) => attribute.name(),
            other => KeySource::OTHER.iter().find(|(known, _)| *known == other).map_or("", |(_, name)| name),
        };
        match self.prefix {
            0 => formatter.write_str(name),
            prefix => write!(formatter, "{name}:{prefix}"),
        }
    }
}

impl FromStr for KeyPart {
    type Err = IdentityError;

    /// Reads `family_name` or, with the number of letters that count, `street:12`.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let unknown = || IdentityError::UnknownName { what: "part of a blocking key", given: text.to_owned() };
        let (name, prefix) = match text.split_once(':') {
            None => (text, 0),
            Some((name, prefix)) => {
                (name, prefix.parse().ok().filter(|prefix| (1..=100).contains(prefix)).ok_or_else(unknown)?)
            }
        };
        let attribute = Attribute::ALL.into_iter().find(|attribute| attribute.name() == name);
        let other = || KeySource::OTHER.iter().find(|(_, known)| *known == name).map(|(source, _)| *source);
        let source = attribute.map(KeySource::Attribute).or_else(other).ok_or_else(unknown)?;
        let takes_prefix =
            !matches!(source, KeySource::YearOfBirth | KeySource::Names | KeySource::Attribute(Attribute::DateOfBirth));
        if prefix > 0 && !takes_prefix {
            return Err(unknown());
        }
        Ok(KeyPart { source, prefix })
    }
}

/// Records that agree in all parts of the key are compared with one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockingRule {
    pub parts: Vec<KeyPart>,
}

impl fmt::Display for BlockingRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.parts.iter().enumerate() {
            if place > 0 {
                formatter.write_str(" + ")?;
            }
            part.fmt(formatter)?;
        }
        Ok(())
    }
}

impl FromStr for BlockingRule {
    type Err = IdentityError;

    /// Reads parts with `+` between them: `family_name + date_of_birth`.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let parts = text.split('+').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
        Ok(BlockingRule { parts })
    }
}

/// The rules in effect, and how large a block may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockingRules {
    pub rules: Vec<BlockingRule>,
    /// Records of a block beyond which it is split by name, and what is still larger left out and reported.
    pub block_limit: u32,
}

/// Most rules: which of them a pair met in fits a word.
pub const MOST_RULES: usize = 64;

/// Default limit of a block.
pub const BLOCK_LIMIT: u32 = 200;

const PROPOSED: &[&str] = &[
    "email",
    "phone",
    "device_id",
    "names",
    "family_name + date_of_birth",
    "nickname + date_of_birth",
    "family_name + postcode",
    "email_local",
    "street:12 + city",
    "given_name:2 + family_name + company",
    "street + postcode",
    "date_of_birth + postcode",
    "date_of_birth + given_name:1",
    "nickname + family_name",
    "text",
];

impl BlockingRules {
    /// # Errors
    /// More than [`MOST_RULES`] rules, a rule without parts, a limit under two.
    pub fn new(rules: Vec<BlockingRule>, block_limit: u32) -> Result<Self, IdentityError> {
        if rules.len() > MOST_RULES || rules.iter().any(|rule| rule.parts.is_empty()) {
            return Err(IdentityError::ParameterOutOfRange { name: "blocking rules", range: "at most 64, none empty" });
        }
        if block_limit < 2 {
            return Err(IdentityError::ParameterOutOfRange { name: "block_limit", range: "two or more" });
        }
        Ok(BlockingRules { rules, block_limit })
    }

    /// Rules that suit records with these attributes.
    pub fn proposed(has: impl Fn(Attribute) -> bool) -> Self {
        let rules = PROPOSED
            .iter()
            .filter_map(|rule| rule.parse::<BlockingRule>().ok())
            .filter(|rule| {
                let mut needed = rule.parts.iter().flat_map(|part| part.source.needs());
                needed.all(|attribute| has(*attribute))
            })
            .collect();
        BlockingRules { rules, block_limit: BLOCK_LIMIT }
    }

    /// Keys of one record for all rules, sorted. `values` are those of an attribute, `text` is what one reads.
    pub(in super::super) fn all_keys<'a>(
        &self,
        values: &dyn Fn(Attribute) -> Vec<u32>,
        text: &dyn Fn(Attribute, u32) -> &'a str,
        nicknames: &Nicknames,
    ) -> Vec<u64> {
        let mut keys: Vec<u64> = self
            .rules
            .iter()
            .zip(self.salts())
            .enumerate()
            .flat_map(|(number, (rule, salt))| {
                let keys = rule.keys(salt, values, &|part, attribute, value| {
                    rule.parts[part].hash(attribute, value, text(attribute, value), nicknames)
                });
                keys.into_iter().map(move |key| placed(number, key))
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// A number for each rule that is the same wherever the rule stands.
    pub(super) fn salts(&self) -> Vec<u64> {
        self.rules.iter().map(|rule| stable_hash(rule.to_string().as_bytes())).collect()
    }
}

/// Keys that a record with several values has at most, for one rule.
const MOST_KEYS: usize = 16;

impl BlockingRule {
    /// Keys of one record, each once; none if it lacks a part. `values` are those of an attribute, `hash` tells how the part
    /// with this number sees a value.
    pub(super) fn keys(
        &self,
        salt: u64,
        values: &dyn Fn(Attribute) -> Vec<u32>,
        hash: &dyn Fn(usize, Attribute, u32) -> u64,
    ) -> Vec<u64> {
        let mut keys = vec![salt];
        for (number, part) in self.parts.iter().enumerate() {
            let hashes: Vec<u64> = match part.source {
                KeySource::Names => {
                    let [given, family] = [Attribute::GivenName, Attribute::FamilyName].map(|attribute| {
                        values(attribute).into_iter().map(|value| hash(number, attribute, value)).collect::<Vec<_>>()
                    });
                    given.iter().flat_map(|a| family.iter().map(|b| in_either_order(*a, *b))).collect()
                }
                source => {
                    let attribute = source.needs()[0];
                    values(attribute).into_iter().map(|value| hash(number, attribute, value)).collect()
                }
            };
            keys = keys.iter().flat_map(|key| hashes.iter().map(|hash| mix(*key, *hash))).take(MOST_KEYS).collect();
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The one key of a record with one value at most for each attribute.
    pub(super) fn key(&self, salt: u64, row: &Row, hash: &dyn Fn(usize, Attribute, u32) -> u64) -> Option<u64> {
        let mut key = salt;
        for (number, part) in self.parts.iter().enumerate() {
            let of = |attribute: Attribute| match row[attribute as usize] {
                MISSING => None,
                value => Some(hash(number, attribute, value)),
            };
            let hash = match part.source {
                KeySource::Names => in_either_order(of(Attribute::GivenName)?, of(Attribute::FamilyName)?),
                source => of(source.needs()[0])?,
            };
            key = mix(key, hash);
        }
        Some(key)
    }
}

impl KeyPart {
    /// How this part sees a value. `nicknames` are needed for given names only.
    pub(super) fn hash(&self, attribute: Attribute, value: u32, text: &str, nicknames: &Nicknames) -> u64 {
        match (self.source, attribute) {
            (KeySource::YearOfBirth, _) => stable_hash(&Birth::of_number(value).year().to_le_bytes()),
            (_, Attribute::DateOfBirth) => stable_hash(&value.to_le_bytes()),
            (KeySource::Nickname, _) => stable_hash(self.beginning(nicknames.first_root(text))),
            _ => stable_hash(self.beginning(text)),
        }
    }

    fn beginning<'a>(&self, text: &'a str) -> &'a [u8] {
        let end = if self.prefix == 0 { text.len() } else { text.len().min(usize::from(self.prefix)) };
        &text.as_bytes()[..end]
    }
}

/// A key as it is stored: by rule, then by key, and positive as a signed number.
pub(super) fn placed(rule: usize, key: u64) -> u64 {
    (rule as u64) << 57 | key >> 7
}

fn in_either_order(a: u64, b: u64) -> u64 {
    mix(a.min(b), a.max(b))
}

/// The same on every machine and in every version, since keys are stored.
fn stable_hash(bytes: &[u8]) -> u64 {
    SipHasher13::new_with_keys(0x626c_6f63_6b73, 1).hash(bytes)
}

/// Multiplies and folds, so that every bit of either counts.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b | 1);
    (product as u64 ^ (product >> 64) as u64).wrapping_add(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_they_are_written() {
        for text in PROPOSED.iter().copied().chain(["year_of_birth + family_name:3"]) {
            assert_eq!(text.parse::<BlockingRule>().unwrap().to_string(), text);
        }
        for wrong in ["", "shoe", "email + ", "email:0", "email:x", "date_of_birth:4", "names:2"] {
            assert!(wrong.parse::<BlockingRule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rules_are_proposed_for_what_is_there() {
        let rules = BlockingRules::proposed(|attribute| matches!(attribute, Attribute::Email | Attribute::EmailLocal));
        let names: Vec<String> = rules.rules.iter().map(BlockingRule::to_string).collect();
        assert_eq!(names, ["email", "email_local"]);
    }
}
