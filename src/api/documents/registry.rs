//! Which tables make up the document of a campaign. Another configuration table joins with one entry.

/// How the rows of a section are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One object: the campaign itself.
    Single,
    /// An object by name.
    Named,
    /// A list of objects, for rows whose key has several columns.
    List,
}

/// How a row that is there already gets other values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its verbs set it again.
    Again,
    /// Its verbs only add: it is removed and added.
    Replace,
    /// Its columns are updated; triggers and constraints check them.
    Update,
}

/// What becomes of a row that a section does not mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    Removed,
    /// Removed before the campaign has started, and paused afterwards.
    Paused,
    /// Other campaigns use it, too.
    Stays,
}

/// A column pair with schema and name of a user's relation, which the document has as one "schema.name".
#[derive(Clone, Copy, Debug)]
pub struct Relation {
    pub name: &'static str,
    pub columns: [&'static str; 2],
}

pub struct Section {
    pub name: &'static str,
    pub table: &'static str,
    pub form: Form,
    /// Columns that identify a row within the section.
    pub key: &'static [&'static str],
    /// Columns that are no part of a document, beside [`OMITTED`] and generated ones.
    pub omitted: &'static [&'static str],
    /// Those of them that a difference shows all the same.
    pub shown: &'static [&'static str],
    pub relation: Option<Relation>,
    /// Rows `t` of campaign `$1`.
    pub scope: &'static str,
    /// Functions that add a row `r`, called as by hand and by the caller.
    pub verbs: &'static [&'static str],
    pub change: Change,
    pub absent: Absent,
}

/// Columns that no document has.
pub const OMITTED: [&str; 3] = ["campaign", "epoch", "created_at"];

pub const OF_CAMPAIGN: &str = "t.campaign = $1";
const OF_GOALS: &str = "t.goal IN (SELECT g.goal FROM decisioning.campaign_goals g WHERE g.campaign = $1)";

/// What most sections are: rules by name, which go when they are not mentioned.
const RULES: Section = Section {
    name: "",
    table: "",
    form: Form::Named,
    key: &["rule"],
    omitted: &[],
    shown: &[],
    relation: None,
    scope: OF_CAMPAIGN,
    verbs: &[],
    change: Change::Again,
    absent: Absent::Removed,
};

