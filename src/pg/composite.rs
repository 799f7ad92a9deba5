//! Composite results, formed in one go.

use std::ffi::CStr;

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;
use pgrx::{AllocatedByRust, PgTupleDesc};

use super::error::{Error, Result};

/// A row of the composite type `name` of our schema from its attributes in order.
pub fn form(name: &CStr, attributes: Vec<Option<pg_sys::Datum>>) -> Result<PgHeapTuple<'static, AllocatedByRust>> {
    // SAFETY: look-ups in the catalogue caches with NUL-terminated names.
    let type_oid = unsafe {
        let schema = pg_sys::get_namespace_oid(c"decisioning".as_ptr(), true);
        match pg_sys::get_relname_relid(name.as_ptr(), schema) {
            pg_sys::InvalidOid => pg_sys::InvalidOid,
            relation => pg_sys::get_rel_type_id(relation),
        }
    };
    let outdated = |what: String| Error::missing(what).hint("Run ALTER EXTENSION decisioning UPDATE.");
    let descriptor = PgTupleDesc::for_composite_type_by_oid(type_oid)
        .ok_or_else(|| outdated(format!("type {name:?} of the extension does not exist")))?;
    if descriptor.len() != attributes.len() {
        return Err(outdated(format!("type {name:?} of the extension has {} attributes", descriptor.len())));
    }
    // SAFETY: one datum per attribute, each made for that attribute's type by the caller.
    unsafe { PgHeapTuple::from_datums(descriptor, attributes) }.map_err(|error| Error::corrupted(error.to_string()))
}
