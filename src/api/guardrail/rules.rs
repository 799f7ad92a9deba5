//! The guardrails of a campaign, compiled once per epoch.

use decisioning_core::decide::{is_slot, next_slot, slot_end, Calendar, PeriodError};
use decisioning_core::guardrail::{
    Cap, Claim, Clock, Contact, Facts, Hours, Kind, Order, Ramp, Requirement, Selector, Span, Stretch, Weekdays,
};
use serde::Deserialize;

use super::foreign::Foreign;
use super::standing::Standing;
use super::{MUST_SEND, SUPPRESSION};
use crate::api::campaign::{Action, Campaign};
use crate::pg::error::{Error, Result};
use crate::pg::relation::{quote_identifier, RelationName};

/// Contacts are kept for at least so long, in microseconds, so that caps can be added later.
const KEPT: i64 = 35 * DAY;
const DAY: i64 = 86_400_000_000;

/// Rows as they are stored.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Rows {
    eligibility: Vec<EligibilityRow>,
    consent_columns: Vec<ConsentColumnRow>,
    consent_sources: Vec<ConsentSourceRow>,
    caps: Vec<CapRow>,
    quiet_hours: Vec<HoursRow>,
    order: Vec<OrderRow>,
}

#[derive(Clone, Debug, Deserialize)]
struct EligibilityRow {
    rule: String,
    effect: String,
    actions: Selector,
    predicate: String,
}

#[derive(Clone, Debug, Deserialize)]
struct ConsentColumnRow {
    consent_column: String,
    channel: String,
}

