//! Identity: which records, in all of the user's systems, are one person.
//!
//! [`Records`] collects what was read, [`Matching`] adds what was known before, [`Resolution`] is the result: persons
//! with stable canonical ids, what changed, what was not linked and why. [`recognise`] answers for one person online.
//!
//! Deterministic: the result depends on the data and the rules alone, not on the order of rows.

mod cluster;
mod country;
mod difference;
mod error;
mod fields;
mod history;
mod household;
mod intern;
mod kind;
mod linkage;
mod naming;
mod neighbours;
mod normalise;
mod order;
mod placeholder;
mod provider;
mod recognise;
mod records;
mod resolution;
mod rules;
mod survivorship;

pub use country::Country;
pub use difference::{AliasDifference, AliasVerdict, IdentifierDifference};
pub use error::IdentityError;
pub use fields::Fields;
pub use history::{Event, EventKind};
pub use household::{Dwelling, MOST_MEMBERS};
pub use intern::Interner;
pub use kind::{FieldKind, Identifier, IdentifierKind};
pub use linkage::normalised;
pub use linkage::{
    explain, Attribute, BlockSizes, BlockingRule, BlockingRules, Comparison, ComparisonParameters, Explained, KeyPart,
    KeySource, LevelOverride, LevelParameters, Nicknames, Overrides, Oversized, Parameters, Step, TermFrequencies,
    TermFrequency,
};
pub use neighbours::{Doubt, Pair};
pub use normalise::VALUE_LIMIT;
pub use recognise::{recognise, settle, strongest_first, Owner, Recognition, Shown};
pub use records::{Handle, Records, SourceNumber, ONLINE};
pub use resolution::{Conflict, Linkage, Matching, PairLink, Resolution, Vanished};
pub use rules::{Rule, RuleChange, Rules, Standing};
pub use survivorship::{address, addresses, birth, candidates, survivor, Candidate, Survivorship, Witness, ADDRESS};
