//! Forgetting: everything that tells of a customer is deleted, and a tombstone takes his place in the log.
//!
//! A tombstone keeps what lift and learning count: groups, exposure, decisions with their propensities, outcomes with their values. It
//! has a random name, no context, no content, and no event ids. So neither lift nor a model changes because somebody was forgotten,
//! and nobody can be hidden from them that way.

use std::collections::HashMap;

use decisioning_core::features::{Encoder, Value};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::Uuid;

use crate::api::delivery::{release, tick};
use crate::api::guardrail::configure::wait_for_decisions;
use crate::api::identity::require_read_committed;
use crate::api::pipeline::canonical_ids;
use crate::api::{follow, now};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, as_owner_by_key, caller_name};
use crate::pg::{query, snapshot};

/// Ids of a customer, and the names that take their places.
struct Names {
    ids: Vec<String>,
    tombstones: Vec<String>,
}

/// Rows that were deleted or made anonymous, by relation.
type Counts = Vec<(&'static str, i64)>;

/// All ids of a customer, as sources, the log and former times know him. Runs as the owner.
pub fn ids_of(customer_id: &str) -> Result<Vec<String>> {
    let canonical = canonical_ids(&[customer_id.to_owned()])?.remove(0);
    query::write(
        "SELECT n.id FROM (
             SELECT $1 AS id
             UNION SELECT a.alias FROM decisioning._alias a WHERE a.customer_id = $1
             UNION SELECT l.alias FROM decisioning._log_alias l WHERE l.customer_id = $1
             UNION SELECT m.merged_id FROM decisioning._merged_assignment m WHERE m.customer_id = $1) AS n
         ORDER BY n.id COLLATE \"C\"",
        &[canonical.into()],
        |row| row.value(1),
    )
}

/// SHA-256 of an id, as SQL.
pub fn hash_of(id: &str) -> String {
    format!("sha256(convert_to({id}, 'UTF8'))")
}

/// Forgets a customer. Runs as the owner, with the locks of [`lock`].
fn forget(customer_id: &str, reason: Option<&str>) -> Result<Counts> {
    let ids = snapshot::latest(|| ids_of(customer_id))?;
    let tombstones = query::write(
        "SELECT 'forgotten-' || gen_random_uuid()::text FROM unnest($1::text[]) AS n(id)",
        &[ids.clone().into()],
        |row| row.value::<String>(1),
    )?;
    let names = Names { ids, tombstones };
    let mut counts = cancel_sends(&names)?;
    counts.extend(blank_decisions(&names)?);
    counts.extend(rename(&names)?);
    counts.extend(forget_identity(&names)?);
    if counts.iter().all(|(_, rows)| *rows == 0) {
        return Ok(counts);
    }
    // What he refused binds under each of his ids, should one come back without the others.
    query::execute(
        "INSERT INTO decisioning.suppressions
             (canonical_id, customer_id, campaign, channel, suppressed_until, reason, suppressed_at, suppressed_by)
         SELECT DISTINCT ON (n.id, s.campaign, s.channel)
                n.id, n.id, s.campaign, s.channel, s.suppressed_until, s.reason, s.suppressed_at, s.suppressed_by
         FROM decisioning.suppressions s CROSS JOIN unnest($1::text[]) AS n(id)
         WHERE s.canonical_id = ANY ($1) AND s.lifted_at IS NULL
         ORDER BY n.id, s.campaign, s.channel, s.suppressed_until DESC NULLS FIRST
         ON CONFLICT (canonical_id, customer_id, campaign, channel) DO UPDATE
         SET suppressed_until = excluded.suppressed_until, reason = excluded.reason, suppressed_at = excluded.suppressed_at,
             suppressed_by = excluded.suppressed_by, lifted_at = NULL, lifted_by = NULL",
        &[names.ids.clone().into()],
    )?;
    query::execute(
        "DELETE FROM decisioning.suppressions s WHERE s.canonical_id = ANY ($1) AND s.canonical_id <> s.customer_id",
        &[names.ids.clone().into()],
    )?;
    query::execute(
        "INSERT INTO decisioning.forgotten (tombstone, forgotten_at, forgotten_by, reason)
         SELECT n.tombstone, $2, $3, $4 FROM unnest($1::text[]) AS n(tombstone)",
        &[names.tombstones.clone().into(), now()?.into(), caller_name().into(), reason.into()],
    )?;
    query::execute(
        &format!(
            "INSERT INTO decisioning._forgotten_id (id_hash, forgotten_at) SELECT {}, $2 FROM unnest($1::text[]) AS n(id)
             ON CONFLICT (id_hash) DO UPDATE SET forgotten_at = excluded.forgotten_at",
            hash_of("n.id")
        ),
        &[names.ids.clone().into(), now()?.into()],
    )?;
    Ok(counts)
}

