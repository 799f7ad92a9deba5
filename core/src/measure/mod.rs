//! Statistics of experiments.

mod agreement;
mod balance;
mod calibration;
mod proportion;
mod sequence;

pub use agreement::Agreement;
pub use balance::chi_square;
pub use calibration::{Calibration, CalibrationBin};
pub use proportion::{difference, minimum_detectable_difference, Difference, Moments};
pub use sequence::always_valid;
