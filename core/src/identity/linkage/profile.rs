//! What describes each record, as numbers.

use super::super::intern::Interner;
use super::super::{Country, FieldKind, IdentifierKind, IdentityError};
use super::dates::Birth;
use super::{names, places};

/// What is compared of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Attribute {
    GivenName,
    FamilyName,
    Email,
    Phone,
    DateOfBirth,
    Street,
    City,
    Postcode,
    Company,
    DeviceId,
    Text,
    /// What stands before the `@`; follows from the e-mail address.
    EmailLocal,
}

pub const ATTRIBUTES: usize = 12;

/// No value of this attribute.
pub const MISSING: u32 = u32::MAX;

/// First value of each attribute of a record.
pub type Row = [u32; ATTRIBUTES];

impl Attribute {
    pub const ALL: [Attribute; ATTRIBUTES] = [
        Self::GivenName,
        Self::FamilyName,
        Self::Email,
        Self::Phone,
        Self::DateOfBirth,
        Self::Street,
        Self::City,
        Self::Postcode,
        Self::Company,
        Self::DeviceId,
        Self::Text,
        Self::EmailLocal,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::GivenName => "given_name",
            Self::FamilyName => "family_name",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::DateOfBirth => "date_of_birth",
            Self::Street => "street",
            Self::City => "city",
            Self::Postcode => "postcode",
            Self::Company => "company",
            Self::DeviceId => "device_id",
            Self::Text => "text",
            Self::EmailLocal => "email_local",
        }
    }

    /// Whether a field of this kind may give the attribute a value.
    pub fn comes_from(self, kind: &FieldKind) -> bool {
        match kind {
            FieldKind::Identifier(identifier) => match Self::of_identifier(identifier.kind) {
                Some(Self::Email) => matches!(self, Self::Email | Self::EmailLocal),
                attribute => attribute == Some(self),
            },
            FieldKind::GivenName => self == Self::GivenName,
            FieldKind::FamilyName => self == Self::FamilyName,
            FieldKind::FullName => matches!(self, Self::GivenName | Self::FamilyName),
            FieldKind::DateOfBirth => self == Self::DateOfBirth,
            FieldKind::Street => self == Self::Street,
            FieldKind::City => self == Self::City,
            FieldKind::Postcode => self == Self::Postcode,
            FieldKind::Company => self == Self::Company,
            FieldKind::Text => self == Self::Text,
            FieldKind::Country => false,
        }
    }

    pub fn of_identifier(kind: IdentifierKind) -> Option<Self> {
        match kind {
            IdentifierKind::Email => Some(Self::Email),
            IdentifierKind::Phone => Some(Self::Phone),
            IdentifierKind::DeviceId => Some(Self::DeviceId),
            IdentifierKind::ExternalId => None,
        }
    }
}

/// A value beyond the first one of its attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extra {
    pub record: u32,
    pub attribute: Attribute,
    pub value: u32,
}

/// What stands before the `@`.
pub fn local_part(email: &str) -> &str {
    email.split_once('@').map_or(email, |parts| parts.0)
}

/// Normalised spelling of a descriptive field, by attribute; a full name is two.
pub fn normalised(kind: &FieldKind, raw: &str, country: Option<Country>) -> Vec<(Attribute, String)> {
    let one = |attribute, value: Option<String>| value.map(|value| vec![(attribute, value)]).unwrap_or_default();
    match kind {
        FieldKind::GivenName => one(Attribute::GivenName, names::given(raw)),
        FieldKind::FamilyName => one(Attribute::FamilyName, names::family(raw)),
        FieldKind::FullName => {
            let name = names::full(raw);
            [(Attribute::GivenName, name.given), (Attribute::FamilyName, name.family)]
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect()
        }
        FieldKind::DateOfBirth => {
            one(Attribute::DateOfBirth, Birth::parse(raw, country).map(|birth| birth.to_string()))
        }
        FieldKind::Street => one(Attribute::Street, places::street(raw)),
        FieldKind::City => one(Attribute::City, places::city(raw)),
        FieldKind::Postcode => one(Attribute::Postcode, places::postcode(raw)),
        FieldKind::Company => one(Attribute::Company, places::company(raw)),
        FieldKind::Text => one(Attribute::Text, places::text(raw)),
        FieldKind::Country | FieldKind::Identifier(_) => Vec::new(),
    }
}

/// Values of descriptive attributes, each once. Identifiers are with [`super::super::Records`].
#[derive(Default)]
pub struct Vocabulary {
    interners: [Interner; ATTRIBUTES],
    /// By kind of field: raw spellings that were seen, and what they are.
    known: [Interner; KNOWN.len()],
    meanings: [Vec<[(Attribute, u32); 2]>; KNOWN.len()],
}

/// Kinds whose raw values repeat so often that it pays to remember what they mean.
const KNOWN: [FieldKind; 6] = [
    FieldKind::GivenName,
    FieldKind::FamilyName,
    FieldKind::FullName,
    FieldKind::City,
    FieldKind::Postcode,
    FieldKind::Company,
];

/// Raw spellings of a kind that are remembered at most.
const MOST_KNOWN: usize = 1 << 20;

impl Vocabulary {
    /// Numbers of the values that a raw field has: up to two, the others [`MISSING`].
    ///
    /// # Errors
    /// More values than numbers.
    pub fn read(
        &mut self,
        kind: &FieldKind,
        raw: &str,
        country: Option<Country>,
    ) -> Result<[(Attribute, u32); 2], IdentityError> {
        let place = KNOWN.iter().position(|known| known == kind).filter(|_| raw.len() <= super::fold::TEXT_LIMIT);
        if let Some(place) = place {
            if let Some(number) = self.known[place].number(raw) {
                return Ok(self.meanings[place][number as usize]);
            }
        }
        let mut read = [(Attribute::Text, MISSING); 2];
        if *kind == FieldKind::DateOfBirth {
            if let Some(birth) = Birth::parse(raw, country) {
                read[0] = (Attribute::DateOfBirth, birth.number());
            }
            return Ok(read);
        }
        for (read, (attribute, value)) in read.iter_mut().zip(normalised(kind, raw, country)) {
            *read = (attribute, self.interners[attribute as usize].intern(&value)?);
        }
        if let Some(place) = place.filter(|&place| self.known[place].len() < MOST_KNOWN) {
            self.known[place].intern(raw)?;
            self.meanings[place].push(read);
        }
        Ok(read)
    }

    pub fn interner(&self, attribute: Attribute) -> &Interner {
        &self.interners[attribute as usize]
    }
}
