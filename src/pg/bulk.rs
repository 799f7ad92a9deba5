//! Rows into our append-only tables: in batches, with their index entries, as COPY does it.
//!
//! Starting the executor costs more than the rows of one decision, and its expressions cost more than those of many. What an
//! INSERT would do besides is not there for these tables: no triggers, generated columns or row-level security.

use std::ffi::CStr;
use std::ops::Range;

use pgrx::{pg_sys, PgMemoryContexts};

use super::error::Result;
use super::query;
use super::table::{self, outdated, Target, Values};

pub use super::table::Indexes;

/// Rows handed to the table at a time: enough to fill pages, while every slot costs something to make and to drop.
const BATCH: usize = 100;

/// Appends `count` rows with `columns` to `table` of our schema; other columns get NULL. `row` makes row number n, in a memory
/// context that is emptied every so many rows. Later statements of the transaction see the rows.
///
/// # Errors
/// The table or a column is missing, or what `row` returned.
pub fn append<const COLUMNS: usize>(
    table: &CStr,
    columns: [&CStr; COLUMNS],
    count: usize,
    row: impl FnMut(usize) -> Result<Values<COLUMNS>>,
) -> Result<()> {
    append_with(Indexes::Kept, table, columns, count, row)
}

/// The same, with the choice of when index entries are made.
///
/// # Errors
/// As [`append`].
pub fn append_with<const COLUMNS: usize>(
    indexes: Indexes,
    table: &CStr,
    columns: [&CStr; COLUMNS],
    count: usize,
    row: impl FnMut(usize) -> Result<Values<COLUMNS>>,
) -> Result<()> {
    append_to(table::open(table, table::WRITE)?, columns, indexes, count, row)
}

/// Makes the indexes of a table of our schema anew. Locks out others until the end of the transaction.
///
/// # Errors
/// Rows that a unique index does not allow.
pub fn reindex(table: &CStr) -> Result<()> {
    query::execute(&format!("REINDEX TABLE decisioning.{}", table.to_string_lossy()), &[])?;
    Ok(())
}

/// A sequence of our schema, for many numbers.
pub struct Sequence(pg_sys::Oid);

impl Sequence {
    /// # Errors
    /// There is none of this name.
    pub fn open(name: &CStr) -> Result<Self> {
        table::oid(name).map(Sequence).ok_or_else(outdated)
    }

    pub fn next(&self) -> i64 {
        // SAFETY: raises for what is no sequence; no privileges are looked at, as for the tables here.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(self.0, false)) }
    }
}

// Not among the bindings; an ERROR has to be caught at the boundary.
unsafe extern "C-unwind" {
    fn nextval_internal(relid: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// The same for the partition `name` of `parent`, or its partition `default` if there is none yet.
///
/// # Errors
/// Neither partition or a column is missing, or what `row` returned.
pub fn append_to_partition<const COLUMNS: usize>(
    parent: &CStr,
    [name, default]: [&CStr; 2],
    columns: [&CStr; COLUMNS],
    count: usize,
    row: impl FnMut(usize) -> Result<Values<COLUMNS>>,
) -> Result<()> {
    let parent = table::open(parent, table::WRITE)?;
    // SAFETY: the parent is open, and closed here; the partition is closed by Target.
    let relation = unsafe {
        let found = match open_partition(parent, name) {
            Some(found) => Some(found),
            None => {
                let fallback = open_partition(parent, default);
                // Whoever makes a partition locks out the default one: what was made while we waited for it is there now.
                let made = open_partition(parent, name);
                if let (Some(fallback), Some(_)) = (fallback, made) {
                    pg_sys::table_close(fallback, table::KEPT);
                }
                made.or(fallback)
            }
        };
        pg_sys::table_close(parent, table::KEPT);
        found.ok_or_else(outdated)?
    };
    append_to(relation, columns, Indexes::Kept, count, row)
}

fn append_to<const COLUMNS: usize>(
    relation: pg_sys::Relation,
    columns: [&CStr; COLUMNS],
    indexes: Indexes,
    count: usize,
    mut row: impl FnMut(usize) -> Result<Values<COLUMNS>>,
) -> Result<()> {
    let mut batch = Batch::new(Target::new(relation, indexes));
    // SAFETY: the relation is open.
    let positions = unsafe { table::columns(relation, columns) }?.map(|(at, _)| at);
    for start in (0..count).step_by(BATCH) {
        batch.fill(start..count.min(start + BATCH), &positions, &mut row)?;
        batch.flush();
    }
    // SAFETY: no preconditions inside a transaction.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(())
}

/// Opens the partition of `parent` that is called `name`, if there is one.
///
/// # Safety
/// `parent` is an open partitioned table. The caller closes the partition.
unsafe fn open_partition(parent: pg_sys::Relation, name: &CStr) -> Option<pg_sys::Relation> {
    let oid = table::oid(name)?;
    let relation = pg_sys::try_relation_open(oid, table::WRITE);
    if relation.is_null() {
        return None;
    }
    let partitions = pg_sys::RelationGetPartitionDesc(parent, true);
    let attached = std::slice::from_raw_parts((*partitions).oids, (*partitions).nparts as usize).contains(&oid);
    if !attached {
        pg_sys::table_close(relation, table::KEPT);
    }
    attached.then_some(relation)
}

/// Rows on their way into a table.
struct Batch {
    target: Target,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    filled: usize,
    values: PgMemoryContexts,
}

impl Batch {
    fn new(target: Target) -> Self {
        Batch { target, slots: Vec::new(), filled: 0, values: PgMemoryContexts::new("decisioning rows") }
    }

    fn fill<const COLUMNS: usize>(
        &mut self,
        rows: Range<usize>,
        positions: &[usize; COLUMNS],
        row: &mut impl FnMut(usize) -> Result<Values<COLUMNS>>,
    ) -> Result<()> {
        while self.slots.len() < rows.len() {
            self.slots.push(self.target.slot());
        }
        let slots = &self.slots;
        self.filled = rows.len();
        // SAFETY: positions are columns of the table, and values live in `values` until the flush.
        unsafe {
            self.values.switch_to(|_| {
                for (slot, n) in slots.iter().zip(rows) {
                    table::store(*slot, positions, row(n)?);
                }
                Ok(())
            })
        }
    }

    fn flush(&mut self) {
        // SAFETY: the first `filled` slots hold tuples, which the table copies; index entries are made of those copies.
        unsafe {
            pg_sys::table_multi_insert(
                self.target.relation,
                self.slots.as_mut_ptr(),
                self.filled as i32,
                pg_sys::GetCurrentCommandId(true),
                0,
                std::ptr::null_mut(),
            );
            for slot in &self.slots[..self.filled] {
                self.target.index(*slot, false);
                pg_sys::ExecClearTuple(*slot);
            }
            self.values.reset();
        }
        self.filled = 0;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for slot in &self.slots {
                // SAFETY: made by `fill`, and dropped before their relation is closed.
                unsafe { pg_sys::ExecDropSingleTupleTableSlot(*slot) };
            }
        }
    }
}
