//! The learner: one shared Bayesian logistic regression per campaign,
//!
//! ```text
//! logit p = base(x) + [sent] · ( send(x) + Σ level_d(x) over the action's levels + pairwise level terms )
//! ```
//!
//! so that what is learned of "SMS" or "10 % off" serves every action that contains it.

mod bank;
mod delay;
mod layout;
mod posterior;
mod prior;
mod rows;
mod statistics;

pub use bank::{DrawBank, DRAWS};
pub use delay::{Delays, Reporting, Seen};
pub use layout::{Arm, Dimensions, Layout, LayoutError};
pub use posterior::{fit, linearise, Fit, FitError, Posterior};
pub use prior::{Block, Prior, Scales};
pub use rows::{Link, Misfit, Observed, Rows};
pub use statistics::Statistics;
