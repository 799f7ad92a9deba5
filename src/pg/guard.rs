//! Who a statement runs as.
//!
//! Statements on the user's relations run as the caller, so privileges and row-level security hold.
//! Statements on our tables run as the owner of the extension, inside [`as_owner`]; callers have no rights
//! there. No statement mixes both.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use super::error::{Error, Result};

/// What our statements run under. Just-in-time compilation of our large statements costs seconds and saves none.
const SETTINGS: [(&CStr, &CStr); 2] = [(c"search_path", c"pg_catalog, pg_temp"), (c"jit", c"off")];

/// What statements run under that find rows by key: kept plans that use indexes, however small the tables are when they are
/// made, so that they still serve when the tables have grown.
const BY_KEY: [(&CStr, &CStr); 4] =
    [SETTINGS[0], SETTINGS[1], (c"plan_cache_mode", c"force_generic_plan"), (c"enable_seqscan", c"off")];

/// What documents are read and written under: they must not depend on how a session likes to see times and numbers.
const DOCUMENTS: [(&CStr, &CStr); 6] = [
    SETTINGS[0],
    SETTINGS[1],
    (c"timezone", c"UTC"),
    (c"datestyle", c"ISO, YMD"),
    (c"intervalstyle", c"postgres"),
    (c"extra_float_digits", c"1"),
];

/// What values of the user's relations become text under, so that an id is the same in every session. The order of day and month in
/// literals and the time zone stay as they are: audiences, filters and views of the user may go by them.
const TEXTS: [(&CStr, &CStr); 4] =
    [(c"datestyle", c"ISO"), (c"intervalstyle", c"postgres"), (c"bytea_output", c"hex"), (c"extra_float_digits", c"1")];

/// Runs `f` as the owner of the extension under [`SETTINGS`].
///
/// On an ERROR that unwinds, (sub)transaction abort restores user and settings; on any ordinary return the guard does.
pub fn as_owner<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _guard = OwnerGuard::enter(&SETTINGS)?;
    f()
}

/// The same for rows that become, or come from, documents.
pub fn as_owner_for_documents<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _guard = OwnerGuard::enter(&DOCUMENTS)?;
    f()
}

/// The same for the statements of deciding, which find one customer or ten thousand by key, all the time.
pub fn as_owner_by_key<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _guard = OwnerGuard::enter(&BY_KEY)?;
    f()
}

/// Runs `f`, which waits half a second for a lock at most: while it does, others queue behind it.
pub fn impatient<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _settings = Settings::set(&[(c"lock_timeout", c"500ms")]);
    f()
}

/// Runs `f`, whose statements read values of the user as text, under [`TEXTS`].
pub fn for_texts<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // Nearly all sessions have them, and this is done for every decision.
    let _settings = (!are_texts_usual()).then(|| Settings::set(&TEXTS));
    f()
}

/// Whether [`TEXTS`] are in force.
fn are_texts_usual() -> bool {
    // SAFETY: plain reads of settings on the backend's only thread; the one that has no variable among the bindings is NUL-terminated.
    unsafe {
        pg_sys::DateStyle == pg_sys::USE_ISO_DATES as i32
            && pg_sys::IntervalStyle == pg_sys::INTSTYLE_POSTGRES as i32
            && pg_sys::extra_float_digits == 1
            && CStr::from_ptr(pg_sys::GetConfigOption(c"bytea_output".as_ptr(), false, false)) == c"hex"
    }
}

/// Plans the statements of `f` for large sets: joins by hash or merge and not row by row, however few rows the planner
/// believes in. Tables that have just been filled look small to it, and a nested loop over them would never end. It is work
/// of maintenance, and has its memory. What they compute per row is little, and does not pay for being compiled in every worker.
pub fn for_large_sets<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    by_processes(1, f)
}

/// The same for statements that may have parallel workers: the memory is that of all of them, as where an index is built.
pub fn for_large_sets_with_workers<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: a plain read of a setting on the backend's only thread.
    by_processes(1 + unsafe { pg_sys::max_parallel_workers_per_gather }, f)
}

/// Workers hash for themselves: shared memory is 64 MB in many a container, and a hash that is shared knows no bound but work_mem.
fn by_processes<T>(count: i32, f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: plain reads of settings on the backend's only thread.
    let memory = unsafe { pg_sys::work_mem.max(pg_sys::maintenance_work_mem / count) };
    let memory = CString::new(format!("{memory}kB")).unwrap_or_default();
    let _settings = Settings::set(&[
        (c"enable_nestloop", c"off"),
        (c"enable_parallel_hash", c"off"),
        (c"work_mem", &memory),
        (c"jit", c"off"),
    ]);
    f()
}

