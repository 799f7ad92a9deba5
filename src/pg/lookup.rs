//! Rows of our tables by primary key, read straight through the index.

use std::ffi::CStr;

use pgrx::{pg_sys, FromDatum, IntoDatum, PgSqlErrorCode};

use super::error::{Error, Result};
use super::table::{self, outdated};

/// A table open for finding rows by a primary key of texts. It sees what a statement would have seen when it was opened.
pub struct Lookup<const COLUMNS: usize> {
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    scan: pg_sys::IndexScanDesc,
    /// There is nothing to find.
    empty: bool,
    slot: *mut pg_sys::TupleTableSlot,
    columns: [(usize, pg_sys::Oid); COLUMNS],
    conditions: Vec<pg_sys::ScanKeyData>,
    key: Vec<Text>,
}

/// Which version of a row was read.
#[derive(Clone, Copy)]
pub struct RowId(pub(super) pg_sys::ItemPointerData);

/// A row that was found.
pub struct Found<'a> {
    slot: *mut pg_sys::TupleTableSlot,
    columns: &'a [(usize, pg_sys::Oid)],
}

/// A text datum in memory of its own, to be used again.
#[derive(Default)]
struct Text(Vec<u32>);

impl Text {
    fn set(&mut self, text: &str) -> Result<pg_sys::Datum> {
        let size = pg_sys::VARHDRSZ + text.len();
        let header = i32::try_from(size).ok().filter(|size| *size < 1 << 30);
        let header = header.ok_or_else(|| Error::invalid("a key is too long"))?;
        self.0.clear();
        self.0.resize(size.div_ceil(size_of::<u32>()), 0);
        let start = self.0.as_mut_ptr();
        // SAFETY: the vector has room for header and text, and is aligned for the header.
        unsafe {
            pgrx::set_varsize_4b(start.cast(), header);
            std::ptr::copy_nonoverlapping(text.as_ptr(), start.cast::<u8>().add(pg_sys::VARHDRSZ), text.len());
        }
        Ok(pg_sys::Datum::from(start))
    }
}

