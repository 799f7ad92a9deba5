//! Campaigns as code: a campaign as one document, and back.

mod apply;
mod document;
mod registry;
mod rows;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::Value;

use super::campaign;
use crate::pg::error::required;
use crate::pg::guard::{as_owner, as_owner_for_documents};

#[pg_extern(sql = false)]
fn export_configuration(campaign: Option<&str>) -> std::result::Result<JsonB, ErrorReport> {
    let name = required(campaign, "campaign")?;
    as_owner(|| campaign::load(name))?;
    Ok(JsonB(Value::Object(as_owner_for_documents(|| document::write(name))?)))
}

#[pg_extern(sql = false)]
fn _configure(document: Option<JsonB>) -> std::result::Result<JsonB, ErrorReport> {
    Ok(JsonB(apply::apply(&document::parse(required(document, "document")?.0)?)?))
}
