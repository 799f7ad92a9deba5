//! Memory that Postgres allocates on our behalf.

use pgrx::PgMemoryContexts;

/// Runs `f` and frees what Postgres allocated meanwhile: the arguments of a statement, say, which would otherwise stay until
/// the end of the call. For long calls that run many statements with large arguments.
pub fn scratch<T: 'static>(f: impl FnOnce() -> T) -> T {
    let mut context = PgMemoryContexts::new("decisioning scratch");
    // SAFETY: what `f` returns is 'static, so nothing refers to the context once it is deleted.
    unsafe { context.switch_to(|_| f()) }
}
