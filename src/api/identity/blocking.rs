//! What the blocking rules would compare.

use decisioning_core::identity::{Matching, Records, SourceNumber};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::stored::Sources;
use super::{rules, source, wanted};
use crate::pg::error::Result;
use crate::pg::guard::as_owner;
use crate::pg::threads;

/// Rule, blocks, records of the largest, pairs, new pairs, oversized blocks, pairs skipped.
type Size = (String, i64, i64, i64, i64, i64, i64);

#[pg_extern(sql = false)]
fn preview_blocking() -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(blocking_rule, String),
            name!(blocks, i64),
            name!(largest_block, i64),
            name!(pairs, i64),
            name!(new_pairs, i64),
            name!(oversized_blocks, i64),
            name!(skipped_pairs, i64),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(preview()?))
}

fn preview() -> Result<Vec<Size>> {
    let (match_rules, nicknames, sources, wanted) =
        as_owner(|| Ok((rules::load()?, rules::nicknames()?, source::load()?, wanted::load()?)))?;
    let numbered = Sources::of(&sources);
    let mut records = Records::with(match_rules, numbered.names(), nicknames)?;
    for (number, source) in sources.iter().enumerate() {
        let number = number as SourceNumber;
        source.look(|key, fields| {
            let record = records.add(number, key)?;
            Ok(records.describe(record, fields, numbered.country(number))?)
        })?;
    }
    let matching = Matching::new(records)?;
    let blocking = wanted.blocking(&matching.attributes())?;
    let sizes =
        threads::quietly(|quiet| matching.block_sizes(&blocking, threads::for_maintenance(), &mut || quiet.check()));
    let count = |pairs: u64| i64::try_from(pairs).unwrap_or(i64::MAX);
    let size = |size: decisioning_core::identity::BlockSizes| {
        let (pairs, new_pairs) = (count(size.pairs), count(size.new_pairs));
        let (largest, oversized) = (size.largest.into(), size.oversized.into());
        (size.rule, count(size.blocks), largest, pairs, new_pairs, oversized, count(size.skipped_pairs))
    };
    Ok(sizes.into_iter().map(size).collect())
}
