//! What can be wrong with the input of identity resolution.

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A field is mapped to something that is not a kind.
    #[error("\"{given}\" is not a kind of field")]
    UnknownKind { given: String },
    /// A rule or blocked value names something that is not an identifier.
    #[error("\"{given}\" is not an identifier")]
    UnknownIdentifier { given: String },
    /// `external_id:` with a namespace that is empty or too long.
    #[error("\"{namespace}\" is not a usable namespace")]
    BadNamespace { namespace: String },
    /// A region that no phone numbering plan is known for.
    #[error("\"{given}\" is not a country code")]
    UnknownCountry { given: String },
    /// A record that is no object of kinds and values.
    #[error("a record must be a JSON object")]
    NoFields,
    /// A value of a record that is neither a text nor a number.
    #[error("field \"{field}\" must be a text, a number or an array of them")]
    NoText { field: String },
    /// A comparison, level, blocking key part or model document that does not exist or makes no sense.
    #[error("{what} \"{given}\" does not exist")]
    UnknownName { what: &'static str, given: String },
    /// A probability or weight out of its range.
    #[error("{name} must be {range}")]
    ParameterOutOfRange { name: &'static str, range: &'static str },
    /// A limit that is not positive, or so large that it limits nothing.
    #[error("{name} must be between 1 and {most}")]
    LimitOutOfRange { name: &'static str, most: u32 },
    /// A record key that no index can hold.
    #[error("key of {length} bytes is too long")]
    KeyTooLong { length: usize },
    /// More records or values than 32-bit numbers count.
    #[error("too many records")]
    TooMany,
}
