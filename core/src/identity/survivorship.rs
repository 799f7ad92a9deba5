//! The golden record: of all that the records of one person say, what counts.
//!
//! Of each kind one value survives, by the rule for the kind; the parts of an address survive together. Ties go to what more
//! records say, then to the later change, the earlier source, the longer text, and the first in the alphabet, so that the result
//! depends on the records alone.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::linkage::{fold, Birth};
use super::{Country, FieldKind, Fields, IdentifierKind};

/// Kinds that survive together, as one address.
pub const ADDRESS: [FieldKind; 4] = [FieldKind::Street, FieldKind::City, FieldKind::Postcode, FieldKind::Country];

/// How a value survives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survivorship {
    /// Of the record that changed last.
    MostRecent,
    /// That most records have, whatever their spelling.
    MostFrequent,
    Longest,
    /// Of the first source in this order (numbers of sources); others come after.
    SourcePriority(Vec<usize>),
    /// With the highest score, which somebody else computes.
    HighestScore,
}

impl Survivorship {
    /// Without a rule of the user's: who somebody is is what most records say, where he is what was said last.
    pub fn of(kind: &FieldKind) -> Self {
        match kind {
            FieldKind::GivenName | FieldKind::FamilyName | FieldKind::FullName | FieldKind::DateOfBirth => {
                Self::MostFrequent
            }
            FieldKind::Identifier(identifier) if identifier.kind == IdentifierKind::ExternalId => {
                Self::SourcePriority(Vec::new())
            }
            _ => Self::MostRecent,
        }
    }
}

/// A record of a person.
#[derive(Clone, Debug)]
pub struct Witness {
    /// Number of the source, in the order in which sources were added.
    pub source: usize,
    /// In any unit.
    pub changed_at: i64,
    pub fields: Fields,
}

/// A value that may survive.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    pub value: &'a str,
    /// Number of the record that says so.
    pub witness: usize,
    /// Values that are the same in whatever spelling.
    pub frequency: usize,
}

/// All values of a kind, in the order of the records.
pub fn candidates<'a>(witnesses: &'a [Witness], kind: &FieldKind) -> Vec<Candidate<'a>> {
    let mut found: Vec<Candidate<'a>> = Vec::new();
    for (witness, of) in witnesses.iter().enumerate() {
        let values = of.fields.iter().filter(|(of, _)| *of == kind);
        found.extend(values.map(|(_, value)| Candidate { value: value.trim(), witness, frequency: 1 }));
    }
    if found.len() > 1 {
        let spellings: Vec<String> = found.iter().map(|candidate| spelling(candidate.value)).collect();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        spellings.iter().for_each(|spelling| *counts.entry(spelling).or_default() += 1);
        for (candidate, spelling) in found.iter_mut().zip(&spellings) {
            candidate.frequency = counts[spelling.as_str()];
        }
    }
    found
}

/// What tells values apart: letters and digits, or all of a text that has none.
fn spelling(value: &str) -> String {
    let folded = fold(value);
    if folded.is_empty() {
        value.to_owned()
    } else {
        folded
    }
}