/// Plans joins in `f` by hash and not by merge, and has nothing compiled: of keys that are expressions the planner knows too little, and sorts a million
/// rows rather than believe that hardly any share a bucket.
pub fn without_sorted_joins<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _settings = Settings::set(&[(c"enable_mergejoin", c"off"), (c"jit", c"off")]);
    f()
}

/// Settings until it is dropped.
struct Settings {
    level: i32,
}

impl Settings {
    fn set(settings: &[(&CStr, &CStr)]) -> Self {
        // SAFETY: changes backend state on the backend's only thread; names and values are NUL-terminated.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            for (name, value) in settings {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            Settings { level }
        }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level is that of the matching call in `set`; nesting is that of Rust scopes. After an ERROR
            // abort processing restores the settings.
            unsafe { pg_sys::AtEOXact_GUC(false, self.level) }
        }
    }
}

struct OwnerGuard {
    user: pg_sys::Oid,
    context: i32,
    _settings: Settings,
}

impl OwnerGuard {
    fn enter(settings: &[(&CStr, &CStr)]) -> Result<Self> {
        let owner = owner()?;
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: plain reads and writes of backend state on the backend's only thread; the out-pointers are valid for
        // the call.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(owner, context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
        }
        Ok(OwnerGuard { user, context, _settings: Settings::set(settings) })
    }
}

impl Drop for OwnerGuard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: values came from the matching call in `enter`. After an ERROR abort processing restores both.
            unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
        }
    }
}

/// Owner of our tables. Looked up each time: three hits in the catalogue cache, and never stale.
fn owner() -> Result<pg_sys::Oid> {
    // SAFETY: catalogue look-ups inside a transaction; the tuple is released after its one field is read.
    let owner = unsafe {
        let schema = pg_sys::get_namespace_oid(c"decisioning".as_ptr(), true);
        let table = pg_sys::get_relname_relid(c"campaigns".as_ptr(), schema);
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(table));
        if tuple.is_null() {
            None
        } else {
            let class = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_class;
            let owner = (*class).relowner;
            pg_sys::ReleaseSysCache(tuple);
            Some(owner)
        }
    };
    owner.ok_or_else(|| {
        Error::missing("relation decisioning.campaigns is missing").hint("Run CREATE EXTENSION decisioning.")
    })
}

/// Name of the role that asked, before any switch of ours: `SET ROLE` counts, SECURITY DEFINER does not.
pub fn caller_name() -> String {
    // SAFETY: GetOuterUserId has no preconditions; GetUserNameFromId(.., false) raises for an unknown id and
    // returns a palloc'd NUL-terminated string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetOuterUserId(), false);
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use super::as_owner;
    use crate::pg::query;

    fn who_and_where() -> (String, String) {
        query::read_one("SELECT current_user::text, current_setting('search_path')", &[], |row| {
            Ok((row.value(1)?, row.value(2)?))
        })
        .ok()
        .flatten()
        .unwrap_or_default()
    }

    #[pg_test]
    fn the_guard_switches_and_restores() -> spi::Result<()> {
        let owner = who_and_where().0;
        Spi::run("CREATE ROLE clerk; SET LOCAL search_path = public, pg_catalog; SET LOCAL ROLE clerk")?;
        let before = who_and_where();
        assert_eq!(before.0, "clerk");
        let (inside, nested) = as_owner(|| Ok((who_and_where(), as_owner(|| Ok(who_and_where()))?)))
            .unwrap_or_else(|_| panic!("the guard cannot be entered"));
        assert_eq!(inside, (owner, "pg_catalog, pg_temp".to_owned()));
        assert_eq!(nested, inside);
        assert_eq!(who_and_where(), before);
        Ok(())
    }

    #[pg_test]
    fn an_error_inside_the_guard_restores_the_caller() -> spi::Result<()> {
        Spi::run("CREATE ROLE clerk; GRANT USAGE ON SCHEMA decisioning TO clerk")?;
        Spi::run("GRANT EXECUTE ON FUNCTION decisioning.start_campaign(text, text) TO clerk")?;
        Spi::run("SET LOCAL search_path = public, pg_catalog; SET LOCAL ROLE clerk")?;
        let before = who_and_where();
        Spi::run(
            "DO $$ BEGIN PERFORM decisioning.start_campaign('nope'); RAISE 'no error';
                   EXCEPTION WHEN undefined_object THEN NULL; END $$",
        )?;
        assert_eq!(who_and_where(), before);
        Ok(())
    }
}
