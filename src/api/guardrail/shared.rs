//! Customers for whom sessions compete under a cap over all campaigns.

use crate::pg::error::Result;
use crate::pg::query;

/// Locks customers, given in their order, until the end of the transaction; whoever decides for one of them under such a cap waits
/// here, and then sees what he was sent. Rows are changed, so that under REPEATABLE READ a customer whom another session decided
/// for meanwhile is a serialization error. Taken after the locks of budgets and households have been, a call could wait for
/// another that waits for it; hence before. Runs as the owner.
pub fn lock(customer_ids: &[&str]) -> Result<()> {
    query::execute(
        "INSERT INTO decisioning._customer AS c (customer_id, decisions)
         SELECT n.customer_id, 1 FROM unnest($1::text[]) WITH ORDINALITY AS n(customer_id, turn) ORDER BY n.turn
         ON CONFLICT (customer_id) DO UPDATE SET decisions = c.decisions + 1",
        &[customer_ids.to_vec().into()],
    )?;
    Ok(())
}