/// The place of the one that survives. `scores` are by place, for rules by score.
pub fn survivor(
    rule: &Survivorship,
    witnesses: &[Witness],
    candidates: &[Candidate<'_>],
    scores: &[f64],
) -> Option<usize> {
    (0..candidates.len()).min_by(|&a, &b| {
        let first = |at: usize| {
            let Candidate { value, witness, frequency } = &candidates[at];
            let Witness { source, changed_at, .. } = &witnesses[*witness];
            match rule {
                Survivorship::MostRecent => (Reverse(*changed_at), 0),
                Survivorship::MostFrequent => (Reverse(*frequency as i64), 0),
                Survivorship::Longest => (Reverse(value.chars().count() as i64), 0),
                Survivorship::SourcePriority(order) => {
                    let place = order.iter().position(|known| known == source).unwrap_or(order.len());
                    (Reverse(0), place * 1_000_000 + source)
                }
                Survivorship::HighestScore => (Reverse(0), 0),
            }
        };
        let then = |at: usize| {
            let Candidate { value, witness, frequency } = &candidates[at];
            let Witness { source, changed_at, .. } = &witnesses[*witness];
            (Reverse(*frequency), Reverse(*changed_at), *source, Reverse(value.len()), *value)
        };
        let score = |at: usize| scores.get(at).copied().unwrap_or(f64::NEG_INFINITY);
        score(b).total_cmp(&score(a)).then_with(|| first(a).cmp(&first(b))).then_with(|| then(a).cmp(&then(b)))
    })
}

/// The record whose address survives: of those with the most parts of one, by the rule over the whole address.
pub fn address(rule: &Survivorship, witnesses: &[Witness], scores: &[f64]) -> Option<usize> {
    let whole = addresses(witnesses);
    let parts = |witness: usize| ADDRESS.iter().filter(|kind| witnesses[witness].fields.get(kind).is_some()).count();
    let most = whole.iter().map(|(witness, _)| parts(*witness)).max()?;
    let kept: Vec<usize> = (0..whole.len()).filter(|&at| parts(whole[at].0) == most).collect();
    let spellings: Vec<String> = kept.iter().map(|&at| spelling(&whole[at].1)).collect();
    let candidates: Vec<Candidate<'_>> = kept
        .iter()
        .zip(&spellings)
        .map(|(&at, spelling)| Candidate {
            value: &whole[at].1,
            witness: whole[at].0,
            frequency: spellings.iter().filter(|other| *other == spelling).count(),
        })
        .collect();
    let scores: Vec<f64> = kept.iter().filter_map(|&at| scores.get(at).copied()).collect();
    survivor(rule, witnesses, &candidates, &scores).map(|at| candidates[at].witness)
}

/// Records with a street, a city or a postcode, and their whole address as one text.
pub fn addresses(witnesses: &[Witness]) -> Vec<(usize, String)> {
    let whole = |fields: &Fields| {
        let parts = [FieldKind::Street, FieldKind::Postcode, FieldKind::City].map(|kind| fields.get(&kind));
        let mut parts: Vec<&str> = parts.into_iter().flatten().map(str::trim).collect();
        let is_somewhere = !parts.is_empty();
        parts.extend(fields.get(&FieldKind::Country).map(str::trim));
        is_somewhere.then(|| parts.join(", "))
    };
    witnesses.iter().enumerate().filter_map(|(at, of)| Some((at, whole(&of.fields)?))).collect()
}

/// A date of birth as year, month and day.
pub fn birth(raw: &str, country: Option<Country>) -> Option<(u32, u32, u32)> {
    let birth = Birth::parse(raw, country)?;
    Some((birth.year(), birth.month(), birth.day()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(source: usize, changed_at: i64, fields: &[(&str, &str)]) -> Witness {
        let mut all = Fields::new();
        fields.iter().for_each(|(kind, value)| all.push(&kind.parse().unwrap(), value));
        Witness { source, changed_at, fields: all }
    }

    fn surviving(rule: &Survivorship, witnesses: &[Witness], kind: &str) -> Option<String> {
        let found = candidates(witnesses, &kind.parse().unwrap());
        survivor(rule, witnesses, &found, &[]).map(|at| found[at].value.to_owned())
    }

    #[test]
    fn every_rule_has_its_survivor() {
        let witnesses = [
            witness(0, 1, &[("given_name", "Bob"), ("email", "bob@old.example")]),
            witness(1, 2, &[("given_name", "Robert James"), ("email", "BOB@OLD.example")]),
            witness(2, 3, &[("given_name", "BOB "), ("email", "bob@new.example")]),
            witness(0, 2, &[("given_name", "R.")]),
        ];
        let of = |rule| surviving(&rule, &witnesses, "given_name").unwrap();
        assert_eq!(of(Survivorship::MostFrequent), "BOB", "of those that most have, the latest spelling");
        assert_eq!(of(Survivorship::MostRecent), "BOB");
        assert_eq!(of(Survivorship::Longest), "Robert James");
        assert_eq!(of(Survivorship::SourcePriority(vec![1])), "Robert James");
        assert_eq!(of(Survivorship::SourcePriority(vec![])), "Bob");
        assert_eq!(surviving(&Survivorship::MostFrequent, &witnesses, "email").unwrap(), "BOB@OLD.example");
        assert_eq!(surviving(&Survivorship::MostRecent, &witnesses, "email").unwrap(), "bob@new.example");
        assert_eq!(surviving(&Survivorship::MostRecent, &witnesses, "phone"), None);
        let found = candidates(&witnesses, &FieldKind::GivenName);
        assert_eq!(survivor(&Survivorship::HighestScore, &witnesses, &found, &[0.0, 1.0, -3.0, 7.0]), Some(3));
    }

    #[test]
    fn an_address_is_of_one_record() {
        let witnesses = [
            witness(0, 1, &[("street", "1 Old Road"), ("city", "Leeds"), ("postcode", "LS1")]),
            witness(0, 5, &[("city", "York")]),
            witness(1, 3, &[("street", "2 New Street"), ("city", "Hull"), ("postcode", "HU1")]),
            witness(1, 2, &[("country", "GB")]),
        ];
        let rule = Survivorship::of(&FieldKind::Street);
        assert_eq!(address(&rule, &witnesses, &[]), Some(2), "the latest of those that are whole");
        assert_eq!(address(&Survivorship::SourcePriority(vec![0]), &witnesses, &[]), Some(0));
        assert_eq!(address(&Survivorship::HighestScore, &witnesses, &[2.0, 9.0, 1.0]), Some(0));
        assert_eq!(address(&rule, &witnesses[3..], &[]), None, "a country is no address");
    }

    #[test]
    fn the_order_of_records_does_not_matter() {
        let mut witnesses = vec![
            witness(0, 1, &[("family_name", "Müller")]),
            witness(0, 1, &[("family_name", "Mueller")]),
            witness(0, 1, &[("family_name", "Muller")]),
        ];
        let first = surviving(&Survivorship::MostFrequent, &witnesses, "family_name");
        witnesses.reverse();
        assert_eq!(first, surviving(&Survivorship::MostFrequent, &witnesses, "family_name"));
    }
}
