//! How two records are compared: what agrees, and how far.

use super::super::intern::Interner;
use super::super::records::Records;
use super::dates::Birth;
use super::nicknames::share_a_root;
use super::profile::{local_part, Attribute, Row, ATTRIBUTES, MISSING};
use super::profiles::Profiles;
use super::similarity::{is_one_error_apart, similarity};

/// A comparison of one attribute, or of several that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Comparison {
    GivenName,
    FamilyName,
    Email,
    Phone,
    DateOfBirth,
    Address,
    Company,
    DeviceId,
    Text,
}

pub const COMPARISONS: usize = 9;

/// One outcome of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct LevelKind {
    pub name: &'static str,
    /// Attribute whose common values say less than its rare ones, if they agree at this level.
    pub frequency_of: Option<Attribute>,
}

const fn level(name: &'static str) -> LevelKind {
    LevelKind { name, frequency_of: None }
}

const fn by_frequency(name: &'static str, attribute: Attribute) -> LevelKind {
    LevelKind { name, frequency_of: Some(attribute) }
}

impl Comparison {
    pub const ALL: [Comparison; COMPARISONS] = [
        Self::GivenName,
        Self::FamilyName,
        Self::Email,
        Self::Phone,
        Self::DateOfBirth,
        Self::Address,
        Self::Company,
        Self::DeviceId,
        Self::Text,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::GivenName => "given_name",
            Self::FamilyName => "family_name",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::DateOfBirth => "date_of_birth",
            Self::Address => "address",
            Self::Company => "company",
            Self::DeviceId => "device_id",
            Self::Text => "text",
        }
    }

    /// From the closest to the farthest. The number of a level is its place plus one; zero is for missing values.
    pub fn levels(self) -> &'static [LevelKind] {
        const GIVEN_NAME: &[LevelKind] = &[
            by_frequency("exact", Attribute::GivenName),
            level("nickname"),
            level("jaro_winkler_92"),
            level("jaro_winkler_84"),
            level("initial"),
            level("swapped"),
            level("different"),
        ];
        const FAMILY_NAME: &[LevelKind] = &[
            by_frequency("exact", Attribute::FamilyName),
            level("jaro_winkler_92"),
            level("part"),
            level("jaro_winkler_84"),
            level("different"),
        ];
        const EMAIL: &[LevelKind] = &[
            level("exact"),
            level("exact_shared"),
            level("exact_crowd"),
            level("one_error"),
            by_frequency("same_local_part", Attribute::EmailLocal),
            level("different"),
        ];
        const PHONE: &[LevelKind] =
            &[level("exact"), level("exact_shared"), level("exact_crowd"), level("one_error"), level("different")];
        const DATE_OF_BIRTH: &[LevelKind] = &[
            level("exact"),
            level("day_and_month_swapped"),
            level("one_error"),
            level("two_parts"),
            level("different"),
        ];
        const ADDRESS: &[LevelKind] = &[
            level("street_and_place"),
            level("street"),
            by_frequency("postcode", Attribute::Postcode),
            by_frequency("city", Attribute::City),
            level("place_not_street"),
            level("different"),
        ];
        const COMPANY: &[LevelKind] =
            &[by_frequency("exact", Attribute::Company), level("jaro_winkler_92"), level("different")];
        const DEVICE_ID: &[LevelKind] =
            &[level("exact"), level("exact_shared"), level("exact_crowd"), level("different")];
        const TEXT: &[LevelKind] =
            &[by_frequency("exact", Attribute::Text), level("jaro_winkler_92"), level("different")];
        match self {
            Self::GivenName => GIVEN_NAME,
            Self::FamilyName => FAMILY_NAME,
            Self::Email => EMAIL,
            Self::Phone => PHONE,
            Self::DateOfBirth => DATE_OF_BIRTH,
            Self::Address => ADDRESS,
            Self::Company => COMPANY,
            Self::DeviceId => DEVICE_ID,
            Self::Text => TEXT,
        }
    }

    /// Whether this is about a person, and not about an identifier.
    pub fn is_descriptive(self) -> bool {
        !matches!(self, Self::Email | Self::Phone | Self::DeviceId)
    }

    /// Whether the persons of a household tend to agree here, though they are different persons.
    pub fn is_shared_by_relatives(self) -> bool {
        matches!(self, Self::FamilyName | Self::Email | Self::Phone | Self::Address | Self::DeviceId)
    }
}

