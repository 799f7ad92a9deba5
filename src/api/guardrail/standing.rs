//! What guardrails ask about a customer, read when he is decided for, and again when he is sent something.

use std::collections::HashMap;

use decisioning_core::guardrail::Contact;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::Uuid;

use super::foreign::{self, Foreign};
use super::rules::{ConsentSource, Exit};
use super::suppression::{self, Suppression};
use crate::api::campaign::Campaign;
use crate::api::log::customer_ids;
use crate::pg::error::{Error, Result};
use crate::pg::guard::{as_owner_by_key, for_texts};
use crate::pg::relation::{quote_identifier, Column, ColumnKind};
use crate::pg::settings::micros;
use crate::pg::{query, snapshot};

/// A contact of the campaign that is reserved or made.
#[derive(Clone, Debug, PartialEq)]
pub struct Reserved {
    pub decision_id: Uuid,
    /// In microseconds.
    pub at: i64,
    pub action_id: i32,
}

#[derive(Clone, Default)]
pub struct Standing {
    flags: Vec<bool>,
    suppressed: Vec<Suppression>,
    /// For each source, whether it grants each channel; under None, whether it grants all.
    granted: Vec<HashMap<Option<String>, bool>>,
    exit: Option<String>,
    /// By arm.
    pub contacts: Vec<Contact<usize>>,
    pub foreign: Vec<Foreign>,
}

impl Standing {
    pub fn flag(&self, at: usize) -> bool {
        self.flags.get(at).copied().unwrap_or(false)
    }

    pub fn consents(&self, source: usize, channel: Option<&str>) -> bool {
        let Some(granted) = self.granted.get(source) else { return false };
        let by_channel = granted.get(&channel.map(str::to_owned));
        match (granted.get(&None), by_channel) {
            (None, None) => false,
            (all, one) => all.copied().unwrap_or(true) && one.copied().unwrap_or(true),
        }
    }

    pub fn is_suppressed(&self, channel: Option<&str>) -> bool {
        self.suppressed.iter().any(|suppression| suppression.binds(channel))
    }

    pub fn exit(&self) -> Option<&str> {
        self.exit.as_deref()
    }
}

/// A customer whose standing is to be read.
pub struct Subject<'a> {
    pub customer_id: &'a str,
    /// What the customers relation says of him, in the order of `Guardrails::flags`.
    pub flags: Vec<bool>,
    /// When he was exposed, in microseconds.
    pub exposed_at: Option<i64>,
    /// What the campaign has sent him.
    pub contacts: Vec<Reserved>,
}

/// Reads what is known of `subjects` beyond the customers relation, at `now` (microseconds). `latest` sees what others committed a
/// moment ago, `contested` whether contacts of other campaigns are open to be taken over. Consents are read as the caller.
pub fn read(
    campaign: &Campaign,
    subjects: Vec<Subject<'_>>,
    now: i64,
    contested: bool,
    latest: bool,
) -> Result<Vec<Standing>> {
    let rails = &campaign.guardrails;
    let ids: Vec<&str> = subjects.iter().map(|subject| subject.customer_id).collect();
    let mut suppressed = seen(latest, || suppression::of(&ids, &campaign.campaign, now))?;
    let mut foreign = match rails.are_shared() {
        true => as_owner_by_key(|| foreign::contacts(campaign, &ids, contested, latest))?,
        false => vec![Vec::new(); ids.len()],
    };
    let reached = match rails.exits.is_empty() {
        true => HashMap::new(),
        false => as_owner_by_key(|| goals_reached(&rails.exits, &ids, latest))?,
    };
    let consents: Vec<_> = rails.sources.iter().map(|source| consents(source, &ids)).collect::<Result<_>>()?;
    let arm = |id: i32| campaign.actions.iter().position(|action| action.action_id == id);
    let standing = |(at, subject): (usize, Subject<'_>)| {
        let id = subject.customer_id;
        let has_left = |exit: &&Exit| {
            let latest = reached.get(&(id.to_owned(), exit.goal.clone()));
            latest.zip(subject.exposed_at).is_some_and(|(latest, exposed)| {
                *latest >= exposed && exit.cool_down.is_none_or(|time| ((now - latest) as f64) < time)
            })
        };
        Standing {
            suppressed: suppressed.get_mut(at).map(std::mem::take).unwrap_or_default(),
            granted: consents.iter().map(|by_customer| by_customer.get(id).cloned().unwrap_or_default()).collect(),
            exit: rails.exits.iter().find(has_left).map(|exit| format!("goal: {}", exit.goal)),
            // Of actions that are gone nothing is known to count.
            contacts: subject
                .contacts
                .iter()
                .filter_map(|one| Some(Contact { at: one.at, action: arm(one.action_id)? }))
                .collect(),
            foreign: std::mem::take(&mut foreign[at]),
            flags: subject.flags,
        }
    };
    Ok(subjects.into_iter().enumerate().map(standing).collect())
}

