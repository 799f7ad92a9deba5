//! `decisioning`: a decision engine inside Postgres.
//!
//! `api` is the SQL surface, one file per capability; `pg` is the boundary to Postgres and holds all
//! `unsafe`; the algorithms live in the pure crate `decisioning-core`; the schema is `sql/*.sql`.

// Errors are reports with SQLSTATE, DETAIL and HINT; they are rare and leave the hot path at once.
#![allow(clippy::result_large_err)]
// pgrx reads the columns of a result off the signature, so row types cannot hide behind an alias.
#![allow(clippy::type_complexity)]

use pgrx::prelude::*;

mod api;
#[allow(unsafe_code)]
mod pg;

pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/10_configuration.sql", name = "configuration");
extension_sql_file!("../sql/20_state.sql", name = "state", requires = ["configuration"]);
extension_sql_file!("../sql/30_identity.sql", name = "identity", requires = ["state"]);
extension_sql_file!("../sql/31_linkage.sql", name = "linkage", requires = ["identity"]);
extension_sql_file!("../sql/32_matching.sql", name = "matching", requires = ["linkage"]);
extension_sql_file!("../sql/35_golden.sql", name = "golden", requires = ["matching"]);
extension_sql_file!("../sql/36_corrections.sql", name = "corrections", requires = ["golden"]);
extension_sql_file!("../sql/40_configure.sql", name = "configure", requires = ["corrections"]);
extension_sql_file!("../sql/42_brand.sql", name = "brand", requires = ["configure"]);
extension_sql_file!("../sql/43_configuration_documents.sql", name = "configuration_documents", requires = ["brand"]);
extension_sql_file!("../sql/50_decide.sql", name = "decide", requires = ["configuration_documents"]);
extension_sql_file!("../sql/55_budgets.sql", name = "budgets", requires = ["decide"]);
extension_sql_file!("../sql/56_guardrails.sql", name = "guardrails", requires = ["budgets"]);
extension_sql_file!("../sql/57_delivery.sql", name = "delivery", requires = ["guardrails"]);
extension_sql_file!("../sql/58_global_holdout.sql", name = "global_holdout", requires = ["delivery"]);
extension_sql_file!("../sql/59_renew_holdout.sql", name = "renew_holdout", requires = ["global_holdout"]);
extension_sql_file!("../sql/60_record.sql", name = "record", requires = ["renew_holdout"]);
extension_sql_file!("../sql/70_learn.sql", name = "learn", requires = ["record"]);
extension_sql_file!("../sql/75_statistics.sql", name = "statistics", requires = ["learn"]);
extension_sql_file!("../sql/80_measure.sql", name = "measure", requires = ["statistics"]);
extension_sql_file!("../sql/81_total_lift.sql", name = "total_lift", requires = ["measure"]);
extension_sql_file!("../sql/82_stop_rules.sql", name = "stop_rules", requires = ["total_lift"]);
extension_sql_file!("../sql/83_performance.sql", name = "performance", requires = ["stop_rules"]);
extension_sql_file!("../sql/84_insights.sql", name = "insights", requires = ["performance"]);
extension_sql_file!("../sql/85_fairness.sql", name = "fairness", requires = ["insights"]);
extension_sql_file!("../sql/86_health.sql", name = "health", requires = ["fairness"]);
extension_sql_file!("../sql/87_report.sql", name = "report", requires = ["health"]);
extension_sql_file!("../sql/88_privacy.sql", name = "privacy", requires = ["report"]);
extension_sql_file!("../sql/89_retention.sql", name = "retention", requires = ["privacy"]);
extension_sql_file!("../sql/90_rights.sql", name = "rights", requires = ["retention"], finalize);

#[pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    pg::settings::register();
}

#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
