//! Households: customers of one family name at one address.

use std::collections::{BTreeMap, HashMap, HashSet};

use decisioning_core::identity::MOST_MEMBERS;

use crate::api::now;
use crate::pg::error::Result;
use crate::pg::query;

/// Puts customers into the households of their keys, and takes those of `ids` out that have none. A household stays while its
/// members come and go; one whose members have all moved goes with most of them. Runs as the owner, by key.
pub fn assign(ids: &[String], keys: &[(&str, u64)]) -> Result<()> {
    let keys: HashMap<&str, i64> = keys.iter().map(|(customer, key)| (*customer, key.cast_signed())).collect();
    let wanted: Vec<Option<i64>> = ids.iter().map(|id| keys.get(id.as_str()).copied()).collect();
    // Customer, key and household of those who have left theirs.
    let left: Vec<(String, i64, Option<i64>)> = query::write(
        "DELETE FROM decisioning._household_member m
         USING unnest($1::text[], $2::bigint[]) AS k(customer_id, household_key)
         WHERE m.customer_id = k.customer_id AND m.household_key IS DISTINCT FROM k.household_key
         RETURNING m.customer_id, m.household_key, m.household_id",
        &[ids.to_vec().into(), wanted.into()],
        |row| Ok((row.value(1)?, row.value(2)?, row.get(3)?)),
    )?;
    let settled: HashSet<String> = query::write(
        "SELECT m.customer_id FROM unnest($1::text[]) AS n(customer_id)
         JOIN decisioning._household_member m ON m.customer_id = n.customer_id",
        &[ids.to_vec().into()],
        |row| row.value(1),
    )?
    .into_iter()
    .collect();
    let mut moved: Vec<(&str, i64)> = keys
        .iter()
        .map(|(customer, key)| (*customer, *key))
        .filter(|(customer, _)| !settled.contains(*customer))
        .collect();
    moved.sort_unstable();
    if !moved.is_empty() {
        let names = name(&moved, &left)?;
        query::execute(
            "INSERT INTO decisioning._household_member (customer_id, household_key, household_id, since)
             SELECT n.customer_id, n.household_key, n.household_id, $4
             FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS n(customer_id, household_key, household_id)",
            &[
                moved.iter().map(|(customer, _)| *customer).collect::<Vec<_>>().into(),
                moved.iter().map(|(_, key)| *key).collect::<Vec<_>>().into(),
                moved.iter().map(|(_, key)| names.get(key).copied()).collect::<Vec<_>>().into(),
                now()?.into(),
            ],
        )?;
    }
    let mut touched: Vec<i64> = left.iter().map(|(_, key, _)| *key).chain(moved.iter().map(|(_, key)| *key)).collect();
    touched.sort_unstable();
    touched.dedup();
    settle_crowds(touched)
}

/// The household of every key: the one that is there, else the one that most of its new members have left empty, else a new one.
fn name(moved: &[(&str, i64)], left: &[(String, i64, Option<i64>)]) -> Result<BTreeMap<i64, i64>> {
    let mut keys: Vec<i64> = moved.iter().map(|(_, key)| *key).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut names: BTreeMap<i64, i64> = query::write(
        "SELECT n.household_key, m.household_id FROM unnest($1::bigint[]) AS n(household_key)
         CROSS JOIN LATERAL (SELECT min(m.household_id) AS household_id FROM decisioning._household_member m
                             WHERE m.household_key = n.household_key OFFSET 0) AS m
         WHERE m.household_id IS NOT NULL",
        &[keys.clone().into()],
        |row| Ok((row.value(1)?, row.value(2)?)),
    )?
    .into_iter()
    .collect();
    let former: HashMap<&str, i64> =
        left.iter().filter_map(|(customer, _, household)| Some((customer.as_str(), (*household)?))).collect();
    let mut households: Vec<i64> = former.values().copied().collect();
    households.sort_unstable();
    households.dedup();
    let empty: HashSet<i64> = query::write(
        "SELECT n.household_id FROM unnest($1::bigint[]) AS n(household_id)
         CROSS JOIN LATERAL (SELECT count(*) AS members FROM decisioning._household_member m
                             WHERE m.household_id = n.household_id OFFSET 0) AS m
         WHERE m.members = 0",
        &[households.into()],
        |row| row.value(1),
    )?
    .into_iter()
    .collect();
    let mut claims: BTreeMap<(i64, i64), usize> = BTreeMap::new();
    for (customer, key) in moved {
        if let Some(household) = former.get(customer).filter(|household| empty.contains(household)) {
            *claims.entry((*household, *key)).or_default() += 1;
        }
    }
    let mut claims: Vec<((i64, i64), usize)> = claims.into_iter().collect();
    claims.sort_by_key(|(pair, members)| (std::cmp::Reverse(*members), *pair));
    let mut taken = HashSet::new();
    for ((household, key), _) in claims {
        if !names.contains_key(&key) && taken.insert(household) {
            names.insert(key, household);
        }
    }
    let nameless: Vec<i64> = keys.into_iter().filter(|key| !names.contains_key(key)).collect();
    let numbers = query::write(
        "SELECT nextval('decisioning._household_number') FROM generate_series(1, $1)",
        &[(nameless.len() as i32).into()],
        |row| row.value::<i64>(1),
    )?;
    names.extend(nameless.into_iter().zip(numbers));
    Ok(names)
}

/// A crowd is no household, and one that shrinks becomes one.
fn settle_crowds(keys: Vec<i64>) -> Result<()> {
    let settled: Vec<(i64, Option<i64>)> = query::write(
        "SELECT n.household_key,
                CASE WHEN m.members <= $2 THEN coalesce(m.household_id, nextval('decisioning._household_number')) END
         FROM unnest($1::bigint[]) AS n(household_key)
         CROSS JOIN LATERAL (SELECT count(*) AS members, min(m.household_id) AS household_id,
                                    bool_or(m.household_id IS NULL) AS nameless, bool_or(m.household_id IS NOT NULL) AS named
                             FROM decisioning._household_member m WHERE m.household_key = n.household_key OFFSET 0) AS m
         WHERE CASE WHEN m.members > $2 THEN m.named ELSE m.nameless END",
        &[keys.into(), (MOST_MEMBERS as i64).into()],
        |row| Ok((row.value(1)?, row.get(2)?)),
    )?;
    if settled.is_empty() {
        return Ok(());
    }
    query::execute(
        "WITH changed AS (
             UPDATE decisioning._household_member m SET household_id = n.household_id
             FROM unnest($1::bigint[], $2::bigint[]) AS n(household_key, household_id)
             WHERE m.household_key = n.household_key AND m.household_id IS DISTINCT FROM n.household_id
             RETURNING m.customer_id, m.household_id)
         UPDATE decisioning.golden_records g SET household_id = c.household_id, updated_at = $3
         FROM changed c WHERE g.customer_id = c.customer_id AND g.household_id IS DISTINCT FROM c.household_id",
        &[
            settled.iter().map(|(key, _)| *key).collect::<Vec<_>>().into(),
            settled.iter().map(|(_, household)| *household).collect::<Vec<_>>().into(),
            now()?.into(),
        ],
    )?;
    Ok(())
}
