//! From what a customer row says to the numbers a model sees.

mod encoder;
mod profile;

pub use encoder::{Encoder, Feature, FeatureKind, Observation, OffsetScale, Value};
pub use profile::{Declared, Profile};