#[derive(Clone, Debug, Deserialize)]
struct ConsentSourceRow {
    consent_source: String,
    source_schema: String,
    source_relation: String,
    customer_key: String,
    granted: String,
    channel_column: Option<String>,
    channel: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct CapRow {
    cap: String,
    campaign: Option<String>,
    actions: Selector,
    per: Option<String>,
    maximum: u32,
    period: Option<String>,
    rolling_seconds: Option<f64>,
    ramp_from: Option<u32>,
    /// In microseconds.
    ramp_starts: Option<i64>,
    ramp_ends: Option<i64>,
    count_transactional: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct HoursRow {
    rule: String,
    campaign: Option<String>,
    kind: String,
    actions: Selector,
    starts: String,
    ends: String,
    weekdays: Option<Vec<String>>,
    jurisdiction: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct OrderRow {
    rule: String,
    requirement: String,
    actions: Selector,
    other: Selector,
    within_seconds: Option<f64>,
}

/// A rule, and the arms that it is about.
#[derive(Clone, Debug)]
struct Ruled<T> {
    label: String,
    arms: Vec<bool>,
    rule: T,
}

/// A relation with consents.
#[derive(Clone, Debug)]
pub struct ConsentSource {
    pub relation: RelationName,
    pub customer_key: String,
    pub granted: String,
    pub channel_column: Option<String>,
}

#[derive(Clone, Debug)]
struct FrequencyCap {
    cap: Cap,
    /// Counts the sends of other campaigns, too.
    global: bool,
    actions: Selector,
    per: Option<String>,
    count_transactional: bool,
    /// Arms whose sends count.
    counted: Vec<bool>,
    /// What tells apart the sends that are counted apart, by arm.
    keys: Vec<Option<String>>,
}

#[derive(Clone, Debug)]
struct LocalHours {
    hours: Hours,
    jurisdiction: Option<String>,
}

#[derive(Clone, Debug)]
struct OrderRule {
    order: Order,
    /// Arms of the other kind.
    other: Vec<bool>,
}

/// What becomes of customers who have reached a goal.
#[derive(Clone, Debug)]
pub struct Exit {
    pub goal: String,
    /// In microseconds; `None` if they leave.
    pub cool_down: Option<f64>,
}

/// A boolean SQL expression over the customers relation, and what it is called.
#[derive(Clone, Debug)]
pub struct Flag {
    pub name: String,
    pub condition: String,
}

#[derive(Clone, Debug, Default)]
pub struct Guardrails {
    /// What is read with each customer.
    pub flags: Vec<Flag>,
    /// Position of the flag that must be true.
    eligibility: Vec<Ruled<usize>>,
    must_send: Vec<Ruled<usize>>,
    consent: Vec<Ruled<usize>>,
    pub sources: Vec<ConsentSource>,
    /// Position of the source that must grant it.
    sourced: Vec<Ruled<usize>>,
    caps: Vec<Ruled<FrequencyCap>>,
    hours: Vec<Ruled<LocalHours>>,
    order: Vec<Ruled<OrderRule>>,
    pub exits: Vec<Exit>,
    channels: Vec<Option<String>>,
}

impl Facts for Action {
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

/// What tells apart the contacts that a cap counts apart.
fn key_of<'a>(per: Option<&str>, action: &'a impl Facts) -> Option<&'a str> {
    match per {
        None => None,
        Some("action") => Some(action.action()),
        Some("category") => action.category(),
        Some(dimension) => action.level(dimension),
    }
}

fn on_channel(channel: &str, actions: &[Action]) -> Vec<bool> {
    actions.iter().map(|action| channel == "*" || action.level("channel") == Some(channel)).collect()
}

impl Guardrails {
    /// # Errors
    /// A row that the constraints of its table do not allow.
    pub fn compile(rows: Rows, exits: Vec<Exit>, actions: &[Action]) -> Result<Self> {
        let selected =
            |selector: &Selector| actions.iter().map(|action| selector.matches(action)).collect::<Vec<bool>>();
        let mut rails = Guardrails {
            exits,
            channels: actions.iter().map(|action| action.level("channel").map(str::to_owned)).collect(),
            ..Guardrails::default()
        };
        for row in rows.consent_columns {
            let at = rails.flag(
                format!("consent column \"{}\"", row.consent_column),
                format!("relation.{}", quote_identifier(&row.consent_column)),
            );
            let label = format!("consent: {}", row.consent_column);
            rails.consent.push(Ruled { label, arms: on_channel(&row.channel, actions), rule: at });
        }
        for row in rows.eligibility {
            let at = rails.flag(format!("eligibility rule \"{}\"", row.rule), row.predicate);
            let arms = selected(&row.actions);
            match row.effect.as_str() {
                MUST_SEND => {
                    rails.must_send.push(Ruled { label: format!("{MUST_SEND}: {}", row.rule), arms, rule: at })
                }
                _ => rails.eligibility.push(Ruled { label: format!("eligibility: {}", row.rule), arms, rule: at }),
            }
        }
        for row in rows.consent_sources {
            let arms = on_channel(row.channel.as_deref().unwrap_or("*"), actions);
            rails.sourced.push(Ruled {
                label: format!("consent: {}", row.consent_source),
                arms,
                rule: rails.sources.len(),
            });
            rails.sources.push(ConsentSource {
                relation: RelationName { schema: row.source_schema, name: row.source_relation },
                customer_key: row.customer_key,
                granted: row.granted,
                channel_column: row.channel_column,
            });
        }
        for row in rows.caps {
            let arms = actions.iter().map(|action| !action.transactional && row.actions.matches(action)).collect();
            let counts =
                |action: &Action| row.actions.matches(action) && (row.count_transactional || !action.transactional);
            let rule = FrequencyCap {
                cap: row.cap()?,
                global: row.campaign.is_none(),
                counted: actions.iter().map(counts).collect(),
                keys: actions.iter().map(|action| key_of(row.per.as_deref(), action).map(str::to_owned)).collect(),
                per: row.per,
                count_transactional: row.count_transactional,
                actions: row.actions,
            };
            rails.caps.push(Ruled { label: format!("cap: {}", row.cap), arms, rule });
        }
        rails.hours = hours(rows.quiet_hours, selected)?;
        for row in rows.order {
            let requirement = match row.requirement.as_str() {
                "only_after" => Requirement::After,
                _ => Requirement::NotAfter,
            };
            let order = Order { requirement, within: row.within_seconds.map(|seconds| (seconds * 1e6) as i64) };
            let rule = OrderRule { order, other: selected(&row.other) };
            rails.order.push(Ruled { label: format!("order: {}", row.rule), arms: selected(&row.actions), rule });
        }
        Ok(rails)
    }

    fn flag(&mut self, name: String, condition: String) -> usize {
        self.flags.push(Flag { name, condition });
        self.flags.len() - 1
    }

    /// Whether it depends on the time of a send whether it may be made.
    pub fn mind_the_time(&self) -> bool {
        !(self.caps.is_empty() && self.hours.is_empty() && self.order.is_empty())
    }

    /// Whether a cap counts over all campaigns, so that their sends compete.
    pub fn are_shared(&self) -> bool {
        self.caps.iter().any(|cap| cap.rule.global)
    }

    /// How long contacts matter, in microseconds; `None` for ever.
    pub fn reach(&self) -> Option<i64> {
        let caps = self.caps.iter().map(|cap| cap.rule.cap.reach());
        let orders = self.order.iter().map(|order| order.rule.order.within);
        caps.chain(orders).try_fold(KEPT, |longest, reach| Some(longest.max(reach?)))
    }

    /// Whether any send passes consent and eligibility: what is the same however often and when the customer was sent something.
    pub fn treatable(&self, standing: &Standing, mut arms: impl Iterator<Item = usize>) -> bool {
        arms.any(|arm| self.unlawful(standing, arm).is_none())
    }

    /// Arms of which the customer must be sent one, and by which rule.
    pub fn required(&self, standing: &Standing) -> Option<(&str, Vec<bool>)> {
        let mut rules = self.must_send.iter().filter(|rule| standing.flag(rule.rule));
        let first = rules.next()?;
        let either = |all: Vec<bool>, rule: &Ruled<usize>| all.iter().zip(&rule.arms).map(|(a, b)| *a || *b).collect();
        Some((&first.label, rules.fold(first.arms.clone(), either)))
    }

    fn unlawful(&self, standing: &Standing, arm: usize) -> Option<&str> {
        let lacking = |rule: &&Ruled<usize>| rule.arms[arm] && !standing.flag(rule.rule);
        if let Some(rule) = self.consent.iter().find(lacking) {
            return Some(&rule.label);
        }
        let channel = self.channels[arm].as_deref();
        if let Some(rule) = self.sourced.iter().find(|rule| rule.arms[arm] && !standing.consents(rule.rule, channel)) {
            return Some(&rule.label);
        }
        if standing.is_suppressed(channel) {
            return Some(SUPPRESSION);
        }
        self.eligibility.iter().find(lacking).map(|rule| rule.label.as_str())
    }

    /// What keeps a customer from being sent `arm` at `at` (microseconds), in the zone that his calendar is kept in, if this is laid
    /// to the contact.
    pub fn removes<'a>(
        &'a self,
        standing: &'a Standing,
        arm: usize,
        at: i64,
        zone: &str,
        claim: &Claim,
    ) -> Result<Option<&'a str>> {
        if let Some(label) = self.unlawful(standing, arm) {
            return Ok(Some(label));
        }
        if let Some(exit) = standing.exit() {
            return Ok(Some(exit));
        }
        let order = self.order.iter().filter(|order| order.arms[arm]);
        for Ruled { label, rule, .. } in order {
            if rule.order.forbids(&standing.contacts, at, |arm| rule.other[arm]) {
                return Ok(Some(label));
            }
        }
        self.full_cap(standing, arm, at, zone, |theirs| theirs.counts_against(claim))
    }