/// In the order in which they are applied: what others refer to comes first.
pub const SECTIONS: [Section; 17] = [
    Section {
        name: "settings",
        table: "campaigns",
        form: Form::Single,
        key: &[],
        omitted: &["status", "salt", "started_at", "ended_at", "control_ramped", "ramped_at", "draw", "washed_at"],
        relation: Some(Relation { name: "customers", columns: ["customers_schema", "customers_relation"] }),
        verbs: &["create_campaign(campaign => r.campaign,
            customers => pg_catalog.format('%I.%I', r.customers_schema, r.customers_relation)::pg_catalog.regclass,
            customer_key => r.customer_key, audience => r.audience, features => r.features, time_zone => r.time_zone,
            holdout_share => r.holdout_share, control_share => r.control_share, explore_share => r.explore_share,
            control_action => r.control_action, propensity_floor => r.propensity_floor, temper => r.temper,
            half_life => r.half_life, offset_column => r.offset_column, offset_scale => r.offset_scale,
            minimum_uplift => r.minimum_uplift, offer_consistency => r.offer_consistency,
            household_column => r.household_column, unit => r.unit, currency => r.currency, description => r.description)"],
        change: Change::Update,
        absent: Absent::Stays,
        ..RULES
    },
    Section {
        name: "goals",
        table: "goals",
        key: &["goal"],
        scope: OF_GOALS,
        verbs: &["add_goal(goal => r.goal, kind => r.kind, description => r.description)"],
        change: Change::Update,
        absent: Absent::Stays,
        ..RULES
    },
    Section {
        name: "campaign_goals",
        table: "campaign_goals",
        key: &["goal"],
        verbs: &[
            "add_campaign_goal(campaign => r.campaign, goal => r.goal, value => r.value, attribution_window => r.attribution_window)",
            "set_goal_exit(campaign => r.campaign, goal => r.goal, exit_policy => r.exit_policy, cool_down => r.cool_down)",
        ],
        change: Change::Replace,
        ..RULES
    },
    Section {
        name: "outcome_sources",
        table: "outcome_sources",
        key: &["outcome_source"],
        relation: Some(Relation { name: "relation", columns: ["source_schema", "source_relation"] }),
        scope: OF_GOALS,
        verbs: &["add_outcome_source(goal => r.goal,
            relation => pg_catalog.format('%I.%I', r.source_schema, r.source_relation)::pg_catalog.regclass,
            customer_key => r.customer_key, occurred_at => r.occurred_at, value => r.value, event_id => r.event_id,
            filter => r.filter, lookback => r.lookback, outcome_source => r.outcome_source)"],
        change: Change::Replace,
        absent: Absent::Stays,
        ..RULES
    },
    Section {
        name: "actions",
        table: "actions",
        key: &["action"],
        omitted: &[
            "action_id",
            "status",
            "approved_by",
            "approved_at",
            "approved_content_hash",
            "approved_until",
            "suspended_reason",
            "content_changed_by",
            "proposed_by",
        ],
        shown: &["status"],
        verbs: &["add_action(campaign => r.campaign, action => r.action, dimensions => r.dimensions, content => r.content,
            customer_reason => r.customer_reason, cost_send => r.cost_send, cost_on_goal => r.cost_on_goal,
            cost_on_goal_share => r.cost_on_goal_share, category => r.category, transactional => r.transactional)"],
        change: Change::Update,
        absent: Absent::Paused,
        ..RULES
    },
    Section {
        name: "budgets",
        table: "budgets",
        form: Form::List,
        key: &["action", "dimension", "level", "unit", "period"],
        omitted: &["budget"],
        verbs: &["set_budget(campaign => r.campaign, amount => r.amount, period => r.period, unit => r.unit,
            action => r.action, dimension => r.dimension, level => r.level, ends_at => r.ends_at)"],
        ..RULES
    },
    Section {
        name: "eligibility_rules",
        table: "eligibility_rules",
        verbs: &["add_eligibility_rule(campaign => r.campaign, predicate => r.predicate, actions => r.actions,
            effect => r.effect, rule => r.rule)"],
        ..RULES
    },
    Section {
        name: "consent_columns",
        table: "consent_columns",
        form: Form::List,
        key: &["consent_column", "channel"],
        verbs: &["set_consent_column(campaign => r.campaign, consent_column => r.consent_column, channel => r.channel)"],
        ..RULES
    },
    Section {
        name: "consent_sources",
        table: "consent_sources",
        key: &["consent_source"],
        relation: Some(Relation { name: "relation", columns: ["source_schema", "source_relation"] }),
        verbs: &["add_consent_source(
            relation => pg_catalog.format('%I.%I', r.source_schema, r.source_relation)::pg_catalog.regclass,
            customer_key => r.customer_key, granted => r.granted, channel_column => r.channel_column, channel => r.channel,
            campaign => r.campaign, consent_source => r.consent_source)"],
        change: Change::Replace,
        ..RULES
    },
    Section {
        name: "frequency_caps",
        table: "frequency_caps",
        key: &["cap"],
        verbs: &["add_frequency_cap(maximum => r.maximum, period => coalesce(r.period, r.rolling::text),
            campaign => r.campaign, actions => r.actions, per => r.per, ramp_from => r.ramp_from,
            ramp_starts_at => r.ramp_starts_at, ramp_ends_at => r.ramp_ends_at,
            count_transactional => r.count_transactional, cap => r.cap)"],
        ..RULES
    },
    Section {
        name: "quiet_hours",
        table: "quiet_hours",
        verbs: &["set_quiet_hours(starts => r.starts, ends => r.ends, campaign => r.campaign, actions => r.actions,
            weekdays => r.weekdays, jurisdiction => r.jurisdiction, kind => r.kind, rule => r.rule)"],
        ..RULES
    },
    Section {
        name: "order_rules",
        table: "order_rules",
        verbs: &["add_order_rule(campaign => r.campaign, actions => r.actions, requirement => r.requirement,
            other => r.other, within => r.within, rule => r.rule)"],
        ..RULES
    },
    Section {
        name: "entry_sources",
        table: "entry_sources",
        key: &["entry_source"],
        relation: Some(Relation { name: "relation", columns: ["source_schema", "source_relation"] }),
        verbs: &["add_entry_source(campaign => r.campaign,
            relation => pg_catalog.format('%I.%I', r.source_schema, r.source_relation)::pg_catalog.regclass,
            customer_key => r.customer_key, occurred_at => r.occurred_at, valid_for => r.valid_for, filter => r.filter,
            entry_source => r.entry_source)"],
        change: Change::Replace,
        ..RULES
    },
    Section {
        name: "contents",
        table: "action_contents",
        form: Form::List,
        key: &["action", "locale"],
        verbs: &["set_content(campaign => r.campaign, action => r.action, content => r.content, locale => r.locale)"],
        ..RULES
    },
    Section {
        name: "brand_rules",
        table: "brand_rules",
        verbs: &["add_brand_rule(kind => r.kind, parameters => r.parameters, rule => r.rule, campaign => r.campaign,
            actions => r.actions, locales => r.locales, regions => r.regions, fields => r.fields, severity => r.severity,
            valid_from => r.valid_from, valid_until => r.valid_until, owner => r.owner, description => r.description)"],
        ..RULES
    },
    Section {
        name: "stop_rules",
        table: "stop_rules",
        key: &["stop_rule"],
        verbs: &["add_stop_rule(campaign => r.campaign, goal => r.goal, tolerated => r.tolerated, response => r.response,
            confidence => r.confidence, stop_rule => r.stop_rule)"],
        ..RULES
    },
    Section {
        name: "fairness_guardrails",
        table: "fairness_guardrails",
        form: Form::List,
        key: &["attribute", "dimension"],
        omitted: &["overridden_until", "override_reason", "overridden_by"],
        verbs: &["set_fairness_guardrail(campaign => r.campaign, attribute => r.attribute, dimension => r.dimension,
            reference => r.reference, minimum_ratio => r.minimum_ratio, minimum_customers => r.minimum_customers,
            response => r.response)"],
        ..RULES
    },
];
