//! Identity: sources and rules, the full run, and the answer for one person online.

mod accuracy;
mod block;
mod blocking;
mod corrections;
mod explain;
mod field;
mod full;
mod golden;
mod household;
mod known;
mod likeness;
mod model;
mod online;
mod pair;
mod partial;
mod read;
mod resolve;
mod review;
mod rules;
mod source;
mod stored;
mod survivorship;
mod wanted;
mod write;

pub use resolve::require_read_committed;

use decisioning_core::identity::{FieldKind, IdentifierKind, IdentityError};
use pgrx::PgSqlErrorCode;

use crate::pg::error::Error;

impl From<IdentityError> for Error {
    #[track_caller]
    fn from(error: IdentityError) -> Self {
        let message = error.to_string();
        match error {
            IdentityError::UnknownKind { .. } => Error::invalid(message).hint(format!(
                "Kinds are {}, given_name, family_name, full_name, date_of_birth, street, city, postcode, country, company and text.",
                identifier_kinds()
            )),
            IdentityError::UnknownIdentifier { .. } => {
                Error::invalid(message).hint(format!("Identifiers are {}.", identifier_kinds()))
            }
            IdentityError::BadNamespace { .. } => {
                Error::invalid(message).hint("Write external_id:namespace with a name of at most 100 bytes.")
            }
            IdentityError::UnknownCountry { .. } => {
                Error::invalid(message).hint("Use the two-letter ISO 3166 code of a country with telephones, such as DE or US.")
            }
            IdentityError::LimitOutOfRange { .. } | IdentityError::ParameterOutOfRange { .. } => Error::invalid(message),
            IdentityError::NoFields => Error::invalid(message)
                .hint("Map kinds to values, such as {\"email\": \"ada@example.com\", \"device_id\": [\"a\", \"b\"]}."),
            IdentityError::NoText { .. } => Error::invalid(message),
            IdentityError::UnknownName { .. } => Error::missing(message),
            IdentityError::KeyTooLong { .. } => Error::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
                .detail("Record keys have at most 512 bytes."),
            _ => Error::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message),
        }
    }
}

fn identifier_kinds() -> String {
    let kinds = IdentifierKind::ALL.map(IdentifierKind::name).join(", ");
    format!("{kinds}, external_id:namespace")
}

/// What a field of a document or source is for identity resolution.
fn kind_of(text: &str) -> Result<FieldKind, Error> {
    Ok(text.parse::<FieldKind>()?)
}
