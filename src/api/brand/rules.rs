//! Brand rules and claims as they are stored, ready to be checked.

use std::collections::BTreeMap;

use decisioning_core::brand::{fields, Claim, Field, Finding, Locales, Phrase, Rule};
use decisioning_core::guardrail::{Facts, Selector};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::JsonB;
use serde_json::Value;

use crate::pg::error::{Error, Result};
use crate::pg::query::{self, Row};
use crate::pg::settings::micros;

/// When something holds, in microseconds.
struct Validity {
    from: Option<i64>,
    until: Option<i64>,
}

impl Validity {
    fn read(row: &Row<'_, '_>, from: usize, until: usize) -> Result<Self> {
        let at = |ordinal| Ok::<_, Error>(row.get::<TimestampWithTimeZone>(ordinal)?.and_then(micros));
        Ok(Validity { from: at(from)?, until: at(until)? })
    }

    fn holds(&self, at: i64) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }
}

/// Characters around a finding that an excerpt shows at most.
const EXCERPT: usize = 100;

struct BrandRule {
    name: String,
    campaign: Option<String>,
    kind: String,
    blocks: bool,
    selector: Selector,
    locales: Vec<String>,
    regions: Vec<String>,
    fields: Option<Vec<String>>,
    validity: Validity,
    rule: Rule,
}

struct BrandClaim {
    name: String,
    phrases: Vec<Phrase>,
    validity: Validity,
}

/// All rules and claims.
pub struct Brand {
    rules: Vec<BrandRule>,
    claims: Vec<BrandClaim>,
}

/// An action, as rules select it.
pub struct Subject {
    pub campaign: Option<String>,
    pub action: String,
    pub dimensions: BTreeMap<String, String>,
    pub category: Option<String>,
}

impl Facts for Subject {
    fn action(&self) -> &str {
        &self.action
    }
    fn level(&self, dimension: &str) -> Option<&str> {
        self.dimensions.get(dimension).map(String::as_str)
    }
    fn category(&self) -> Option<&str> {
        self.category.as_deref()
    }
}

/// What an action says, in all languages.
pub struct Contents {
    /// For everybody whose locale has no variant.
    pub common: Option<Value>,
    /// Why customers get the action, in words that they may be shown.
    pub customer_reason: Option<String>,
    pub variants: Vec<(String, Value)>,
}

impl Contents {
    pub fn locales(&self) -> Locales {
        Locales::new(self.variants.iter().map(|(locale, _)| locale.as_str()))
    }

    /// All texts that are checked together, with the position of the variant.
    fn all(&self) -> Vec<(Option<usize>, Texts)> {
        let common = self.common.iter().map(|content| (None, Texts::Content(fields(content))));
        let reason = self.customer_reason.iter().map(|text| {
            let reason = Field { path: "customer_reason".to_owned(), text: text.clone() };
            (None, Texts::Reason(vec![reason]))
        });
        let variants = self.variants.iter().enumerate();
        let variants = variants.map(|(at, (_, content))| (Some(at), Texts::Content(fields(content))));
        common.chain(reason).chain(variants).collect()
    }
}

enum Texts {
    /// Of a content.
    Content(Vec<Field>),
    /// Why customers get it: nothing has to be in it, but what no text may say it must not say either.
    Reason(Vec<Field>),
}

/// What a rule has found.
pub struct Found {
    pub rule: String,
    pub kind: String,
    pub blocks: bool,
    /// Of the variant.
    pub locale: Option<String>,
    pub finding: Finding,
    /// What is there, cut.
    pub excerpt: Option<String>,
}

impl Brand {
    /// As the snapshot of the caller has them. Runs as the owner.
    pub fn load() -> Result<Self> {
        Self::read(false)
    }

    /// As they are now, whatever the isolation level: what is approved must keep rules that were set after its snapshot was taken.
    /// Runs as the owner.
    pub fn newest() -> Result<Self> {
        Self::read(true)
    }

