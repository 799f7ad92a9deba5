//! Privacy: what is known of a customer, and how it is forgotten.

mod export;
pub mod forget;
mod profiling;
