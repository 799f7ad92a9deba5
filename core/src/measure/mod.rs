//! Statistics of experiments.

mod balance;
mod proportion;

pub use balance::chi_square;
pub use proportion::{difference, minimum_detectable_difference, Difference, Moments};
