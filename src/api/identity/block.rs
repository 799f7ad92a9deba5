//! Who shares a blocking key with whom: sorted runs that a full run writes, and entries that came since.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use decisioning_core::identity::{BlockingRules, Oversized, Resolution};
use pgrx::prelude::*;

use super::write::Numbers;
use crate::pg::bulk::{self, Indexes};
use crate::pg::error::Result;
use crate::pg::{datum, interrupt, query, scan};

/// Bytes of an entry, half of them the key's and half the record number's.
const ENTRY: usize = 10;
const HALF: usize = ENTRY / 2;

/// Entries of a row, which fills a page.
const ROW: usize = 800;

/// Rows per batch.
const BATCH: usize = 500;

/// Rows per fetch.
const FETCH: usize = 1000;

/// Oversized blocks that are kept, those that cost the most pairs.
const MOST_OVERSIZED: usize = 1000;

/// From this share of keys to rows on, reading all rows is faster than finding some.
const SCAN_SHARE: usize = 2;

/// Bits of a key that an entry drops: what then looks alike are a few neighbours too many.
const DROPPED_BITS: u32 = 63 - 8 * HALF as u32;

/// Runs on their way into `_block_run`, in order of the keys.
#[derive(Default)]
pub struct Runs {
    /// First key and entries.
    rows: Vec<(i64, Vec<u8>)>,
    /// The row being filled.
    open: Vec<u8>,
    first: i64,
    pub entries: u64,
}

impl Runs {
    /// Empties what is stored. Runs as the owner.
    pub fn clear() -> Result<()> {
        query::execute("DELETE FROM decisioning._block_run", &[])?;
        query::execute("DELETE FROM decisioning._block_entry", &[])?;
        Ok(())
    }

    /// Takes the record numbers of a block; of a huge one, as many as a row has room for.
    pub fn add(&mut self, key: u64, count: usize, record_numbers: impl Iterator<Item = Result<i64>>) -> Result<()> {
        let count = count.min(ROW);
        let short = short_key(key as i64);
        let is_same = self.open.len() >= ENTRY && self.open[self.open.len() - ENTRY..][..HALF] == short;
        if !is_same && self.open.len() + count * ENTRY > ROW * ENTRY {
            self.close();
        }
        if self.open.is_empty() {
            self.first = key as i64;
        }
        let room = ROW - self.open.len() / ENTRY;
        for number in record_numbers.take(count.min(room)) {
            self.open.extend_from_slice(&short);
            self.open.extend_from_slice(&number?.to_be_bytes()[8 - HALF..]);
            self.entries += 1;
        }
        Ok(())
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.rows.push((self.first, std::mem::take(&mut self.open)));
        }
    }

    /// Whether there is enough to write.
    pub fn is_due(&self) -> bool {
        self.rows.len() >= BATCH
    }

    /// Writes the full rows. Runs as the owner.
    pub fn write(&mut self) -> Result<()> {
        interrupt::check();
        let rows = std::mem::take(&mut self.rows);
        bulk::append_with(Indexes::Kept, c"_block_run", [c"first_key", c"entries"], rows.len(), |n| {
            Ok([Some(datum::number(rows[n].0)), Some(datum::varlena(&rows[n].1)?)])
        })
    }

    /// Writes what is left.
    pub fn finish(&mut self) -> Result<()> {
        self.close();
        self.write()
    }
}

fn short_key(key: i64) -> [u8; HALF] {
    let mut short = [0; HALF];
    short.copy_from_slice(&(key >> DROPPED_BITS).to_be_bytes()[8 - HALF..]);
    short
}

