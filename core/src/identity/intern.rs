//! Texts as dense numbers.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::IdentityError;

/// Each distinct text once, in one buffer, numbered from zero in order of arrival.
///
/// The hash is keyed at random against crafted values; no result depends on it.
#[derive(Default)]
pub struct Interner {
    text: String,
    /// End of each text in the buffer; it begins where the one before ends.
    ends: Vec<usize>,
    /// Half of the hash beside each number, so that a look-up and a larger table seldom touch the texts.
    table: HashTable<(u32, u32)>,
    hasher: RandomState,
}

impl Interner {
    /// Number of `text`, new or known.
    ///
    /// # Errors
    /// More texts than numbers.
    pub fn intern(&mut self, text: &str) -> Result<u32, IdentityError> {
        let half = self.half(text);
        let Interner { text: buffer, ends, table, .. } = self;
        let is_same = |entry: &(u32, u32)| entry.0 == half && slice(buffer, ends, entry.1) == text;
        if let Some((_, number)) = table.find(spread(half), is_same) {
            return Ok(*number);
        }
        let number =
            u32::try_from(ends.len()).ok().filter(|number| *number < u32::MAX).ok_or(IdentityError::TooMany)?;
        buffer.push_str(text);
        ends.push(buffer.len());
        table.insert_unique(spread(half), (half, number), |entry| spread(entry.0));
        Ok(number)
    }

    /// Number of `text` if it is known.
    pub fn number(&self, text: &str) -> Option<u32> {
        let half = self.half(text);
        let is_same = |entry: &(u32, u32)| entry.0 == half && self.text(entry.1) == text;
        self.table.find(spread(half), is_same).map(|entry| entry.1)
    }

    fn half(&self, text: &str) -> u32 {
        self.hasher.hash_one(text) as u32
    }

    /// The text with this number.
    pub fn text(&self, number: u32) -> &str {
        slice(&self.text, &self.ends, number)
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// A hash for the table, which goes by the highest and the lowest bits.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn slice<'a>(buffer: &'a str, ends: &[usize], number: u32) -> &'a str {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &buffer[start..ends[number]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_number() {
        let mut interner = Interner::default();
        for (text, number) in [("a", 0), ("", 1), ("ab", 2), ("a", 0), ("", 1)] {
            assert_eq!(interner.intern(text), Ok(number));
        }
        assert_eq!(interner.len(), 3);
        assert_eq!(interner.text(2), "ab");
        assert_eq!(interner.number("b"), None);
    }
}
