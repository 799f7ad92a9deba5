//! What people set about linkage: settings, weights, factors, blocking rules and nicknames.

use std::collections::BTreeMap;

use decisioning_core::identity::{Attribute, BlockingRule, BlockingRules, FieldKind, LevelOverride, Overrides};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde::Deserialize;

use super::source::{self, Source};
use crate::api::configuration;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query::{self, Argument};

/// The configuration of linkage.
pub struct Wanted {
    pub overrides: Overrides,
    /// Rules that were added (true) or switched off (false).
    changed_rules: BTreeMap<String, bool>,
    block_limit: Option<u32>,
}

impl Wanted {
    /// The rules for records that have these attributes.
    ///
    /// # Errors
    /// Too many rules.
    pub fn blocking(&self, attributes: &[Attribute]) -> Result<BlockingRules> {
        let limit = self.block_limit.unwrap_or(BlockingRules::proposed(|_| false).block_limit);
        let rules = self.rules(attributes)?.into_iter().filter(|rule| rule.enabled).map(|rule| rule.rule);
        Ok(BlockingRules::new(rules.collect(), limit)?)
    }

    /// Rules that are proposed for records that have these attributes, in their order, and then those that were added.
    fn rules(&self, attributes: &[Attribute]) -> Result<Vec<ListedRule>> {
        let proposed = BlockingRules::proposed(|attribute| attributes.contains(&attribute)).rules;
        let mut rules: Vec<ListedRule> = proposed
            .into_iter()
            .map(|rule| ListedRule {
                enabled: self.changed_rules.get(&rule.to_string()) != Some(&false),
                rule,
                proposed: true,
            })
            .collect();
        for (text, &enabled) in &self.changed_rules {
            let rule: BlockingRule = text.parse()?;
            if rules.iter().all(|known| known.rule != rule) {
                rules.push(ListedRule { rule, enabled, proposed: false });
            }
        }
        Ok(rules)
    }
}

struct ListedRule {
    rule: BlockingRule,
    enabled: bool,
    proposed: bool,
}

/// What is configured. Runs as the owner.
pub fn load() -> Result<Wanted> {
    let settings: BTreeMap<String, f64> =
        query::read("SELECT s.setting, s.value FROM decisioning.match_settings s", &[], |row| {
            Ok((row.value(1)?, row.value(2)?))
        })?
        .into_iter()
        .collect();
    let levels = query::read(
        "SELECT w.comparison, w.level, w.m, w.u FROM decisioning.match_weights w ORDER BY w.comparison, w.level",
        &[],
        |row| Ok(LevelOverride { comparison: row.value(1)?, level: row.value(2)?, m: row.get(3)?, u: row.get(4)? }),
    )?;
    let factors = query::read(
        "SELECT f.comparison, f.factor FROM decisioning.match_factors f WHERE f.source = '' ORDER BY f.comparison",
        &[],
        |row| Ok((row.value(1)?, row.value(2)?)),
    )?;
    let source_factors = query::read(
        "SELECT f.comparison, f.source, f.factor FROM decisioning.match_factors f WHERE f.source <> ''
         ORDER BY f.comparison, f.source",
        &[],
        |row| Ok((row.value(1)?, row.value(2)?, row.value(3)?)),
    )?;
    let rules = query::read("SELECT b.blocking_rule, b.enabled FROM decisioning.blocking_rules b", &[], |row| {
        Ok((row.value::<String>(1)?, row.value(2)?))
    })?;
    let changed_rules = rules
        .into_iter()
        .map(|(rule, enabled)| Ok((rule.parse::<BlockingRule>()?.to_string(), enabled)))
        .collect::<Result<_>>()?;
    let overrides = Overrides {
        prior: settings.get("prior").copied(),
        threshold: settings.get("threshold").map(|probability| weight_of(*probability)),
        review_threshold: settings.get("review_threshold").map(|probability| weight_of(*probability)),
        levels,
        disabled: Vec::new(),
        factors,
        source_factors,
    };
    let block_limit = settings.get("block_limit").map(|limit| *limit as u32);
    Ok(Wanted { overrides, changed_rules, block_limit })
}

/// Match weight, in bits, of a probability.
pub fn weight_of(probability: f64) -> f64 {
    (probability / (1.0 - probability)).log2()
}

/// Probability of a match weight.
pub fn probability_of(weight: f64) -> f64 {
    1.0 / (1.0 + (-weight).exp2())
}

#[pg_extern(sql = false)]
fn set_match_setting(setting: Option<&str>, value: Option<f64>) -> std::result::Result<(), ErrorReport> {
    Ok(set_setting(required(setting, "setting")?, value)?)
}

