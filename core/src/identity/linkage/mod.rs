//! Probabilistic linkage: records that are alike are one person.
//!
//! [`Profiles`] hold what describes each record in one spelling, [`Blocks`] the pairs that are compared, [`Training`] learns
//! [`Parameters`] from them, a [`Scorer`] turns the pattern of a pair into a match weight, and a [`Judge`] weighs groups.

mod blocking;
mod blocks;
mod comparison;
mod dates;
mod edges;
mod explain;
mod fold;
mod frequency;
mod judge;
pub(super) mod names;
mod nicknames;
mod parameters;
pub(super) mod places;
mod profile;
mod profiles;
mod score;
mod similarity;
mod train;
mod work;

pub use blocking::{BlockingRule, BlockingRules, KeyPart, KeySource};
pub use blocks::{BlockSizes, Blocks, Oversized};
pub use comparison::{Comparer, Comparison};
pub(super) use dates::Birth;
pub use edges::{edges, edges_of, Edge};
pub use explain::{explain, steps, Explained, Step};
pub(super) use fold::fold;
pub use frequency::{TermFrequencies, TermFrequency};
pub use judge::Judge;
pub use nicknames::Nicknames;
pub use parameters::{ComparisonParameters, LevelOverride, LevelParameters, Overrides, Parameters};
pub use profile::{local_part, normalised, Attribute, Row, Vocabulary, ATTRIBUTES, MISSING};
pub use profiles::Profiles;
pub use score::Scorer;
pub use train::Training;
pub use work::in_parallel;