/// Outcome of all comparisons of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Level by comparison; zero where a value is missing.
    pub levels: [u8; COMPARISONS],
    /// The value on which they agree, for levels that go by frequency.
    pub values: [u32; COMPARISONS],
}

/// Values and their texts.
pub struct Comparer<'a> {
    pub profiles: &'a Profiles,
    texts: [&'a Interner; ATTRIBUTES],
    /// By value of an identifier: whether few records have it, many, or a crowd (0, 1, 2).
    crowds: [Vec<u8>; ATTRIBUTES],
}

/// Records from which on a value of an identifier is hardly one person's.
pub const SHARED: u32 = 9;

/// Records from which on it is a crowd's.
pub const CROWD: u32 = 65;

/// A level and the common value, if any.
type Outcome = (u8, u32);

const NEUTRAL: Outcome = (0, MISSING);

impl<'a> Comparer<'a> {
    pub fn new(records: &'a Records, profiles: &'a Profiles) -> Self {
        let texts = Attribute::ALL.map(|attribute| match attribute {
            Attribute::EmailLocal => &profiles.locals,
            attribute => records.values(attribute),
        });
        Comparer { profiles, texts, crowds: Default::default() }
    }

    /// Takes note of how many records have each value, by attribute.
    pub fn note_counts(&mut self, counts: &[Vec<u32>; ATTRIBUTES]) {
        for attribute in [Attribute::Email, Attribute::Phone, Attribute::DeviceId] {
            let crowd = |count: &u32| u8::from(*count >= SHARED) + u8::from(*count >= CROWD);
            self.crowds[attribute as usize] = counts[attribute as usize].iter().map(crowd).collect();
        }
    }

    /// Level of two records that share a value of an identifier.
    pub fn shared(&self, attribute: Attribute, value: u32) -> Outcome {
        (1 + self.crowds[attribute as usize].get(value as usize).copied().unwrap_or(0), value)
    }

