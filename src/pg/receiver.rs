//! Rows of a statement as the executor makes them: without a copy of the result, and with memory that is given back after each.

use std::ffi::c_int;
use std::panic::AssertUnwindSafe;

use pgrx::{pg_guard, pg_sys, PgMemoryContexts, PgTupleDesc};

use super::error::{Error, Result};
use super::query::Row;

/// Hands rows over to `consume`, until it fails.
#[repr(C)]
pub struct Receiver<'a> {
    /// What the executor knows of it; the first field, so that a pointer to one is a pointer to the other.
    base: pg_sys::DestReceiver,
    consume: AssertUnwindSafe<&'a mut dyn FnMut(&Row<'_, '_>) -> Result<()>>,
    types: Vec<pg_sys::Oid>,
    /// For what decoding a row allocates.
    scratch: PgMemoryContexts,
    failed: Option<Error>,
}

impl<'a> Receiver<'a> {
    pub fn new(consume: &'a mut dyn FnMut(&Row<'_, '_>) -> Result<()>) -> Self {
        let base = pg_sys::DestReceiver {
            receiveSlot: Some(receive),
            rStartup: Some(start),
            rShutdown: Some(ignore),
            rDestroy: Some(ignore),
            // Neither shown to the client nor kept by SPI.
            mydest: pg_sys::CommandDest::DestTuplestore,
        };
        Receiver {
            base,
            consume: AssertUnwindSafe(consume),
            types: Vec::new(),
            scratch: PgMemoryContexts::new("decisioning received row"),
            failed: None,
        }
    }

    /// For the executor, while `self` stays where it is.
    pub fn as_destination(&mut self) -> *mut pg_sys::DestReceiver {
        (&raw mut *self).cast()
    }

    /// What `consume` said last.
    pub fn result(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn start(this: *mut pg_sys::DestReceiver, _operation: c_int, columns: pg_sys::TupleDesc) {
    // SAFETY: called by the executor with the pointer of `as_destination`, and the descriptor of the slots to come.
    let (this, columns) = unsafe { (&mut *this.cast::<Receiver<'_>>(), PgTupleDesc::from_pg_unchecked(columns)) };
    this.types = columns.iter().map(|column| column.atttypid).collect();
}

/// Returns whether more rows are wanted.
#[pg_guard]
unsafe extern "C-unwind" fn receive(slot: *mut pg_sys::TupleTableSlot, this: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: called by the executor with the pointer of `as_destination`, and a slot of the columns that `start` was told of,
    // which are valid until this returns.
    unsafe {
        let this = &mut *this.cast::<Receiver<'_>>();
        if usize::try_from((*slot).tts_nvalid).unwrap_or(0) < this.types.len() {
            pg_sys::slot_getallattrs(slot);
        }
        let row = Row::new(
            std::slice::from_raw_parts((*slot).tts_values, this.types.len()),
            std::slice::from_raw_parts((*slot).tts_isnull, this.types.len()),
            &this.types,
        );
        let consume = &mut this.consume;
        let consumed = this.scratch.switch_to(|_| consume(&row));
        this.scratch.reset();
        this.failed = consumed.err();
        this.failed.is_none()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn ignore(_this: *mut pg_sys::DestReceiver) {}