/// Record numbers in the block of a key, in a row of entries.
fn block<'a>(entries: &'a [u8], key: i64) -> impl Iterator<Item = i64> + 'a {
    let short = short_key(key);
    let at = |place: usize| &entries[place * ENTRY..place * ENTRY + ENTRY];
    let (mut low, mut high) = (0, entries.len() / ENTRY);
    while low < high {
        let middle = (low + high) / 2;
        if at(middle)[..HALF] < short[..] {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    entries[low * ENTRY..].chunks_exact(ENTRY).take_while(move |entry| entry[..HALF] == short).map(|entry| {
        let mut number = [0; 8];
        number[8 - HALF..].copy_from_slice(&entry[HALF..]);
        i64::from_be_bytes(number)
    })
}

/// Numbers of the records that share a key with others; `limit` of a block at most, a larger block none. Runs as the owner.
pub fn neighbours(keys: &[u64], limit: usize) -> Result<HashSet<i64>> {
    let mut keys: Vec<i64> = keys.iter().map(|key| *key as i64).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut found: HashMap<i64, Vec<i64>> = HashMap::new();
    let mut note = |key: i64, numbers: &mut dyn Iterator<Item = i64>| {
        let of_key = found.entry(key).or_default();
        of_key.extend(numbers.take(limit + 1));
    };
    let rows = query::read_one(
        "SELECT c.reltuples::bigint FROM pg_catalog.pg_class c WHERE c.oid = 'decisioning._block_run'::regclass",
        &[],
        |row| row.value::<i64>(1),
    )?;
    if keys.len() * SCAN_SHARE > usize::try_from(rows.unwrap_or(0)).unwrap_or(0) && keys.len() > FETCH {
        scan::scan(
            "SELECT b.first_key, b.entries FROM decisioning._block_run b",
            &[],
            FETCH,
            |row| {
                let (Some(first), Some(entries)) = (row.number(0)?, row.bytes(1)?) else { return Ok(()) };
                let Some(last) = entries.rchunks_exact(ENTRY).next() else { return Ok(()) };
                let start = keys.partition_point(|key| *key >> DROPPED_BITS < first >> DROPPED_BITS);
                for key in keys[start..].iter().take_while(|key| short_key(**key)[..] <= last[..HALF]) {
                    note(*key, &mut block(entries, *key));
                }
                Ok(())
            },
            || Ok(()),
        )?;
    } else {
        for chunk in keys.chunks(FETCH) {
            scan::by_key(
                "SELECT n.key, b.entries FROM unnest($1::bigint[]) AS n(key)
                 CROSS JOIN LATERAL (SELECT b.entries FROM decisioning._block_run b WHERE b.first_key <= n.key
                                     ORDER BY b.first_key DESC LIMIT 1) AS b",
                &[chunk.to_vec().into()],
                |row| {
                    if let (Some(key), Some(entries)) = (row.number(0)?, row.bytes(1)?) {
                        note(key, &mut block(entries, key));
                    }
                    Ok(())
                },
            )?;
        }
    }
    for chunk in keys.chunks(FETCH) {
        scan::by_key(
            "SELECT e.key, e.record_number FROM unnest($1::bigint[]) AS n(key)
             CROSS JOIN LATERAL (SELECT e.* FROM decisioning._block_entry e WHERE e.key = n.key OFFSET 0) AS e",
            &[chunk.to_vec().into()],
            |row| {
                if let (Some(key), Some(number)) = (row.number(0)?, row.number(1)?) {
                    note(key, &mut std::iter::once(number));
                }
                Ok(())
            },
        )?;
    }
    Ok(found.into_values().filter(|numbers| numbers.len() <= limit).flatten().collect())
}

/// Keeps which blocks were too large, over what is stored. Runs as the owner.
pub fn report_oversized(resolution: &Resolution, blocking: &BlockingRules, numbers: &Numbers) -> Result<()> {
    query::execute("DELETE FROM decisioning._oversized_block", &[])?;
    let mut blocks: Vec<&Oversized> = resolution.oversized().iter().collect();
    if blocks.is_empty() {
        return Ok(());
    }
    let left_out: u64 = blocks.iter().map(|block| u64::from(block.left_out)).sum();
    notice!(
        "{} blocks were too large and were split by name, which left out {left_out} records of them: see decisioning.oversized_blocks",
        blocks.len()
    );
    blocks.sort_by_key(|block| (Reverse(block.skipped_pairs), block.rule, block.example));
    blocks.truncate(MOST_OVERSIZED);
    let rule = |block: &&Oversized| blocking.rules.get(block.rule).map(ToString::to_string).unwrap_or_default();
    let rules: Vec<String> = blocks.iter().map(rule).collect();
    let examples: Vec<i64> = blocks.iter().map(|block| numbers.of(block.example)).collect::<Result<_>>()?;
    let records: Vec<i64> = blocks.iter().map(|block| block.records.into()).collect();
    let left_out: Vec<i64> = blocks.iter().map(|block| block.left_out.into()).collect();
    let skipped: Vec<i64> = blocks.iter().map(|block| i64::try_from(block.skipped_pairs).unwrap_or(i64::MAX)).collect();
    query::execute(
        "INSERT INTO decisioning._oversized_block (blocking_rule, record_number, records, left_out, skipped_pairs)
         SELECT u.* FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
             AS u (blocking_rule, record_number, records, left_out, skipped_pairs)",
        &[rules.into(), examples.into(), records.into(), left_out.into(), skipped.into()],
    )?;
    Ok(())
}

/// Notes the keys of records that came or changed. Runs as the owner.
pub fn add(entries: &[(u64, i64)]) -> Result<()> {
    for chunk in entries.chunks(FETCH) {
        let keys: Vec<i64> = chunk.iter().map(|entry| entry.0 as i64).collect();
        let numbers: Vec<i64> = chunk.iter().map(|entry| entry.1).collect();
        query::execute(
            "INSERT INTO decisioning._block_entry (key, record_number)
             SELECT u.key, u.record_number FROM unnest($1::bigint[], $2::bigint[]) AS u (key, record_number)
             ON CONFLICT DO NOTHING",
            &[keys.into(), numbers.into()],
        )?;
    }
    Ok(())
}