    /// Whether a cap would leave room for a send but for those that have taken it over.
    pub fn is_preempted(&self, standing: &Standing, arm: usize, at: i64, zone: &str, claim: &Claim) -> Result<bool> {
        let stands = |theirs: &Claim| theirs.counts_against(claim) && !theirs.preempts(claim);
        let is_full = |counts: &dyn Fn(&Claim) -> bool| self.full_cap(standing, arm, at, zone, counts);
        Ok(is_full(&|theirs| theirs.counts_against(claim))?.is_some() && is_full(&stands)?.is_none())
    }

    /// The first cap that is full, if of other campaigns' contacts those count that `counts`.
    fn full_cap(
        &self,
        standing: &Standing,
        arm: usize,
        at: i64,
        zone: &str,
        counts: impl Fn(&Claim) -> bool,
    ) -> Result<Option<&str>> {
        for Ruled { label, rule, .. } in self.caps.iter().filter(|cap| cap.arms[arm]) {
            let times = self.counted(rule, standing, arm, &counts);
            if rule.cap.is_full(times, at, zone).map_err(|error| Error::invalid(error.to_string()))? {
                return Ok(Some(label));
            }
        }
        Ok(None)
    }

    /// Times of the contacts that count with a send of `arm`.
    fn counted<'a>(
        &'a self,
        rule: &'a FrequencyCap,
        standing: &'a Standing,
        arm: usize,
        counts: &'a impl Fn(&Claim) -> bool,
    ) -> impl Iterator<Item = i64> + 'a {
        let key = rule.keys[arm].as_deref();
        let own = standing
            .contacts
            .iter()
            .filter(move |one| rule.counted[one.action] && rule.keys[one.action].as_deref() == key);
        let others = standing
            .foreign
            .iter()
            .filter(move |foreign| rule.global && rule.counts(foreign, key) && counts(&foreign.claim));
        own.map(|contact: &Contact<usize>| contact.at).chain(others.map(|foreign| foreign.at))
    }

    /// When `arm` may be sent first, from `now` on and within `horizon`, all in microseconds; else what keeps it back.
    pub fn moment(
        &self,
        campaign: &Campaign,
        place: &Place<'_>,
        arm: usize,
        now: i64,
    ) -> Result<std::result::Result<i64, String>> {
        let slot = campaign.actions[arm].dimensions.get("slot").map(String::as_str);
        let mut rules = self.hours_at(place, arm).peekable();
        let invalid = |error: PeriodError| Error::invalid(error.to_string());
        if rules.peek().is_none() {
            // An unknown zone of a customer falls back to the campaign's.
            let zone = place.zone.unwrap_or(&campaign.time_zone);
            let at =
                next_slot(now, zone, slot).or_else(|_| next_slot(now, &campaign.time_zone, slot)).map_err(invalid)?;
            return Ok(Ok(at));
        }
        let hours: Vec<&Ruled<LocalHours>> = rules.collect();
        let all = || hours.iter().map(|rule| &rule.rule.hours).collect();
        let zones = [place.zone, campaign.fallback_time_zone.as_deref()];
        let Some(clock) = zones.into_iter().flatten().find_map(|zone| Clock::new(zone, all()).ok()) else {
            return Ok(Err("quiet_hours: no known time zone".to_owned()));
        };
        let horizon = now + (campaign.send_horizon_seconds * 1e6) as i64;
        let label = || hours.first().map_or_else(String::new, |rule| rule.label.clone());
        Ok(clock.next(now, slot, horizon).map_err(invalid)?.ok_or_else(label))
    }

    /// Until when a send of `arm` that was put at `at`, seen at `now`, is in time: the end of its slot; without a slot, if it had to
    /// wait, for as long as it may be sent. All in microseconds.
    pub fn in_time_until(&self, campaign: &Campaign, place: &Place<'_>, arm: usize, now: i64, at: i64) -> Result<i64> {
        let slot = campaign.actions[arm].dimensions.get("slot").map(String::as_str);
        let Some(slot) = slot.filter(|slot| is_slot(slot)) else {
            return Ok(if at > now { at + (campaign.send_within_seconds * 1e6) as i64 } else { at });
        };
        let zone = match self.hours_at(place, arm).next() {
            Some(_) => self.calendar_zone(campaign, place),
            None => place.zone.filter(is_zone).unwrap_or(&campaign.time_zone),
        };
        let end = slot_end(at, zone, Some(slot)).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(end.unwrap_or(at))
    }

    /// Rules for the hours of `arm` that hold in a place.
    fn hours_at<'a>(&'a self, place: &'a Place<'_>, arm: usize) -> impl Iterator<Item = &'a Ruled<LocalHours>> {
        self.hours.iter().filter(move |rule| {
            rule.arms[arm] && rule.rule.jurisdiction.as_deref().is_none_or(|area| place.is_within(area))
        })
    }

    /// The zone that calendars of a customer are kept in.
    pub fn calendar_zone<'a>(&self, campaign: &'a Campaign, place: &Place<'a>) -> &'a str {
        let zones = [place.zone, campaign.fallback_time_zone.as_deref()];
        zones.into_iter().flatten().find(is_zone).unwrap_or(&campaign.time_zone)
    }
}

