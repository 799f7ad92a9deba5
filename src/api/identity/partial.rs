//! A run over what changed: new, changed and vanished records, those that may be the same person, and all records of the
//! customers that these belong to. What was learned at the last full run is taken as it is, so that a pair weighs the same.

use std::collections::{BTreeSet, HashMap, HashSet};

use decisioning_core::identity::{
    Country, Fields, Identifier, Linkage, Matching, Records, Rules, SourceNumber, Standing, TermFrequencies,
};
use pgrx::prelude::*;

use super::model::Model;
use super::read::Read;
use super::stored::{self, Sources, Stored};
use super::write::{write, Numbers, Scope, Target, Written};
use super::{block, corrections, field, model, online, pair, rules};
use crate::pg::bulk::Indexes;
use crate::pg::error::Result;
use crate::pg::{query, threads};

/// Records that are looked at, by number.
type Loaded = HashMap<i64, Stored>;

/// Brings identity up to date with what was read; returns the number of records that came, changed or vanished, if any. Runs
/// as the owner.
pub fn finish(rules: Rules, sources: &Sources<'_>, reads: &HashMap<&str, Read>) -> Result<Option<(usize, Written)>> {
    let vanished: Vec<i64> = reads.values().flat_map(Read::vanished).collect();
    let mut gone: Loaded = HashMap::new();
    stored::load(&vanished, sources, &mut gone)?;
    let mut loaded = fresh(sources, reads)?;
    let fresh: HashSet<i64> = loaded.keys().copied().collect();
    if fresh.is_empty() && gone.is_empty() {
        notice!("nothing changed");
        return Ok(None);
    }
    notice!("{} records are new or changed, {} are gone", fresh.len(), gone.len());

    let linkage = match model::load()? {
        Some(model) => Some((model::frequencies()?, model)),
        None => None,
    };
    let alike = match &linkage {
        Some((frequencies, model)) => {
            let linkage = linkage_of(model, frequencies);
            alike(&rules, sources, &loaded, &fresh, &linkage)?
        }
        None => HashSet::new(),
    };

    // The customers that may be concerned, and all of their records.
    let mut touched: BTreeSet<String> = BTreeSet::new();
    touched.extend(loaded.values().chain(gone.values()).filter_map(|record| record.customer_id.clone()));
    touched.extend(customers(&alike)?);
    let names: Vec<(String, String)> =
        loaded.values().map(|record| (sources.name(record.source).to_owned(), record.key.clone())).collect();
    // Others may still have an id that a record would be called by that is back, or were said to be the same person.
    let aliases: Vec<String> =
        names.iter().flat_map(|(source, key)| [key.clone(), format!("{source}:{key}")]).collect();
    touched.extend(stored::customers_called(&aliases)?);
    touched.extend(corrections::counterparts(&names)?);
    let before = reads.iter().flat_map(|(name, read)| {
        let country = sources.number(name).and_then(|number| sources.country(number));
        read.before.iter().map(move |fields| (fields, country))
    });
    let now = loaded.values().chain(gone.values()).map(|record| (&record.fields, sources.country(record.source)));
    let shown: Vec<(String, String)> =
        before.chain(now).flat_map(|(fields, country)| named_identifiers(&rules, fields, country)).collect();
    touched.extend(stored::owners(&shown)?.into_values().flatten());
    let touched: Vec<String> = touched.into_iter().collect();
    let mut members = stored::members(&touched)?;
    members.retain(|number| !loaded.contains_key(number) && !gone.contains_key(number));
    stored::load(&members, sources, &mut loaded)?;

    let rules = with_nobodys_values(rules, sources, &loaded)?;
    let mut records = Records::with(rules, sources.names(), rules::nicknames()?)?;
    describe(&mut records, sources, loaded.values())?;
    let placeholders = records.placeholders();
    let mut matching = Matching::new(records)?;
    for record in loaded.values().chain(gone.values()) {
        if let Some(customer_id) = &record.customer_id {
            matching.remember(sources.name(record.source), &record.key, customer_id)?;
        }
    }
    corrections::load(&mut matching)?;
    let resolution = threads::quietly(|quiet| {
        let linkage = linkage.as_ref().map(|(frequencies, model)| linkage_of(model, frequencies));
        matching.resolve(linkage.as_ref(), &mut || quiet.check())
    })?;
    notice!(
        "{} records were looked at and are {} customers; {placeholders} placeholder values were ignored",
        resolution.records(),
        resolution.persons()
    );

    let others =
        loaded.iter().map(|(number, record)| ((sources.name(record.source).to_owned(), record.key.clone()), *number));
    let numbers =
        Numbers::find(resolution.records(), |record| resolution.source_and_key(record), reads, &others.collect())?;
    let target =
        Target { reads, scope: Scope::Of { customer_ids: &touched, aliases: &aliases }, indexes: Indexes::Kept };
    let mut written = write(&resolution, &target)?;
    let record_numbers: Vec<i64> = loaded.keys().copied().collect();
    written.rows += pair::write_among(&resolution, &numbers, &record_numbers)?;
    if let Some((_, model)) = &linkage {
        let mut records = Records::with(Rules::default(), sources.names(), rules::nicknames()?)?;
        let mut entries = Vec::new();
        for number in &fresh {
            let record = &loaded[number];
            let handle = records.add(record.source, &record.key)?;
            records.describe(handle, &record.fields, sources.country(record.source))?;
            entries.extend(records.block_keys(handle, &model.blocking).into_iter().map(|key| (key, *number)));
        }
        block::add(&entries)?;
    }
    query::execute("DELETE FROM decisioning._unresolved", &[])?;
    notice!("{} rows written", written.rows);
    Ok(Some((fresh.len() + gone.len(), written)))
}

