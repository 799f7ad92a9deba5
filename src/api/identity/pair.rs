//! Pairs of records, as they are kept: what similarity joined, and what it left open.

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
pub fn write_all(resolution: &Resolution, numbers: &Numbers<'_>, is_first: bool) -> Result<usize> {
    query::execute("DELETE FROM decisioning._link", &[])?;
    query::execute("DELETE FROM decisioning._uncertain_pair", &[])?;
    append(resolution, numbers, if is_first { Indexes::Later } else { Indexes::Kept })
}

/// Writes the pairs of a run over the records with these numbers, over what is stored of pairs among them.
pub fn write_among(resolution: &Resolution, numbers: &Numbers<'_>, record_numbers: &[i64]) -> Result<usize> {
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

fn append(resolution: &Resolution, numbers: &Numbers<'_>, indexes: Indexes) -> Result<usize> {
    let mut links: Vec<PairLink<'_>> = resolution.links().collect();
    let mut uncertain: Vec<PairLink<'_>> = resolution.uncertain().take(MOST_UNCERTAIN).collect();
    for (table, pairs) in [(c"_link", &mut links), (c"_uncertain_pair", &mut uncertain)] {
        pairs.sort_by(|a, b| (a.left, a.right).cmp(&(b.left, b.right)));
        pairs.dedup_by(|a, b| (a.left, a.right) == (b.left, b.right));
        for pairs in pairs.chunks(CHUNK) {
            let columns = [c"left_number", c"right_number", c"weight", c"reason"];
            bulk::append_with(indexes, table, columns, pairs.len(), |n| {
                let pair = &pairs[n];
                Ok([
                    Some(datum::number(numbers.of(pair.left.0, pair.left.1)?)),
                    Some(datum::number(numbers.of(pair.right.0, pair.right.1)?)),
                    pgrx::IntoDatum::into_datum(pair.weight),
                    Some(datum::text(pair.reason)?),
                ])
            })?;
        }
        if indexes == Indexes::Later {
            bulk::reindex(table)?;
        }
    }
    Ok(links.len() + uncertain.len())
}
