//! Many rows, read where they lie: no value is copied that the reader does not keep.

use std::str;

use pgrx::{pg_sys, Spi};

use super::error::{Error, Result};
use super::guard::{for_large_sets, for_texts};
use super::interrupt;
use super::query::{self, Argument};

/// A row of a result, taken apart. Columns are counted from 0.
pub struct Tuple<'a> {
    types: &'a [pg_sys::Oid],
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
}

impl<'a> Tuple<'a> {
    /// A column of type text.
    ///
    /// # Errors
    /// Another type, or bytes that are not UTF-8.
    pub fn text(&self, at: usize) -> Result<Option<&'a str>> {
        let Some(bytes) = self.variable(at, &[pg_sys::TEXTOID])? else { return Ok(None) };
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::new(
                pgrx::PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
                "the database holds a text that is not UTF-8",
            )
            .hint("Identities can only be resolved in databases of encoding UTF8.")),
        }
    }

    /// The bytes of a jsonb or bytea.
    ///
    /// # Errors
    /// Another type.
    pub fn bytes(&self, at: usize) -> Result<Option<&'a [u8]>> {
        self.variable(at, &[pg_sys::JSONBOID, pg_sys::BYTEAOID])
    }

    /// A bigint, or a timestamptz as Postgres counts it.
    ///
    /// # Errors
    /// Another type.
    pub fn number(&self, at: usize) -> Result<Option<i64>> {
        self.expect(at, &[pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID])?;
        Ok((!self.nulls[at]).then(|| self.values[at].value() as i64))
    }

    fn variable(&self, at: usize, types: &[pg_sys::Oid]) -> Result<Option<&'a [u8]>> {
        self.expect(at, types)?;
        if self.nulls[at] {
            return Ok(None);
        }
        // SAFETY: the type, which was checked, is one of variable length, and the value is not null. What is unpacked
        // lives in the memory of the batch, as the tuple itself does.
        unsafe {
            let varlena = pg_sys::pg_detoast_datum_packed(self.values[at].cast_mut_ptr());
            Ok(Some(pgrx::varlena_to_byte_slice(varlena)))
        }
    }

    fn expect(&self, at: usize, types: &[pg_sys::Oid]) -> Result<()> {
        match self.types.get(at) {
            Some(found) if types.contains(found) => Ok(()),
            _ => Err(Error::corrupted(format!("result column {} has another type than expected", at + 1))),
        }
    }
}

/// Runs a reading statement and hands its rows over in batches of `size`, so that memory stays flat. `each` gets every row,
/// `between` is called when those of a batch are gone. Nothing that they do is seen by the statement.
pub fn scan(
    sql: &str,
    arguments: &[Argument<'_>],
    size: usize,
    mut each: impl FnMut(&Tuple<'_>) -> Result<()>,
    mut between: impl FnMut() -> Result<()>,
) -> Result<()> {
    let name = for_texts(|| {
        for_large_sets(|| {
            Spi::connect(|client| -> Result<String> { Ok(client.try_open_cursor(sql, arguments)?.detach_into_name()) })
        })
    })?;
    loop {
        interrupt::check();
        let found = Spi::connect(|client| -> Result<usize> {
            let mut cursor = client.find_cursor(&name)?;
            let found = for_texts(|| for_large_sets(|| Ok(cursor.fetch(size as _)?.len())))?;
            // Closed by name, when all is well: closing raises where a server is gone, and must not while an error unwinds.
            cursor.detach_into_name();
            // SAFETY: the table of the fetch that has just been made; SPI keeps it until this connection closes.
            unsafe { rows(pg_sys::SPI_tuptable, found, &mut each)? };
            if found < size {
                drop(client.find_cursor(&name)?);
            }
            Ok(found)
        })?;
        between()?;
        if found < size {
            return Ok(());
        }
    }
}

/// Hands over the rows of a reading statement with a kept plan: for few rows that are found by key.
///
/// # Errors
/// What `each` returns.
pub fn by_key(sql: &str, arguments: &[Argument<'_>], mut each: impl FnMut(&Tuple<'_>) -> Result<()>) -> Result<()> {
    Spi::connect(|_| {
        let found = query::run_reading(sql, arguments)?;
        // SAFETY: the table of the statement that has just run; SPI keeps it until this connection closes.
        unsafe { rows(pg_sys::SPI_tuptable, found, &mut each) }
    })
}

/// # Safety
/// `table` holds `count` tuples, and is not freed before the call returns.
unsafe fn rows(
    table: *mut pg_sys::SPITupleTable,
    count: usize,
    each: &mut impl FnMut(&Tuple<'_>) -> Result<()>,
) -> Result<()> {
    if table.is_null() || count == 0 {
        return Ok(());
    }
    let descriptor = (*table).tupdesc;
    let width = (*descriptor).natts as usize;
    let types: Vec<pg_sys::Oid> = (1..=width as i32).map(|at| pg_sys::SPI_gettypeid(descriptor, at)).collect();
    let mut values = vec![pg_sys::Datum::from(0); width];
    let mut nulls = vec![true; width];
    for tuple in std::slice::from_raw_parts((*table).vals, count) {
        pg_sys::heap_deform_tuple(*tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        each(&Tuple { types: &types, values: &values, nulls: &nulls })?;
    }
    Ok(())
}