fn set_setting(setting: &str, value: Option<f64>) -> Result<()> {
    let range = match setting {
        "prior" | "threshold" | "review_threshold" => "above 0 and below 1",
        "block_limit" => "between 2 and 800",
        "email_providers" => "0 or 1",
        _ => {
            return Err(Error::missing(format!("setting \"{setting}\" of matching does not exist"))
                .hint("Settings are prior, threshold, review_threshold, block_limit and email_providers."))
        }
    };
    let fits = |value: f64| match setting {
        "block_limit" => (2.0..=800.0).contains(&value) && value.fract() == 0.0,
        "email_providers" => value == 0.0 || value == 1.0,
        _ => value > 0.0 && value < 1.0,
    };
    if value.is_some_and(|value| !fits(value)) {
        return Err(Error::invalid(format!("{setting} must be {range}")));
    }
    set("match_settings", &["setting"], &["value"], &[setting.into(), value.into()], value.is_some())
}

#[pg_extern(sql = false)]
fn set_match_weight(
    comparison: Option<&str>,
    level: Option<&str>,
    m: Option<f64>,
    u: Option<f64>,
) -> std::result::Result<(), ErrorReport> {
    let (comparison, level) = (required(comparison, "comparison")?.to_owned(), required(level, "level")?.to_owned());
    Ok(set_weight(&LevelOverride { comparison, level, m, u })?)
}

fn set_weight(level: &LevelOverride) -> Result<()> {
    check(Overrides { levels: vec![level.clone()], ..Overrides::default() })?;
    let arguments = [level.comparison.as_str().into(), level.level.as_str().into(), level.m.into(), level.u.into()];
    set("match_weights", &["comparison", "level"], &["m", "u"], &arguments, level.m.is_some() || level.u.is_some())
}

#[pg_extern(sql = false)]
fn set_match_factor(
    comparison: Option<&str>,
    factor: Option<f64>,
    source: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    if let Some(name) = source {
        if !as_owner(source::load)?.iter().any(|known| known.name == name) {
            return Err(source::unknown(name)?.into());
        }
    }
    Ok(set_factor(required(comparison, "comparison")?, source.unwrap_or(""), factor)?)
}

/// Sets the factor of a comparison, for one source or, with an empty name, for all.
fn set_factor(comparison: &str, source: &str, factor: Option<f64>) -> Result<()> {
    check(Overrides { factors: vec![(comparison.to_owned(), factor.unwrap_or(1.0))], ..Overrides::default() })?;
    let is_set = factor.is_some_and(|factor| factor != 1.0);
    let arguments = [comparison.into(), source.into(), factor.into()];
    set("match_factors", &["comparison", "source"], &["factor"], &arguments, is_set)
}

#[pg_extern(sql = false)]
fn add_blocking_rule(blocking_rule: Option<&str>, enabled: Option<bool>) -> std::result::Result<String, ErrorReport> {
    let enabled = required(enabled, "enabled")?;
    let rule: BlockingRule = required(blocking_rule, "blocking_rule")?.parse().map_err(|error| {
        Error::from(error).hint(
            "Join parts with +: kinds of fields such as family_name or email, with given_name:2 their first letters only, \
             and email_local, year_of_birth, names, nickname.",
        )
    })?;
    let rule = rule.to_string();
    set("blocking_rules", &["blocking_rule"], &["enabled"], &[rule.as_str().into(), enabled.into()], true)?;
    Ok(rule)
}

#[pg_extern(sql = false)]
fn add_nickname(given_name: Option<&str>, nickname: Option<&str>) -> std::result::Result<(), ErrorReport> {
    Ok(add_form(required(given_name, "given_name")?, required(nickname, "nickname")?)?)
}

fn add_form(name: &str, nickname: &str) -> Result<()> {
    as_owner(|| {
        configuration::execute(
            "INSERT INTO decisioning.nicknames (given_name, nickname)
             SELECT $1, $2 WHERE NOT EXISTS (
                 SELECT FROM decisioning.nicknames n WHERE n.given_name = $1 AND n.nickname = $2)",
            &[name.into(), nickname.into()],
        )?;
        Ok(())
    })
}

/// Whether these exist and are within their ranges.
fn check(overrides: Overrides) -> Result<()> {
    overrides.check().map_err(|error| {
        Error::from(error)
            .hint("SELECT comparison, level FROM decisioning.match_weights_in_effect shows what there is.")
    })?;
    Ok(())
}

