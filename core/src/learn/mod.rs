//! The learner: one shared Bayesian logistic regression per campaign,
//!
//! ```text
//! logit p = base(x) + [sent] · ( send(x) + Σ level_d(x) over the action's levels + pairwise level terms )
//! ```
//!
//! so that what is learned of "SMS" or "10 % off" serves every action that contains it.

mod accumulator;
mod bank;
mod crosses;
mod delay;
mod drift;
mod epochs;
mod layout;
mod point;
mod posterior;
mod prior;
mod rows;
mod serialised;
mod statistics;

pub use accumulator::Accumulator;
pub use bank::{DrawBank, DRAWS};
pub use crosses::CrossSearch;
pub use delay::{Delays, Reporting, Seen};
pub use drift::Drift;
pub use epochs::{Epoch, Epochs};
pub use layout::{Arm, Dimensions, Layout, LayoutError, Roles};
pub use point::{Point, PointError, Step};
pub use posterior::{fit, linearise, Fit, FitError, Posterior};
pub use prior::{Block, Prior, Scales};
pub use rows::{Link, Misfit, Observed, Response, Rows};
pub use serialised::Serialised;
pub use statistics::Statistics;