impl<const COLUMNS: usize> Lookup<COLUMNS> {
    /// # Errors
    /// The table, its primary key or a column is missing.
    pub fn open(table: &CStr, columns: [&CStr; COLUMNS]) -> Result<Self> {
        let table = table::open(table, table::READ)?;
        // SAFETY: what is opened here is closed by Drop, or by the end of an aborted transaction.
        unsafe {
            let columns = table::columns(table, columns)?;
            #[cfg(not(feature = "pg18"))]
            let index = pg_sys::RelationGetPrimaryKeyIndex(table);
            #[cfg(feature = "pg18")]
            let index = pg_sys::RelationGetPrimaryKeyIndex(table, false);
            if index == pg_sys::InvalidOid {
                return Err(outdated());
            }
            let index = pg_sys::index_open(index, table::READ);
            let texts = usize::from((*(*index).rd_index).indnkeyatts.cast_unsigned());
            let snapshot = pg_sys::RegisterSnapshot(snapshot());
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(table, index, snapshot, texts as i32, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(table, index, snapshot, std::ptr::null_mut(), texts as i32, 0);
            Ok(Lookup {
                table,
                index,
                snapshot,
                scan,
                empty: false,
                slot: pg_sys::table_slot_create(table, std::ptr::null_mut()),
                columns,
                conditions: vec![pg_sys::ScanKeyData::default(); texts],
                key: (0..texts).map(|_| Text::default()).collect(),
            })
        }
    }

    /// Does not look for anything while the table has no page: for tables that in most databases stay empty.
    pub fn unless_empty(mut self) -> Self {
        // SAFETY: the table is open. What the snapshot sees has a page; a serializable transaction must be known to have looked.
        self.empty = unsafe {
            pg_sys::XactIsoLevel != pg_sys::XACT_SERIALIZABLE as i32
                && pg_sys::RelationGetNumberOfBlocksInFork(self.table, pg_sys::ForkNumber::MAIN_FORKNUM) == 0
        };
        self
    }

    /// Reads the row with a key, if there is one.
    ///
    /// # Errors
    /// The primary key has another number of columns, or what `read` returned.
    pub fn find<T>(&mut self, key: &[&str], read: impl FnOnce(&Found<'_>) -> Result<T>) -> Result<Option<T>> {
        if key.len() != self.key.len() {
            return Err(outdated());
        }
        self.seek(key)?;
        self.next(read)
    }

    /// Reads every row whose primary key begins with `prefix`, in the order of the key.
    ///
    /// # Errors
    /// The primary key has fewer columns, or what `read` returned.
    pub fn each<T>(&mut self, prefix: &[&str], mut read: impl FnMut(&Found<'_>) -> Result<T>) -> Result<Vec<T>> {
        self.seek(prefix)?;
        let mut rows = Vec::new();
        while let Some(row) = self.next(&mut read)? {
            rows.push(row);
        }
        Ok(rows)
    }

    fn seek(&mut self, key: &[&str]) -> Result<()> {
        if key.len() > self.key.len() {
            return Err(outdated());
        }
        if self.empty {
            return Ok(());
        }
        // SAFETY: the scan has room for as many conditions, each of the column's own collation, over datums that live until the
        // next call.
        unsafe {
            for at in 0..self.key.len() {
                // What comes after a prefix holds for every text.
                let (strategy, function, text) = match key.get(at) {
                    Some(text) => (pg_sys::BTEqualStrategyNumber, pg_sys::F_TEXTEQ, *text),
                    None => (pg_sys::BTGreaterEqualStrategyNumber, pg_sys::F_TEXT_GE, ""),
                };
                pg_sys::ScanKeyEntryInitialize(
                    &mut self.conditions[at],
                    0,
                    at as pg_sys::AttrNumber + 1,
                    strategy as pg_sys::StrategyNumber,
                    pg_sys::InvalidOid,
                    *(*self.index).rd_indcollation.add(at),
                    pg_sys::Oid::from(function),
                    self.key[at].set(text)?,
                );
            }
            pg_sys::index_rescan(
                self.scan,
                self.conditions.as_mut_ptr(),
                self.key.len() as i32,
                std::ptr::null_mut(),
                0,
            );
        }
        Ok(())
    }

    fn next<T>(&mut self, read: impl FnOnce(&Found<'_>) -> Result<T>) -> Result<Option<T>> {
        if self.empty {
            return Ok(None);
        }
        // SAFETY: the slot is of the table, and its tuple is pinned until it is cleared.
        unsafe {
            if !pg_sys::index_getnext_slot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot) {
                return Ok(None);
            }
            let last = self.columns.iter().map(|(at, _)| at + 1).max().unwrap_or(0);
            pg_sys::slot_getsomeattrs_int(self.slot, last as i32);
            let row = read(&Found { slot: self.slot, columns: &self.columns })?;
            pg_sys::ExecClearTuple(self.slot);
            Ok(Some(row))
        }
    }
}

/// The active snapshot, or once the transaction has written something, one that sees that too.
///
/// # Safety
/// Inside a call of a function.
unsafe fn snapshot() -> pg_sys::Snapshot {
    if pg_sys::GetTopTransactionIdIfAny() == pg_sys::InvalidTransactionId {
        return pg_sys::GetActiveSnapshot();
    }
    pg_sys::CommandCounterIncrement();
    pg_sys::GetTransactionSnapshot()
}

impl<const COLUMNS: usize> Drop for Lookup<COLUMNS> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: closes what `open` opened, in the opposite order.
            unsafe {
                pg_sys::ExecDropSingleTupleTableSlot(self.slot);
                pg_sys::index_endscan(self.scan);
                pg_sys::UnregisterSnapshot(self.snapshot);
                pg_sys::index_close(self.index, table::READ); // as catalogue scans do; a backend has room for few locks
                pg_sys::table_close(self.table, table::KEPT);
            }
        }
    }
}

impl Found<'_> {
    /// Column `at` of those that the table was opened with, counted from 0.
    pub fn get<T: IntoDatum + FromDatum>(&self, at: usize) -> Result<Option<T>> {
        let (column, kind) = self.columns[at];
        // SAFETY: `find` has read the tuple as far as these columns go, and its memory is pinned while `self` lives.
        unsafe {
            let (value, null) = (*(*self.slot).tts_values.add(column), *(*self.slot).tts_isnull.add(column));
            T::try_from_datum(value, null, kind).map_err(|error| Error::corrupted(error.to_string()))
        }
    }

    /// Column `at`, which is never NULL.
    pub fn value<T: IntoDatum + FromDatum>(&self, at: usize) -> Result<T> {
        self.get(at)?
            .ok_or_else(|| Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "a stored value is null"))
    }

    pub fn id(&self) -> RowId {
        // SAFETY: the slot holds a tuple of a table.
        RowId(unsafe { (*self.slot).tts_tid })
    }

    /// The transaction that wrote this version of the row.
    pub fn writer(&self) -> i64 {
        let mut null = false;
        // SAFETY: a slot of a table has the system columns of its tuple.
        let writer = unsafe {
            let read = (*(*self.slot).tts_ops).getsysattr;
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                read.map(|read| read(self.slot, pg_sys::MinTransactionIdAttributeNumber, &mut null))
            })
        };
        writer.map_or(0, |writer| writer.value() as u32).into()
    }
}