fn is_zone(zone: &&str) -> bool {
    decisioning_core::decide::period(0, zone).is_ok()
}

/// Where a customer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place<'a> {
    pub zone: Option<&'a str>,
    pub jurisdiction: Option<&'a str>,
}

impl Place<'_> {
    /// Whether he is in `area`: US-FL is within US.
    fn is_within(&self, area: &str) -> bool {
        self.jurisdiction
            .is_some_and(|place| place.strip_prefix(area).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    }
}

impl FrequencyCap {
    fn counts(&self, foreign: &Foreign, key: Option<&str>) -> bool {
        let facts = &*foreign.facts;
        self.actions.matches(facts)
            && (self.count_transactional || !facts.transactional)
            && key_of(self.per.as_deref(), facts) == key
    }
}

impl CapRow {
    fn cap(&self) -> Result<Cap> {
        let span = match (self.period.as_deref(), self.rolling_seconds) {
            (Some("day"), _) => Span::Calendar(Calendar::Day),
            (Some("week"), _) => Span::Calendar(Calendar::Week),
            (Some("month"), _) => Span::Calendar(Calendar::Month),
            (Some("ever"), _) => Span::Ever,
            (_, Some(seconds)) => Span::Rolling((seconds * 1e6) as i64),
            _ => return Err(Error::corrupted(format!("cap \"{}\" has no period", self.cap))),
        };
        let ramp = match (self.ramp_from, self.ramp_starts, self.ramp_ends) {
            (Some(from), Some(starts_at), Some(ends_at)) => Some(Ramp { from, starts_at, ends_at }),
            _ => None,
        };
        Ok(Cap { maximum: self.maximum, span, ramp })
    }
}

