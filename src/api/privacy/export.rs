//! Everything that is known of a customer, as one document.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;

use super::forget::ids_of;
use crate::pg::error::{required, Error};
use crate::pg::guard::as_owner_by_key;
use crate::pg::query;

/// Name in the document, and a query of its rows `t` for the ids $1.
const PARTS: [(&str, &str); 11] = [
    (
        "assignments",
        "SELECT * FROM decisioning.assignments a WHERE a.customer_id = ANY ($1) ORDER BY a.campaign, a.customer_id",
    ),
    (
        "past_assignments",
        "SELECT * FROM decisioning.past_assignments p WHERE p.customer_id = ANY ($1) ORDER BY p.campaign, p.draw, p.customer_id",
    ),
    ("decisions", "SELECT * FROM decisioning.decisions d WHERE d.customer_id = ANY ($1) ORDER BY d.decision_id"),
    ("outcomes", "SELECT * FROM decisioning.outcomes o WHERE o.customer_id = ANY ($1) ORDER BY o.outcome_id"),
    (
        "sends",
        "SELECT s.* FROM decisioning.sends s JOIN decisioning.decisions d ON d.decision_id = s.decision_id
         WHERE d.customer_id = ANY ($1) ORDER BY s.decision_id",
    ),
    (
        "suppressions",
        "SELECT * FROM decisioning.suppressions p WHERE p.customer_id = ANY ($1) ORDER BY p.suppressed_at",
    ),
    (
        "records",
        "SELECT r.source, r.record_key, r.since, f.fields FROM decisioning._record r
         LEFT JOIN decisioning._record_field f ON f.record_number = r.record_number
         WHERE r.customer_id = ANY ($1) ORDER BY r.source, r.record_key",
    ),
    (
        "identifiers",
        "SELECT i.kind, i.value FROM decisioning._identifier i WHERE i.customer_id = ANY ($1) ORDER BY 1, 2",
    ),
    ("golden_record", "SELECT * FROM decisioning.golden_records g WHERE g.customer_id = ANY ($1)"),
    ("household", "SELECT m.household_id, m.since FROM decisioning._household_member m WHERE m.customer_id = ANY ($1)"),
    (
        "identity_events",
        "SELECT * FROM decisioning.identity_events e WHERE e.customer_id = ANY ($1) OR e.from_customer_id = ANY ($1)
         ORDER BY e.identity_event",
    ),
];

#[pg_extern(sql = false)]
fn export_customer(customer_id: Option<&str>) -> std::result::Result<JsonB, ErrorReport> {
    let customer_id = required(customer_id, "customer_id")?;
    let parts = PARTS.map(|(name, sql)| {
        format!("'{name}', coalesce((SELECT jsonb_agg(to_jsonb(t)) FROM ({sql}) AS t), '[]'::jsonb)")
    });
    let document = as_owner_by_key(|| {
        let ids = ids_of(customer_id)?;
        query::read_one(
            &format!("SELECT jsonb_build_object('ids', to_jsonb($1::text[]), {})", parts.join(", ")),
            &[ids.into()],
            |row| row.value::<JsonB>(1),
        )?
        .ok_or_else(|| Error::corrupted("a document is missing"))
    })?;
    Ok(document)
}
