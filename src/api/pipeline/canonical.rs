//! The customer that an id stands for.

use std::collections::HashMap;

use crate::pg::error::Result;
use crate::pg::lookup::Lookup;
use crate::pg::query;

/// Canonical id of each given id: merged and source-qualified ids are resolved. Runs as the owner.
pub fn canonical_ids(customer_ids: &[String]) -> Result<Vec<String>> {
    let aliases: HashMap<String, String> = query::read(
        "SELECT a.alias, a.customer_id FROM decisioning._alias a WHERE a.alias = ANY ($1)",
        &[customer_ids.to_vec().into()],
        |row| Ok((row.value(1)?, row.value(2)?)),
    )?
    .into_iter()
    .collect();
    Ok(customer_ids.iter().map(|id| aliases.get(id).unwrap_or(id).clone()).collect())
}

/// Separators are no longer than they must be to keep ids apart.
const MOST_COLONS: usize = 8;

/// Tables open for looking ids up: what the view _alias shows, past the executor.
pub struct Directory {
    aliases: Lookup<1>,
    records: Option<Lookup<2>>,
}

impl Directory {
    /// # Errors
    /// A table is missing.
    pub fn open() -> Result<Self> {
        Ok(Directory { aliases: Lookup::open(c"_customer_alias", [c"customer_id"])?.unless_empty(), records: None })
    }

    /// The canonical id.
    pub fn canonical(&mut self, id: &str) -> Result<String> {
        if let Some(customer_id) = self.aliases.find(&[id], |row| row.value::<String>(0))? {
            return Ok(customer_id);
        }
        // Source names have no colon, so the first one ends it; further ones may keep the id apart from others.
        let Some((source, rest)) = id.split_once(':') else { return Ok(id.to_owned()) };
        let records = match &mut self.records {
            Some(records) => records,
            records => records.insert(Lookup::open(c"_record", [c"customer_id", c"separator"])?),
        };
        // Where the separator ends and the key begins the record tells; a key may begin with colons of its own.
        let colons = rest.len() - rest.trim_start_matches(':').len();
        for key in (0..=colons.min(MOST_COLONS)).map(|colons| &rest[colons..]) {
            let found = records.find(&[key, source], |row| Ok((row.value::<String>(0)?, row.value::<String>(1)?)))?;
            if let Some((customer_id, separator)) = found {
                if id.len() == source.len() + separator.len() + key.len() {
                    return Ok(customer_id);
                }
            }
        }
        Ok(id.to_owned())
    }
}
