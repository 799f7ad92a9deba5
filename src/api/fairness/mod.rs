//! Fairness: who gets which level, across an attribute that the model does not see, and what happens if it is too uneven.

pub mod guardrail;
mod report;
