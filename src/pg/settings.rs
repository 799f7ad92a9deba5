//! Settings, and the one clock of the extension.

use std::ffi::CString;

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use serde::Deserialize;

use super::error::{Error, Result};
use super::query;

/// What becomes of decisions, from the least to the most strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, PostgresGucEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are made, logged and carried out.
    #[name = c"live"]
    Live,
    /// What would be chosen is logged, and what the control rule says is done.
    #[name = c"shadow"]
    Shadow,
    /// They are answered, and nothing is written.
    #[name = c"preview"]
    Preview,
}

static MODE: GucSetting<Mode> = GucSetting::<Mode>::new(Mode::Live);

static SIMULATED_NOW: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

static NOTIFY: GucSetting<bool> = GucSetting::<bool>::new(false);

pub fn register() {
    GucRegistry::define_bool_guc(
        c"decisioning.notify",
        c"Whether dispatch notifies the channel decisioning_sends of new sends.",
        c"Workers that LISTEN need not poll.",
        &NOTIFY,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"decisioning.simulated_now",
        c"Time that the extension takes for now, for simulations and tests.",
        c"Empty uses the start of the transaction. Only superusers may set it.",
        &SIMULATED_NOW,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"decisioning.mode",
        c"What becomes of decisions: live, shadow (log what would be chosen, do what control does) or preview (write nothing).",
        c"The stricter of this and the mode of the campaign holds.",
        &MODE,
        GucContext::Userset,
        GucFlags::default(),
    );
    // SAFETY: the prefix is a NUL-terminated constant and all our settings are defined by now.
    unsafe {
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(c"decisioning".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(c"decisioning".as_ptr());
    }
}

/// The mode of the session.
pub fn mode() -> Mode {
    MODE.get()
}

/// Whether listeners are told of new sends.
pub fn notifies() -> bool {
    NOTIFY.get()
}

/// Now, in microseconds since the Unix epoch: the start of the transaction, or `decisioning.simulated_now`.
pub fn now_micros() -> Result<i64> {
    match SIMULATED_NOW.get().filter(|text| !text.is_empty()) {
        None => {
            // SAFETY: no preconditions inside a transaction.
            let at = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
            Ok(at + POSTGRES_EPOCH_MICROS)
        }
        Some(text) => {
            let text = text.to_string_lossy().into_owned();
            let micros = query::read_one(
                "SELECT (extract(epoch FROM $1::pg_catalog.timestamptz) OPERATOR(pg_catalog.*) 1000000.0)::bigint",
                &[text.as_str().into()],
                |row| row.value::<i64>(1),
            )?;
            micros.ok_or_else(|| Error::invalid("decisioning.simulated_now is not a time"))
        }
    }
}

/// Now, as Postgres counts it.
pub fn now() -> Result<i64> {
    Ok(now_micros()? - POSTGRES_EPOCH_MICROS)
}

/// maintenance_work_mem, in bytes.
pub fn maintenance_memory() -> usize {
    // SAFETY: a plain integer of the backend, read where only the backend's thread runs.
    let kilobytes = unsafe { pg_sys::maintenance_work_mem };
    usize::try_from(kilobytes).unwrap_or(0) * 1024
}

/// 2000-01-01, where Postgres starts to count, in microseconds since 1970-01-01.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A moment as Postgres stores it.
pub fn timestamp(micros: i64) -> Result<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(micros - POSTGRES_EPOCH_MICROS)
        .map_err(|_| Error::invalid(format!("time {micros} is out of range")))
}

/// Microseconds since the Unix epoch of a moment that Postgres stored; `None` for infinity and -infinity.
pub fn micros(at: TimestampWithTimeZone) -> Option<i64> {
    let at = i64::from(at);
    (at != i64::MIN && at != i64::MAX).then(|| at.saturating_add(POSTGRES_EPOCH_MICROS))
}
