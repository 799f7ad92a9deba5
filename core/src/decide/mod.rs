//! From a model, a group and a context to one choice with its exact probability.

mod budget;
mod choice;
mod global;
mod group;
mod pacing;
mod period;
mod policy;
mod seed;

pub use budget::{demand, millionths, spread, Demand, Draws, Ledger, Scope, SLOTS};
pub use choice::{choose, propensities, Choice, Rule};
pub use global::{GlobalHoldout, Membership};
pub use group::{Group, Shares};
pub use pacing::{price, Pace, Progress};
pub use period::{calendar_period, is_slot, month, next_slot, period, slot_end, Calendar, Period, PeriodError};
pub use policy::{Cost, Policy, Terms, Unit};
pub use seed::{Salt, BUCKETS};