/// Quiet hours each for itself; open hours of the same campaign, actions and jurisdiction add up.
fn hours(rows: Vec<HoursRow>, selected: impl Fn(&Selector) -> Vec<bool>) -> Result<Vec<Ruled<LocalHours>>> {
    let mut ruled: Vec<(Option<(Option<String>, Selector, Option<String>)>, Ruled<LocalHours>)> = Vec::new();
    for row in rows {
        let days = match &row.weekdays {
            None => Weekdays::ALL,
            Some(names) => Weekdays::parse(names.iter().map(String::as_str))
                .map_err(|error| Error::corrupted(error.to_string()))?,
        };
        let stretch = Stretch::parse(&row.starts, &row.ends, days)
            .ok_or_else(|| Error::corrupted(format!("quiet hours \"{}\" have no times", row.rule)))?;
        let open = row.kind == "open";
        let group = open.then(|| (row.campaign.clone(), row.actions.clone(), row.jurisdiction.clone()));
        let known = ruled.iter_mut().find(|(other, _)| group.is_some() && *other == group);
        match known {
            Some((_, known)) => known.rule.hours.stretches.push(stretch),
            None => {
                let kind = if open { Kind::Open } else { Kind::Quiet };
                let rule =
                    LocalHours { hours: Hours { kind, stretches: vec![stretch] }, jurisdiction: row.jurisdiction };
                let label = format!("quiet_hours: {}", row.rule);
                ruled.push((group, Ruled { label, arms: selected(&row.actions), rule }));
            }
        }
    }
    Ok(ruled.into_iter().map(|(_, rule)| rule).collect())
}