/// Whoever resolves identities, learns, sends or decides ends first. In the order in which they lock. Runs as the owner.
///
/// # Errors
/// The transaction keeps a snapshot from before: what was written since would not be forgotten.
fn lock() -> Result<()> {
    require_read_committed("forgetting a customer")?;
    // A run of resolve_all holds the weaker lock from its start, and takes the others in its end.
    query::execute("LOCK TABLE decisioning._online IN SHARE UPDATE EXCLUSIVE MODE", &[])?;
    follow::lock_learners()?;
    query::execute("LOCK TABLE decisioning._online IN SHARE ROW EXCLUSIVE MODE", &[])?;
    query::execute("LOCK TABLE decisioning._send_clock IN SHARE ROW EXCLUSIVE MODE", &[])?;
    tick()?;
    // Deciders lock what they compete for before their assignments.
    query::execute(
        "LOCK TABLE decisioning._customer, decisioning._household, decisioning._budget_period, decisioning._budget_slot
         IN SHARE ROW EXCLUSIVE MODE",
        &[],
    )?;
    wait_for_decisions()
}

/// What waits is not sent any more. Runs as the owner.
fn cancel_sends(names: &Names) -> Result<Counts> {
    let posted = query::write(
        "DELETE FROM decisioning._outbox o USING decisioning.decisions d
         WHERE d.customer_id = ANY ($1) AND o.decision_id = d.decision_id RETURNING o.decision_id",
        &[names.ids.clone().into()],
        |row| row.value::<Uuid>(1),
    )?;
    let ticked_at = tick()?;
    let sends = query::write(
        "UPDATE decisioning.sends s
         SET customer_id = n.tombstone, content = NULL, updated_at = $3,
             occurred_at = CASE s.status WHEN 'queued' THEN $4 ELSE s.occurred_at END,
             reason = CASE s.status WHEN 'queued' THEN 'forgotten' END,
             status = CASE s.status WHEN 'queued' THEN 'cancelled' ELSE s.status END
         FROM decisioning.decisions d JOIN unnest($1::text[], $2::text[]) AS n(id, tombstone) ON n.id = d.customer_id
         WHERE s.decision_id = d.decision_id
         RETURNING s.decision_id, s.reason = 'forgotten'",
        &[names.ids.clone().into(), names.tombstones.clone().into(), ticked_at.into(), now()?.into()],
        |row| Ok((row.value::<Uuid>(1)?, row.get::<bool>(2)?.unwrap_or(false))),
    )?;
    let cancelled = sends.iter().filter(|(_, cancelled)| *cancelled).map(|(id, _)| *id);
    let released: Vec<Uuid> = posted.iter().copied().chain(cancelled).collect();
    release(&released)?;
    query::execute("DELETE FROM decisioning._stake k WHERE k.decision_id = ANY ($1)", &[released.into()])?;
    Ok(vec![("sends", sends.len() as i64)])
}