/// Sets the row of a configuration table to `arguments`, which are those of key columns and then value columns; or deletes it.
fn set(table: &str, key: &[&str], values: &[&str], arguments: &[Argument<'_>], is_set: bool) -> Result<()> {
    let place = |column: &&str| key.iter().chain(values).position(|known| known == column).map_or(0, |at| at + 1);
    let equals = |columns: &[&str], alias: &str, by: &str| {
        let terms: Vec<String> = columns.iter().map(|column| format!("{alias}{column} = ${}", place(column))).collect();
        terms.join(by)
    };
    let found = equals(key, "t.", " AND ");
    as_owner(|| {
        // Not ON CONFLICT: its attempt to insert would open an epoch of its own.
        query::execute(&format!("LOCK TABLE decisioning.{table} IN SHARE ROW EXCLUSIVE MODE"), &[])?;
        if !is_set {
            let arguments = &arguments[..key.len()];
            query::execute(&format!("DELETE FROM decisioning.{table} t WHERE {found}"), arguments)?;
            return Ok(());
        }
        let changed = equals(values, "", ", ");
        let updated = query::execute(&format!("UPDATE decisioning.{table} t SET {changed} WHERE {found}"), arguments)?;
        if updated == 0 {
            let columns: Vec<&str> = key.iter().chain(values).copied().collect();
            let numbers: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
            query::execute(
                &format!("INSERT INTO decisioning.{table} ({}) VALUES ({})", columns.join(", "), numbers.join(", ")),
                arguments,
            )?;
        }
        Ok(())
    })
}

/// Attributes that records of these sources may have.
pub fn attributes_of(sources: &[Source]) -> Vec<Attribute> {
    let kinds: Vec<&FieldKind> = sources.iter().flat_map(Source::kinds).collect();
    Attribute::ALL.into_iter().filter(|attribute| kinds.iter().any(|kind| attribute.comes_from(kind))).collect()
}

#[pg_extern(sql = false)]
fn _blocking_rules() -> std::result::Result<
    TableIterator<'static, (name!(blocking_rule, String), name!(enabled, bool), name!(proposed, bool))>,
    ErrorReport,
> {
    let (wanted, sources) = as_owner(|| Ok((load()?, source::load()?)))?;
    let rules = wanted.rules(&attributes_of(&sources))?;
    Ok(TableIterator::new(rules.into_iter().map(|rule| (rule.rule.to_string(), rule.enabled, rule.proposed))))
}

/// What `export_matching` writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    settings: BTreeMap<String, f64>,
    #[serde(default)]
    weights: Vec<LevelOverride>,
    #[serde(default)]
    factors: BTreeMap<String, f64>,
    /// By comparison and source.
    #[serde(default)]
    source_factors: BTreeMap<String, BTreeMap<String, f64>>,
    #[serde(default)]
    blocking_rules: BTreeMap<String, bool>,
    #[serde(default)]
    nicknames: Vec<(String, String)>,
}

#[pg_extern(sql = false)]
fn import_matching(document: Option<JsonB>) -> std::result::Result<(), ErrorReport> {
    let JsonB(document) = required(document, "document")?;
    let document: Document = serde_json::from_value(document).map_err(|error| {
        Error::invalid(format!("the document cannot be read: {error}"))
            .hint("It is what decisioning.export_matching() returns.")
    })?;
    Ok(import(document)?)
}

fn import(document: Document) -> Result<()> {
    let factors: Vec<(String, f64)> = document.factors.into_iter().collect();
    let source_factors: Vec<(String, String, f64)> = document
        .source_factors
        .into_iter()
        .flat_map(|(comparison, of)| of.into_iter().map(move |(source, factor)| (comparison.clone(), source, factor)))
        .collect();
    check(Overrides {
        levels: document.weights.clone(),
        factors: factors.clone(),
        source_factors: source_factors.clone(),
        ..Overrides::default()
    })?;
    let rules = document
        .blocking_rules
        .into_iter()
        .map(|(rule, enabled)| Ok((rule.parse::<BlockingRule>()?.to_string(), enabled)))
        .collect::<Result<Vec<_>>>()?;
    as_owner(|| {
        for table in ["match_settings", "match_weights", "match_factors", "blocking_rules", "nicknames"] {
            query::execute(&format!("DELETE FROM decisioning.{table}"), &[])?;
        }
        Ok(())
    })?;
    for (setting, value) in document.settings {
        set_setting(&setting, Some(value))?;
    }
    for level in &document.weights {
        set_weight(level)?;
    }
    for (comparison, factor) in factors {
        set_factor(&comparison, "", Some(factor))?;
    }
    for (comparison, source, factor) in source_factors {
        set_factor(&comparison, &source, Some(factor))?;
    }
    for (rule, enabled) in rules {
        set("blocking_rules", &["blocking_rule"], &["enabled"], &[rule.as_str().into(), enabled.into()], true)?;
    }
    document.nicknames.iter().try_for_each(|(name, nickname)| add_form(name, nickname))
}
