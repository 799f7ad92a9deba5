//! Contacts by other campaigns, under caps that count them all, and who of them gives way.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use decisioning_core::guardrail::{Claim, Facts};
use pgrx::Uuid;

use crate::api::campaign::Campaign;
use crate::api::delivery::IS_MADE;
use crate::pg::error::Result;
use crate::pg::query;
use crate::pg::settings::micros;

/// A contact by another campaign.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// In microseconds.
    pub at: i64,
    pub claim: Claim,
    pub facts: Rc<ForeignAction>,
}

/// An action of another campaign.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ForeignAction {
    action: String,
    dimensions: BTreeMap<String, String>,
    category: Option<String>,
    pub transactional: bool,
}

impl Facts for ForeignAction {
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

/// Whether a contact is too late to be taken over, and what is at stake for its campaign, as SQL over a contact `c`. A decider
/// whose own campaign has no priority takes nothing over: to him all count.
const OPEN: &str = "m.decision_id IS NOT NULL, k.stake";
const SETTLED: &str = "true, NULL::float8";
const CLAIMS: &str = "
    LEFT JOIN LATERAL (SELECT m.decision_id FROM decisioning.sends m WHERE m.decision_id = c.decision_id AND ";
const STAKES: &str = ") AS m ON true
    LEFT JOIN LATERAL (SELECT k.stake FROM decisioning._stake k JOIN decisioning.campaigns p ON p.campaign = s.campaign
                       WHERE k.decision_id = c.decision_id AND p.priority IS NOT NULL) AS k ON true";

/// What other campaigns have reserved or made, by customer. `contested`: for whoever can take contacts over, or could lose his. Runs
/// as the owner.
pub fn contacts(campaign: &Campaign, ids: &[&str], contested: bool, latest: bool) -> Result<Vec<Vec<Foreign>>> {
    let mut known: HashMap<(String, i32), Rc<ForeignAction>> = HashMap::new();
    let mut by_customer = vec![Vec::new(); ids.len()];
    let (claim, joins) = match contested {
        true => (OPEN, format!("{CLAIMS}{IS_MADE}{STAKES}")),
        false => (SETTLED, String::new()),
    };
    query::read_latest(
        latest,
        &format!(
            "SELECT i.position - 1, c.at, a.campaign, a.action_id, a.action, a.dimensions::text, a.category, a.transactional,
                    c.decision_id, {claim}
             FROM unnest($1::text[]) WITH ORDINALITY AS i(id, position)
             CROSS JOIN LATERAL (SELECT i.id AS known_as UNION
                                 SELECT b.alias FROM decisioning._log_alias b WHERE b.customer_id = i.id) AS n
             JOIN decisioning._assignment s ON s.customer_id = n.known_as AND s.campaign <> $2
             CROSS JOIN LATERAL unnest(s.contact_decisions, s.contact_times, s.contact_actions) AS c(decision_id, at, action_id)
             JOIN decisioning.actions a ON a.campaign = s.campaign AND a.action_id = c.action_id{joins}"
        ),
        &[ids.to_vec().into(), campaign.campaign.as_str().into()],
        |row| {
            let key = (row.value::<String>(3)?, row.value::<i32>(4)?);
            let facts = match known.get(&key) {
                Some(facts) => facts.clone(),
                None => {
                    let facts = Rc::new(ForeignAction {
                        action: row.value(5)?,
                        dimensions: serde_json::from_str(&row.value::<String>(6)?)?,
                        category: row.get(7)?,
                        transactional: row.value(8)?,
                    });
                    known.insert(key, facts.clone());
                    facts
                }
            };
            let decided = Some(*row.value::<Uuid>(9)?.as_bytes());
            let claim = Claim { decided, stake: row.get(11)?, made: row.value(10)? };
            let at = micros(row.value(2)?).unwrap_or(i64::MAX);
            by_customer[row.value::<i64>(1)? as usize].push(Foreign { at, claim, facts });
            Ok(())
        },
    )?;
    Ok(by_customer)
}
