//! Rows into our append-only tables past the executor: in batches, with their index entries, as COPY does it.
//!
//! Starting the executor costs more than the rows of one decision, and its expressions cost more than those of many. What an
//! INSERT would do besides is not there for these tables: no triggers, generated columns or row-level security. NOT NULL and
//! CHECK constraints are the caller's duty; unique indexes hold.

use std::ffi::CStr;
use std::ops::Range;

use pgrx::{pg_sys, PgMemoryContexts};

use super::error::{Error, Result};
use super::query;

/// Rows handed to the table at a time; bounds the slots that are held.
const BATCH: usize = 1000;

const LOCK: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
const KEPT_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

/// A row: one value per column named.
pub type Values<const COLUMNS: usize> = [Option<pg_sys::Datum>; COLUMNS];

/// When index entries are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexes {
    /// With each row.
    Kept,
    /// By a later [`reindex`], without which no statement finds the rows by index: faster for the first rows of a table.
    Later,
}

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
    let oid = table_oid(table);
    // SAFETY: table_open raises for a relation that is gone; what is opened here is closed by Target.
    append_to(unsafe { pg_sys::table_open(oid.ok_or_else(outdated)?, LOCK) }, columns, indexes, count, row)
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
        table_oid(name).map(Sequence).ok_or_else(outdated)
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
    // SAFETY: table_open raises for a relation that is gone; the parent is closed here, the partition by Target.
    let relation = unsafe {
        let parent = pg_sys::table_open(table_oid(parent).ok_or_else(outdated)?, LOCK);
        let found = match open_partition(parent, name) {
            Some(found) => Some(found),
            None => {
                let fallback = open_partition(parent, default);
                // Whoever makes a partition locks out the default one: what was made while we waited for it is there now.
                let made = open_partition(parent, name);
                if let (Some(fallback), Some(_)) = (fallback, made) {
                    pg_sys::table_close(fallback, KEPT_LOCK);
                }
                made.or(fallback)
            }
        };
        pg_sys::table_close(parent, KEPT_LOCK);
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
    let mut target = Target::new(relation, indexes);
    let positions = target.positions(columns)?;
    for start in (0..count).step_by(BATCH) {
        target.fill(start..count.min(start + BATCH), &positions, &mut row)?;
        target.flush();
    }
    // SAFETY: no preconditions inside a transaction.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(())
}

fn outdated() -> Error {
    Error::missing("a table or column of the extension is missing").hint("Run ALTER EXTENSION decisioning UPDATE.")
}

