//! Statistics of experiments.

mod balance;
mod policy_value;
mod proportion;

pub use balance::chi_square;
pub use policy_value::{PolicyEstimate, PolicyValue};
pub use proportion::{difference, minimum_detectable_difference, Difference, Moments};
