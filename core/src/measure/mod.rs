//! Statistics of experiments.

mod balance;
mod calibration;
mod proportion;

pub use balance::chi_square;
pub use calibration::{Calibration, CalibrationBin};
pub use proportion::{difference, minimum_detectable_difference, Difference, Moments};
