//! Statements with kept plans.
//!
//! Every statement is prepared once per backend and re-planned by Postgres when what it refers to changes. Each
//! call opens its own SPI connection, so tuples are freed when it returns.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::PgOid;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiHeapTupleData};
use pgrx::{FromDatum, IntoDatum, PgSqlErrorCode, Spi};

use super::error::{Error, Result};
use super::guard::for_large_sets;
use super::interrupt;

/// Statement texts are few; those over user relations change with their columns, so the map is bounded.
const KEPT_PLANS: usize = 512;

thread_local! {
    static PLANS: RefCell<HashMap<String, Rc<OwnedPreparedStatement>>> = RefCell::new(HashMap::new());
}

pub type Argument<'a> = DatumWithOid<'a>;

/// One result row.
pub struct Row<'a, 'conn>(&'a SpiHeapTupleData<'conn>);

impl Row<'_, '_> {
    /// Column `ordinal`, counted from 1.
    pub fn get<T: IntoDatum + FromDatum>(&self, ordinal: usize) -> Result<Option<T>> {
        Ok(self.0.get::<T>(ordinal)?)
    }

    /// Column `ordinal`, which the statement never leaves NULL.
    pub fn value<T: IntoDatum + FromDatum>(&self, ordinal: usize) -> Result<T> {
        self.get(ordinal)?.ok_or_else(|| {
            Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("result column {ordinal} is null"))
        })
    }
}

pub(super) fn plan(
    client: &SpiClient<'_>,
    sql: &str,
    arguments: &[Argument<'_>],
) -> Result<Rc<OwnedPreparedStatement>> {
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(sql).cloned()) {
        return Ok(plan);
    }
    let types: Vec<PgOid> = arguments.iter().map(|argument| PgOid::from(argument.oid())).collect();
    let plan = Rc::new(client.prepare_mut(sql, &types)?.keep());
    PLANS.with_borrow_mut(|plans| {
        if plans.len() >= KEPT_PLANS {
            plans.clear();
        }
        plans.insert(sql.to_owned(), plan.clone());
    });
    Ok(plan)
}

/// Rows of a statement that only reads; works on a standby and in parallel workers.
pub fn read<T>(
    sql: &str,
    arguments: &[Argument<'_>],
    mut decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    Spi::connect(|client| {
        let plan = plan(client, sql, arguments)?;
        let mut rows = Vec::new();
        for tuple in client.select(&*plan, None, arguments)? {
            rows.push(decode(&Row(&tuple))?);
        }
        Ok(rows)
    })
}

/// The first row of a statement that only reads.
pub fn read_one<T>(
    sql: &str,
    arguments: &[Argument<'_>],
    decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Option<T>> {
    Ok(read(sql, arguments, decode)?.into_iter().next())
}

/// Rows of a statement that writes, or that must see what was committed a moment ago.
pub fn write<T>(
    sql: &str,
    arguments: &[Argument<'_>],
    mut decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    Spi::connect_mut(|client| {
        let plan = plan(client, sql, arguments)?;
        let mut rows = Vec::new();
        for tuple in client.update(&*plan, None, arguments)? {
            rows.push(decode(&Row(&tuple))?);
        }
        Ok(rows)
    })
}

/// Like [`write`] if `latest`, and else like [`read`].
pub fn read_latest<T>(
    latest: bool,
    sql: &str,
    arguments: &[Argument<'_>],
    decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    if latest {
        write(sql, arguments, decode)
    } else {
        read(sql, arguments, decode)
    }
}

/// Like [`write`], for large sets: planned anew, since a kept plan may be from when the tables were small.
pub fn write_large<T>(
    sql: &str,
    arguments: &[Argument<'_>],
    mut decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    for_large_sets(|| {
        Spi::connect_mut(|client| {
            let mut rows = Vec::new();
            for tuple in client.update(sql, None, arguments)? {
                rows.push(decode(&Row(&tuple))?);
            }
            Ok(rows)
        })
    })
}

/// Runs a statement for its effect; returns the number of rows it processed.
pub fn execute(sql: &str, arguments: &[Argument<'_>]) -> Result<usize> {
    Spi::connect_mut(|client| {
        let plan = plan(client, sql, arguments)?;
        Ok(client.update(&*plan, None, arguments)?.len())
    })
}

/// Streams a reading statement in batches of `size` rows, each decoded and handed over before the next is fetched,
/// so memory stays flat. Nothing that `consume` does is seen by the cursor.
pub fn stream<T>(
    sql: &str,
    arguments: &[Argument<'_>],
    size: usize,
    mut decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
    mut consume: impl FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    let name = for_large_sets(|| {
        Spi::connect(|client| -> Result<String> { Ok(client.try_open_cursor(sql, arguments)?.detach_into_name()) })
    })?;
    loop {
        interrupt::check();
        let batch = for_large_sets(|| {
            Spi::connect(|client| -> Result<Vec<T>> {
                let mut cursor = client.find_cursor(&name)?;
                let mut batch = Vec::new();
                for tuple in cursor.fetch(size as _)? {
                    batch.push(decode(&Row(&tuple))?);
                }
                if batch.len() == size {
                    cursor.detach_into_name();
                }
                Ok(batch)
            })
        })?;
        let last = batch.len() < size;
        if !batch.is_empty() {
            consume(batch)?;
        }
        if last {
            return Ok(());
        }
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    /// Batches are handed over in order and whole, the last one short, and statements may run in between.
    #[pg_test]
    fn streams_in_batches() {
        let mut sizes = Vec::new();
        let mut sum = 0;
        let streamed = super::stream(
            "SELECT n FROM generate_series(1, $1) AS n",
            &[2500_i32.into()],
            1000,
            |row| row.value::<i32>(1),
            |batch| {
                sizes.push(batch.len());
                sum += batch.iter().map(|n| i64::from(*n)).sum::<i64>();
                super::execute("CREATE TEMP TABLE IF NOT EXISTS written (n int)", &[])?;
                Ok(())
            },
        );
        assert!(streamed.is_ok());
        assert_eq!(sizes, [1000, 1000, 500]);
        assert_eq!(sum, 2500 * 2501 / 2);
    }
}
