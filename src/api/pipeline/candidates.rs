//! The candidates of a campaign, and how a group chooses among them.

use std::collections::HashSet;

use decisioning_core::decide::{Group, Rule};

use crate::api::campaign::{Campaign, Rules};
use crate::api::constraint::Removed;
use crate::api::global_holdout::GLOBAL_HOLDOUT;
use crate::api::guardrail::MUST_SEND;
use crate::api::model::Compiled;

#[derive(Clone)]
/// No-send first, unless something must be sent, then the approved actions by `action_id`.
pub struct Candidates {
    pub ids: Vec<i32>,
    /// Arm of each candidate, `None` for no-send.
    pub arms: Vec<Option<usize>>,
}

impl Candidates {
    /// At `now`, in microseconds.
    pub fn of(campaign: &Campaign, now: i64) -> Self {
        let (mut ids, mut arms) = (vec![0], vec![None]);
        for (arm, action) in campaign.actions.iter().enumerate().filter(|(_, action)| action.is_approved(now)) {
            ids.push(action.action_id);
            arms.push(Some(arm));
        }
        Candidates { ids, arms }
    }

    /// The candidates but those whose arm `removed` tells.
    pub fn without(self, removed: impl Fn(usize) -> bool) -> Self {
        let kept = self.ids.into_iter().zip(self.arms).filter(|(_, arm)| !arm.is_some_and(&removed));
        let (ids, arms) = kept.unzip();
        Candidates { ids, arms }
    }

    pub fn without_ids(&self, gone: &HashSet<i32>) -> Self {
        let kept = self.ids.iter().zip(&self.arms).filter(|(id, _)| !gone.contains(id));
        let (ids, arms) = kept.unzip();
        Candidates { ids, arms }
    }

    /// Without no-send for whoever must be sent something, if he is not in the holdout and something is left.
    pub fn for_group(self, group: Group, must_send: bool) -> Self {
        match must_send && group != Group::Holdout && self.any_send() {
            true => self.without_ids(&HashSet::from([0])),
            false => self,
        }
    }

    pub fn any_send(&self) -> bool {
        self.arms.iter().any(Option::is_some)
    }
}

/// How a group chooses among the candidates.
pub fn rule<'a>(
    group: Group,
    rules: &Rules,
    compiled: &'a Compiled,
    candidates: &Candidates,
    action_id: impl Fn(&str) -> Option<i32>,
    encoded: &'a [f32],
) -> Rule<'a> {
    match group {
        Group::Holdout => Rule::Fixed(0),
        // A control action that is not a candidate now leaves the customer alone.
        Group::Control => {
            let control = rules.control_action.as_deref().and_then(action_id);
            Rule::Fixed(control.and_then(|id| candidates.ids.iter().position(|known| *known == id)).unwrap_or(0))
        }
        Group::Explore => Rule::Random { no_send: rules.explore_no_send },
        Group::Optimise => {
            Rule::Learned { policy: &compiled.policy, terms: &compiled.terms, encoded, floor: rules.propensity_floor }
        }
    }
}

/// Why a decision came out as it did, in a word.
pub fn reason(group: Group, global: bool, candidates: &Candidates, removed: &Removed, shadow: bool) -> &'static str {
    match group {
        _ if !candidates.arms.contains(&None) => MUST_SEND,
        _ if !removed.is_empty() && !candidates.any_send() => "no_candidate_left",
        _ if !candidates.any_send() => "no_approved_action",
        _ if shadow => "shadow",
        Group::Holdout if global => GLOBAL_HOLDOUT,
        Group::Holdout => "holdout",
        Group::Control => "control",
        Group::Explore => "explore",
        Group::Optimise => "optimise",
    }
}
