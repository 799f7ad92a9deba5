//! Tables of ours, reached past the executor: what `bulk`, `claim` and `lookup` share.
//!
//! No statements are run here, so no privileges are looked at and no user is switched: whoever may call a function of the
//! extension may have it read and write what it keeps. Only tables of our schema are opened.

use std::ffi::CStr;

use pgrx::{pg_sys, PgTupleDesc};

use super::error::{Error, Result};

pub(super) const READ: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
pub(super) const WRITE: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
/// Locks are kept to the end of the transaction.
pub(super) const KEPT: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

/// A row: one value per column named.
pub type Values<const COLUMNS: usize> = [Option<pg_sys::Datum>; COLUMNS];

pub(super) fn outdated() -> Error {
    Error::missing("a table or column of the extension is missing").hint("Run ALTER EXTENSION decisioning UPDATE.")
}

pub(super) fn oid(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: look-ups in the catalogue cache with NUL-terminated names.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(c"decisioning".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Opens a table of our schema. The caller closes it.
pub(super) fn open(name: &CStr, lock: pg_sys::LOCKMODE) -> Result<pg_sys::Relation> {
    let oid = oid(name).ok_or_else(outdated)?;
    // SAFETY: table_open raises for a relation that is gone.
    Ok(unsafe { pg_sys::table_open(oid, lock) })
}

/// Whether the transaction writes a table of ours, and so may keep others waiting for its rows.
pub fn is_written(name: &CStr) -> Result<bool> {
    let relation = open(name, READ)?;
    // SAFETY: the relation is open until it is closed here.
    unsafe {
        let written = pg_sys::CheckRelationLockedByMe(relation, WRITE, true);
        pg_sys::table_close(relation, KEPT);
        Ok(written)
    }
}

/// Locks a table of ours for writing, to the end of the transaction, unless that would have to wait. False if so.
pub fn lock_if_free(name: &CStr) -> Result<bool> {
    let oid = oid(name).ok_or_else(outdated)?;
    // SAFETY: inside a transaction; raises for a relation that is gone.
    Ok(unsafe { pg_sys::ConditionalLockRelationOid(oid, WRITE) })
}

/// Where columns stand in a table, and their types. Quick for columns in the order of the table.
///
/// # Safety
/// `relation` is open.
pub(super) unsafe fn columns<const COLUMNS: usize>(
    relation: pg_sys::Relation,
    names: [&CStr; COLUMNS],
) -> Result<[(usize, pg_sys::Oid); COLUMNS]> {
    let descriptor = PgTupleDesc::from_pg_unchecked((*relation).rd_att);
    let mut found = [(0, pg_sys::InvalidOid); COLUMNS];
    let mut next = 0;
    for (name, found) in names.into_iter().zip(&mut found) {
        let bytes = name.to_bytes_with_nul();
        let matching = |at: &usize| {
            descriptor.get(*at).is_some_and(|column| {
                let known = column.attname.data.iter().map(|byte| byte.cast_unsigned());
                !column.attisdropped && known.take(bytes.len()).eq(bytes.iter().copied())
            })
        };
        let at = (next..descriptor.len()).chain(0..next).find(matching).ok_or_else(outdated)?;
        *found = (at, descriptor.get(at).map_or(pg_sys::InvalidOid, |column| column.atttypid));
        next = at + 1;
    }
    Ok(found)
}

/// Stores values at positions of an empty slot, and NULL in its other columns.
///
/// # Safety
/// The slot is one of a table that has the positions; values are of the types of those columns, and outlive the tuple.
pub(super) unsafe fn store<const COLUMNS: usize>(
    slot: *mut pg_sys::TupleTableSlot,
    positions: &[usize; COLUMNS],
    row: Values<COLUMNS>,
) {
    let width = (*(*slot).tts_tupleDescriptor).natts as usize;
    let values = std::slice::from_raw_parts_mut((*slot).tts_values, width);
    let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, width);
    values.fill(pg_sys::Datum::from(0));
    nulls.fill(true);
    for (at, value) in positions.iter().zip(row) {
        if let Some(value) = value {
            values[*at] = value;
            nulls[*at] = false;
        }
    }
    pg_sys::ExecStoreVirtualTuple(slot);
}

/// When index entries of new rows are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexes {
    /// With each row.
    Kept,
    /// With each row, whose keys other sessions may insert at the same time.
    Contended,
    /// Later, by [`reindex`](super::bulk::reindex), without which no statement finds the rows by index: faster for the first rows
    /// of a table.
    Later,
}

/// A table open for writing, with its indexes. NOT NULL and CHECK constraints are the caller's duty; unique indexes hold.
pub(super) struct Target {
    pub relation: pg_sys::Relation,
    pub result: *mut pg_sys::ResultRelInfo,
    pub state: *mut pg_sys::EState,
}

impl Target {
    /// Takes over an open relation.
    pub fn new(relation: pg_sys::Relation, indexes: Indexes) -> Self {
        // SAFETY: the relation is open; what is allocated here lives until Drop, or to the end of an aborted transaction.
        unsafe {
            pg_sys::PreventCommandIfReadOnly(c"INSERT".as_ptr());
            let state = pg_sys::CreateExecutorState();
            let result = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()) as *mut pg_sys::ResultRelInfo;
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(result, relation, 1, std::ptr::null_mut(), 0);
            if indexes != Indexes::Later {
                pg_sys::ExecOpenIndices(result, indexes == Indexes::Contended);
            }
            Target { relation, result, state }
        }
    }

    /// A slot for rows of the table. The caller drops it.
    pub fn slot(&self) -> *mut pg_sys::TupleTableSlot {
        // SAFETY: the relation is open.
        unsafe { pg_sys::table_slot_create(self.relation, std::ptr::null_mut()) }
    }

    /// Makes the index entries of a row. With `tolerant`, a row whose key is there already is no error but makes it false.
    ///
    /// # Safety
    /// `slot` holds a tuple that was just stored in the table; if `tolerant`, speculatively, and the target is contended.
    pub unsafe fn index(&self, slot: *mut pg_sys::TupleTableSlot, tolerant: bool) -> bool {
        if (*self.result).ri_NumIndices == 0 {
            return true;
        }
        let mut conflict = false;
        let at = if tolerant { &raw mut conflict } else { std::ptr::null_mut() };
        let (result, state, arbiters) = (self.result, self.state, std::ptr::null_mut());
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        pg_sys::ExecInsertIndexTuples(result, slot, state, false, tolerant, at, arbiters);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        pg_sys::ExecInsertIndexTuples(result, slot, state, false, tolerant, at, arbiters, false);
        self.forget();
        !conflict
    }

    /// Frees what working on one row has allocated.
    pub fn forget(&self) {
        // SAFETY: nothing outlives the row in the memory of its expressions; there is some once an expression was prepared.
        unsafe {
            let context = (*self.state).es_per_tuple_exprcontext;
            if !context.is_null() {
                pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            }
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: closes what `new` opened. After an ERROR the end of the transaction does it.
            unsafe {
                pg_sys::ExecCloseIndices(self.result);
                pg_sys::FreeExecutorState(self.state);
                pg_sys::table_close(self.relation, KEPT);
            }
        }
    }
}
