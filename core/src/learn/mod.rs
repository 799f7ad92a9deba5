//! The learner: one shared Bayesian logistic regression per campaign,
//!
//! ```text
//! logit p = base(x) + [sent] · ( send(x) + Σ level_d(x) over the action's levels + pairwise level terms )
//! ```
//!
//! so that what is learned of "SMS" or "10 % off" serves every action that contains it.

mod bank;
mod layout;
mod posterior;
mod statistics;

pub use bank::{DrawBank, DRAWS};
pub use layout::{Arm, Dimensions, Layout, LayoutError};
pub use posterior::{fit, FitError, Observed, Posterior};
pub use statistics::Statistics;
