//! What rules find in contents, and whether actions may be approved under them.

use std::collections::HashMap;

use decisioning_core::brand::Rule;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;
use serde_json::Value;

use super::rules::{Brand, Contents, Found, Subject};
use crate::api::guardrail::configure::wait_for_decisions;
use crate::pg::error::{required, Error, Result};
use crate::pg::guard::as_owner;
use crate::pg::query;
use crate::pg::settings::{self, micros, timestamp};

/// A finding as a row: locale, rule, severity, kind, message, field, start (from 1), length, excerpt.
pub type FindingRow =
    (Option<String>, String, String, String, String, Option<String>, Option<i32>, Option<i32>, Option<String>);

pub fn rows(found: Vec<Found>) -> Vec<FindingRow> {
    let row = |found: Found| {
        let severity = if found.blocks { "block" } else { "warn" };
        let (field, start, length) = match found.finding.place {
            Some((path, span)) => (Some(path), i32::try_from(span.start + 1).ok(), i32::try_from(span.length).ok()),
            None => (None, None, None),
        };
        let message = found.finding.message;
        (found.locale, found.rule, severity.to_owned(), found.kind, message, field, start, length, found.excerpt)
    };
    found.into_iter().map(row).collect()
}

/// Findings that block, or that are only told, in one line each.
fn lines(found: &[Found], blocks: bool) -> Option<String> {
    let line = |found: &Found| {
        let locale = found.locale.as_ref().map(|locale| format!(" in {locale}")).unwrap_or_default();
        let place = found.finding.place.as_ref();
        let field = place.filter(|(path, _)| !path.is_empty()).map(|(path, _)| format!(", {path}")).unwrap_or_default();
        format!("{}: {}{locale}{field}", found.rule, found.finding.message)
    };
    let mut lines: Vec<String> = found.iter().filter(|found| found.blocks == blocks).map(line).collect();
    // Of what is said several times in a field once is enough.
    lines.dedup();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// What keeps an action from being approved, what is to be told, and until when nothing keeps it.
struct Assessment {
    blocking: Option<String>,
    warnings: Option<String>,
    lasts_until: Option<i64>,
}

impl Assessment {
    fn new(brand: &Brand, subject: &Subject, contents: &Contents, now: i64) -> Self {
        let found = brand.check(subject, contents, now);
        let breaks = |at: &i64| brand.check(subject, contents, *at).iter().any(|found| found.blocks);
        Assessment {
            blocking: lines(&found, true),
            warnings: lines(&found, false),
            lasts_until: brand.dates(now).into_iter().find(breaks),
        }
    }
}

/// Dimensions of an action as they are stored.
fn levels(dimensions: JsonB) -> Result<std::collections::BTreeMap<String, String>> {
    serde_json::from_value(dimensions.0).map_err(|_| {
        Error::invalid("dimensions must be an object of dimension names")
            .hint("For example '{\"channel\": \"email\"}'.")
    })
}

/// Runs as the owner.
fn variants(campaign: &str, action: &str) -> Result<Vec<(String, Value)>> {
    query::read(
        "SELECT v.locale, v.content FROM decisioning.action_contents v
         WHERE v.campaign = $1 AND v.action = $2 ORDER BY v.locale",
        &[campaign.into(), action.into()],
        |row| Ok((row.value(1)?, row.value::<JsonB>(2)?.0)),
    )
}

/// What rules find in an action. Runs as the owner.
pub fn of_action(campaign: &str, action: &str) -> Result<Vec<FindingRow>> {
    crate::api::action::check_action(campaign, action)?;
    let stored = query::read_one(
        "SELECT a.dimensions, a.category, a.content, a.customer_reason FROM decisioning.actions a
         WHERE a.campaign = $1 AND a.action = $2",
        &[campaign.into(), action.into()],
        |row| Ok((row.value::<JsonB>(1)?, row.get(2)?, row.get::<JsonB>(3)?, row.get(4)?)),
    )?;
    let (dimensions, category, content, customer_reason) =
        stored.ok_or_else(|| Error::corrupted("an action is gone"))?;
    let subject = Subject {
        campaign: Some(campaign.to_owned()),
        action: action.to_owned(),
        dimensions: levels(dimensions)?,
        category,
    };
    let variants = variants(campaign, action)?;
    let contents = Contents { common: content.map(|content| content.0), customer_reason, variants };
    Ok(rows(Brand::load()?.check(&subject, &contents, settings::now_micros()?)))
}

#[pg_extern(sql = false)]
fn check_action(
    campaign: Option<&str>,
    action: Option<&str>,
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
    Ok(TableIterator::new(as_owner(|| of_action(campaign, action))?))
}

#[pg_extern(sql = false)]
fn check_content(
    content: Option<JsonB>,
    campaign: Option<&str>,
    dimensions: Option<JsonB>,
    locale: Option<&str>,
    checked_at: Option<TimestampWithTimeZone>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
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
    let content = required(content, "content")?.0;
    let at = match checked_at {
        None => settings::now_micros()?,
        Some(at) => micros(at).ok_or_else(|| Error::invalid("checked_at must be finite"))?,
    };
    let subject = Subject {
        campaign: campaign.map(str::to_owned),
        action: String::new(),
        dimensions: levels(required(dimensions, "dimensions")?)?,
        category: None,
    };
    let contents = match locale {
        None => Contents { common: Some(content), customer_reason: None, variants: Vec::new() },
        Some(locale) => Contents { common: None, customer_reason: None, variants: vec![(locale.to_owned(), content)] },
    };
    let found = as_owner(|| {
        if let Some(campaign) = campaign {
            crate::api::campaign::load(campaign)?;
        }
        Ok(Brand::load()?.check(&subject, &contents, at))
    })?;
    let rows = rows(found).into_iter().map(|(_, rule, severity, kind, message, field, start, length, excerpt)| {
        (rule, severity, kind, message, field, start, length, excerpt)
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

#[pg_extern(sql = false)]
fn _check_brand_rule(kind: &str, parameters: JsonB) -> std::result::Result<bool, ErrorReport> {
    Rule::new(kind, parameters.0).map_err(|error| {
        Error::invalid(format!("brand rule: {error}")).hint(
            "Kinds and what they take: banned_phrases and required_phrases {phrases, any}, approved_claims {patterns}, \
             length {minimum, maximum}, text_message {maximum_segments, gsm7_only, merge_field_length}, \
             voice {maximum_exclamation_marks, maximum_capitals, maximum_emoji}, links {allowed_domains}, \
             merge_fields {required, allowed}.",
        )
    })?;
    Ok(true)
}

#[pg_extern(sql = false)]
fn _assess(
    campaign: Option<&str>,
    action: Option<&str>,
    dimensions: Option<JsonB>,
    category: Option<&str>,
    content: Option<JsonB>,
    customer_reason: Option<&str>,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(blocking, Option<String>),
            name!(warnings, Option<String>),
            name!(lasts_until, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let (campaign, action) = (required(campaign, "campaign")?, required(action, "action")?);
    let subject = Subject {
        campaign: Some(campaign.to_owned()),
        action: action.to_owned(),
        dimensions: levels(required(dimensions, "dimensions")?)?,
        category: category.map(str::to_owned),
    };
    let (brand, variants) = as_owner(|| Ok((Brand::newest()?, variants(campaign, action)?)))?;
    let contents = Contents {
        common: content.map(|content| content.0),
        customer_reason: customer_reason.map(str::to_owned),
        variants,
    };
    let assessed = Assessment::new(&brand, &subject, &contents, settings::now_micros()?);
    let lasts_until = assessed.lasts_until.map(timestamp).transpose()?;
    Ok(TableIterator::once((assessed.blocking, assessed.warnings, lasts_until)))
}

/// Assesses all approved actions anew; suspends those that break a rule now, and dates the others. Returns how many were
/// suspended. Decisions that are under way end first. Runs as the owner.
pub fn reassess() -> Result<i64> {
    let mut variants: HashMap<(String, String), Vec<(String, Value)>> = HashMap::new();
    for (key, variant) in query::write(
        "SELECT v.campaign, v.action, v.locale, v.content FROM decisioning.action_contents v
         ORDER BY v.campaign, v.action, v.locale",
        &[],
        |row| Ok(((row.value(1)?, row.value(2)?), (row.value(3)?, row.value::<JsonB>(4)?.0))),
    )? {
        variants.entry(key).or_default().push(variant);
    }
    let approved = query::write(
        "SELECT a.campaign, a.action, a.dimensions, a.category, a.content, a.customer_reason,
                a.approved_until
         FROM decisioning.actions a JOIN decisioning.campaigns c ON c.campaign = a.campaign
         WHERE a.status = 'approved' AND c.status <> 'ended' ORDER BY a.campaign, a.action_id",
        &[],
        |row| {
            let subject = Subject {
                campaign: Some(row.value(1)?),
                action: row.value(2)?,
                dimensions: levels(row.value(3)?)?,
                category: row.get(4)?,
            };
            let contents = Contents {
                common: row.get::<JsonB>(5)?.map(|content| content.0),
                customer_reason: row.get(6)?,
                variants: Vec::new(),
            };
            Ok((subject, contents, row.get::<TimestampWithTimeZone>(7)?.and_then(micros)))
        },
    )?;
    let (brand, now) = (Brand::load()?, settings::now_micros()?);
    let (mut broken, mut dated) = (Vec::new(), Vec::new());
    for (subject, mut contents, approved_until) in approved {
        let key = (subject.campaign.clone().unwrap_or_default(), subject.action.clone());
        contents.variants = variants.remove(&key).unwrap_or_default();
        let assessed = Assessment::new(&brand, &subject, &contents, now);
        match assessed.blocking {
            Some(reason) => broken.push((key, reason)),
            None if assessed.lasts_until != approved_until => dated.push((key, assessed.lasts_until)),
            None => {}
        }
    }
    if broken.is_empty() && dated.is_empty() {
        return Ok(0);
    }
    wait_for_decisions()?;
    for ((campaign, action), reason) in &broken {
        query::execute(
            "UPDATE decisioning.actions a SET status = 'suspended', suspended_reason = $3
             WHERE a.campaign = $1 AND a.action = $2 AND a.status = 'approved'",
            &[campaign.as_str().into(), action.as_str().into(), reason.as_str().into()],
        )?;
        pgrx::warning!("action \"{action}\" of campaign \"{campaign}\" is suspended: {reason}");
    }
    for ((campaign, action), until) in dated {
        query::execute(
            "UPDATE decisioning.actions a SET approved_until = $3
             WHERE a.campaign = $1 AND a.action = $2 AND a.status = 'approved'",
            &[campaign.into(), action.into(), until.map(timestamp).transpose()?.into()],
        )?;
    }
    Ok(broken.len() as i64)
}

#[pg_extern(sql = false)]
fn _reassess() -> std::result::Result<i64, ErrorReport> {
    Ok(as_owner(reassess)?)
}
