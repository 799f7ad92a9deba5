//! Statistics of experiments.

mod agreement;
mod balance;
mod calibration;
mod insight;
mod multiplicity;
mod parity;
mod performance;
mod proportion;
mod sequence;
mod shrinkage;

pub use agreement::Agreement;
pub use balance::chi_square;
pub use calibration::{Calibration, CalibrationBin};
pub use insight::{insights, Contrast, Feature, Half, Insight, Known, Levers, Log, Sample, Seen};
pub use multiplicity::{benjamini_hochberg, holm};
pub use parity::{parity, wilson, Parity, Share, Verdict};
pub use performance::{Bounded, Brought, Performance, Trial, FEWEST};
pub use proportion::{difference, minimum_detectable_difference, Difference, Moments};
pub use sequence::always_valid;
pub use shrinkage::{shrunken, spread};
