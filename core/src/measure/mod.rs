//! Statistics of experiments.

mod agreement;
mod balance;
mod calibration;
mod finding;
mod moments;
mod parity;
mod power;
mod readout;
mod sample;
mod sequence;

pub use agreement::Agreement;
pub use balance::{chi_square, independence, sequential_balance, Drawn, Independence};
pub use calibration::{Calibration, CalibrationBin};
pub use finding::Finding;
pub use moments::Moments;
pub use parity::{parity, wilson, Parity, Share, Verdict};
pub use power::{customers_needed, detectable_difference, smallest_holdout};
pub use readout::{plain_means, read_out, Arms, Bounded, Readout, Responders, FEWEST_RESPONDERS};
pub use sample::{Sample, Variable, SAMPLE_BYTES};
pub use sequence::{alarm_bounds, multiplier, Rate};
