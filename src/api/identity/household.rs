//! Households: customers of one family name at one address.

use std::collections::HashMap;

use decisioning_core::identity::MOST_MEMBERS;

use crate::api::now;
use crate::pg::error::Result;
use crate::pg::query;

/// Puts customers into the households of their keys, and takes those of `ids` out that have none. A household stays while its
/// members come and go; one whose members have all moved goes with most of them. Runs as the owner.
pub fn assign(ids: &[String], keys: &[(&str, u64)]) -> Result<()> {
    let customers: Vec<&str> = keys.iter().map(|(customer, _)| *customer).collect();
    let numbers: Vec<i64> = keys.iter().map(|(_, key)| key.cast_signed()).collect();
    let left: Vec<(String, i64, Option<i64>)> = query::write(
        "DELETE FROM decisioning._household_member m
         WHERE m.customer_id = ANY ($1)
           AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::bigint[]) AS k(customer_id, household_key)
                           WHERE k.customer_id = m.customer_id AND k.household_key = m.household_key)
         RETURNING m.customer_id, m.household_key, m.household_id",
        &[ids.to_vec().into(), customers.clone().into(), numbers.clone().into()],
        |row| Ok((row.value(1)?, row.value(2)?, row.get(3)?)),
    )?;
    let former: HashMap<&str, i64> =
        left.iter().filter_map(|(customer, _, household)| Some((customer.as_str(), (*household)?))).collect();
    let former: Vec<Option<i64>> = customers.iter().map(|customer| former.get(customer).copied()).collect();
    query::execute(
        "WITH moved AS MATERIALIZED (
             SELECT n.customer_id, n.household_key, n.former
             FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS n(customer_id, household_key, former)
             WHERE NOT EXISTS (SELECT FROM decisioning._household_member m WHERE m.customer_id = n.customer_id)),
         emptied AS (
             SELECT f.household_key, f.former,
                    row_number() OVER (PARTITION BY f.former ORDER BY f.members DESC, f.household_key) AS claim,
                    row_number() OVER (PARTITION BY f.household_key ORDER BY f.members DESC, f.former) AS choice
             FROM (SELECT m.household_key, m.former, count(*) AS members FROM moved m
                   WHERE m.former IS NOT NULL GROUP BY m.household_key, m.former) f
             WHERE NOT EXISTS (SELECT FROM decisioning._household_member m WHERE m.household_id = f.former)),
         named AS MATERIALIZED (
             SELECT v.household_key, coalesce(
                        (SELECT min(m.household_id) FROM decisioning._household_member m WHERE m.household_key = v.household_key),
                        (SELECT e.former FROM emptied e WHERE e.household_key = v.household_key AND e.claim = 1 AND e.choice = 1),
                        nextval('decisioning._household_number')) AS household_id
             FROM (SELECT DISTINCT m.household_key FROM moved m) v)
         INSERT INTO decisioning._household_member (customer_id, household_key, household_id, since)
         SELECT m.customer_id, m.household_key, h.household_id, $4
         FROM moved m JOIN named h ON h.household_key = m.household_key",
        &[customers.into(), numbers.clone().into(), former.into(), now()?.into()],
    )?;
    let touched: Vec<i64> = left.iter().map(|(_, key, _)| *key).chain(numbers).collect();
    settle_crowds(touched)
}

/// A crowd is no household, and one that shrinks becomes one.
fn settle_crowds(keys: Vec<i64>) -> Result<()> {
    query::execute(
        "WITH sizes AS MATERIALIZED (
             SELECT m.household_key, count(*) > $2 AS is_crowd, min(m.household_id) AS household_id
             FROM decisioning._household_member m WHERE m.household_key = ANY ($1)
             GROUP BY m.household_key
             HAVING (count(*) > $2) <> bool_or(m.household_id IS NULL)),
         settled AS MATERIALIZED (
             SELECT s.household_key, CASE WHEN s.is_crowd THEN NULL
                                          ELSE coalesce(s.household_id, nextval('decisioning._household_number')) END AS household_id
             FROM sizes s),
         changed AS (
             UPDATE decisioning._household_member m SET household_id = s.household_id FROM settled s
             WHERE m.household_key = s.household_key AND m.household_id IS DISTINCT FROM s.household_id
             RETURNING m.customer_id, m.household_id)
         UPDATE decisioning.golden_records g SET household_id = c.household_id, updated_at = $3
         FROM changed c WHERE g.customer_id = c.customer_id AND g.household_id IS DISTINCT FROM c.household_id",
        &[keys.into(), (MOST_MEMBERS as i64).into(), now()?.into()],
    )?;
    Ok(())
}
