//! How common the values of each attribute are: to share a rare name says more than to share a common one.

use std::collections::HashMap;

use super::super::IdentityError;
use super::comparison::Comparer;
use super::profile::{Attribute, ATTRIBUTES, MISSING};

/// Values that so few records have count as equally rare: mostly they are one person's.
pub const RARE: u32 = 3;

/// Counts of the values of all attributes, computed once and then kept, so that a pair has the same weight in every run.
#[derive(Clone, Debug)]
pub struct TermFrequencies {
    attributes: [Frequency; ATTRIBUTES],
}

#[derive(Clone, Debug, Default)]
struct Frequency {
    /// Records that have a value.
    records: u64,
    /// Probability that two records that have a value have the same one.
    agreement: f64,
    /// Records by value, of values that are not rare.
    common: HashMap<String, u32>,
}

/// One stored count.
#[derive(Clone, Debug, PartialEq)]
pub struct TermFrequency<'a> {
    pub attribute: &'static str,
    /// `None` for the totals of the attribute.
    pub value: Option<&'a str>,
    /// Records that have the value, or any value.
    pub records: u64,
    /// For the totals: the probability that two records agree.
    pub agreement: Option<f64>,
}

impl Default for TermFrequencies {
    fn default() -> Self {
        TermFrequencies { attributes: std::array::from_fn(|_| Frequency::default()) }
    }
}

impl TermFrequencies {
    /// Counts the values of the records.
    pub(in super::super) fn count(comparer: &Comparer<'_>, tick: &mut dyn FnMut()) -> Self {
        let mut frequencies = TermFrequencies::default();
        for attribute in Attribute::ALL.into_iter().filter(|attribute| *attribute != Attribute::DateOfBirth) {
            tick();
            let mut counts = vec![0u32; comparer.distinct(attribute)];
            for row in comparer.profiles.rows() {
                if row[attribute as usize] != MISSING {
                    counts[row[attribute as usize] as usize] += 1;
                }
            }
            for extra in comparer.profiles.all_extras() {
                if extra.attribute == attribute {
                    counts[extra.value as usize] += 1;
                }
            }
            let frequency = &mut frequencies.attributes[attribute as usize];
            frequency.records = counts.iter().map(|count| u64::from(*count)).sum();
            let pairs: f64 = counts.iter().map(|&count| f64::from(count) * (f64::from(count) - 1.0)).sum();
            let records = frequency.records as f64;
            frequency.agreement = if records > 1.0 { pairs / (records * (records - 1.0)) } else { 0.0 };
            for (value, &count) in counts.iter().enumerate().filter(|(_, count)| **count > RARE) {
                frequency.common.insert(comparer.text(attribute, value as u32).to_owned(), count);
            }
        }
        frequencies
    }

    /// What is to be stored, in no particular order.
    pub fn rows(&self) -> impl Iterator<Item = TermFrequency<'_>> {
        Attribute::ALL.into_iter().flat_map(|attribute| {
            let frequency = &self.attributes[attribute as usize];
            let total = TermFrequency {
                attribute: attribute.name(),
                value: None,
                records: frequency.records,
                agreement: Some(frequency.agreement),
            };
            let values = frequency.common.iter().map(move |(value, &records)| TermFrequency {
                attribute: attribute.name(),
                value: Some(value),
                records: u64::from(records),
                agreement: None,
            });
            std::iter::once(total).filter(|total| total.records > 0).chain(values)
        })
    }

    /// Takes back a stored count. Values that are not set are rare, so it is enough to set those that may occur.
    ///
    /// # Errors
    /// Not the name of an attribute.
    pub fn set(
        &mut self,
        attribute: &str,
        value: Option<&str>,
        records: u64,
        agreement: Option<f64>,
    ) -> Result<(), IdentityError> {
        let attribute = Attribute::ALL
            .into_iter()
            .find(|known| known.name() == attribute)
            .ok_or_else(|| IdentityError::UnknownName { what: "attribute", given: attribute.to_owned() })?;
        let frequency = &mut self.attributes[attribute as usize];
        match value {
            None => (frequency.records, frequency.agreement) = (records, agreement.unwrap_or_default()),
            Some(value) => {
                frequency.common.insert(value.to_owned(), u32::try_from(records).unwrap_or(u32::MAX));
            }
        }
        Ok(())
    }

    /// Probability that two random records that have the attribute agree in it.
    pub fn agreement(&self, attribute: Attribute) -> f64 {
        self.attributes[attribute as usize].agreement
    }

    /// Records that have the attribute.
    pub fn records(&self, attribute: Attribute) -> u64 {
        self.attributes[attribute as usize].records
    }

    /// Records that have a value, rare ones as [`RARE`].
    fn count_of(&self, attribute: Attribute, value: &str) -> u32 {
        self.attributes[attribute as usize].common.get(value).copied().unwrap_or(RARE)
    }

    /// By attribute and value of `comparer`: how many records have it.
    pub(in super::super) fn counts(&self, comparer: &Comparer<'_>) -> [Vec<u32>; ATTRIBUTES] {
        Attribute::ALL.map(|attribute| {
            if attribute == Attribute::DateOfBirth {
                return Vec::new();
            }
            (0..comparer.distinct(attribute) as u32)
                .map(|value| self.count_of(attribute, comparer.text(attribute, value)))
                .collect()
        })
    }
}
