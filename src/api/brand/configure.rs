//! Brand rules, claims and contents, as people set them.

use std::collections::BTreeMap;

use decisioning_core::brand::spelled;
use decisioning_core::guardrail::Selector;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::Value;

use super::check::{of_action, FindingRow};
use crate::api::action::{check_action, notice_slots};
use crate::api::campaign;
use crate::api::configuration;
use crate::api::configure::check_editable;
use crate::api::guardrail::binding::scope;
use crate::api::guardrail::configure::{document, named, selector};
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::{as_owner, caller_name};
use crate::pg::query;
use crate::pg::relation::ColumnKind;

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn add_brand_rule(
    kind: Option<&str>,
    parameters: Option<JsonB>,
    rule: Option<&str>,
    campaign: Option<&str>,
    actions: Option<JsonB>,
    locales: Option<Vec<Option<String>>>,
    regions: Option<Vec<Option<String>>>,
    fields: Option<Vec<Option<String>>>,
    severity: Option<&str>,
    valid_from: Option<TimestampWithTimeZone>,
    valid_until: Option<TimestampWithTimeZone>,
    owner: Option<&str>,
    description: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let (kind, parameters) = (required(kind, "kind")?, required(parameters, "parameters")?);
    let (selector, severity) = (selector(actions, "actions")?, required(severity, "severity")?);
    if !["block", "warn"].contains(&severity) {
        return Err(Error::invalid(format!("unknown severity \"{severity}\""))
            .hint("Severities are block and warn.")
            .into());
    }
    let locales = named(locales, "locales", "all locales")?;
    let regions = named(regions, "regions", "all regions")?;
    let fields = named(fields, "fields", "all texts of the content")?;
    let scope_of = [("locales", &locales), ("regions", &regions), ("fields", &fields)];
    let name = match rule {
        Some(rule) => rule.to_owned(),
        None => title(kind, &parameters.0, campaign, &selector, &scope_of)?,
    };
    as_owner(|| {
        scope(campaign, &selector)?;
        configuration::execute(
            "INSERT INTO decisioning.brand_rules (rule, campaign, kind, parameters, severity, actions, locales, regions, fields,
                 valid_from, valid_until, owner, description)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             ON CONFLICT (rule) DO UPDATE
             SET campaign = excluded.campaign, kind = excluded.kind, parameters = excluded.parameters, severity = excluded.severity,
                 actions = excluded.actions, locales = excluded.locales, regions = excluded.regions, fields = excluded.fields,
                 valid_from = excluded.valid_from, valid_until = excluded.valid_until, owner = excluded.owner,
                 description = excluded.description",
            &[
                name.as_str().into(),
                campaign.into(),
                kind.into(),
                parameters.into(),
                severity.into(),
                document(&selector)?.into(),
                locales.into(),
                regions.into(),
                fields.into(),
                valid_from.into(),
                valid_until.into(),
                owner.into(),
                description.into(),
            ],
        )
    })?;
    Ok(name)
}

/// The name of a rule that is given none: all that tells it from others, so that only the same rule is set again under it.
fn title(
    kind: &str,
    parameters: &Value,
    campaign: Option<&str>,
    selector: &Selector,
    scopes: &[(&str, &Option<Vec<String>>)],
) -> Result<String> {
    let mut title = campaign.map(|campaign| format!("{campaign}: ")).unwrap_or_default();
    title.push_str(&format!("{kind} {parameters}"));
    if !selector.is_everything() {
        title.push_str(&format!(" for {selector}"));
    }
    for (name, scope) in scopes {
        title.extend(scope.iter().map(|scope| format!(", {name} {}", scope.join(" "))));
    }
    match title.chars().count() {
        0..=200 => Ok(title),
        _ => Err(Error::invalid("a rule with so much to it needs a name").hint("Give it one: rule => 'no risk free'.")),
    }
}

