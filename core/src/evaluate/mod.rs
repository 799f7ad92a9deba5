//! Off-policy evaluation: the value of policies from decisions that another policy made.
//!
//! Everything here is one-step: it values what is chosen in a context, and takes from the log how contexts come about.

mod bootstrap;
mod contrast;
mod reward_model;
mod value;

pub use bootstrap::REPLICATES;
pub use contrast::{Choice, Contrast, Total};
pub use reward_model::RewardModel;
pub use value::{Estimate, Estimator, Evaluation, Term};
