//! Composite results, formed in one go.

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;
use pgrx::{AllocatedByRust, PgTupleDesc};

use super::error::{Error, Result};

/// A row of the composite type `name` from its attributes in order.
pub fn form(name: &str, attributes: Vec<Option<pg_sys::Datum>>) -> Result<PgHeapTuple<'static, AllocatedByRust>> {
    let descriptor =
        PgTupleDesc::for_composite_type(name).ok_or_else(|| Error::missing(format!("type {name} does not exist")))?;
    if descriptor.len() != attributes.len() {
        return Err(Error::corrupted(format!("type {name} has {} attributes", descriptor.len()))
            .hint("Run ALTER EXTENSION decisioning UPDATE."));
    }
    // SAFETY: one datum per attribute, each made for that attribute's type by the caller.
    unsafe { PgHeapTuple::from_datums(descriptor, attributes) }.map_err(|error| Error::corrupted(error.to_string()))
}