/// Decisions lose their context: what is left is that of somebody of whom nothing is known. Runs as the owner.
fn blank_decisions(names: &Names) -> Result<Counts> {
    let encoders = query::write(
        "SELECT DISTINCT e.campaign, e.encoder_version, e.definition::text
         FROM decisioning.decisions d
         JOIN decisioning._encoder e ON e.campaign = d.campaign AND e.encoder_version = d.encoder_version
         WHERE d.customer_id = ANY ($1)",
        &[names.ids.clone().into()],
        |row| Ok((row.value::<String>(1)?, row.value::<i32>(2)?, row.value::<String>(3)?)),
    )?;
    let mut blanked = 0;
    for (campaign, version, definition) in encoders {
        let encoder: Encoder = serde_json::from_str(&definition)?;
        let mut nothing = vec![0.0; encoder.width()];
        encoder.encode(&vec![Value::Missing; encoder.features.len()], &mut nothing);
        blanked += query::execute(
            "UPDATE decisioning.decisions d
             SET customer_id = n.tombstone, context = '{}', encoded = $5, content = NULL
             FROM unnest($1::text[], $2::text[]) AS n(id, tombstone)
             WHERE d.customer_id = n.id AND d.campaign = $3 AND d.encoder_version = $4",
            &[
                names.ids.clone().into(),
                names.tombstones.clone().into(),
                campaign.into(),
                version.into(),
                nothing.into(),
            ],
        )?;
    }
    Ok(vec![("decisions", blanked as i64)])
}

/// Everything else that the log and lift count, under the names of tombstones. Events get new ids, so that nobody finds them by
/// theirs, and belong to no source, which would take them for vanished. Runs as the owner.
fn rename(names: &Names) -> Result<Counts> {
    let map = "unnest($1::text[], $2::text[]) AS n(id, tombstone)";
    let both = || [names.ids.clone().into(), names.tombstones.clone().into()];
    let of = "(SELECT n.tombstone FROM names n WHERE n.id =";
    let outcomes = query::execute(
        &format!(
            "WITH names AS MATERIALIZED (SELECT * FROM {map}),
             secret AS MATERIALIZED (SELECT gen_random_uuid()::text AS value),
             keys AS (
                 UPDATE decisioning._outcome_key k
                 SET customer_id = n.tombstone, outcome_source = NULL,
                     event_id = encode(sha256(convert_to(x.value || k.event_id, 'UTF8')), 'hex')
                 FROM names n, secret x WHERE k.customer_id = n.id
                   AND (k.goal, k.event_id) IN (SELECT o.goal, o.event_id FROM decisioning.outcomes o WHERE o.customer_id = n.id))
             UPDATE decisioning.outcomes o
             SET customer_id = n.tombstone, outcome_source = NULL,
                 event_id = encode(sha256(convert_to(x.value || o.event_id, 'UTF8')), 'hex')
             FROM names n, secret x WHERE o.customer_id = n.id"
        ),
        &both(),
    )?;
    let assignments = query::execute(
        &format!(
            "WITH names AS MATERIALIZED (SELECT * FROM {map})
             UPDATE decisioning._assignment s
             SET customer_id = n.tombstone, merged_into = coalesce({of} s.merged_into), s.merged_into), offer = NULL, offered_at = NULL,
                 contact_decisions = NULL, contact_times = NULL, contact_actions = NULL, entered_at = NULL
             FROM names n WHERE s.customer_id = n.id"
        ),
        &both(),
    )?;
    query::execute(
        &format!(
            "UPDATE decisioning._past_assignment p SET customer_id = n.tombstone FROM {map} WHERE p.customer_id = n.id"
        ),
        &both(),
    )?;
    for (table, columns) in
        [("_log_alias", ["alias", "customer_id"]), ("_merged_assignment", ["customer_id", "merged_id"])]
    {
        let [a, b] = columns;
        query::execute(
            &format!(
                "WITH names AS MATERIALIZED (SELECT * FROM {map})
                 UPDATE decisioning.{table} t
                 SET {a} = coalesce({of} t.{a}), t.{a}), {b} = coalesce({of} t.{b}), t.{b})
                 WHERE t.{a} = ANY ($1) OR t.{b} = ANY ($1)"
            ),
            &both(),
        )?;
    }
    for table in ["_assignment_guard", "_customer"] {
        query::execute(
            &format!("DELETE FROM decisioning.{table} t WHERE t.customer_id = ANY ($1)"),
            &[names.ids.clone().into()],
        )?;
    }
    Ok(vec![("outcomes", outcomes as i64), ("assignments", assignments as i64)])
}

/// Records that a value may have before its frequency is kept.
const RARE: i64 = 3;