    pub fn text(&self, attribute: Attribute, value: u32) -> &'a str {
        self.texts[attribute as usize].text(value)
    }

    pub fn distinct(&self, attribute: Attribute) -> usize {
        self.texts[attribute as usize].len()
    }

    /// Compares two records in every way.
    pub fn compare(&self, a: u32, b: u32) -> Pattern {
        let mut pattern = Pattern { levels: [0; COMPARISONS], values: [MISSING; COMPARISONS] };
        for comparison in Comparison::ALL {
            let (level, value) = self.outcome(comparison, a, b);
            pattern.levels[comparison as usize] = level;
            pattern.values[comparison as usize] = value;
        }
        pattern
    }

    pub fn outcome(&self, comparison: Comparison, a: u32, b: u32) -> Outcome {
        match comparison {
            Comparison::GivenName => match self.best(a, b, Attribute::GivenName, Self::given_names) {
                (level, _) if level > SIMILAR_GIVEN && self.are_swapped(a, b) => (SWAPPED, MISSING),
                outcome => outcome,
            },
            // Swapped names are one finding, not two.
            Comparison::FamilyName => match self.best(a, b, Attribute::FamilyName, Self::family_names) {
                (DIFFERENT_FAMILY, _) if self.are_swapped(a, b) => NEUTRAL,
                outcome => outcome,
            },
            // Namesakes have like addresses with different providers: that is no evidence beside their names.
            Comparison::Email => match self.best(a, b, Attribute::Email, Self::emails) {
                (SAME_LOCAL_PART, local) if self.is_spelled_from_names(local, a, b) => (DIFFERENT_EMAIL, MISSING),
                outcome => outcome,
            },
            Comparison::Phone => self.best(a, b, Attribute::Phone, Self::phones),
            Comparison::DateOfBirth => self.best(a, b, Attribute::DateOfBirth, |_, a, b| births(a, b)),
            Comparison::Address => self.addresses(a, b),
            Comparison::Company => self.best(a, b, Attribute::Company, |own, a, b| own.texts(Attribute::Company, a, b)),
            Comparison::DeviceId => self.best(a, b, Attribute::DeviceId, |own, a, b| {
                if a == b {
                    own.shared(Attribute::DeviceId, a)
                } else {
                    (4, MISSING)
                }
            }),
            Comparison::Text => self.best(a, b, Attribute::Text, |own, a, b| own.texts(Attribute::Text, a, b)),
        }
    }

    /// The closest level that any two values of an attribute reach.
    fn best(&self, a: u32, b: u32, attribute: Attribute, compare: impl Fn(&Self, u32, u32) -> Outcome) -> Outcome {
        let place = attribute as usize;
        let (first_a, first_b) = (self.profiles.row(a)[place], self.profiles.row(b)[place]);
        if first_a == MISSING || first_b == MISSING {
            return NEUTRAL;
        }
        let mut best = compare(self, first_a, first_b);
        if self.profiles.has_extras(a) || self.profiles.has_extras(b) {
            for value_a in self.profiles.values(a, attribute) {
                for value_b in self.profiles.values(b, attribute) {
                    let outcome = compare(self, value_a, value_b);
                    if outcome.0 < best.0 {
                        best = outcome;
                    }
                }
            }
        }
        best
    }

    fn given_names(&self, a: u32, b: u32) -> Outcome {
        if a == b {
            return (1, a);
        }
        let (text_a, text_b) = (self.text(Attribute::GivenName, a), self.text(Attribute::GivenName, b));
        if is_initial(text_a) || is_initial(text_b) {
            return if text_a.as_bytes()[0] == text_b.as_bytes()[0] { (5, MISSING) } else { (7, MISSING) };
        }
        if share_a_root(self.profiles.nickname_roots(a), self.profiles.nickname_roots(b)) || is_part(text_a, text_b) {
            return (2, MISSING);
        }
        match similarity(text_a, text_b) {
            similarity if similarity >= 0.92 => (3, MISSING),
            similarity if similarity >= 0.84 => (4, MISSING),
            _ => (7, MISSING),
        }
    }

    fn family_names(&self, a: u32, b: u32) -> Outcome {
        if a == b {
            return (1, a);
        }
        let (text_a, text_b) = (self.text(Attribute::FamilyName, a), self.text(Attribute::FamilyName, b));
        let similarity = similarity(text_a, text_b);
        if similarity >= 0.92 && !is_part(text_a, text_b) {
            (2, MISSING)
        } else if is_part(text_a, text_b) {
            (3, MISSING)
        } else if similarity >= 0.84 {
            (4, MISSING)
        } else {
            (DIFFERENT_FAMILY, MISSING)
        }
    }

    /// Whether the given name of each is the family name of the other.
    fn are_swapped(&self, a: u32, b: u32) -> bool {
        let name = |record, attribute: Attribute| match self.profiles.row(record)[attribute as usize] {
            MISSING => None,
            value => Some(self.text(attribute, value)),
        };
        let crossed = |a, b| {
            let (given, family) = (name(a, Attribute::GivenName), name(b, Attribute::FamilyName));
            given.zip(family).map(|(given, family)| given == family)
        };
        match (crossed(a, b), crossed(b, a)) {
            (Some(true), other) | (other, Some(true)) => other != Some(false) || self.nearly_swapped(a, b),
            _ => false,
        }
    }

    fn nearly_swapped(&self, a: u32, b: u32) -> bool {
        let text = |record, attribute: Attribute| self.text(attribute, self.profiles.row(record)[attribute as usize]);
        [(a, b), (b, a)]
            .into_iter()
            .all(|(a, b)| similarity(text(a, Attribute::GivenName), text(b, Attribute::FamilyName)) >= 0.84)
    }

    fn emails(&self, a: u32, b: u32) -> Outcome {
        if a == b {
            return self.shared(Attribute::Email, a);
        }
        let (text_a, text_b) = (self.text(Attribute::Email, a), self.text(Attribute::Email, b));
        // Who finds an address taken adds a digit: other digits are another mailbox.
        if is_one_error_apart(text_a, text_b) && digits(text_a).eq(digits(text_b)) {
            return (4, MISSING);
        }
        if local_part(text_a) == local_part(text_b) {
            let value = self.profiles.locals.number(local_part(text_a)).unwrap_or(MISSING);
            return (SAME_LOCAL_PART, value);
        }
        (DIFFERENT_EMAIL, MISSING)
    }

    /// Whether the names of both records are known and say what stands before the `@`.
    fn is_spelled_from_names(&self, local: u32, a: u32, b: u32) -> bool {
        if local == MISSING || digits(self.profiles.locals.text(local)).next().is_some() {
            return false;
        }
        let local = self.profiles.locals.text(local);
        let (row_a, row_b) = (self.profiles.row(a), self.profiles.row(b));
        let are_known =
            |attribute: Attribute| row_a[attribute as usize] != MISSING && row_b[attribute as usize] != MISSING;
        are_known(Attribute::GivenName)
            && are_known(Attribute::FamilyName)
            && [Attribute::GivenName, Attribute::FamilyName].into_iter().any(|attribute| {
                let first_word = |row: &Row| self.text(attribute, row[attribute as usize]).split(' ').next();
                [row_a, row_b].into_iter().filter_map(first_word).any(|name| name.len() > 2 && local.contains(name))
            })
    }

    fn phones(&self, a: u32, b: u32) -> Outcome {
        if a == b {
            return self.shared(Attribute::Phone, a);
        }
        let is_near = is_one_error_apart(self.text(Attribute::Phone, a), self.text(Attribute::Phone, b));
        (if is_near { 4 } else { 5 }, MISSING)
    }

    fn texts(&self, attribute: Attribute, a: u32, b: u32) -> Outcome {
        if a == b {
            return (1, a);
        }
        let is_near = similarity(self.text(attribute, a), self.text(attribute, b)) >= 0.92;
        (if is_near { 2 } else { 3 }, MISSING)
    }

    fn addresses(&self, a: u32, b: u32) -> Outcome {
        let streets = self.best(a, b, Attribute::Street, |own, a, b| own.streets(a, b)).0;
        let equal = |attribute| self.best(a, b, attribute, |_, a, b| if a == b { (1, a) } else { (2, MISSING) });
        let (postcode, city) = (equal(Attribute::Postcode), equal(Attribute::City));
        match (streets, postcode, city) {
            (0, (0, _), (0, _)) => NEUTRAL,
            (1, (1, _), _) | (1, _, (1, _)) => (1, MISSING),
            (1, ..) => (2, MISSING),
            (0, (1, value), _) => (3, value),
            (0, _, (1, value)) => (4, value),
            (2, (1, _), _) | (2, _, (1, _)) => (5, MISSING),
            _ => (6, MISSING),
        }
    }

    fn streets(&self, a: u32, b: u32) -> Outcome {
        let is_near = a == b || similarity(self.text(Attribute::Street, a), self.text(Attribute::Street, b)) >= 0.93;
        (if is_near { 1 } else { 2 }, MISSING)
    }
}

const SAME_LOCAL_PART: u8 = 5;
const DIFFERENT_EMAIL: u8 = 6;
const SIMILAR_GIVEN: u8 = 3;
const SWAPPED: u8 = 6;
const DIFFERENT_FAMILY: u8 = 5;

pub fn births(a: u32, b: u32) -> Outcome {
    let (a, b) = (Birth::of_number(a), Birth::of_number(b));
    let level = if a == b {
        1
    } else if a.is_swapped(b) {
        2
    } else if a.typing_errors(b) == 1 {
        3
    } else if a.parts_in_common(b) == 2 {
        4
    } else {
        5
    };
    (level, MISSING)
}

fn digits(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.bytes().filter(u8::is_ascii_digit)
}

fn is_initial(name: &str) -> bool {
    name.len() == 1 || name.as_bytes()[1] == b' '
}

/// Whether a word of one name is the whole of the other: `smith` and `smith jones`.
fn is_part(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    long.contains(' ') && long.split(' ').any(|word| word == short)
}
