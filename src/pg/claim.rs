//! Rows of our tables that sessions compete for: added if their key is free, changed if they are as they were read.

use std::ffi::CStr;

use pgrx::{pg_sys, PgMemoryContexts};

use super::error::{Error, Result};
use super::interrupt;
use super::lookup::RowId;
use super::snapshot;
use super::table::{self, Indexes, Target, Values};

/// A table open for claims on its rows. Who loses a race is told so, after the other has committed; under REPEATABLE READ, where
/// he could not see what the other wrote, that is a serialization error.
pub struct Claims<const COLUMNS: usize> {
    target: Target,
    positions: [usize; COLUMNS],
    row: *mut pg_sys::TupleTableSlot,
    before: *mut pg_sys::TupleTableSlot,
    values: PgMemoryContexts,
}

impl<const COLUMNS: usize> Claims<COLUMNS> {
    /// # Errors
    /// The table or a column is missing.
    pub fn open(table: &CStr, columns: [&CStr; COLUMNS]) -> Result<Self> {
        let relation = table::open(table, table::WRITE)?;
        let target = Target::new(relation, Indexes::Contended);
        // SAFETY: the relation is open.
        let positions = unsafe { table::columns(relation, columns) }?.map(|(at, _)| at);
        let (row, before) = (target.slot(), target.slot());
        Ok(Claims { target, positions, row, before, values: PgMemoryContexts::new("decisioning claims") })
    }

    /// Adds a row, as INSERT … ON CONFLICT DO NOTHING does; columns that are not named get NULL. False if another session has
    /// taken its key. `values` are made in memory that is freed afterwards.
    pub fn insert(&mut self, values: impl FnOnce() -> Result<Values<COLUMNS>>) -> Result<bool> {
        let (row, positions) = (self.row, &self.positions);
        // SAFETY: positions are columns of the table; the values live until the row is stored and indexed.
        unsafe {
            self.values.switch_to(|_| values().map(|values| table::store(row, positions, values)))?;
            let mut inserted = self.insert_speculatively()?;
            while !inserted && self.key_is_free() {
                interrupt::check();
                inserted = self.insert_speculatively()?;
            }
            pg_sys::ExecClearTuple(row);
            self.values.reset();
            if !inserted {
                lost()?;
            }
            Ok(inserted)
        }
    }

