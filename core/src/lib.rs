//! The pure algorithms behind the `decisioning` extension.
//!
//! Nothing here knows Postgres, reads a clock or keeps global state: random numbers come from seeds that are
//! passed in, and long loops call a tick closure through which the caller can cancel.

#![forbid(unsafe_code)]

pub mod brand;
pub mod decide;
pub mod delivery;
pub mod evaluate;
pub mod features;
pub mod guardrail;
pub mod identity;
pub mod learn;
pub mod measure;
pub mod report;
