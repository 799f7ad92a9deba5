//! Brand and compliance: rules about content, approval under them, content in the customer's language.
//!
//! The checks are in `core`; `rules` loads what they check by, `check` tells what they find, and assesses actions for the triggers
//! that guard approval. `configure` is what people call; `context` is what copywriters and generators of content are given.

mod check;
mod configure;
mod context;
mod rules;

pub use check::reassess;