    /// Changes the version of a row that was read; the first `kept` columns stay as they are, and so do columns that are not
    /// named. False if another session has changed or deleted it since. `values` as for [`insert`](Self::insert).
    pub fn update(&mut self, id: RowId, kept: usize, values: impl FnOnce() -> Result<Values<COLUMNS>>) -> Result<bool> {
        let RowId(mut at) = id;
        let (row, before, positions) = (self.row, self.before, &self.positions);
        let relation = self.target.relation;
        // SAFETY: `at` was read in this call under a snapshot that is not older than the one the caller still holds, so that
        // nobody may reuse its place; both slots are of the table. The old tuple is pinned, and the values live, until the new
        // one is stored.
        unsafe {
            let methods = &*(*relation).rd_tableam;
            let (Some(fetch), Some(update)) = (methods.tuple_fetch_row_version, methods.tuple_update) else {
                return Err(table::outdated());
            };
            let any = &raw mut pg_sys::SnapshotAnyData;
            if !pg_sys::ffi::pg_guard_ffi_boundary(|| fetch(relation, &mut at, any, before)) {
                return lost();
            }
            let width = (*(*before).tts_tupleDescriptor).natts;
            pg_sys::slot_getsomeattrs_int(before, width);
            self.values.switch_to(|_| {
                let mut values = values()?.into_iter().zip(positions).skip(kept);
                std::ptr::copy_nonoverlapping((*before).tts_values, (*row).tts_values, width as usize);
                std::ptr::copy_nonoverlapping((*before).tts_isnull, (*row).tts_isnull, width as usize);
                values.try_for_each(|(value, at)| {
                    *(*row).tts_isnull.add(*at) = value.is_none();
                    *(*row).tts_values.add(*at) = value.unwrap_or(pg_sys::Datum::from(0));
                    Ok::<(), Error>(())
                })?;
                pg_sys::ExecStoreVirtualTuple(row);
                Ok::<(), Error>(())
            })?;
            let (mut failure, mut lock) = (pg_sys::TM_FailureData::default(), 0);
            let command = pg_sys::GetCurrentCommandId(true);
            let nothing = std::ptr::null_mut();
            #[cfg(any(feature = "pg14", feature = "pg15"))]
            let mut reindex = false;
            #[cfg(not(any(feature = "pg14", feature = "pg15")))]
            let mut reindex = pg_sys::TU_UpdateIndexes::TU_None;
            let outcome = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                update(relation, &mut at, row, command, any, nothing, true, &mut failure, &mut lock, &mut reindex)
            });
            #[cfg(not(any(feature = "pg14", feature = "pg15")))]
            let reindex = reindex == pg_sys::TU_UpdateIndexes::TU_All;
            if outcome == pg_sys::TM_Result::TM_Ok && reindex {
                self.target.index(row, false);
            }
            pg_sys::ExecClearTuple(row);
            pg_sys::ExecClearTuple(before);
            self.values.reset();
            match outcome {
                pg_sys::TM_Result::TM_Ok => Ok(true),
                pg_sys::TM_Result::TM_Updated | pg_sys::TM_Result::TM_Deleted => lost(),
                _ => Err(Error::corrupted("a row was changed twice by one command")),
            }
        }
    }

    /// Later statements of the transaction see what was claimed.
    pub fn finish(self) {
        // SAFETY: no preconditions inside a transaction.
        unsafe { pg_sys::CommandCounterIncrement() };
    }

    /// # Safety
    /// `row` holds values.
    unsafe fn insert_speculatively(&self) -> Result<bool> {
        let (relation, row) = (self.target.relation, self.row);
        let methods = &*(*relation).rd_tableam;
        let (Some(insert), Some(complete)) = (methods.tuple_insert_speculative, methods.tuple_complete_speculative)
        else {
            return Err(table::outdated());
        };
        let (transaction, command) = (pg_sys::GetCurrentTransactionId(), pg_sys::GetCurrentCommandId(true));
        let token = pg_sys::SpeculativeInsertionLockAcquire(transaction);
        pg_sys::ffi::pg_guard_ffi_boundary(|| insert(relation, row, command, 0, std::ptr::null_mut(), token));
        let free = self.target.index(row, true);
        pg_sys::ffi::pg_guard_ffi_boundary(|| complete(relation, row, token, free));
        pg_sys::SpeculativeInsertionLockRelease(transaction);
        Ok(free)
    }

    /// Waits for the transaction that seems to have taken the key; true if it was rolled back.
    ///
    /// # Safety
    /// `row` holds values.
    unsafe fn key_is_free(&self) -> bool {
        let Target { result, state, .. } = self.target;
        let mut taken = pg_sys::ItemPointerData::default();
        #[cfg(not(feature = "pg18"))]
        let free = pg_sys::ExecCheckIndexConstraints(result, self.row, state, &mut taken, std::ptr::null_mut());
        #[cfg(feature = "pg18")]
        let free = {
            let mut own = pg_sys::ItemPointerData::default();
            pg_sys::ItemPointerSetInvalid(&mut own);
            pg_sys::ExecCheckIndexConstraints(result, self.row, state, &mut taken, &mut own, std::ptr::null_mut())
        };
        self.target.forget();
        free
    }
}

/// What losing a race means at the isolation level of the transaction.
fn lost() -> Result<bool> {
    match snapshot::is_kept() {
        false => Ok(false),
        true => Err(snapshot::outdated()),
    }
}

impl<const COLUMNS: usize> Drop for Claims<COLUMNS> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for slot in [self.row, self.before] {
                // SAFETY: made by `open`, and dropped before their relation is closed.
                unsafe { pg_sys::ExecDropSingleTupleTableSlot(slot) };
            }
        }
    }
}