/// Values that are kept of nobody, or of many, and are his all the same: identifiers beyond what one customer may have, and values that are
/// frequent for his records alone. While his records are there. Runs as the owner.
fn forget_values(names: &Names) -> Result<()> {
    let said = query::write(
        "SELECT n.comparison, n.value, count(*)
         FROM decisioning._record r
         JOIN decisioning._record_field f ON f.record_number = r.record_number
         CROSS JOIN LATERAL decisioning._normalised(r.source, f.fields) AS n
         WHERE r.customer_id = ANY ($1) GROUP BY 1, 2",
        &[names.ids.clone().into()],
        |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?, row.value::<i64>(3)?)),
    )?;
    let kinds: Vec<String> = said.iter().map(|(kind, ..)| kind.clone()).collect();
    let values: Vec<String> = said.iter().map(|(_, value, _)| value.clone()).collect();
    let counts: Vec<i64> = said.iter().map(|(.., count)| *count).collect();
    query::execute(
        "WITH gone AS (
             DELETE FROM decisioning.identity_conflicts c USING unnest($1::text[], $2::text[], $3::bigint[]) AS n(kind, value, records)
             WHERE c.identifier = n.kind AND c.value = n.value AND c.records <= n.records
             RETURNING c.identifier, c.value)
         DELETE FROM decisioning._identifier i USING gone g
         WHERE i.kind = g.identifier AND i.value = g.value AND i.customer_id IS NULL",
        &[kinds.into(), values.clone().into(), counts.clone().into()],
    )?;
    // Under whatever it is compared as; of an address its name is, too.
    query::execute(
        "DELETE FROM decisioning._term_frequency t
         USING (SELECT v.value, sum(n.records) AS records FROM unnest($1::text[], $2::bigint[]) AS n(value, records)
                CROSS JOIN LATERAL (VALUES (n.value), (nullif(split_part(n.value, '@', 1), n.value))) AS v(value)
                WHERE v.value <> '' GROUP BY 1) AS n
         WHERE t.value = n.value AND t.records <= n.records + $3",
        &[values.into(), counts.into(), RARE.into()],
    )?;
    Ok(())
}

/// What sources said of him, and who he was. Blocks of records may still have his numbers, which nobody has any more. Runs as the
/// owner.
fn forget_identity(names: &Names) -> Result<Counts> {
    let ids = || names.ids.clone().into();
    forget_values(names)?;
    let numbers = query::write(
        "DELETE FROM decisioning._record r WHERE r.customer_id = ANY ($1) RETURNING r.record_number, r.source, r.record_key",
        &[ids()],
        |row| Ok((row.value::<i64>(1)?, row.value::<String>(2)?, row.value::<String>(3)?)),
    )?;
    let (sources, keys): (Vec<String>, Vec<String>) =
        numbers.iter().map(|(_, source, key)| (source.clone(), key.clone())).unzip();
    let numbers: Vec<i64> = numbers.into_iter().map(|(number, ..)| number).collect();
    for table in ["_record_field", "_block_entry", "_unresolved"] {
        query::execute(
            &format!("DELETE FROM decisioning.{table} t WHERE t.record_number = ANY ($1)"),
            &[numbers.clone().into()],
        )?;
    }
    for table in ["_link", "_uncertain_pair"] {
        query::execute(
            &format!("DELETE FROM decisioning.{table} t WHERE t.left_number = ANY ($1) OR t.right_number = ANY ($1)"),
            &[numbers.clone().into()],
        )?;
    }
    query::execute(
        "DELETE FROM decisioning._online o USING unnest($1::text[], $2::text[]) AS k(source, record_key)
         WHERE k.source = 'online' AND o.record_key = k.record_key",
        &[sources.clone().into(), keys.clone().into()],
    )?;
    query::execute(
        "DELETE FROM decisioning.match_corrections m USING unnest($1::text[], $2::text[]) AS k(source, record_key)
         WHERE (m.source_a, m.key_a) = (k.source, k.record_key) OR (m.source_b, m.key_b) = (k.source, k.record_key)",
        &[sources.into(), keys.into()],
    )?;
    query::execute(
        "WITH held AS (DELETE FROM decisioning._identifier i WHERE i.customer_id = ANY ($1) RETURNING i.kind, i.value)
         DELETE FROM decisioning.identity_conflicts c USING held h WHERE c.identifier = h.kind AND c.value = h.value",
        &[ids()],
    )?;
    for table in ["golden_records", "_household_member", "_customer_alias"] {
        query::execute(&format!("DELETE FROM decisioning.{table} t WHERE t.customer_id = ANY ($1)"), &[ids()])?;
    }
    query::execute(
        "WITH names AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[]) AS n(id, tombstone))
         UPDATE decisioning.identity_events e
         SET customer_id = coalesce((SELECT n.tombstone FROM names n WHERE n.id = e.customer_id), e.customer_id),
             from_customer_id = coalesce((SELECT n.tombstone FROM names n WHERE n.id = e.from_customer_id), e.from_customer_id),
             evidence = NULL
         WHERE e.customer_id = ANY ($1) OR e.from_customer_id = ANY ($1)",
        &[ids(), names.tombstones.clone().into()],
    )?;
    Ok(vec![("records", numbers.len() as i64)])
}

