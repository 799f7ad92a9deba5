//! What whoever writes content is given.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;

use crate::api::campaign;
use crate::pg::error::{required, Error};
use crate::pg::guard::as_owner;
use crate::pg::query;

#[pg_extern(sql = false)]
fn brand_context(campaign: Option<&str>) -> std::result::Result<JsonB, ErrorReport> {
    let campaign = required(campaign, "campaign")?;
    let document = as_owner(|| {
        campaign::load(campaign)?;
        query::read_one(
            "SELECT jsonb_build_object(
                 'campaign', c.campaign,
                 'rules', coalesce((
                     SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('rule', r.rule, 'kind', r.kind, 'severity', r.severity,
                         'parameters', r.parameters, 'actions', r.actions, 'locales', r.locales, 'regions', r.regions,
                         'fields', r.fields, 'valid_from', r.valid_from, 'valid_until', r.valid_until, 'owner', r.owner,
                         'description', r.description)) ORDER BY r.rule)
                     FROM decisioning.brand_rules r
                     WHERE coalesce(r.campaign, c.campaign) = c.campaign AND coalesce(r.valid_until, 'infinity') > $2), '[]'),
                 'claims', coalesce((
                     SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('claim', k.claim, 'phrases', k.phrases,
                         'substantiation', k.substantiation, 'valid_from', k.valid_from, 'expires_at', k.expires_at)) ORDER BY k.claim)
                     FROM decisioning.claims k WHERE coalesce(k.expires_at, 'infinity') > $2), '[]'),
                 'dimensions', coalesce((
                     SELECT jsonb_object_agg(d.dimension, d.levels)
                     FROM (SELECT e.key AS dimension, jsonb_agg(DISTINCT e.value ORDER BY e.value) AS levels
                           FROM decisioning.actions a CROSS JOIN LATERAL jsonb_each(a.dimensions) AS e
                           WHERE a.campaign = c.campaign GROUP BY e.key) AS d), '{}'),
                 'locales', coalesce((
                     SELECT jsonb_agg(DISTINCT v.locale) FROM decisioning.action_contents v WHERE v.campaign = c.campaign), '[]'),
                 'categories', coalesce((
                     SELECT jsonb_agg(DISTINCT a.category) FROM decisioning.actions a
                     WHERE a.campaign = c.campaign AND a.category IS NOT NULL), '[]'),
                 'approved', coalesce((
                     SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('action', a.action, 'dimensions', a.dimensions,
                         'content', a.content, 'customer_reason', a.customer_reason, 'category', a.category, 'contents', (
                             SELECT jsonb_object_agg(v.locale, v.content) FROM decisioning.action_contents v
                             WHERE v.campaign = a.campaign AND v.action = a.action))) ORDER BY a.action_id)
                     FROM decisioning.actions a WHERE a.campaign = c.campaign AND a.status = 'approved'), '[]'),
                 'propose', 'SELECT * FROM decisioning.propose_action(campaign, action, dimensions, content, contents => …) stores a draft and returns what these rules find in it; propose again until nothing blocks, and somebody approves it.')
             FROM decisioning.campaigns c WHERE c.campaign = $1",
            &[campaign.into(), crate::api::now()?.into()],
            |row| row.value::<JsonB>(1),
        )?
        .ok_or_else(|| Error::corrupted("a campaign is gone"))
    })?;
    Ok(document)
}
