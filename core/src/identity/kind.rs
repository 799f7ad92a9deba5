//! What a column of a source holds.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::IdentityError;

/// Kind of a field. Identifiers link records; the others describe a person.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldKind {
    Identifier(Identifier),
    GivenName,
    FamilyName,
    FullName,
    DateOfBirth,
    Street,
    City,
    Postcode,
    /// ISO 3166 two-letter code; also tells how the phone numbers of the same record are to be read.
    Country,
    Company,
    Text,
}

/// An identifier: two records that share its value are taken for one person.
///
/// Written as its kind, or `external_id:namespace`: ids given out by different systems are different identifiers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier {
    pub kind: IdentifierKind,
    /// Only external ids have one; empty is the shared namespace.
    pub namespace: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentifierKind {
    ExternalId,
    Email,
    Phone,
    DeviceId,
}

/// Longest namespace in bytes.
const NAMESPACE_LIMIT: usize = 100;

impl IdentifierKind {
    pub const ALL: [IdentifierKind; 4] = [Self::ExternalId, Self::Email, Self::Phone, Self::DeviceId];

    pub fn name(self) -> &'static str {
        match self {
            Self::ExternalId => "external_id",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::DeviceId => "device_id",
        }
    }
}

impl From<IdentifierKind> for Identifier {
    fn from(kind: IdentifierKind) -> Self {
        Identifier { kind, namespace: String::new() }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.name())?;
        if !self.namespace.is_empty() {
            write!(formatter, ":{}", self.namespace)?;
        }
        Ok(())
    }
}

impl FieldKind {
    /// How it is written.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Identifier(identifier) if identifier.namespace.is_empty() => identifier.kind.name(),
            Self::Identifier(identifier) => return Cow::Owned(identifier.to_string()),
            Self::GivenName => "given_name",
            Self::FamilyName => "family_name",
            Self::FullName => "full_name",
            Self::DateOfBirth => "date_of_birth",
            Self::Street => "street",
            Self::City => "city",
            Self::Postcode => "postcode",
            Self::Country => "country",
            Self::Company => "company",
            Self::Text => "text",
        })
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

impl FromStr for Identifier {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match FieldKind::from_str(text) {
            Ok(FieldKind::Identifier(identifier)) => Ok(identifier),
            _ => Err(IdentityError::UnknownIdentifier { given: text.to_owned() }),
        }
    }
}

impl FromStr for FieldKind {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if let Some(namespace) = text.strip_prefix("external_id:") {
            let namespace = namespace.to_owned();
            if namespace.is_empty() || namespace.len() > NAMESPACE_LIMIT {
                return Err(IdentityError::BadNamespace { namespace });
            }
            return Ok(Self::Identifier(Identifier { kind: IdentifierKind::ExternalId, namespace }));
        }
        if let Some(kind) = IdentifierKind::ALL.into_iter().find(|kind| kind.name() == text) {
            return Ok(Self::Identifier(kind.into()));
        }
        Ok(match text {
            "given_name" => Self::GivenName,
            "family_name" => Self::FamilyName,
            "full_name" => Self::FullName,
            "date_of_birth" => Self::DateOfBirth,
            "street" => Self::Street,
            "city" => Self::City,
            "postcode" => Self::Postcode,
            "country" => Self::Country,
            "company" => Self::Company,
            "text" => Self::Text,
            _ => return Err(IdentityError::UnknownKind { given: text.to_owned() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_read_as_they_are_written() {
        for text in ["email", "phone", "device_id", "external_id", "external_id:loyalty"] {
            assert_eq!(text.parse::<Identifier>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_identifier_is_refused() {
        for text in ["city", "external_id:", "email:work", "E-mail", ""] {
            assert!(text.parse::<Identifier>().is_err(), "{text}");
        }
        assert_eq!("city".parse(), Ok(FieldKind::City));
    }
}
