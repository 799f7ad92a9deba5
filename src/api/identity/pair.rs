//! Pairs of records, as they are kept: what similarity joined, and what it left open.

use std::ffi::CStr;

use decisioning_core::identity::{PairLink, Resolution};

use super::write::Numbers;
use crate::pg::bulk::{self, Indexes};
use crate::pg::error::Result;
use crate::pg::{datum, query};

/// Most uncertain pairs that are kept, the most likely ones: nobody looks through more.
const MOST_UNCERTAIN: usize = 200_000;

/// Rows per batch.
const CHUNK: usize = 20_000;

/// Writes the pairs of a full run over what is stored. Returns their number.
pub fn write_all(resolution: &Resolution, numbers: &Numbers, is_first: bool) -> Result<usize> {
    query::execute("DELETE FROM decisioning._link", &[])?;
    query::execute("DELETE FROM decisioning._uncertain_pair", &[])?;
    append(resolution, numbers, if is_first { Indexes::Later } else { Indexes::Kept })
}

/// Writes the pairs of a run over the records with these numbers, over what is stored of pairs among them.
pub fn write_among(resolution: &Resolution, numbers: &Numbers, record_numbers: &[i64]) -> Result<usize> {
    for table in ["_link", "_uncertain_pair"] {
        query::execute(
            &format!(
                "DELETE FROM decisioning.{table} p
                 USING (SELECT p.left_number, p.right_number FROM unnest($1::bigint[]) AS n(record_number)
                        CROSS JOIN LATERAL (SELECT p.* FROM decisioning.{table} p
                                            WHERE p.left_number = n.record_number OFFSET 0) AS p) AS f
                 WHERE p.left_number = f.left_number AND p.right_number = f.right_number AND p.right_number = ANY ($1)"
            ),
            &[record_numbers.to_vec().into()],
        )?;
    }
    append(resolution, numbers, Indexes::Kept)
}

fn append(resolution: &Resolution, numbers: &Numbers, indexes: Indexes) -> Result<usize> {
    let links = append_to(c"_link", resolution.links(), numbers, indexes)?;
    let uncertain = resolution.uncertain().take(MOST_UNCERTAIN);
    Ok(links + append_to(c"_uncertain_pair", uncertain, numbers, indexes)?)
}

fn append_to<'a>(
    table: &CStr,
    pairs: impl Iterator<Item = PairLink<'a>>,
    numbers: &Numbers,
    indexes: Indexes,
) -> Result<usize> {
    let row =
        |pair: PairLink<'a>| Ok((numbers.of(pair.records.0)?, numbers.of(pair.records.1)?, pair.weight, pair.reason));
    let mut rows = pairs.map(row).collect::<Result<Vec<(i64, i64, f32, &'static str)>>>()?;
    rows.sort_by_key(|row| (row.0, row.1));
    rows.dedup_by_key(|row| (row.0, row.1));
    for rows in rows.chunks(CHUNK) {
        let columns = [c"left_number", c"right_number", c"weight", c"reason"];
        bulk::append_with(indexes, table, columns, rows.len(), |n| {
            let (left, right, weight, reason) = rows[n];
            Ok([
                Some(datum::number(left)),
                Some(datum::number(right)),
                pgrx::IntoDatum::into_datum(weight),
                Some(datum::text(reason)?),
            ])
        })?;
    }
    if indexes == Indexes::Later {
        bulk::reindex(table)?;
    }
    Ok(rows.len())
}
