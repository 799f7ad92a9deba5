//! What becomes of a decision: live, shadow or preview.

use decisioning_core::decide::{Choice, Group};

use super::campaign::Campaign;
use crate::pg::settings::{self, Mode};

/// The mode in force: the stricter of the session's and the campaign's.
pub fn in_force(campaign: &Campaign) -> Mode {
    settings::mode().max(campaign.mode)
}

/// Whether what the group would get is only noted in shadow: the rules of holdout and control do not come from us.
pub fn shadows(mode: Mode, group: Group) -> bool {
    mode == Mode::Shadow && matches!(group, Group::Explore | Group::Optimise)
}

/// What would have been done, beside what the control rule does instead.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// 0 is no-send.
    pub action_id: i32,
    pub choice: Choice,
}

impl Shadow {
    pub fn new(choice: Choice, candidate_ids: &[i32]) -> Self {
        Shadow { action_id: candidate_ids[choice.chosen], choice }
    }
}
