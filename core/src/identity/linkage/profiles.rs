//! Profiles of all records, side by side for comparing.

use super::super::intern::Interner;
use super::super::order::{source_of, Order};
use super::super::records::Records;
use super::super::{IdentityError, SourceNumber};
use super::profile::{local_part, Attribute, Extra, Row, ATTRIBUTES, MISSING};

/// What describes each record, in order of age, and what follows from the values.
pub struct Profiles {
    rows: Vec<Row>,
    /// First record of each source.
    starts: Vec<u32>,
    /// Sorted.
    extras: Vec<Extra>,
    /// Whether a record has extras, a bit each.
    marks: Vec<u64>,
    pub locals: Interner,
    /// Nickname roots of each given name: where they start, and one past the last.
    root_starts: Vec<u32>,
    roots: Vec<u32>,
}

impl Profiles {
    /// Takes the rows out of `records`.
    ///
    /// # Errors
    /// More values than numbers.
    pub fn take(records: &mut Records, order: &Order) -> Result<Self, IdentityError> {
        let mut rows = vec![[MISSING; ATTRIBUTES]; order.len()];
        let mut extras = Vec::new();
        for (number, source) in records.sources.iter_mut().enumerate() {
            let number = number as SourceNumber;
            for (key, row) in std::mem::take(&mut source.rows).into_iter().enumerate() {
                rows[order.record(number, key as u32) as usize] = row;
            }
            for (key, attribute, value) in std::mem::take(&mut source.extras) {
                extras.push(Extra { record: order.record(number, key), attribute, value });
            }
        }
        // Which value of an attribute is the first depends on the order of reading; the smallest text is the same always.
        extras.sort_unstable();
        extras.dedup();
        for extra in &mut extras {
            let first = &mut rows[extra.record as usize][extra.attribute as usize];
            let values = records.values(extra.attribute);
            let is_before = match extra.attribute {
                Attribute::DateOfBirth => extra.value < *first,
                _ => values.text(extra.value) < values.text(*first),
            };
            if is_before {
                std::mem::swap(first, &mut extra.value);
            }
        }

        let mut locals = Interner::default();
        let emails = records.values(Attribute::Email);
        let mut local_of = Vec::with_capacity(emails.len());
        for email in 0..emails.len() as u32 {
            local_of.push(locals.intern(local_part(emails.text(email)))?);
        }
        for row in &mut rows {
            let email = row[Attribute::Email as usize];
            if email != MISSING {
                row[Attribute::EmailLocal as usize] = local_of[email as usize];
            }
        }
        let local = |extra: &Extra| {
            let value = local_of[extra.value as usize];
            Extra { attribute: Attribute::EmailLocal, value, ..*extra }
        };
        let further: Vec<Extra> =
            extras.iter().filter(|extra| extra.attribute == Attribute::Email).map(local).collect();
        extras.extend(further);
        extras.sort_unstable_by(|a, b| {
            let text = |extra: &Extra| match extra.attribute {
                Attribute::DateOfBirth => "",
                Attribute::EmailLocal => locals.text(extra.value),
                attribute => records.values(attribute).text(extra.value),
            };
            (a.record, a.attribute).cmp(&(b.record, b.attribute)).then_with(|| match a.attribute {
                Attribute::DateOfBirth => a.value.cmp(&b.value),
                _ => text(a).cmp(text(b)),
            })
        });
        extras.dedup();

        let mut marks = vec![0; order.len().div_ceil(64)];
        for extra in &extras {
            marks[extra.record as usize / 64] |= 1u64 << (extra.record % 64);
        }
        let given = records.values(Attribute::GivenName);
        let (mut root_starts, mut roots) = (vec![0], Vec::new());
        for name in 0..given.len() as u32 {
            roots.extend_from_slice(records.nicknames.roots(given.text(name)));
            root_starts.push(roots.len() as u32);
        }
        Ok(Profiles { rows, starts: order.starts().to_vec(), extras, marks, locals, root_starts, roots })
    }

    pub fn attributes(&self) -> Vec<Attribute> {
        let has = |attribute: &Attribute| self.rows.iter().any(|row| row[*attribute as usize] != MISSING);
        Attribute::ALL.into_iter().filter(has).collect()
    }

    /// Source of a record.
    pub fn source(&self, record: u32) -> SourceNumber {
        source_of(&self.starts, record)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn row(&self, record: u32) -> &Row {
        &self.rows[record as usize]
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn has_extras(&self, record: u32) -> bool {
        self.marks[record as usize / 64] >> (record % 64) & 1 == 1
    }

    /// Further values of a record.
    pub fn extras(&self, record: u32) -> &[Extra] {
        if !self.has_extras(record) {
            return &[];
        }
        let start = self.extras.partition_point(|extra| extra.record < record);
        let end = start + self.extras[start..].partition_point(|extra| extra.record == record);
        &self.extras[start..end]
    }

    pub fn all_extras(&self) -> &[Extra] {
        &self.extras
    }

    /// All values of an attribute that a record has.
    pub fn values(&self, record: u32, attribute: Attribute) -> impl Iterator<Item = u32> + '_ {
        let first = self.rows[record as usize][attribute as usize];
        let further = self.extras(record).iter().filter(move |extra| extra.attribute == attribute);
        std::iter::once(first).filter(|first| *first != MISSING).chain(further.map(|extra| extra.value))
    }

    pub fn nickname_roots(&self, given_name: u32) -> &[u32] {
        let place = given_name as usize;
        &self.roots[self.root_starts[place] as usize..self.root_starts[place + 1] as usize]
    }
}
