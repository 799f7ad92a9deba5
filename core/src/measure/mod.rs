//! Statistics of experiments.

mod agreement;
mod balance;
mod calibration;
mod clusters;
mod finding;
mod insight;
mod moments;
mod multiplicity;
mod parity;
mod performance;
mod power;
mod readout;
mod response;
mod sample;
mod sequence;
mod shrinkage;

pub use agreement::Agreement;
pub use balance::{chi_square, independence, independence_within, same_mean, sequential_balance, Drawn, Independence};
pub use calibration::{Calibration, CalibrationBin};
pub use clusters::{ClusterSums, Clusters};
pub use finding::Finding;
pub use insight::{insights, Contrast, Feature, Half, Insight, Known, Levers, Log, Sampled, Seen};
pub use moments::Moments;
pub use multiplicity::{benjamini_hochberg, holm};
pub use parity::{parity, wilson, Parity, Share, Verdict};
pub use performance::{Brought, Performance, Trial};
pub use power::Plan;
pub use readout::{plain_means, read_out, Arms, Bounded, Readout, Responders, FEWEST_RESPONDERS};
pub use response::{quantile_of_sizes, Response, Responses};
pub use sample::{Sample, Variable, SAMPLE_BYTES};
pub use sequence::{alarm_bounds, multiplier, Rate};
pub use shrinkage::{shrunken, spread};
