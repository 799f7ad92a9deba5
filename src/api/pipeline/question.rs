//! What there is to do for one customer without the database: on any thread.

use decisioning_core::decide::{choose, Choice, Group, Rule, Salt};
use decisioning_core::features::Encoder;

use super::candidates::rule;
use super::{action_id, Candidates, Entrant, Round};
use crate::api::context::{Context, Written};
use crate::api::mode;
use crate::pg::error::Result;

pub struct Question<'a> {
    rule: Rule<'a>,
    /// What is only noted in shadow mode.
    shadow: Option<Rule<'a>>,
    arms: &'a [Option<usize>],
    salt: Salt,
    customer_id: &'a str,
    ordinal: i64,
    encoder: &'a Encoder,
    context: &'a Context,
}

pub struct Answer {
    pub choice: Choice,
    pub shadow: Option<Choice>,
    pub context: Written,
}

impl<'a> Question<'a> {
    pub fn new(round: &'a Round, entrant: &'a Entrant, candidates: &'a Candidates) -> Self {
        let Round { campaign, compiled, salt, .. } = round;
        let rule_of = |group| {
            let name = |name: &str| action_id(campaign, name);
            rule(group, &campaign.rules, compiled, candidates, name, &entrant.encoded)
        };
        let (rule, shadow) = match mode::shadows(round.mode, entrant.group) {
            false => (rule_of(entrant.group), None),
            true => (rule_of(Group::Control), Some(rule_of(entrant.group))),
        };
        Question {
            rule,
            shadow,
            arms: &candidates.arms,
            salt: *salt,
            customer_id: &entrant.customer_id,
            ordinal: entrant.ordinal,
            encoder: &compiled.model.encoder,
            context: &entrant.context,
        }
    }

    pub fn answer(&self) -> Result<Answer> {
        let choose = |rule| choose(rule, self.arms, &mut self.salt.random(self.customer_id, self.ordinal));
        Ok(Answer {
            choice: choose(&self.rule),
            shadow: self.shadow.as_ref().map(choose),
            context: self.context.written(self.encoder)?,
        })
    }
}
