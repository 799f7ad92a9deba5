//! Households: persons of one family name at one address.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::linkage::{names, places};

/// More persons than this at one address under one name are no household, but an institution or a placeholder.
pub const MOST_MEMBERS: usize = 20;

/// Who somebody lives with, as far as names and addresses tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dwelling<'a> {
    pub family_name: Option<&'a str>,
    pub full_name: Option<&'a str>,
    pub street: Option<&'a str>,
    pub postcode: Option<&'a str>,
    pub city: Option<&'a str>,
}

impl Dwelling<'_> {
    /// The same for all members of a household, in whatever spelling. `None` if name or address is not known.
    pub fn key(&self) -> Option<u64> {
        let of_full_name = || self.full_name.map(|name| names::full(name).family).filter(|family| !family.is_empty());
        let family = self.family_name.and_then(names::family).or_else(of_full_name)?;
        let street = self.street.and_then(places::street)?;
        let place = self.postcode.and_then(places::postcode).or_else(|| self.city.and_then(places::city))?;
        let mut hasher = SipHasher24::new_with_keys(0x686f_7573_6568, 1);
        for part in [&family, &street, &place] {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part.as_bytes());
        }
        Some(hasher.finish128().h1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(family_name: &str, street: &str, postcode: &str) -> Option<u64> {
        let [family_name, street, postcode] = [family_name, street, postcode].map(Some);
        Dwelling { family_name, street, postcode, ..Dwelling::default() }.key()
    }

    #[test]
    fn spelling_does_not_part_a_household() {
        let one = key("Müller", "12 Main Street", "LS1 4AB");
        assert!(one.is_some());
        assert_eq!(one, key("MULLER", "12 Main St.", "ls14ab"));
        let full = Dwelling {
            full_name: Some("Müller, Anna"),
            street: Some("12 Main St"),
            postcode: Some("LS1 4AB"),
            ..Dwelling::default()
        };
        assert_eq!(one, full.key());
    }

    #[test]
    fn name_street_and_place_all_count() {
        let one = key("Weber", "12 Main Street", "10115");
        for other in [
            key("Fischer", "12 Main Street", "10115"),
            key("Weber", "14 Main Street", "10115"),
            key("Weber", "12 Main Street", "10117"),
        ] {
            assert!(other.is_some() && one != other);
        }
        assert_eq!(key("Weber", " ", "10115"), None);
        let nowhere = Dwelling { family_name: Some("Weber"), street: Some("12 Main Street"), ..Dwelling::default() };
        assert_eq!(nowhere.key(), None);
    }
}