fn table_oid(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: look-ups in the catalogue cache with NUL-terminated names.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(c"decisioning".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Opens the partition of `parent` that is called `name`, if there is one.
///
/// # Safety
/// `parent` is an open partitioned table. The caller closes the partition.
unsafe fn open_partition(parent: pg_sys::Relation, name: &CStr) -> Option<pg_sys::Relation> {
    let oid = table_oid(name)?;
    let relation = pg_sys::try_relation_open(oid, LOCK);
    if relation.is_null() {
        return None;
    }
    let partitions = pg_sys::RelationGetPartitionDesc(parent, true);
    let attached = std::slice::from_raw_parts((*partitions).oids, (*partitions).nparts as usize).contains(&oid);
    if !attached {
        pg_sys::table_close(relation, KEPT_LOCK);
    }
    attached.then_some(relation)
}

/// A table open for inserting.
struct Target {
    relation: pg_sys::Relation,
    state: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    filled: usize,
    values: PgMemoryContexts,
}

impl Target {
    /// Takes over an open relation.
    fn new(relation: pg_sys::Relation, indexes: Indexes) -> Self {
        // SAFETY: the relation is open; what is allocated here lives until Drop, or to the end of an aborted transaction.
        let (state, result) = unsafe {
            let state = pg_sys::CreateExecutorState();
            let result = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()) as *mut pg_sys::ResultRelInfo;
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(result, relation, 1, std::ptr::null_mut(), 0);
            if indexes == Indexes::Kept {
                pg_sys::ExecOpenIndices(result, false);
            }
            (state, result)
        };
        Target {
            relation,
            state,
            result,
            slots: Vec::new(),
            filled: 0,
            values: PgMemoryContexts::new("decisioning rows"),
        }
    }

    /// Where the columns stand in the table.
    fn positions<const COLUMNS: usize>(&self, columns: [&CStr; COLUMNS]) -> Result<[usize; COLUMNS]> {
        // SAFETY: a look-up in the catalogue cache by a NUL-terminated name.
        let positions = columns.map(|name| unsafe { pg_sys::get_attnum((*self.relation).rd_id, name.as_ptr()) });
        if positions.iter().all(|at| *at > 0) {
            Ok(positions.map(|at| at as usize - 1))
        } else {
            Err(outdated())
        }
    }

    fn fill<const COLUMNS: usize>(
        &mut self,
        rows: Range<usize>,
        positions: &[usize; COLUMNS],
        row: &mut impl FnMut(usize) -> Result<Values<COLUMNS>>,
    ) -> Result<()> {
        // SAFETY: slots have room for every column of the relation, and positions are columns of it; values live in
        // `values` until the flush.
        unsafe {
            while self.slots.len() < rows.len() {
                self.slots.push(pg_sys::table_slot_create(self.relation, std::ptr::null_mut()));
            }
            let slots = &self.slots;
            self.filled = rows.len();
            self.values.switch_to(|_| {
                for (slot, n) in slots.iter().zip(rows) {
                    let width = (*(**slot).tts_tupleDescriptor).natts as usize;
                    let values = std::slice::from_raw_parts_mut((**slot).tts_values, width);
                    let nulls = std::slice::from_raw_parts_mut((**slot).tts_isnull, width);
                    values.fill(pg_sys::Datum::from(0));
                    nulls.fill(true);
                    for (at, value) in positions.iter().zip(row(n)?) {
                        if let Some(value) = value {
                            values[*at] = value;
                            nulls[*at] = false;
                        }
                    }
                    pg_sys::ExecStoreVirtualTuple(*slot);
                }
                Ok(())
            })
        }
    }

    fn flush(&mut self) {
        // SAFETY: the first `filled` slots hold tuples, which the table copies; index entries are made of those copies.
        unsafe {
            pg_sys::table_multi_insert(
                self.relation,
                self.slots.as_mut_ptr(),
                self.filled as i32,
                pg_sys::GetCurrentCommandId(true),
                0,
                std::ptr::null_mut(),
            );
            for slot in &self.slots[..self.filled] {
                if (*self.result).ri_NumIndices > 0 {
                    insert_index_tuples(self.result, *slot, self.state);
                    pg_sys::MemoryContextReset((*(*self.state).es_per_tuple_exprcontext).ecxt_per_tuple_memory);
                }
                pg_sys::ExecClearTuple(*slot);
            }
            self.values.reset();
        }
        self.filled = 0;
    }
}

/// # Safety
/// `result` is open with its indexes, and `slot` holds a tuple that was just stored in its table.
unsafe fn insert_index_tuples(
    result: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    state: *mut pg_sys::EState,
) {
    let (conflict, arbiters) = (std::ptr::null_mut(), std::ptr::null_mut());
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    pg_sys::ExecInsertIndexTuples(result, slot, state, false, false, conflict, arbiters);
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    pg_sys::ExecInsertIndexTuples(result, slot, state, false, false, conflict, arbiters, false);
}

impl Drop for Target {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: closes what `new` opened. After an ERROR the end of the transaction does it.
            unsafe {
                for slot in &self.slots {
                    pg_sys::ExecDropSingleTupleTableSlot(*slot);
                }
                pg_sys::ExecCloseIndices(self.result);
                pg_sys::FreeExecutorState(self.state);
                pg_sys::table_close(self.relation, KEPT_LOCK);
            }
        }
    }
}