#[pg_extern(sql = false)]
fn remove_brand_rule(rule: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let rule = required(rule, "rule")?;
    as_owner(|| {
        let removed = query::execute("DELETE FROM decisioning.brand_rules r WHERE r.rule = $1", &[rule.into()])?;
        match removed {
            0 => Err(Error::missing(format!("brand rule \"{rule}\" does not exist"))
                .hint("SELECT rule FROM decisioning.brand_rules lists them.")),
            _ => Ok(()),
        }
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn add_claim(
    claim: Option<&str>,
    phrases: Option<Vec<Option<String>>>,
    substantiation: Option<&str>,
    valid_from: Option<TimestampWithTimeZone>,
    expires_at: Option<TimestampWithTimeZone>,
    owner: Option<&str>,
) -> std::result::Result<String, ErrorReport> {
    let claim = required(claim, "claim")?;
    let phrases: Vec<String> = required(phrases, "phrases")?
        .into_iter()
        .map(|phrase| required(phrase, "phrases element"))
        .collect::<Result<_>>()?;
    if phrases.is_empty() || phrases.iter().any(|phrase| decisioning_core::brand::Phrase::new(phrase).is_none()) {
        return Err(Error::invalid("phrases must not be empty").hint("Give the wordings of the claim.").into());
    }
    let substantiation = required(substantiation, "substantiation")?;
    if !(substantiation.starts_with("https://") || substantiation.starts_with("http://")) {
        return Err(Error::invalid("substantiation must be a link")
            .hint("Link to the study or document that proves the claim.")
            .into());
    }
    as_owner(|| {
        configuration::execute(
            "INSERT INTO decisioning.claims (claim, phrases, substantiation, valid_from, expires_at, owner)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (claim) DO UPDATE
             SET phrases = excluded.phrases, substantiation = excluded.substantiation, valid_from = excluded.valid_from,
                 expires_at = excluded.expires_at, owner = excluded.owner",
            &[claim.into(), phrases.into(), substantiation.into(), valid_from.into(), expires_at.into(), owner.into()],
        )
    })?;
    Ok(claim.to_owned())
}

#[pg_extern(sql = false)]
fn remove_claim(claim: Option<&str>) -> std::result::Result<(), ErrorReport> {
    let claim = required(claim, "claim")?;
    as_owner(|| {
        let removed = query::execute("DELETE FROM decisioning.claims c WHERE c.claim = $1", &[claim.into()])?;
        match removed {
            0 => Err(Error::missing(format!("claim \"{claim}\" does not exist"))
                .hint("SELECT claim FROM decisioning.claims lists them.")),
            _ => Ok(()),
        }
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
fn set_content(
    campaign: Option<&str>,
    action: Option<&str>,
    content: Option<JsonB>,
    locale: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    let (campaign, action) = (required(campaign, "campaign")?, required(action, "action")?);
    as_owner(|| {
        check_editable(campaign)?;
        check_action(campaign, action)?;
        write_content(campaign, action, content, locale)
    })?;
    Ok(())
}

/// Runs as the owner.
fn write_content(campaign: &str, action: &str, content: Option<JsonB>, locale: Option<&str>) -> Result<()> {
    match (locale, content) {
        (None, content) => configuration::execute(
            "UPDATE decisioning.actions a SET content = $3 WHERE a.campaign = $1 AND a.action = $2",
            &[campaign.into(), action.into(), content.into()],
        ),
        (Some(locale), None) => query::execute(
            "DELETE FROM decisioning.action_contents v WHERE v.campaign = $1 AND v.action = $2 AND v.locale = $3",
            &[campaign.into(), action.into(), locale.into()],
        ),
        (Some(locale), Some(content)) => {
            check_locale(locale)?;
            configuration::execute(
                "INSERT INTO decisioning.action_contents (campaign, action, locale, content) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (campaign, action, locale) DO UPDATE SET content = excluded.content",
                &[campaign.into(), action.into(), locale.into(), content.into()],
            )
        }
    }?;
    Ok(())
}

fn check_locale(locale: &str) -> Result<()> {
    match spelled(locale) {
        Some(known) if known == locale => Ok(()),
        Some(known) => {
            Err(Error::invalid(format!("locale \"{locale}\" is spelled otherwise")).hint(format!("Write \"{known}\".")))
        }
        None => Err(Error::invalid(format!("\"{locale}\" is no locale"))
            .hint("A language, or a language and a region: de, de-AT.")),
    }
}

#[pg_extern(sql = false)]
fn set_brand_options(
    campaign: Option<&str>,
    four_eyes: Option<bool>,
    locale_column: Option<&str>,
) -> std::result::Result<(), ErrorReport> {
    let name = required(campaign, "campaign")?;
    let loaded = as_owner(|| {
        check_editable(name)?;
        Ok(campaign::load(name)?.0)
    })?;
    if let Some(column) = locale_column {
        let relation = loaded.customers();
        if relation.column(&relation.columns()?, column)?.kind != ColumnKind::Text {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("column \"{column}\" is not text"),
            )
            .into());
        }
    }
    as_owner(|| {
        configuration::execute(
            "UPDATE decisioning.campaigns c
             SET four_eyes = coalesce($2, c.four_eyes), locale_column = coalesce($3, c.locale_column) WHERE c.campaign = $1",
            &[name.into(), four_eyes.into(), locale_column.into()],
        )
    })?;
    Ok(())
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)] // one per named SQL argument
fn propose_action(
    campaign: Option<&str>,
    action: Option<&str>,
    dimensions: Option<JsonB>,
    content: Option<JsonB>,
    contents: Option<JsonB>,
    customer_reason: Option<&str>,
    category: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(locale, Option<String>),
            name!(rule, String),
            name!(severity, String),
            name!(kind, String),
            name!(message, String),
            name!(field, Option<String>),
            name!(span_start, Option<i32>),
            name!(span_length, Option<i32>),
            name!(excerpt, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let (campaign, action) = (required(campaign, "campaign")?, required(action, "action")?);
    let (dimensions, content) = (required(dimensions, "dimensions")?, required(content, "content")?);
    let variants: BTreeMap<String, Value> =
        serde_json::from_value(required(contents, "contents")?.0).map_err(|_| {
            Error::invalid("contents must map locales to contents")
                .hint("For example '{\"de\": {\"subject\": \"Hallo\"}}'.")
        })?;
    if !matches!(&dimensions.0, Value::Object(levels) if !levels.is_empty()) {
        return Err(Error::invalid("dimensions must be an object of dimension names")
            .hint("For example '{\"message\": \"new_in\", \"channel\": \"email\"}'.")
            .into());
    }
    notice_slots(dimensions.0.get("slot").and_then(Value::as_str));
    let found = as_owner(|| -> Result<Vec<FindingRow>> {
        check_editable(campaign)?;
        let written = configuration::execute(
            "INSERT INTO decisioning.actions AS a (campaign, action, dimensions, content, customer_reason, category, proposed_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (campaign, action) DO UPDATE
             SET content = excluded.content, customer_reason = excluded.customer_reason, category = excluded.category
             WHERE a.status = 'draft' AND a.proposed_by = excluded.proposed_by AND a.dimensions = excluded.dimensions",
            &[
                campaign.into(),
                action.into(),
                dimensions.into(),
                content.into(),
                customer_reason.into(),
                category.into(),
                caller_name().into(),
            ],
        )?;
        if written == 0 {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("action \"{action}\" of campaign \"{campaign}\" already exists"),
            )
            .hint("Only a draft of your own with the same dimensions can be proposed again; choose another name."));
        }
        query::execute(
            "DELETE FROM decisioning.action_contents v WHERE v.campaign = $1 AND v.action = $2 AND v.locale <> ALL ($3)",
            &[campaign.into(), action.into(), variants.keys().cloned().collect::<Vec<_>>().into()],
        )?;
        for (locale, content) in variants {
            write_content(campaign, action, Some(JsonB(content)), Some(&locale))?;
        }
        of_action(campaign, action)
    })?;
    Ok(TableIterator::new(found))
}
