//! Values that do not link all of their records.

use std::collections::HashMap;

use decisioning_core::identity::Resolution;
use pgrx::prelude::*;

use super::{in_chunks, Scope, Target, CHUNK};
use crate::pg::error::Result;
use crate::pg::memory::scratch;
use crate::pg::query;

/// Most conflicts that are reported; data with more has one cause, and the best evidence comes first.
const MOST_CONFLICTS: usize = 100_000;

pub fn write_conflicts(resolution: &Resolution, target: &Target<'_>) -> Result<usize> {
    /// Identifier and value; reason, records and customers.
    type Row = ((String, String), (String, i32, i32));
    let mut missing: HashMap<_, _> = resolution
        .conflicts()
        .take(MOST_CONFLICTS)
        .map(|found| -> Row {
            let counts = (found.reason.to_owned(), found.records as i32, found.persons as i32);
            ((found.identifier.to_string(), found.value.to_owned()), counts)
        })
        .collect();
    if !missing.is_empty() {
        notice!("{} values did not link all of their records: see decisioning.identity_conflicts", missing.len());
    }
    let mut gone: Vec<(String, String)> = Vec::new();
    let is_complete = matches!(target.scope, Scope::All { .. });
    query::stream(
        "SELECT c.identifier, c.value, c.reason, c.records, c.customers FROM decisioning.identity_conflicts c",
        &[],
        CHUNK,
        |row| -> Result<Row> { Ok(((row.value(1)?, row.value(2)?), (row.value(3)?, row.value(4)?, row.value(5)?))) },
        |rows| {
            for (value, stored) in rows {
                match missing.get(&value) {
                    Some(found) if *found == stored => {
                        missing.remove(&value);
                    }
                    Some(_) => gone.push(value),
                    // A run over some records cannot tell that the others have no conflict any more.
                    None if is_complete => gone.push(value),
                    None => {}
                }
            }
            Ok(())
        },
    )?;
    let deleted = in_chunks(gone.iter(), |rows| {
        let identifiers: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
        let values: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
        scratch(|| {
            query::execute(
                "DELETE FROM decisioning.identity_conflicts c USING unnest($1::text[], $2::text[]) AS u (identifier, value)
                 WHERE c.identifier = u.identifier AND c.value = u.value",
                &[identifiers.into(), values.into()],
            )
        })
    })?;
    let inserted = in_chunks(missing.iter(), |rows| {
        let identifiers: Vec<&str> = rows.iter().map(|row| row.0 .0.as_str()).collect();
        let values: Vec<&str> = rows.iter().map(|row| row.0 .1.as_str()).collect();
        let reasons: Vec<&str> = rows.iter().map(|row| row.1 .0.as_str()).collect();
        let records: Vec<i32> = rows.iter().map(|row| row.1 .1).collect();
        let customers: Vec<i32> = rows.iter().map(|row| row.1 .2).collect();
        scratch(|| {
            query::execute(
                "INSERT INTO decisioning.identity_conflicts (identifier, value, reason, records, customers)
                 SELECT u.* FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[])
                     AS u (identifier, value, reason, records, customers)",
                &[identifiers.into(), values.into(), reasons.into(), records.into(), customers.into()],
            )
        })
    })?;
    Ok(deleted + inserted)
}
