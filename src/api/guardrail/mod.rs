//! Guardrails: what nobody may be sent, whatever the learner would choose.
//!
//! `rules` are the rows of a campaign, compiled; a `standing` is what they ask about a customer; both together say which actions
//! he may be sent, and when. `configure` and `suppression` are what people call.

pub mod binding;
pub mod configure;
mod foreign;
pub mod priority;
mod rules;
mod shared;
mod standing;
mod suppression;
mod timetable;

pub use foreign::contacts as foreign_contacts;
pub use rules::{Exit, Guardrails, Place, Rows};
pub use shared::lock;
pub use standing::{known_as, read, Reserved, Standing, Subject};
pub use suppression::{
    anybody_is_suppressed, follow, lock as lock_suppressions, suppressed, welcome, write as suppress,
};
pub use timetable::{Moments, Timetable};

/// Label of removals by a suppression.
const SUPPRESSION: &str = "suppression";

/// Reason of decisions for whoever must be sent something.
pub const MUST_SEND: &str = "must_send";
