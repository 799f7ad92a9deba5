//! Ids that merged and former customers are known by.

use decisioning_core::identity::{AliasDifference, AliasVerdict, Resolution};

use super::{append, in_chunks, Scope, Target, CHUNK};
use crate::pg::bulk::Indexes;
use crate::pg::error::Result;
use crate::pg::memory::scratch;
use crate::pg::scan::Tuple;
use crate::pg::{query, scan};

/// Aliases that are to change.
pub struct Aliases<'a> {
    /// With whom they stood for.
    pub gone: Vec<(String, String)>,
    /// With whom they stood for, and whom they are to stand for.
    pub stale: Vec<(String, String, &'a str)>,
    pub missing: Vec<(String, &'a str)>,
}

impl<'a> Aliases<'a> {
    pub fn compare(resolution: &'a Resolution, target: &Target<'_>) -> Result<Self> {
        let mut difference = AliasDifference::of(resolution);
        let (mut gone, mut stale) = (Vec::new(), Vec::new());
        let mut compare = |row: &Tuple<'_>| {
            if let (Some(alias), Some(customer_id)) = (row.text(0)?, row.text(1)?) {
                match difference.compare(alias, customer_id) {
                    AliasVerdict::Keep => {}
                    AliasVerdict::Change(to) => stale.push((alias.to_owned(), customer_id.to_owned(), to)),
                    AliasVerdict::Delete => gone.push((alias.to_owned(), customer_id.to_owned())),
                }
            }
            Ok(())
        };
        target.scope.each(
            "SELECT a.alias, a.customer_id FROM decisioning._customer_alias a",
            "SELECT a.alias, a.customer_id FROM unnest($1::text[]) AS n(customer_id)
             CROSS JOIN LATERAL (SELECT a.* FROM decisioning._customer_alias a WHERE a.customer_id = n.customer_id OFFSET 0) AS a",
            &mut compare,
        )?;
        if let Scope::Of { aliases, .. } = target.scope {
            for chunk in aliases.chunks(CHUNK) {
                // A record that was gone is back: its key may stand for somebody else meanwhile.
                let by_alias = "SELECT a.alias, a.customer_id FROM unnest($1::text[]) AS n(alias)
                     CROSS JOIN LATERAL (SELECT a.* FROM decisioning._customer_alias a WHERE a.alias = n.alias OFFSET 0) AS a";
                scan::scan(by_alias, &[chunk.to_vec().into()], CHUNK, &mut compare, || Ok(()))?;
            }
        }
        gone.sort_unstable();
        gone.dedup();
        stale.sort_unstable();
        stale.dedup();
        let missing = difference.missing().collect();
        Ok(Aliases { gone, stale, missing })
    }

    pub fn write(&self, indexes: Indexes) -> Result<usize> {
        let deleted = in_chunks(self.gone.iter(), |rows| {
            let aliases: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
            scratch(|| {
                query::execute(
                    "DELETE FROM decisioning._customer_alias a USING unnest($1::text[]) AS u (alias) WHERE a.alias = u.alias",
                    &[aliases.into()],
                )
            })
        })?;
        let changed = in_chunks(self.stale.iter(), |rows| {
            let aliases: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
            let customers: Vec<&str> = rows.iter().map(|row| row.2).collect();
            scratch(|| {
                query::execute(
                    "UPDATE decisioning._customer_alias a SET customer_id = u.customer_id
                     FROM unnest($1::text[], $2::text[]) AS u (alias, customer_id) WHERE a.alias = u.alias",
                    &[aliases.into(), customers.into()],
                )
            })
        })?;
        let missing = in_chunks(self.missing.iter(), |rows| {
            let rows: Vec<_> = rows.iter().map(|row| [Some(row.0.as_str()), Some(row.1)]).collect();
            append(indexes, c"_customer_alias", [c"alias", c"customer_id"], &rows)
        })?;
        Ok(deleted + changed + missing)
    }
}
