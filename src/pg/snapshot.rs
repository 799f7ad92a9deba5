//! Reads that see what was committed a moment ago.

use pgrx::pg_sys;

use super::error::Result;

/// Runs `f` under a new snapshot, so that its reads see what was committed while this statement waited for a lock. Under
/// REPEATABLE READ it is the transaction's own snapshot, as it must be.
pub fn latest<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _pushed = Pushed::new();
    f()
}

struct Pushed;

impl Pushed {
    fn new() -> Self {
        // SAFETY: inside a transaction; the push is undone by Drop or, on an ERROR, by transaction abort.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
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
