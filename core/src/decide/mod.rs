//! From a model, a group and a context to one choice with its exact probability.

mod choice;
mod group;
mod period;
mod policy;
mod seed;

pub use choice::{choose, propensities, Choice, Rule};
pub use group::{Group, Shares};
pub use period::{month, next_slot, period, Period, PeriodError};
pub use policy::{Cost, Policy, Terms, Unit};
pub use seed::{Salt, BUCKETS};