/// Forgets customers, in their order; returns how many there was something of.
pub fn forget_all(customer_ids: &[String], reason: &str) -> Result<i64> {
    as_owner_by_key(|| {
        lock()?;
        let mut forgotten = 0;
        for id in customer_ids {
            forgotten += i64::from(forget(id, Some(reason))?.iter().any(|(_, rows)| *rows > 0));
        }
        Ok(forgotten)
    })
}

/// # Errors
/// The decision was one of somebody who was forgotten since. Runs as the owner.
pub fn check_known(customer_id: &str) -> Result<()> {
    let forgotten = query::read_one(
        "SELECT EXISTS (SELECT FROM decisioning.forgotten f WHERE f.tombstone = $1)",
        &[customer_id.into()],
        |row| row.value::<bool>(1),
    )?;
    match forgotten {
        Some(true) => Err(Error::state("the customer of this decision was forgotten")
            .detail("What the choice was made on is not known any more.")),
        _ => Ok(()),
    }
}

#[pg_extern(sql = false)]
fn forget_customer(
    customer_id: Option<&str>,
    reason: Option<&str>,
) -> std::result::Result<TableIterator<'static, (name!(relation, String), name!(rows, i64))>, ErrorReport> {
    let customer_id = required(customer_id, "customer_id")?;
    if customer_id.is_empty() {
        return Err(Error::invalid("customer_id must not be empty").into());
    }
    let counts = as_owner_by_key(|| {
        lock()?;
        forget(customer_id, reason)
    })?;
    if counts.iter().all(|(_, rows)| *rows == 0) {
        pgrx::notice!("nothing is known of customer \"{customer_id}\"");
    }
    Ok(TableIterator::new(counts.into_iter().map(|(relation, rows)| (relation.to_owned(), rows))))
}

/// Customers of a batch of events who were forgotten, with the moment from which on they count as new. Runs as the owner.
pub fn forgotten_since(customer_ids: &[String]) -> Result<HashMap<String, i64>> {
    let rows = query::read(
        &format!(
            "SELECT n.id, f.forgotten_at FROM unnest($1::text[]) AS n(id) JOIN decisioning._forgotten_id f ON f.id_hash = {}
             WHERE EXISTS (SELECT FROM decisioning._forgotten_id)",
            hash_of("n.id")
        ),
        &[customer_ids.to_vec().into()],
        |row| Ok((row.value::<String>(1)?, row.value::<pgrx::datum::TimestampWithTimeZone>(2)?)),
    )?;
    Ok(rows.into_iter().filter_map(|(id, at)| Some((id, crate::pg::settings::micros(at)?))).collect())
}

/// Whether anybody was ever forgotten. Runs as the owner.
pub fn anybody_forgotten() -> Result<bool> {
    let any = as_owner(|| {
        query::read_one("SELECT EXISTS (SELECT FROM decisioning._forgotten_id)", &[], |row| row.value::<bool>(1))
    })?;
    Ok(any.unwrap_or(false))
}