fn linkage_of<'a>(model: &'a Model, frequencies: &'a TermFrequencies) -> Linkage<'a> {
    Linkage {
        parameters: &model.parameters,
        frequencies,
        blocking: &model.blocking,
        threads: threads::for_maintenance(),
    }
}

/// Records that are new, changed, or were added online since the last run.
fn fresh(sources: &Sources<'_>, reads: &HashMap<&str, Read>) -> Result<Loaded> {
    let mut numbers: HashMap<i64, (SourceNumber, String)> = HashMap::new();
    for (name, read) in reads {
        let source = sources.number(name).unwrap_or_default();
        numbers.extend(read.known.fresh().map(|(key, number)| (number, (source, key.to_owned()))));
    }
    let mut loaded: Loaded = HashMap::new();
    let mut changed: Vec<i64> =
        query::read("SELECT u.record_number FROM decisioning._unresolved u", &[], |row| row.value(1))?;
    changed.extend(numbers.keys());
    stored::load(&changed, sources, &mut loaded)?;
    // What is new has no row in _record yet.
    let new: Vec<i64> = numbers.keys().filter(|number| !loaded.contains_key(number)).copied().collect();
    field::of_records(&new, |number, _, fields| {
        if let Some((source, key)) = numbers.remove(&number) {
            loaded.insert(number, Stored { source, key, customer_id: None, fields: fields.clone() });
        }
        Ok(())
    })?;
    Ok(loaded)
}

fn describe<'a>(records: &mut Records, sources: &Sources<'_>, all: impl Iterator<Item = &'a Stored>) -> Result<()> {
    for record in all {
        let handle = records.add(record.source, &record.key)?;
        records.describe(handle, &record.fields, sources.country(record.source))?;
    }
    Ok(())
}

/// Numbers of the stored records that some fresh one is, or might be, one person with by similarity.
fn alike(
    rules: &Rules,
    sources: &Sources<'_>,
    loaded: &Loaded,
    fresh: &HashSet<i64>,
    linkage: &Linkage<'_>,
) -> Result<HashSet<i64>> {
    let mut records = Records::with(rules.clone(), sources.names(), rules::nicknames()?)?;
    let mut keys = Vec::new();
    for record in loaded.values() {
        let handle = records.add(record.source, &record.key)?;
        records.describe(handle, &record.fields, sources.country(record.source))?;
        keys.extend(records.block_keys(handle, linkage.blocking));
    }
    let mut neighbours: Vec<i64> =
        block::neighbours(&keys, linkage.blocking.block_limit as usize)?.into_iter().collect();
    neighbours.retain(|number| !loaded.contains_key(number));
    let mut around: Loaded = HashMap::new();
    stored::load(&neighbours, sources, &mut around)?;
    notice!("{} records share a block with them", around.len());
    describe(&mut records, sources, around.values())?;
    let matching = Matching::new(records)?;
    let number_of = |(number, record): (&i64, &Stored)| {
        let place = matching.record(sources.name(record.source), &record.key);
        place.map(|place| (place, *number))
    };
    let numbers: HashMap<u32, i64> = loaded.iter().chain(&around).filter_map(number_of).collect();
    let mut is_fresh = vec![false; matching.len()];
    for (place, number) in &numbers {
        is_fresh[*place as usize] = fresh.contains(number);
    }
    let pairs =
        threads::quietly(|quiet| matching.alike(linkage, &|record| is_fresh[record as usize], &mut || quiet.check()))?;
    let both = pairs.iter().flat_map(|pair| [pair.older, pair.younger]);
    let found: HashSet<i64> = both.filter_map(|place| numbers.get(&place).copied()).collect();
    Ok(found.into_iter().filter(|number| around.contains_key(number)).collect())
}

/// Customers of records.
pub fn customers(record_numbers: &HashSet<i64>) -> Result<Vec<String>> {
    let numbers: Vec<i64> = record_numbers.iter().copied().collect();
    query::read(
        "SELECT DISTINCT r.customer_id FROM unnest($1::bigint[]) AS n(record_number)
         CROSS JOIN LATERAL (SELECT r.customer_id FROM decisioning._record r
                             WHERE r.record_number = n.record_number OFFSET 0) AS r",
        &[numbers.into()],
        |row| row.value(1),
    )
}

fn named_identifiers(rules: &Rules, fields: &Fields, country: Option<Country>) -> Vec<(String, String)> {
    online::identifiers(rules, fields, country)
        .into_iter()
        .map(|(identifier, value)| (identifier.to_string(), value))
        .collect()
}

/// The rules, with the values blocked that identify nobody because too many share them: this run sees too few records to
/// find that out.
pub fn with_nobodys_values(mut rules: Rules, sources: &Sources<'_>, loaded: &Loaded) -> Result<Rules> {
    let of_record = |record: &Stored| named_identifiers(&rules, &record.fields, sources.country(record.source));
    let mut shown: Vec<(String, String)> = loaded.values().flat_map(of_record).collect();
    shown.sort_unstable();
    shown.dedup();
    for ((kind, value), owner) in stored::owners(&shown)? {
        let identifier: Identifier = kind.parse()?;
        if owner.is_none() && rules.standing(&identifier, &value) == Standing::Ordinary {
            rules.list(identifier, &value, true);
        }
    }
    Ok(rules)
}
