//! Delivery: what became of a send.

mod feedback;

pub use feedback::{Report, Status};
