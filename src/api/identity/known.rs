//! What is known of the records of a source, and what reading it again changes.

use std::collections::HashMap;

use decisioning_core::identity::{FieldKind, Fields, Interner};

use crate::pg::error::{Error, Result};
use crate::pg::{bulk, scan};

/// Rows per fetch.
const FETCH: usize = 10_000;

/// Records of one source by number of their key: first the known ones, then those that are new.
#[derive(Default)]
pub struct Known {
    keys: Interner,
    record_numbers: Vec<i64>,
    /// Fingerprints as stored, of the known ones.
    stored: Vec<u64>,
    /// Fingerprints of the rows that were read, summed up: in any order the same.
    read: Vec<u64>,
    seen: Vec<bool>,
    /// What rows say of a record whose fields were written already, because it has several.
    further: HashMap<u32, Vec<(FieldKind, String)>>,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// The first of a record that was not known.
    New,
    /// The first of a known record, whose fields may have changed.
    Changed,
    /// The first of a record that is as it was.
    Same,
    /// A further one of a record.
    Further,
}

impl Known {
    /// Loads the stored records of a source. Runs as the owner.
    pub fn load(source: &str) -> Result<Self> {
        let mut known = Known::default();
        scan::scan(
            "SELECT r.record_key, r.record_number, r.fingerprint FROM decisioning._record r WHERE r.source = $1",
            &[source.into()],
            FETCH,
            |row| {
                let (Some(key), Some(number), Some(fingerprint)) = (row.text(0)?, row.number(1)?, row.number(2)?)
                else {
                    return Err(Error::corrupted("a record has no key"));
                };
                known.keys.intern(key)?;
                known.record_numbers.push(number);
                known.stored.push(fingerprint as u64);
                Ok(())
            },
            || Ok(()),
        )?;
        known.read = vec![0; known.stored.len()];
        known.seen = vec![false; known.stored.len()];
        Ok(known)
    }

    /// Takes note of a row. A new record gets a number.
    ///
    /// # Errors
    /// More records than numbers.
    pub fn see(&mut self, key: &str, fields: &Fields, numbers: &bulk::Sequence) -> Result<(u32, Sighting)> {
        let at = self.keys.intern(key)?;
        let place = at as usize;
        let fingerprint = fields.fingerprint();
        if place == self.seen.len() {
            self.record_numbers.push(numbers.next());
            self.read.push(fingerprint);
            self.seen.push(true);
            return Ok((at, Sighting::New));
        }
        self.read[place] = self.read[place].wrapping_add(fingerprint);
        if std::mem::replace(&mut self.seen[place], true) {
            self.add_further(at, fields);
            return Ok((at, Sighting::Further));
        }
        let is_same = self.stored.get(place) == Some(&fingerprint);
        Ok((at, if is_same { Sighting::Same } else { Sighting::Changed }))
    }

    fn add_further(&mut self, at: u32, fields: &Fields) {
        let further = self.further.entry(at).or_default();
        for (kind, value) in fields.iter() {
            if !further.iter().any(|(of, known)| of == kind && known == value) {
                further.push((kind.clone(), value.to_owned()));
            }
        }
    }

    /// Number and further values of the records of several rows, whose fields are to be written again.
    pub fn take_further(&mut self) -> Vec<(i64, Vec<(FieldKind, String)>)> {
        let further = std::mem::take(&mut self.further);
        further.into_iter().map(|(at, values)| (self.record_numbers[at as usize], values)).collect()
    }

    /// Key and number of the records that are new or changed.
    pub fn fresh(&self) -> impl Iterator<Item = (&str, i64)> + '_ {
        (0..self.seen.len())
            .filter(|&at| match self.stored.get(at) {
                None => true,
                Some(stored) => self.seen[at] && *stored != self.read[at],
            })
            .map(|at| (self.keys.text(at as u32), self.record_numbers[at]))
    }

    pub fn record_number(&self, at: u32) -> i64 {
        self.record_numbers[at as usize]
    }

    /// Number and fingerprint of a record that was read.
    pub fn of_key(&self, key: &str) -> Option<(i64, u64)> {
        let place = self.keys.number(key)? as usize;
        self.seen[place].then(|| (self.record_numbers[place], self.read[place]))
    }

    /// Number and fingerprint of the known records whose fields changed.
    pub fn changed(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        let stored = self.stored.iter().zip(&self.read).zip(&self.seen).zip(&self.record_numbers);
        stored
            .filter(|(((stored, read), seen), _)| **seen && stored != read)
            .map(|(((_, read), _), number)| (*number, *read))
    }

    /// Numbers of the known records that no row was read of.
    pub fn vanished(&self) -> impl Iterator<Item = i64> + '_ {
        let known = self.seen[..self.stored.len()].iter().zip(&self.record_numbers);
        known.filter(|(seen, _)| !**seen).map(|(_, number)| *number)
    }
}
