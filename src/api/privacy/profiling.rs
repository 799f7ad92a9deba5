//! Consent to profiling: whoever has not given it is not decided for, and whoever refuses it is forgotten.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::forget::forget_all;
use crate::api::campaign::{self, Campaign};
use crate::api::configuration;
use crate::api::configure::check_editable;
use crate::api::pipeline::canonical_ids;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::relation::{quote_identifier, ColumnKind};

/// Rows per fetch.
const FETCH: usize = 10_000;

/// Forgets everybody of whom something is known and who refuses, in the customers relation of any campaign that is told of consent.
/// A campaign whose relation cannot be read does not keep the others. Not a part of `maintain`, which learns for long with locks
/// that this would wait for, and whose own locks deciders would wait for.
#[pg_extern(sql = false)]
fn forget_refusals() -> std::result::Result<i64, ErrorReport> {
    let mut all = 0;
    let campaigns = as_owner(|| {
        query::read(
            "SELECT c.campaign FROM decisioning.campaigns c
             WHERE c.profiling_column IS NOT NULL AND c.status <> 'ended' ORDER BY 1",
            &[],
            |row| row.value::<String>(1),
        )
    })?;
    for name in campaigns {
        let (campaign, _) = as_owner(|| campaign::load(&name))?;
        match refusals(&campaign) {
            Ok(ids) if ids.is_empty() => {}
            Ok(ids) => all += forget_all(&ids, "refused profiling")?,
            Err(error) => pgrx::warning!("profiling consent of campaign \"{name}\": {}", error.message()),
        }
    }
    Ok(all)
}

/// Customers who refuse and of whom something is known, in order. Reads the relation as the caller.
fn refusals(campaign: &Campaign) -> Result<Vec<String>> {
    let Some(column) = campaign.profiling_column.as_deref() else { return Ok(Vec::new()) };
    let relation = campaign.customers();
    let columns = relation.columns()?;
    let key = relation.column(&columns, &campaign.customer_key)?;
    let sql = format!(
        "SELECT {} FROM {} AS relation WHERE relation.{} IS NOT NULL AND relation.{} IS FALSE",
        key.text("relation"),
        relation.quoted(),
        quote_identifier(&key.name),
        quote_identifier(&relation.column(&columns, column)?.name),
    );
    let mut found = Vec::new();
    query::stream(
        &sql,
        &[],
        FETCH,
        |row| row.value::<String>(1),
        |ids| {
            found.extend(as_owner(|| known(&canonical_ids(&ids)?))?);
            Ok(())
        },
    )?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Those of whom the log or a record tells. Runs as the owner.
fn known(ids: &[String]) -> Result<Vec<String>> {
    query::read(
        "SELECT n.id FROM unnest($1::text[]) AS n(id)
         WHERE EXISTS (SELECT FROM decisioning._assignment s WHERE s.customer_id = n.id)
            OR EXISTS (SELECT FROM decisioning._merged_assignment m WHERE m.customer_id = n.id)
            OR EXISTS (SELECT FROM decisioning.outcomes o WHERE o.customer_id = n.id)
            OR EXISTS (SELECT FROM decisioning._record r WHERE r.customer_id = n.id)",
        &[ids.to_vec().into()],
        |row| row.value(1),
    )
}

#[pg_extern(sql = false)]
fn set_profiling_consent(campaign: Option<&str>, consent_column: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let name = required(campaign, "campaign")?;
    let loaded = as_owner(|| {
        check_editable(name)?;
        Ok(campaign::load(name)?.0)
    })?;
    if let Some(column) = consent_column {
        let relation = loaded.customers();
        if relation.column(&relation.columns()?, column)?.kind != ColumnKind::Boolean {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column \"{column}\" is not boolean"),
            )
            .hint("true is consent, false refuses, NULL does neither.")
            .into());
        }
    }
    as_owner(|| {
        configuration::execute(
            "UPDATE decisioning.campaigns c SET profiling_column = $2 WHERE c.campaign = $1",
            &[name.into(), consent_column.into()],
        )
    })?;
    Ok(())
}
