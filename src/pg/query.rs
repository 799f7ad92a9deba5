//! Statements with kept plans.
//!
//! Every statement is prepared once per backend and re-planned by Postgres when what it refers to changes. Each
//! call opens its own SPI connection, so tuples are freed when it returns.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_char, CString};
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::{pg_sys, FromDatum, IntoDatum, PgSqlErrorCode, PgTupleDesc, Spi};

use super::datum;
use super::error::{Error, Result};
use super::guard::{for_large_sets, for_large_sets_with_workers, for_texts};
use super::receiver::Receiver;
use super::{interrupt, snapshot};

/// Statement texts are few; those over user relations change with their columns, so the map is bounded.
const KEPT_PLANS: usize = 512;

thread_local! {
    static PLANS: RefCell<HashMap<String, Rc<Plan>>> = RefCell::new(HashMap::new());
}

pub type Argument<'a> = DatumWithOid<'a>;

/// One result row. Columns are read as types that own what they hold: the row does not outlive what looks at it.
pub struct Row<'a, 'conn> {
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
    types: &'conn [pg_sys::Oid],
}

impl<'a, 'conn> Row<'a, 'conn> {
    /// The slices are of one length, and the values of these types.
    pub(super) fn new(values: &'a [pg_sys::Datum], nulls: &'a [bool], types: &'conn [pg_sys::Oid]) -> Self {
        Row { values, nulls, types }
    }

    /// Column `ordinal`, counted from 1.
    pub fn get<T: IntoDatum + FromDatum>(&self, ordinal: usize) -> Result<Option<T>> {
        let at = ordinal.wrapping_sub(1);
        let (Some(value), Some(null), Some(kind)) = (self.values.get(at), self.nulls.get(at), self.types.get(at))
        else {
            return Err(Error::corrupted(format!("a result has no column {ordinal}")));
        };
        // SAFETY: the datum is of a tuple that outlives this row, and the type is checked.
        unsafe { T::try_from_datum(*value, *null, *kind) }
            .map_err(|error| Error::corrupted(format!("result column {ordinal}: {error}")))
    }

    pub fn is_null(&self, ordinal: usize) -> bool {
        self.nulls.get(ordinal.wrapping_sub(1)).is_none_or(|null| *null)
    }

    /// Column `ordinal`, which the statement never leaves NULL.
    pub fn value<T: IntoDatum + FromDatum>(&self, ordinal: usize) -> Result<T> {
        self.get(ordinal)?.ok_or_else(|| {
            Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("result column {ordinal} is null"))
        })
    }

    /// Column `ordinal`, an array of real of one dimension without NULLs: taken at once.
    pub fn reals(&self, ordinal: usize) -> Result<Vec<f32>> {
        let at = ordinal.wrapping_sub(1);
        let found = match (self.values.get(at), self.nulls.get(at), self.types.get(at)) {
            // SAFETY: the datum is of this type, and of a tuple that outlives this row.
            (Some(value), Some(false), Some(&pg_sys::FLOAT4ARRAYOID)) => unsafe { datum::elements(*value) },
            _ => None,
        };
        found.ok_or_else(|| Error::corrupted(format!("result column {ordinal} is no plain array of real")))
    }
}

/// How a kept plan is made.
#[derive(Clone, Copy)]
enum Planning {
    /// As the session is set: for the first calls anew, with their arguments.
    Session,
    /// Once, for any arguments.
    Once,
    /// With parallel workers, where they pay.
    Parallel,
}

/// A prepared statement that outlives its connection.
struct Plan {
    plan: pg_sys::SPIPlanPtr,
    /// Types of its arguments.
    types: Vec<pg_sys::Oid>,
}

