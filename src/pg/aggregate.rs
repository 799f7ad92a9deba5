//! States of aggregates, changed where they lie for as long as their group lives.

use pgrx::datum::Internal;
use pgrx::{pg_sys, PgMemoryContexts};

use super::datum;
use super::error::{Error, Result};

/// Changes the state of an aggregate, which `create` makes first if there is none.
///
/// # Errors
/// Called by hand; or those of `create` and `change`.
pub fn change<T: 'static>(
    mut state: Internal,
    call: pg_sys::FunctionCallInfo,
    create: impl FnOnce() -> Result<T>,
    change: impl FnOnce(&mut T) -> Result<()>,
) -> Result<Internal> {
    let mut group = group(call)?;
    // SAFETY: a state of type internal comes from this function or from `wrap` alone: SQL can neither write one nor, unless
    // superuser, declare an aggregate that mixes functions over it. What is created lives in the memory of the group.
    unsafe {
        if !state.initialized() {
            let created = create()?;
            state = group.switch_to(|_| Internal::new(created));
        }
        change(state.get_mut().ok_or_else(lost)?)?;
    }
    Ok(state)
}

/// Reads the state of an aggregate, if there is one.
///
/// # Errors
/// Those of `read`.
pub fn read<T: 'static, R>(mut state: Internal, read: impl FnOnce(&mut T) -> Result<R>) -> Result<Option<R>> {
    // SAFETY: as in `change`.
    match unsafe { state.get_mut() } {
        Some(state) => read(state).map(Some),
        None => Ok(None),
    }
}

/// A state that came from another process, for the functions above. It lives as long as the current memory context.
pub fn wrap<T: 'static>(state: T) -> Internal {
    Internal::new(state)
}

/// The same as [`change`] for a state that is a bytea, passed through as it is.
///
/// # Errors
/// Called by hand; or those of `create` and `change`.
pub fn change_bytes(
    state: Internal,
    call: pg_sys::FunctionCallInfo,
    create: impl FnOnce() -> Result<Vec<u8>>,
    change: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<Internal> {
    let group = group(call)?.value();
    let datum = match state.unwrap() {
        Some(datum) => datum,
        None => {
            let bytes = create()?;
            // SAFETY: the value is made in the memory of the group, which outlives this call.
            unsafe { PgMemoryContexts::For(group).switch_to(|_| datum::varlena(&bytes)) }?
        }
    };
    // SAFETY: SQL declares the state as bytea, so the datum is a valid varlena. The executor hands over the state that the last
    // call returned or its own copy of it, and lets aggregates change that in place (as documented for C-language
    // aggregates); `create` made it as a plain one with a header of four bytes. Any other form is copied first.
    unsafe {
        let mut varlena = datum.cast_mut_ptr::<pg_sys::varlena>();
        if !pgrx::varlena::varatt_is_4b_u(varlena) {
            varlena = PgMemoryContexts::For(group).switch_to(|_| pg_sys::pg_detoast_datum_copy(varlena));
        }
        let length = pgrx::varlena::varsize_any_exhdr(varlena);
        let start = varlena.cast::<u8>().add(pg_sys::VARHDRSZ);
        change(std::slice::from_raw_parts_mut(start, length))?;
        Ok(Internal::from(Some(pg_sys::Datum::from(varlena))))
    }
}

/// The memory that lives as long as the group that is aggregated.
fn group(call: pg_sys::FunctionCallInfo) -> Result<PgMemoryContexts> {
    let mut context = std::ptr::null_mut();
    // SAFETY: `call` is that of the running function; the out-pointer is valid for the call.
    match unsafe { pg_sys::AggCheckCallContext(call, &mut context) } {
        0 => Err(Error::state("the function belongs to an aggregate").hint("Call the aggregate instead.")),
        _ => Ok(PgMemoryContexts::For(context)),
    }
}

fn lost() -> Error {
    Error::corrupted("the state of an aggregate is lost")
}
