//! Work that may fail without what is around it, and work that commits as it goes.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{pg_sys, PgSqlErrorCode, PgTryBuilder};

use super::error::{Error, Result};

/// What was raised and undone.
pub struct Failure(ErrorReportWithLevel);

impl Failure {
    pub fn message(&self) -> &str {
        self.0.message()
    }

    pub fn sql_error_code(&self) -> PgSqlErrorCode {
        self.0.sql_error_code()
    }

    pub fn hint(&self) -> Option<&str> {
        self.0.hint()
    }

    /// Tells of it as a warning that begins with what failed.
    pub fn warn(&self, what: &str) {
        self.error(format!("{what}: {}", self.message())).warn();
    }

    /// The same as an error.
    pub fn error(&self, message: impl Into<String>) -> Error {
        let mut error = Error::new(self.0.sql_error_code(), message);
        if let Some(detail) = self.0.detail() {
            error = error.detail(detail);
        }
        match self.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Runs `f` in a subtransaction. If it fails, what it did is undone and the locks that it took are released.
///
/// What is about the whole transaction or the server is raised all the same: a cancel or shutdown, a lack of memory or disk, a
/// transaction that is to be retried, and panics.
pub fn attempt<T>(f: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failure> {
    // SAFETY: inside a transaction on the backend's only thread, outside of parallel workers. As PL/pgSQL does it: `f` runs in the
    // memory of the caller, and memory and resource owner are the caller's again whichever way the subtransaction ends.
    unsafe {
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        let go_on = || {
            pg_sys::CurrentMemoryContext = memory;
            pg_sys::CurrentResourceOwner = owner;
        };
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = memory;
        let done = PgTryBuilder::new(AssertUnwindSafe(|| Ok(f().unwrap_or_else(|error| error.raise()))))
            .catch_others(Err)
            .execute();
        pg_sys::CurrentMemoryContext = memory;
        match done {
            Ok(done) => {
                pg_sys::ReleaseCurrentSubTransaction();
                go_on();
                Ok(done)
            }
            Err(cause) => {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
                go_on();
                match cause {
                    CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
                        if !is_at_large(report.sql_error_code()) =>
                    {
                        Err(Failure(report))
                    }
                    cause => cause.rethrow(),
                }
            }
        }
    }
}

/// Runs `f`, and `explain` on what it raises, which returns what is raised instead. Nothing is undone by it: whoever is told cannot go on.
pub fn explained<T>(f: impl FnOnce() -> Result<T>, explain: impl FnOnce(&ErrorReportWithLevel) -> Error) -> Result<T> {
    // SAFETY: the memory is the caller's again, whatever it was when the error was raised.
    let memory = unsafe { pg_sys::CurrentMemoryContext };
    let caught = PgTryBuilder::new(AssertUnwindSafe(|| Ok(f()))).catch_others(Err).execute();
    unsafe { pg_sys::CurrentMemoryContext = memory };
    match caught {
        Ok(done) => done,
        Err(CaughtError::PostgresError(report)) if !is_at_large(report.sql_error_code()) => Err(explain(&report)),
        Err(cause) => cause.rethrow(),
    }
}

/// Whether an error is not of what was tried: transaction rollback (class 40), insufficient resources (53), operator intervention (57).
fn is_at_large(code: PgSqlErrorCode) -> bool {
    // Five characters of six bits each, the first lowest.
    let character = |at: i32| char::from(((code as i32 >> (6 * at)) & 0x3f) as u8 + b'0');
    matches!((character(0), character(1)), ('4', '0') | ('5', '3') | ('5', '7'))
}

/// Whether the client has begun a transaction, or sent several statements as one: nothing can be committed then.
pub fn is_block() -> bool {
    // SAFETY: a plain read of the state of the transaction on the backend's only thread.
    unsafe { pg_sys::IsTransactionBlock() }
}
