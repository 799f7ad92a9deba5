//! Canonical ids that stay.
//!
//! Every id names a record: a record of the primary source by its bare key, any other as `source:key`. So the user's own
//! customers table, keyed as the primary source is, works with canonical ids as it stands. The rules, in this order:
//!
//! 1. An id whose record exists belongs to the person of that record and to nobody else.
//! 2. A person with records in the primary source has one of their keys for an id; others have `source:key`.
//! 3. Among the ids that are possible, the one that most of the person's records had before stays; then the oldest.
//! 4. A person without any former id takes the name of the oldest record.
//!
//! An id whose record is gone stays with the person who has most of its records.

use super::intern::Interner;
use super::order::Order;
use super::records::{Records, SourceNumber, ONLINE};

/// No former id.
pub const NONE: u32 = u32::MAX;

/// Canonical ids by record, as they were.
pub struct Previous {
    pub ids: Interner,
    /// Number of the former id of each record, or [`NONE`].
    pub of_record: Vec<u32>,
}

/// Canonical ids as they are now.
pub struct Names {
    /// Number of the person that each record belongs to.
    pub person: Vec<u32>,
    /// Id of each person.
    pub ids: Vec<String>,
    /// Person of each former id that is still one, or [`NONE`].
    pub kept_by: Vec<u32>,
    /// Where the records of each former id are now, in order of person and id.
    pub moves: Vec<Move>,
}

/// Records and their order, for looking up what an id names.
#[derive(Clone, Copy)]
pub struct Directory<'a> {
    pub records: &'a Records,
    pub order: &'a Order,
}

/// How an id names a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// By the key of the primary source.
    Bare(u32),
    /// As `source:key`.
    Qualified(u32),
    /// Nothing that exists.
    Nothing,
}

impl<'a> Directory<'a> {
    pub fn primary(&self) -> Option<SourceNumber> {
        self.records.sources.first().filter(|source| source.name != ONLINE).map(|_| 0)
    }

    pub fn is_primary(&self, record: u32) -> bool {
        self.primary() == Some(self.order.source(record))
    }

    pub fn source_and_key(&self, record: u32) -> (&'a str, &'a str) {
        let (source, key) = self.order.key(record);
        let source = &self.records.sources[usize::from(source)];
        (&source.name, source.keys.text(key))
    }

    /// Record with this key, if it exists.
    pub fn find(&self, source: &str, key: &str) -> Option<u32> {
        let number = self.records.sources.iter().position(|known| known.name == source)?;
        let key = self.records.sources[number].keys.number(key)?;
        Some(self.order.record(number as SourceNumber, key))
    }

    fn has_primary_key(&self, key: &str) -> Option<u32> {
        let primary = self.primary()?;
        let key = self.records.sources[usize::from(primary)].keys.number(key)?;
        Some(self.order.record(primary, key))
    }

    pub fn named(&self, id: &str) -> Named {
        if let Some(record) = self.has_primary_key(id) {
            return Named::Bare(record);
        }
        // Source names have no colon, so the first one ends it; further ones may keep the id apart (see `qualified`).
        let qualified = id.split_once(':').and_then(|(source, key)| {
            self.find(source, key).or_else(|| self.find(source, key.trim_start_matches(':')))
        });
        qualified.map_or(Named::Nothing, Named::Qualified)
    }

    /// `source:key`; with more colons if a key of the primary source happens to read the same.
    pub fn qualified(&self, record: u32) -> String {
        let (source, key) = self.source_and_key(record);
        let mut padded = key.to_owned();
        loop {
            let id = format!("{source}:{padded}");
            let is_anothers = padded.len() > key.len() && self.find(source, &padded).is_some();
            if self.has_primary_key(&id).is_none() && !is_anothers {
                return id;
            }
            padded.insert(0, ':');
        }
    }
}

/// Records of a former id that belong to a person now.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    pub person: u32,
    pub id: u32,
    pub records: u32,
    pub oldest: u32,
}

/// Gives every person an id. `oldest` is the oldest record of the person of each record.
pub fn name(directory: Directory<'_>, oldest: &[u32], previous: &Previous) -> Names {
    let mut person = vec![0; oldest.len()];
    let mut founders = Vec::new();
    for (record, &founder) in oldest.iter().enumerate() {
        if founder as usize == record {
            person[record] = founders.len() as u32;
            founders.push(founder);
        } else {
            person[record] = person[founder as usize]; // older, so it has its number
        }
    }

    let named: Vec<Named> = (0..previous.ids.len() as u32).map(|id| directory.named(previous.ids.text(id))).collect();
    let moves = moves(&person, previous);
    let mut claims = moves.clone();
    claims.retain(|claim| {
        let in_primary = directory.is_primary(founders[claim.person as usize]);
        match named[claim.id as usize] {
            Named::Bare(record) => person[record as usize] == claim.person,
            Named::Qualified(record) => !in_primary && person[record as usize] == claim.person,
            Named::Nothing => !in_primary,
        }
    });
    // By overlap, then age. Where a record has the id for a name, its age counts; else that of the oldest to have had it.
    claims.sort_unstable_by_key(|claim| {
        let age = match named[claim.id as usize] {
            Named::Bare(record) | Named::Qualified(record) => record,
            Named::Nothing => claim.oldest,
        };
        (std::cmp::Reverse(claim.records), age, claim.id)
    });

    let mut kept_by = vec![NONE; previous.ids.len()];
    let mut kept = vec![NONE; founders.len()];
    for claim in claims {
        if kept_by[claim.id as usize] == NONE && kept[claim.person as usize] == NONE {
            kept_by[claim.id as usize] = claim.person;
            kept[claim.person as usize] = claim.id;
        }
    }
    let ids = founders
        .iter()
        .zip(&kept)
        .map(|(&founder, &id)| match id {
            NONE if directory.is_primary(founder) => directory.source_and_key(founder).1.to_owned(),
            NONE => directory.qualified(founder),
            id => previous.ids.text(id).to_owned(),
        })
        .collect();
    Names { person, ids, kept_by, moves }
}

/// Persons and the former ids of their records, counted.
fn moves(person: &[u32], previous: &Previous) -> Vec<Move> {
    let mut had: Vec<(u32, u32, u32)> = previous
        .of_record
        .iter()
        .enumerate()
        .filter(|(_, &id)| id != NONE)
        .map(|(record, &id)| (person[record], id, record as u32))
        .collect();
    had.sort_unstable();
    had.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .map(|same| Move { person: same[0].0, id: same[0].1, records: same.len() as u32, oldest: same[0].2 })
        .collect()
}
