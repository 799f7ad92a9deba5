//! Who somebody is by what describes them: the records that share a block with what is shown, judged as a run would.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use decisioning_core::identity::{
    Attribute, Fields, KeySource, Linkage, Matching, Records, Rules, TermFrequencies, ONLINE,
};

use super::model::{self, Model};
use super::partial::with_nobodys_values;
use super::stored::{self, Sources, Stored};
use super::{block, corrections, rules};
use crate::pg::error::Result;
use crate::pg::{interrupt, query};

/// Most keys that sessions lock, which are shown the same new person at the same time.
const MOST_LOCKS: usize = 4;

/// Key of the record that is shown; no stored record has it.
const SHOWN: &str = "";

thread_local! {
    static KEPT: RefCell<Option<Rc<Model>>> = const { RefCell::new(None) };
}

/// What is shown, as far as it describes a person.
pub struct Likeness<'a> {
    rules: &'a Rules,
    sources: &'a Sources<'a>,
    fields: &'a Fields,
    model: Rc<Model>,
    frequencies: TermFrequencies,
    pub keys: Vec<u64>,
}

impl<'a> Likeness<'a> {
    /// `None` if nothing was trained, or if what is shown does not describe a person enough to find it.
    pub fn of(rules: &'a Rules, sources: &'a Sources<'a>, fields: &'a Fields) -> Result<Option<Self>> {
        let Some(model) = current_model()? else { return Ok(None) };
        let mut records = Records::with(rules.clone(), sources.names(), rules::nicknames()?)?;
        let online = sources.number(ONLINE).unwrap_or_default();
        let record = records.add(online, SHOWN)?;
        records.describe(record, fields, sources.country(online))?;
        let keys = records.block_keys(record, &model.blocking);
        let likeness = |frequencies| Likeness { rules, sources, fields, model: model.clone(), frequencies, keys };
        let values = records.attribute_values(record);
        let values: Vec<_> = values.into_iter().map(|(attribute, value)| (attribute, value.to_owned())).collect();
        let likeness = likeness(model::frequencies_of(&values)?);
        Ok(Some(likeness).filter(|likeness| likeness.descriptive_keys().next().is_some()))
    }

    /// Keys that are of more than identifiers and one word.
    fn descriptive_keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.keys.iter().copied().filter(|key| {
            self.model.blocking.rules.get(rule_of(*key)).is_some_and(|rule| {
                let is_identifier = |source| {
                    matches!(
                        source,
                        KeySource::Attribute(
                            Attribute::Email | Attribute::EmailLocal | Attribute::Phone | Attribute::DeviceId
                        )
                    )
                };
                let words = rule.parts.iter().map(|part| if part.source == KeySource::Names { 2 } else { 1 });
                words.sum::<usize>() > 1 && !rule.parts.iter().any(|part| is_identifier(part.source))
            })
        })
    }

    /// Makes sessions that are shown the same person wait for each other until they commit.
    pub fn lock(&self) -> Result<()> {
        for key in self.descriptive_keys().take(MOST_LOCKS) {
            query::write("SELECT pg_advisory_xact_lock($1)::text", &[(key as i64).into()], |_| Ok(()))?;
        }
        Ok(())
    }

    /// The customer that it is, `None` for somebody new. `owners` hold identifiers that are shown: mostly it is one of them,
    /// and nobody else is looked at.
    pub fn customer(&self, owners: &BTreeSet<String>) -> Result<Option<String>> {
        let linkage = Linkage {
            parameters: &self.model.parameters,
            frequencies: &self.frequencies,
            blocking: &self.model.blocking,
            threads: 1,
        };
        if let Some(owner) = self.one_of(owners, &linkage)? {
            return Ok(Some(owner));
        }
        let limit = self.model.blocking.block_limit as usize;
        let numbers: Vec<i64> = block::neighbours(&self.keys, limit)?.into_iter().collect();
        let mut around: HashMap<i64, Stored> = HashMap::new();
        stored::load(&numbers, self.sources, &mut around)?;
        let matching = self.matching(self.rules.clone(), &around)?;
        let Some(shown) = matching.record(ONLINE, SHOWN) else { return Ok(None) };
        let pairs = matching.alike(&linkage, &|record| record == shown, &mut interrupt::check)?;
        let alike: HashSet<(&str, &str)> = pairs
            .iter()
            .map(|pair| matching.source_and_key(if pair.older == shown { pair.younger } else { pair.older }))
            .collect();
        let is_alike = |record: &&Stored| alike.contains(&(self.sources.name(record.source), record.key.as_str()));
        let customers = around.values().filter(is_alike).filter_map(|record| record.customer_id.clone());
        self.one_of(&owners.iter().cloned().chain(customers).collect(), &linkage)
    }

    /// The one of these customers that it is, if it is one.
    fn one_of(&self, customers: &BTreeSet<String>, linkage: &Linkage<'_>) -> Result<Option<String>> {
        if customers.is_empty() {
            return Ok(None);
        }
        let members = stored::members(&customers.iter().cloned().collect::<Vec<_>>())?;
        let mut loaded: HashMap<i64, Stored> = HashMap::new();
        stored::load(&members, self.sources, &mut loaded)?;
        let rules = with_nobodys_values(self.rules.clone(), self.sources, &loaded)?;
        let mut matching = self.matching(rules, &loaded)?;
        for record in loaded.values() {
            if let Some(customer_id) = &record.customer_id {
                matching.remember(self.sources.name(record.source), &record.key, customer_id)?;
            }
        }
        let names: Vec<(String, String)> =
            loaded.values().map(|record| (self.sources.name(record.source).to_owned(), record.key.clone())).collect();
        corrections::load_among(&mut matching, &names)?;
        let resolution = matching.resolve(Some(linkage), &mut interrupt::check)?;
        Ok(resolution.customer(ONLINE, SHOWN).filter(|customer| customers.contains(*customer)).map(str::to_owned))
    }

    /// What is shown, with stored records.
    fn matching(&self, rules: Rules, stored: &HashMap<i64, Stored>) -> Result<Matching> {
        let mut records = Records::with(rules, self.sources.names(), rules::nicknames()?)?;
        let online = self.sources.number(ONLINE).unwrap_or_default();
        let record = records.add(online, SHOWN)?;
        records.describe(record, self.fields, self.sources.country(online))?;
        for other in stored.values() {
            let record = records.add(other.source, &other.key)?;
            records.describe(record, &other.fields, self.sources.country(other.source))?;
        }
        Ok(Matching::new(records)?)
    }
}

/// Rule by which a key was made.
fn rule_of(key: u64) -> usize {
    (key >> 57) as usize
}

/// The model in force, kept between calls.
fn current_model() -> Result<Option<Rc<Model>>> {
    let number =
        query::read_one("SELECT max(m.model) FROM decisioning._match_model m", &[], |row| row.get::<i64>(1))?.flatten();
    let Some(number) = number else { return Ok(None) };
    if let Some(kept) = KEPT.with_borrow(|kept| kept.clone()).filter(|kept| kept.number == number) {
        return Ok(Some(kept));
    }
    let model = model::load()?.map(Rc::new);
    KEPT.with_borrow_mut(|kept| kept.clone_from(&model));
    Ok(model)
}