    fn read(newest: bool) -> Result<Self> {
        let rules = rows(
            newest,
            "SELECT r.rule, r.campaign, r.kind, r.parameters, r.severity, r.actions, r.locales, r.regions, r.fields, r.valid_from,
                    r.valid_until
             FROM decisioning.brand_rules r ORDER BY r.rule",
            |row| {
                let name: String = row.value(1)?;
                let kind: String = row.value(3)?;
                let unreadable = |error: String| Error::corrupted(format!("brand rule \"{name}\": {error}"));
                Ok(BrandRule {
                    campaign: row.get(2)?,
                    rule: Rule::new(&kind, row.value::<JsonB>(4)?.0).map_err(|error| unreadable(error.to_string()))?,
                    blocks: row.value::<String>(5)? == "block",
                    selector: serde_json::from_value(row.value::<JsonB>(6)?.0)
                        .map_err(|error| unreadable(error.to_string()))?,
                    locales: row.get(7)?.unwrap_or_default(),
                    regions: row.get(8)?.unwrap_or_default(),
                    fields: row.get(9)?,
                    validity: Validity::read(row, 10, 11)?,
                    kind,
                    name,
                })
            },
        )?;
        let claims = rows(
            newest,
            "SELECT c.claim, c.phrases, c.valid_from, c.expires_at FROM decisioning.claims c ORDER BY c.claim",
            |row| {
                let phrases: Vec<String> = row.value(2)?;
                Ok(BrandClaim {
                    name: row.value(1)?,
                    phrases: phrases.iter().filter_map(|phrase| Phrase::new(phrase)).collect(),
                    validity: Validity::read(row, 3, 4)?,
                })
            },
        )?;
        Ok(Brand { rules, claims })
    }

    /// What is wrong with contents of an action at a moment, in microseconds.
    pub fn check(&self, subject: &Subject, contents: &Contents, at: i64) -> Vec<Found> {
        let claims: Vec<Claim> = self
            .claims
            .iter()
            .map(|claim| Claim {
                name: claim.name.clone(),
                phrases: claim.phrases.clone(),
                in_force: claim.validity.holds(at),
            })
            .collect();
        let locales = contents.locales();
        let mut found = Vec::new();
        for (variant, texts) in contents.all() {
            let (texts, is_content) = match &texts {
                Texts::Content(texts) => (texts, true),
                Texts::Reason(texts) => (texts, false),
            };
            let locale = variant.map(|at| contents.variants[at].0.as_str());
            let mut tell = |rule: &str, kind: &str, blocks: bool, findings: Vec<Finding>| {
                found.extend(findings.into_iter().map(|finding| Found {
                    rule: rule.to_owned(),
                    kind: kind.to_owned(),
                    blocks,
                    locale: locale.map(str::to_owned),
                    excerpt: excerpt(texts, &finding),
                    finding,
                }));
            };
            let meant = |rule: &&BrandRule| {
                rule.is_about(subject, at)
                    && locales.concerns(variant, &rule.locales, &rule.regions)
                    && (is_content || rule.rule.forbids())
            };
            for rule in self.rules.iter().filter(meant) {
                let meant = |field: &&Field| {
                    rule.fields.as_ref().is_none_or(|fields| fields.iter().any(|name| field.is_within(name)))
                };
                let texts: Vec<_> = texts.iter().filter(meant).collect();
                tell(&rule.name, &rule.kind, rule.blocks, rule.rule.check(&texts, &claims));
            }
            for claim in &claims {
                tell(&claim.name, "claim", true, claim.check(&texts.iter().collect::<Vec<_>>()));
            }
        }
        found
    }

    /// Moments after `now` at which a rule or claim begins or ceases to hold, in order.
    pub fn dates(&self, now: i64) -> Vec<i64> {
        let validities =
            self.rules.iter().map(|rule| &rule.validity).chain(self.claims.iter().map(|claim| &claim.validity));
        let mut dates: Vec<i64> = validities
            .flat_map(|validity| [validity.from, validity.until])
            .flatten()
            .filter(|date| *date > now)
            .collect();
        dates.sort_unstable();
        dates.dedup();
        dates
    }
}

fn excerpt(texts: &[Field], finding: &Finding) -> Option<String> {
    let (path, span) = finding.place.as_ref()?;
    let field = texts.iter().find(|field| field.path == *path)?;
    Some(field.text.chars().skip(span.start).take(span.length.min(EXCERPT)).collect())
}

fn rows<T>(newest: bool, sql: &str, decode: impl FnMut(&Row<'_, '_>) -> Result<T>) -> Result<Vec<T>> {
    match newest {
        true => query::read_newest(sql, &[], decode),
        false => query::read(sql, &[], decode),
    }
}

impl BrandRule {
    fn is_about(&self, subject: &Subject, at: i64) -> bool {
        self.validity.holds(at)
            && self.campaign.as_ref().is_none_or(|campaign| Some(campaign) == subject.campaign.as_ref())
            && self.selector.matches(subject)
    }
}
