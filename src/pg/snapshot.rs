//! Reads that see what was committed a moment ago, and what it means that a transaction does not.

use pgrx::{pg_sys, PgSqlErrorCode};

use super::error::{Error, Result};

/// Runs `f` under a new snapshot, so that its reads see what was committed while this statement waited for a lock. Under
/// REPEATABLE READ it is the transaction's own snapshot, as it must be.
pub fn latest<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: inside a transaction.
    let _pushed = Pushed::new(|| unsafe { pg_sys::GetTransactionSnapshot() });
    f()
}

/// Runs `f` under a snapshot of now, whatever the isolation level: to learn whether something has changed, never what it has
/// changed to.
pub fn newest<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: inside a transaction, outside of parallel workers.
    let _pushed = Pushed::new(|| unsafe { pg_sys::GetLatestSnapshot() });
    f()
}

/// Whether the transaction keeps its first snapshot: under REPEATABLE READ and SERIALIZABLE.
pub fn is_kept() -> bool {
    // SAFETY: a plain read of a setting of the transaction on the backend's only thread.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// What a transaction is told that keeps its snapshot and would need another.
pub fn outdated() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, "could not serialize access due to concurrent update")
        .hint("Retry the transaction.")
}

struct Pushed;

impl Pushed {
    fn new(take: impl FnOnce() -> pg_sys::Snapshot) -> Self {
        // SAFETY: inside a transaction; the push is undone by Drop or, on an ERROR, by transaction abort.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(take());
        }
        Pushed
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: nesting is that of Rust scopes, so the top of the stack is what `new` pushed.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}
