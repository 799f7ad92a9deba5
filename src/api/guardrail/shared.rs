//! Sends that compete under a cap over all campaigns: who makes one changes the row of the customer, if it is as it was read.

use pgrx::IntoDatum;

use crate::pg::claim::Claims;
use crate::pg::error::Result;
use crate::pg::lookup::{Lookup, RowId};

/// The row of a customer as read: which version it is, and how many sends it counts.
#[derive(Clone, Copy)]
pub struct Shared {
    row: RowId,
    sends: i64,
}

/// The row of each of `ids`, if there is one.
pub fn read(ids: &[&str]) -> Result<Vec<Option<Shared>>> {
    let mut rows = Lookup::open(c"_customer", [c"sends"])?;
    ids.iter().map(|id| rows.find(&[id], |row| Ok(Shared { row: row.id(), sends: row.value(0)? }))).collect()
}

pub struct Sends(Claims<2>);

impl Sends {
    pub fn open() -> Result<Self> {
        Ok(Sends(Claims::open(c"_customer", [c"customer_id", c"sends"])?))
    }

    /// Whether nobody else has sent the customer anything since his row was read.
    pub fn claim(&mut self, customer_id: &str, read: Option<Shared>) -> Result<bool> {
        let sends = read.map_or(1, |read| read.sends + 1);
        let values = || Ok([customer_id.into_datum(), sends.into_datum()]);
        match read {
            None => self.0.insert(values),
            Some(read) => self.0.update(read.row, 1, values),
        }
    }
}
