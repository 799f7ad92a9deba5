//! Datums that are made often, without a call per element.

use std::ffi::CString;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::{direct_function_call_as_datum, pg_sys, PgSqlErrorCode};

use super::error::{Error, Result};

/// Largest allocation of Postgres, in bytes.
const MOST_BYTES: usize = 0x3fff_ffff;

/// Numbers and times that stand in an array as they are in memory.
pub trait Element: Copy {
    const TYPE: pg_sys::Oid;
}

impl Element for i32 {
    const TYPE: pg_sys::Oid = pg_sys::INT4OID;
}

impl Element for f32 {
    const TYPE: pg_sys::Oid = pg_sys::FLOAT4OID;
}

impl Element for f64 {
    const TYPE: pg_sys::Oid = pg_sys::FLOAT8OID;
}

impl Element for TimestampWithTimeZone {
    const TYPE: pg_sys::Oid = pg_sys::TIMESTAMPTZOID;
}

/// The bytes of a uuid.
impl Element for [u8; 16] {
    const TYPE: pg_sys::Oid = pg_sys::UUIDOID;
}

/// Of a one-dimensional array: size, number of dimensions, offset of the data (0: no nulls), element type, length, lower bound.
const ARRAY_HEADER: usize = size_of::<pg_sys::ArrayType>() + 2 * size_of::<i32>();

/// A one-dimensional array of `values`, in the current memory context.
pub fn array<T: Element>(values: &[T]) -> pg_sys::Datum {
    if values.is_empty() {
        // SAFETY: no preconditions.
        return unsafe { pg_sys::Datum::from(pg_sys::construct_empty_array(T::TYPE)) };
    }
    let size = ARRAY_HEADER + size_of_val(values);
    // SAFETY: palloc returns `size` bytes, aligned for any type; ARRAY_HEADER is a multiple of the alignment of every Element.
    unsafe {
        let array = pg_sys::palloc0(size) as *mut pg_sys::ArrayType;
        (*array).ndim = 1;
        (*array).elemtype = T::TYPE;
        let bounds = array.add(1) as *mut i32;
        bounds.write(values.len() as i32);
        bounds.add(1).write(1);
        pgrx::set_varsize_4b(array.cast(), size as i32);
        std::ptr::copy_nonoverlapping(values.as_ptr(), (array as *mut u8).add(ARRAY_HEADER).cast::<T>(), values.len());
        pg_sys::Datum::from(array)
    }
}

/// A bigint, or a timestamptz as Postgres counts it.
pub fn number(value: i64) -> pg_sys::Datum {
    pg_sys::Datum::from(value)
}

/// A text, in the current memory context.
///
/// # Errors
/// It is larger than Postgres allows.
pub fn text(text: &str) -> Result<pg_sys::Datum> {
    varlena(text.as_bytes())
}

/// A value of variable length with these bytes after its header, in the current memory context.
///
/// # Errors
/// It is larger than Postgres allows.
pub fn varlena(bytes: &[u8]) -> Result<pg_sys::Datum> {
    let size = bytes.len() + pg_sys::VARHDRSZ;
    if size > MOST_BYTES {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "a value is larger than one gigabyte"));
    }
    // SAFETY: palloc, which raises an ERROR instead of failing, returns `size` bytes aligned for a header.
    unsafe {
        let varlena = pg_sys::palloc(size).cast::<pg_sys::varlena>();
        pgrx::set_varsize_4b(varlena, size as i32);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), varlena.cast::<u8>().add(pg_sys::VARHDRSZ), bytes.len());
        Ok(pg_sys::Datum::from(varlena))
    }
}

/// The elements of a one-dimensional array without nulls; `None` for an array of another kind.
///
/// # Safety
/// The datum is an array.
pub unsafe fn elements<T: Element>(array: pg_sys::Datum) -> Option<Vec<T>> {
    let given = array.cast_mut_ptr::<pg_sys::varlena>();
    let array = pg_sys::pg_detoast_datum(given);
    let header = array as *const pg_sys::ArrayType;
    let plain = (*header).elemtype == T::TYPE && (*header).dataoffset == 0 && (*header).ndim <= 1;
    let found = plain.then(|| {
        let len = if (*header).ndim == 0 { 0 } else { *(header.add(1) as *const i32) as usize };
        let mut elements = Vec::with_capacity(len);
        let first = (header as *const u8).add(ARRAY_HEADER).cast::<T>();
        std::ptr::copy_nonoverlapping(first, elements.as_mut_ptr(), len);
        elements.set_len(len);
        elements
    });
    if array != given {
        pg_sys::pfree(array.cast());
    }
    found
}

/// A jsonb, in the current memory context.
///
/// # Errors
/// Never for what was JSON before, but for a zero byte.
pub fn jsonb(text: &str) -> Result<pg_sys::Datum> {
    let text = CString::new(text).map_err(|_| Error::invalid("a JSON document contains a zero byte"))?;
    // SAFETY: jsonb_in takes a NUL-terminated string and copies what it needs.
    let datum = unsafe { direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(text.as_ptr()))]) };
    datum.ok_or_else(|| Error::corrupted("a JSON document is null"))
}