impl Plan {
    /// Inside a connection.
    fn new(sql: &str, arguments: &[Argument<'_>], planning: Planning) -> Result<Self> {
        let text = CString::new(sql).map_err(|_| Error::invalid("a statement contains a zero byte"))?;
        let mut types: Vec<pg_sys::Oid> = arguments.iter().map(Argument::oid).collect();
        let options = match planning {
            Planning::Session => 0,
            Planning::Once => pg_sys::CURSOR_OPT_GENERIC_PLAN as i32,
            Planning::Parallel => pg_sys::CURSOR_OPT_PARALLEL_OK as i32,
        };
        // SAFETY: text and types live for the call; what is kept is freed by Drop.
        unsafe {
            let plan = pg_sys::SPI_prepare_cursor(text.as_ptr(), types.len() as i32, types.as_mut_ptr(), options);
            if plan.is_null() {
                return Err(failed(pg_sys::SPI_result));
            }
            checked(pg_sys::SPI_keepplan(plan))?;
            Ok(Plan { plan, types })
        }
    }

    fn takes(&self, arguments: &[Argument<'_>]) -> bool {
        self.types.iter().copied().eq(arguments.iter().map(Argument::oid))
    }

    fn run(&self, arguments: &[Argument<'_>], read_only: bool) -> Result<()> {
        let (mut values, nulls) = datums(arguments);
        // SAFETY: inside a connection; the plan was made for arguments of these types.
        checked(unsafe { pg_sys::SPI_execute_plan(self.plan, values.as_mut_ptr(), nulls.as_ptr(), read_only, 0) })
    }

    /// Hands its rows over as the executor makes them, until `consume` fails.
    fn each(
        &self,
        arguments: &[Argument<'_>],
        read_only: bool,
        consume: &mut dyn FnMut(&Row<'_, '_>) -> Result<()>,
    ) -> Result<()> {
        let mut receiver = Receiver::new(consume);
        // SAFETY: inside a connection; the plan was made for arguments of these types, of which the list has room for all, and
        // the receiver stays where it is until the executor has ended.
        unsafe {
            let list = pg_sys::makeParamList(arguments.len() as i32);
            let places = (*list).params.as_mut_slice(arguments.len());
            for (place, argument) in places.iter_mut().zip(arguments) {
                *place = pg_sys::ParamExternData {
                    value: argument.datum().map_or(pg_sys::Datum::from(0), |datum| datum.sans_lifetime()),
                    isnull: argument.datum().is_none(),
                    pflags: pg_sys::PARAM_FLAG_CONST as u16,
                    ptype: argument.oid(),
                };
            }
            let options = pg_sys::SPIExecuteOptions {
                params: list,
                read_only,
                dest: receiver.as_destination(),
                ..pg_sys::SPIExecuteOptions::default()
            };
            checked(pg_sys::SPI_execute_plan_extended(self.plan, &raw const options))?;
        }
        receiver.result()
    }

    fn all<T>(
        &self,
        arguments: &[Argument<'_>],
        read_only: bool,
        mut decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        self.each(arguments, read_only, &mut |row| {
            found.push(decode(row)?);
            Ok(())
        })?;
        Ok(found)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made and kept by `new`.
        unsafe { pg_sys::SPI_freeplan(self.plan) };
    }
}

fn datums(arguments: &[Argument<'_>]) -> (Vec<pg_sys::Datum>, Vec<c_char>) {
    let datum = |argument: &Argument<'_>| match argument.datum() {
        Some(datum) => (datum.sans_lifetime(), b' ' as c_char),
        None => (pg_sys::Datum::from(0), b'n' as c_char),
    };
    arguments.iter().map(datum).unzip()
}

fn failed(status: i32) -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("statement failed: SPI status {status}"))
}

fn checked(status: i32) -> Result<()> {
    match status {
        ..0 => Err(failed(status)),
        _ => Ok(()),
    }
}

fn plan(sql: &str, arguments: &[Argument<'_>], planning: Planning) -> Result<Rc<Plan>> {
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(sql).filter(|plan| plan.takes(arguments)).cloned()) {
        return Ok(plan);
    }
    let plan = Rc::new(Plan::new(sql, arguments, planning)?);
    PLANS.with_borrow_mut(|plans| {
        if plans.len() >= KEPT_PLANS {
            plans.clear();
        }
        plans.insert(sql.to_owned(), plan.clone());
    });
    Ok(plan)
}

/// Decodes the rows that the last statement of the connection returned.
fn rows<T>(mut decode: impl FnMut(&Row<'_, '_>) -> Result<T>) -> Result<Vec<T>> {
    // SAFETY: a result stays as it is until the end of the connection, whatever `decode` runs on connections of its own. Its
    // tuples are of its descriptor, for which the arrays have room.
    unsafe {
        let Some(table) = pg_sys::SPI_tuptable.as_ref() else { return Ok(Vec::new()) };
        let descriptor = PgTupleDesc::from_pg_unchecked(table.tupdesc);
        let types: Vec<pg_sys::Oid> = descriptor.iter().map(|column| column.atttypid).collect();
        let mut values = vec![pg_sys::Datum::from(0); types.len()];
        let mut nulls = vec![true; types.len()];
        let mut rows = Vec::with_capacity(table.numvals as usize);
        for at in 0..table.numvals as usize {
            let tuple = *table.vals.add(at);
            pg_sys::heap_deform_tuple(tuple, table.tupdesc, values.as_mut_ptr(), nulls.as_mut_ptr());
            rows.push(decode(&Row { values: &values, nulls: &nulls, types: &types })?);
        }
        Ok(rows)
    }
}

/// Whether a statement may still run under the snapshot of the caller's: not once the transaction has written something, which
/// it would not see.
fn may_only_read() -> bool {
    // SAFETY: no preconditions.
    unsafe { pg_sys::GetTopTransactionIdIfAny() == pg_sys::InvalidTransactionId }
}

/// Runs a statement that only reads by its kept plan, inside a connection; its result is there until that ends. Returns the
/// number of rows.
pub(super) fn run_reading(sql: &str, arguments: &[Argument<'_>]) -> Result<usize> {
    plan(sql, arguments, Planning::Session)?.run(arguments, may_only_read())?;
    // SAFETY: set by the statement that has just run.
    Ok(unsafe { pg_sys::SPI_processed } as usize)
}

/// Rows of a statement that only reads; works on a standby and in parallel workers.
pub fn read<T>(sql: &str, arguments: &[Argument<'_>], decode: impl FnMut(&Row<'_, '_>) -> Result<T>) -> Result<Vec<T>> {
    Spi::connect(|_| plan(sql, arguments, Planning::Session)?.all(arguments, may_only_read(), decode))
}

/// The same by a plan for any arguments, made once: for statements that are planned with more effort than they are run.
pub fn read_by_kept_plan<T>(
    sql: &str,
    arguments: &[Argument<'_>],
    decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    Spi::connect(|_| plan(sql, arguments, Planning::Once)?.all(arguments, may_only_read(), decode))
}

/// Rows as they are now, whatever the isolation level: see [`snapshot::newest`].
pub fn read_newest<T>(
    sql: &str,
    arguments: &[Argument<'_>],
    decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    snapshot::newest(|| Spi::connect(|_| plan(sql, arguments, Planning::Session)?.all(arguments, true, decode)))
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
    decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    Spi::connect_mut(|_| plan(sql, arguments, Planning::Session)?.all(arguments, false, decode))
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

/// Like [`write`], for large sets: planned anew, since a kept plan may be from when the tables were small, and for parallel
/// workers, beside which `decode` may not write.
pub fn write_large<T>(
    sql: &str,
    arguments: &[Argument<'_>],
    decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    for_large_sets_with_workers(|| {
        Spi::connect_mut(|_| Plan::new(sql, arguments, Planning::Parallel)?.all(arguments, false, decode))
    })
}

/// Like [`read`], for large sets, as [`write_large`].
pub fn read_large<T>(
    sql: &str,
    arguments: &[Argument<'_>],
    decode: impl FnMut(&Row<'_, '_>) -> Result<T>,
) -> Result<Vec<T>> {
    for_large_sets_with_workers(|| {
        Spi::connect(|_| Plan::new(sql, arguments, Planning::Parallel)?.all(arguments, may_only_read(), decode))
    })
}

/// The same, one row after the other: nothing is kept, and their number is not bounded by memory.
pub fn each_large(
    sql: &str,
    arguments: &[Argument<'_>],
    mut consume: impl FnMut(&Row<'_, '_>) -> Result<()>,
) -> Result<()> {
    for_large_sets_with_workers(|| {
        Spi::connect(|_| Plan::new(sql, arguments, Planning::Parallel)?.each(arguments, may_only_read(), &mut consume))
    })
}

/// Runs a statement for its effect; returns the number of rows it processed.
pub fn execute(sql: &str, arguments: &[Argument<'_>]) -> Result<usize> {
    Spi::connect_mut(|_| {
        plan(sql, arguments, Planning::Session)?.run(arguments, false)?;
        // SAFETY: a plain read of what the last statement has set.
        Ok(unsafe { pg_sys::SPI_processed } as usize)
    })
}

/// Whether the conditions of a statement call a volatile function; what is behind views and functions is not looked into.
pub fn is_volatile(sql: &str) -> Result<bool> {
    Spi::connect(|_| {
        let plan = Plan::new(sql, &[], Planning::Session)?;
        // SAFETY: the plan lives until the end of the block, and with it its sources and their analysed queries.
        unsafe {
            let sources = pg_sys::SPI_plan_get_plan_sources(plan.plan);
            let mut volatile = false;
            for at in 0..usize::try_from((*sources).length).unwrap_or(0) {
                let source = (*(*sources).elements.add(at)).ptr_value as *mut pg_sys::CachedPlanSource;
                let queries = (*source).query_list;
                for at in 0..usize::try_from((*queries).length).unwrap_or(0) {
                    let query = (*(*queries).elements.add(at)).ptr_value as *mut pg_sys::Query;
                    volatile |= pg_sys::contain_volatile_functions((*query).jointree.cast());
                }
            }
            Ok(volatile)
        }
    })
}

/// A reading statement whose rows are fetched by and by, under the snapshot it was opened with, until the transaction ends.
pub struct Cursor {
    name: CString,
    open: bool,
}

impl Cursor {
    pub fn open(sql: &str, arguments: &[Argument<'_>]) -> Result<Self> {
        let name = for_texts(|| {
            for_large_sets(|| {
                Spi::connect(|client| -> Result<String> {
                    Ok(client.try_open_cursor(sql, arguments)?.detach_into_name())
                })
            })
        })?;
        let name = CString::new(name).map_err(|_| Error::corrupted("the name of a cursor contains a zero byte"))?;
        Ok(Cursor { name, open: true })
    }

    /// The next `size` rows; fewer at the end, which closes it.
    pub fn fetch<T>(&mut self, size: usize, decode: impl FnMut(&Row<'_, '_>) -> Result<T>) -> Result<Vec<T>> {
        if !self.open {
            return Ok(Vec::new());
        }
        for_texts(|| {
            for_large_sets(|| {
                // SAFETY: inside a connection, by the name of a cursor that is open until it is closed here.
                Spi::connect(|_| unsafe {
                    let cursor = pg_sys::SPI_cursor_find(self.name.as_ptr());
                    if cursor.is_null() {
                        return Err(Error::corrupted("a cursor is closed"));
                    }
                    pg_sys::SPI_cursor_fetch(cursor, true, size as _);
                    let batch = rows(decode)?;
                    if batch.len() < size {
                        pg_sys::SPI_cursor_close(cursor);
                        self.open = false;
                    }
                    Ok(batch)
                })
            })
        })
    }
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
    let mut cursor = Cursor::open(sql, arguments)?;
    while cursor.open {
        interrupt::check();
        let batch = cursor.fetch(size, &mut decode)?;
        if !batch.is_empty() {
            consume(batch)?;
        }
    }
    Ok(())
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    /// One text with arguments of another type is another statement.
    #[pg_test]
    fn plans_are_kept_by_type() {
        let text = "SELECT ($1)::text";
        let read = |argument: super::Argument<'_>| super::read(text, &[argument], |row| row.value::<String>(1)).ok();
        assert_eq!(read(7_i32.into()), Some(vec!["7".to_owned()]));
        assert_eq!(read("seven".into()), Some(vec!["seven".to_owned()]));
        assert_eq!(read(7.5_f64.into()), Some(vec!["7.5".to_owned()]));
    }

    /// Statements may run while rows are looked at, and the first error ends the one that found them.
    #[pg_test]
    fn rows_end_with_the_first_error() {
        let mut seen = 0;
        let ended = super::each_large("SELECT n FROM generate_series(1, $1) AS n", &[100_000_i32.into()], |row| {
            seen += 1;
            let next = super::read_one("SELECT $1 + 1", &[row.value::<i32>(1)?.into()], |row| row.value::<i32>(1))?;
            assert_eq!(next, Some(seen + 1));
            if seen < 20 {
                Ok(())
            } else {
                Err(super::Error::invalid("enough"))
            }
        });
        assert!(ended.is_err());
        assert_eq!(seen, 20);
        assert_eq!(super::read_one("SELECT 1", &[], |row| row.value::<i32>(1)).ok(), Some(Some(1)));
    }

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