fn seen<T>(latest: bool, read: impl FnOnce() -> Result<T>) -> Result<T> {
    if latest {
        snapshot::latest(read)
    } else {
        read()
    }
}

/// When each customer last reached each goal, in microseconds. Runs as the owner.
fn goals_reached(exits: &[Exit], ids: &[&str], latest: bool) -> Result<HashMap<(String, String), i64>> {
    let goals: Vec<&str> = exits.iter().map(|exit| exit.goal.as_str()).collect();
    let sql = format!(
        "SELECT i.id, g.goal, max(e.at)
         FROM unnest($1::text[]) AS i(id)
         CROSS JOIN unnest($2::text[]) AS g(goal)
         CROSS JOIN LATERAL (
             SELECT max(o.occurred_at) AS at FROM decisioning.outcomes o
             WHERE o.customer_id = ANY ({}) AND o.goal = g.goal
             GROUP BY o.event_id HAVING sum(o.events) > 0) AS e
         GROUP BY 1, 2",
        customer_ids("i.id"),
    );
    let rows = query::read_latest(latest, &sql, &[ids.to_vec().into(), goals.into()], |row| {
        let at = row.get::<TimestampWithTimeZone>(3)?.and_then(micros);
        Ok(((row.value::<String>(1)?, row.value::<String>(2)?), at))
    })?;
    Ok(rows.into_iter().filter_map(|(key, at)| Some((key, at?))).collect())
}

/// Ids to look customers up by in a relation of the user, former ones included, and whose those are. Ids that no column of its
/// type could hold cannot be looked up: of keys that are no texts only the canonical ones are.
pub fn known_as(ids: &[&str], key: &Column) -> Result<(Vec<String>, HashMap<String, String>)> {
    let mut asked: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    if key.kind != ColumnKind::Text || key.type_name == "uuid" {
        return Ok((asked, HashMap::new()));
    }
    let former = as_owner_by_key(|| {
        query::read(
            // Who was merged before anything was logged is not named in the log.
            "SELECT b.alias, b.customer_id FROM decisioning._log_alias b WHERE b.customer_id = ANY ($1)
             UNION SELECT a.alias, a.customer_id FROM decisioning._alias a WHERE a.customer_id = ANY ($1) AND a.alias <> a.customer_id",
            &[ids.to_vec().into()],
            |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?)),
        )
    })?;
    asked.extend(former.iter().map(|(alias, _)| alias.clone()));
    Ok((asked, former.into_iter().collect()))
}

/// What a source grants, by customer and channel. A refusal under a former id of his counts, too.
type Granted = HashMap<String, HashMap<Option<String>, bool>>;

fn consents(source: &ConsentSource, ids: &[&str]) -> Result<Granted> {
    let columns = source.relation.columns()?;
    let key = source.relation.column(&columns, &source.customer_key)?;
    let quoted = |name: &str| {
        Ok::<_, Error>(format!("relation.{}", quote_identifier(&source.relation.column(&columns, name)?.name)))
    };
    let channel = match source.channel_column.as_deref() {
        None => "NULL::pg_catalog.text".to_owned(),
        Some(name) => source.relation.column(&columns, name)?.text("relation"),
    };
    let sql = format!(
        "SELECT {id}, {channel}, pg_catalog.bool_and({granted} IS TRUE)
         FROM {relation} AS relation WHERE {is_asked} GROUP BY 1, 2",
        id = key.text("relation"),
        granted = quoted(&source.granted)?,
        relation = source.relation.quoted(),
        is_asked = key.equals("relation", &format!("ANY ($1::pg_catalog.text[]::{}[])", key.type_name)),
    );
    let (asked, canonical) = known_as(ids, key)?;
    let mut granted = Granted::new();
    let rows = for_texts(|| {
        query::read(&sql, &[asked.into()], |row| {
            Ok((row.value::<String>(1)?, row.get::<String>(2)?, row.value::<bool>(3)?))
        })
    })?;
    for (id, channel, grants) in rows {
        let id = canonical.get(&id).cloned().unwrap_or(id);
        let known = granted.entry(id).or_default().entry(channel).or_insert(true);
        *known &= grants;
    }
    Ok(granted)
}
