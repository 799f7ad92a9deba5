//! A run over all records.

use std::collections::HashMap;

use decisioning_core::identity::{
    BlockingRules, Fields, IdentityError, Linkage, Matching, Records, Rules, SourceNumber, ONLINE,
};
use pgrx::prelude::*;

use super::block::{self, Runs};
use super::model::{self, Model};
use super::read::Read;
use super::resolve::is_empty;
use super::stored::Sources;
use super::write::{write, Numbers, Scope, Target, Written};
use super::{corrections, field, pair, rules, wanted};
use crate::pg::bulk::Indexes;
use crate::pg::error::{Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::threads::{self, Quiet};
use crate::pg::{interrupt, query, scan};

/// Rows per fetch.
const FETCH: usize = 20_000;

/// Parameters are learned anew once there are so many times as many records as they were learned from.
const TRAINED_SHARE: i64 = 2;

/// Rows that are described at a time.
const PIECE: usize = 500;

/// What a row of a source says.
pub struct Row {
    pub source: SourceNumber,
    pub key: String,
    pub fields: Fields,
}

/// The records of a full run.
pub struct Full {
    records: Records,
    countries: Vec<Option<decisioning_core::identity::Country>>,
}

impl Full {
    pub fn new(match_rules: Rules, sources: &Sources<'_>) -> Result<Self> {
        let countries = (0..sources.names().len()).map(|number| sources.country(number as SourceNumber)).collect();
        let records = Records::with(match_rules, sources.names(), as_owner(rules::nicknames)?)?;
        Ok(Full { records, countries })
    }

    /// Takes the rows that `read` hands over. Each is described on a thread beside this one, where maintenance may have one.
    pub fn collect<T>(&mut self, read: impl FnOnce(&mut dyn FnMut(Row)) -> Result<T>) -> Result<T> {
        if threads::for_maintenance() < 2 {
            let mut described = Ok(());
            let read = read(&mut |row| {
                if described.is_ok() {
                    described = self.add(row.source, &row.key, &row.fields);
                }
            });
            described?;
            return read;
        }
        let (read, described) = threads::beside(
            |pieces| pieces.flatten().try_for_each(|row: Row| self.add(row.source, &row.key, &row.fields)),
            |send| {
                let mut rows = Vec::with_capacity(PIECE);
                let read = read(&mut |row| {
                    rows.push(row);
                    if rows.len() == PIECE {
                        send(std::mem::replace(&mut rows, Vec::with_capacity(PIECE)));
                    }
                });
                send(rows);
                read
            },
        );
        described?;
        read
    }

    fn add(&mut self, source: SourceNumber, key: &str, fields: &Fields) -> std::result::Result<(), IdentityError> {
        let record = self.records.add(source, key)?;
        self.records.describe(record, fields, self.countries[usize::from(source)])
    }

    /// Finds the persons and writes what changed. Runs as the owner.
    pub fn finish(mut self, sources: &Sources<'_>, reads: &HashMap<&str, Read>, indexes: Indexes) -> Result<Written> {
        let online = self.add_online(sources)?;
        let is_first = is_empty()?;
        let placeholders = self.records.placeholders();
        let mut matching = Matching::new(self.records)?;
        recall(&mut matching)?;
        corrections::load(&mut matching)?;
        let numbers = Numbers::find(matching.len(), |record| matching.source_and_key(record), reads, &online)?;
        let wanted = wanted::load()?;
        let threads = threads::for_maintenance();
        let resolution = threads::quietly(|quiet| {
            let tick = &mut || quiet.check();
            let attributes = matching.attributes();
            if !model::describe_persons(&attributes) {
                quiet.lift(Runs::clear)?;
                return Ok(matching.resolve(None, tick)?);
            }
            let known = quiet.lift(|| match model::load()? {
                Some(model) if is_up_to_date(&model, &matching) => model::adapt(model, &wanted).map(Some),
                _ => Ok(None),
            })?;
            let blocking = match &known {
                Some(model) => model.blocking.clone(),
                None => wanted.blocking(&attributes)?,
            };
            write_runs(&mut matching, &blocking, &numbers, quiet, threads)?;
            let (model, frequencies) = match known {
                Some(model) => (model, quiet.lift(model::frequencies)?),
                None => {
                    quiet.lift(|| notice!("learning how much each agreement tells"));
                    let trained = model::train(&mut matching, &wanted, quiet, threads)?;
                    quiet.lift(|| report_unobserved(&trained.0));
                    trained
                }
            };
            quiet.lift(|| notice!("comparing and joining records"));
            let linkage = Linkage {
                parameters: &model.parameters,
                frequencies: &frequencies,
                blocking: &model.blocking,
                threads,
            };
            Ok::<_, Error>(matching.resolve(Some(&linkage), tick)?)
        })?;
        interrupt::check();
        notice!(
            "{} records are {} customers; {placeholders} placeholder values were ignored",
            resolution.records(),
            resolution.persons()
        );
        let target = Target { reads, scope: Scope::All { is_first }, indexes };
        let mut written = write(&resolution, &target)?;
        written.rows += pair::write_all(&resolution, &numbers, is_first)?;
        if let Some(model) = model::load()? {
            block::report_oversized(&resolution, &model.blocking, &numbers)?;
        }
        query::execute("DELETE FROM decisioning._unresolved", &[])?;
        notice!("{} rows written", written.rows);
        Ok(written)
    }

    /// Adds the records of the built-in source; returns their numbers by source and key.
    fn add_online(&mut self, sources: &Sources<'_>) -> Result<HashMap<(String, String), i64>> {
        let number = sources.number(ONLINE).unwrap_or_default();
        let mut numbers = HashMap::new();
        let mut fields = Fields::new();
        scan::scan(
            "SELECT r.record_key, r.record_number, f.fields FROM decisioning._record r
             JOIN decisioning._record_field f ON f.record_number = r.record_number WHERE r.source = $1",
            &[ONLINE.into()],
            FETCH,
            |row| {
                if let (Some(key), Some(record_number), Some(document)) = (row.text(0)?, row.number(1)?, row.bytes(2)?)
                {
                    field::read(document, &mut fields)?;
                    numbers.insert((ONLINE.to_owned(), key.to_owned()), record_number);
                    self.add(number, key, &fields)?;
                }
                Ok(())
            },
            || Ok(()),
        )?;
        Ok(numbers)
    }
}

/// Number of records that are kept.
pub fn records() -> Result<i64> {
    let records = query::read_one("SELECT count(*) FROM decisioning._record", &[], |row| row.value::<i64>(1))?;
    Ok(records.unwrap_or(0))
}

/// What the records were called so far.
fn recall(matching: &mut Matching) -> Result<()> {
    scan::scan(
        "SELECT r.source, r.record_key, r.customer_id FROM decisioning._record r",
        &[],
        FETCH,
        |row| match (row.text(0)?, row.text(1)?, row.text(2)?) {
            (Some(source), Some(key), Some(customer_id)) => Ok(matching.remember(source, key, customer_id)?),
            _ => Err(Error::corrupted("a record has no key")),
        },
        || Ok(()),
    )
}

fn is_up_to_date(model: &Model, matching: &Matching) -> bool {
    model.attributes == model::names(&matching.attributes())
        && matching.len() as i64 <= model.records.saturating_mul(TRAINED_SHARE)
}

fn report_unobserved(model: &Model) {
    let guesses = model.parameters.unobserved().count();
    if guesses > 0 {
        notice!("{guesses} probabilities were not seen in the data and are cautious guesses: see decisioning.match_weights_in_effect");
    }
}

/// Makes the blocks, and writes who shares a blocking key with whom.
fn write_runs(
    matching: &mut Matching,
    blocking: &BlockingRules,
    numbers: &Numbers,
    quiet: &Quiet,
    threads: usize,
) -> Result<()> {
    quiet.lift(Runs::clear)?;
    let (mut runs, mut failure) = (Runs::default(), None);
    let limit = blocking.block_limit as usize;
    matching.block(blocking, threads, &mut || quiet.check(), &mut |key, block| {
        if failure.is_none() && block.len() <= limit {
            failure = add_block(&mut runs, key, block, numbers, quiet).err();
        }
    });
    match failure {
        Some(error) => Err(error),
        None => quiet.lift(|| {
            runs.finish()?;
            query::execute("ANALYZE decisioning._block_run", &[])?;
            notice!("{} blocking keys written", runs.entries);
            Ok(())
        }),
    }
}

fn add_block(runs: &mut Runs, key: u64, block: &[u32], numbers: &Numbers, quiet: &Quiet) -> Result<()> {
    runs.add(key, block.len(), block.iter().map(|record| numbers.of(*record)))?;
    if runs.is_due() {
        quiet.lift(|| runs.write())?;
    }
    Ok(())
}
