//! What keeps a campaign from deciding.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::{campaign, context};
use crate::pg::error::{required, Result};
use crate::pg::guard::as_owner;
use crate::pg::relation::check_condition;
use crate::pg::transaction::attempt;

/// What cannot be read on the customers relation as it is now, of what deciding reads. Looked up as the caller; who may not look into
/// its schema is told nothing.
fn misfits(name: &str) -> Result<Vec<String>> {
    let (campaign, _) = as_owner(|| campaign::load(name))?;
    let relation = campaign.customers();
    if relation.shape().is_none() {
        return Ok(Vec::new());
    }
    let failed = context::conditions(&campaign)
        .filter_map(|(name, condition)| attempt(|| check_condition(&relation, condition, &name)).err())
        .filter(|failure| failure.sql_error_code() != PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE);
    Ok(failed.map(|failure| failure.message().to_owned()).collect())
}

#[pg_extern(sql = false)]
fn _misfits(campaign: Option<&str>) -> std::result::Result<Vec<String>, ErrorReport> {
    Ok(misfits(required(campaign, "campaign")?)?)
}
