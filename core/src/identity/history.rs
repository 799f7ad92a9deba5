//! What happened to the ids: merged, split, renamed.

use super::naming::NONE;
use super::resolution::{PairLink, Resolution};
use super::Identifier;

/// Records of one id that have another one now.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    pub kind: EventKind,
    /// Id that the records had.
    pub from: &'a str,
    /// Id that they have.
    pub into: &'a str,
    pub records: u32,
    /// For a merge: a value that joins them to the others.
    pub evidence: Option<(&'a Identifier, &'a str)>,
    /// For a merge without such a value: a pair of records whose similarity joins them.
    pub likeness: Option<PairLink<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// All records of an id went to a person with records of other ids.
    Merged,
    /// Some records of an id went, others stayed or went elsewhere.
    Split,
    /// The same person has a better id, such as the key of a record of the primary source that came later.
    Renamed,
}

impl EventKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Split => "split",
            Self::Renamed => "renamed",
        }
    }
}

impl Resolution {
    /// Changes of ids since the last run.
    pub fn events(&self) -> Vec<Event<'_>> {
        let names = &self.names;
        let mut persons_of_id = vec![0u32; self.previous.ids.len()];
        let mut ids_of_person = vec![0u32; names.ids.len()];
        for moved in &names.moves {
            persons_of_id[moved.id as usize] += 1;
            ids_of_person[moved.person as usize] += 1;
        }
        let evidence = self.evidence();
        let likeness = self.likeness();
        let mut events: Vec<Event<'_>> = names
            .moves
            .iter()
            .filter(|moved| names.kept_by[moved.id as usize] != moved.person)
            .map(|moved| {
                let kind = if persons_of_id[moved.id as usize] > 1 {
                    EventKind::Split
                } else if ids_of_person[moved.person as usize] > 1 {
                    EventKind::Merged
                } else {
                    EventKind::Renamed
                };
                let (from, into) = (self.previous.ids.text(moved.id), &names.ids[moved.person as usize]);
                let evidence = evidence[moved.id as usize].filter(|_| kind == EventKind::Merged);
                let likeness = likeness[moved.id as usize].filter(|_| kind == EventKind::Merged && evidence.is_none());
                Event { kind, from, into, records: moved.records, evidence, likeness }
            })
            .collect();
        // Not in the order in which former ids happened to be read.
        events.sort_unstable_by(|a, b| (a.into, a.from).cmp(&(b.into, b.from)));
        events
    }

    /// For each former id, the best link between one of its records and another record.
    fn evidence(&self) -> Vec<Option<(&Identifier, &str)>> {
        let mut evidence = vec![None; self.previous.ids.len()];
        for link in &self.links {
            let [a, b] = [link.older, link.younger].map(|record| self.previous.of_record[record as usize]);
            if a == b {
                continue;
            }
            let column = &self.records.columns[link.column as usize];
            for id in [a, b] {
                if id != NONE {
                    evidence[id as usize].get_or_insert((&column.identifier, column.values.text(link.value)));
                }
            }
        }
        evidence
    }

    /// For each former id, the most alike pair of one of its records and another record.
    fn likeness(&self) -> Vec<Option<PairLink<'_>>> {
        let mut likeness = vec![None; self.previous.ids.len()];
        for (edge, link) in self.alike.iter().zip(self.links()) {
            let [a, b] = [edge.older, edge.younger].map(|record| self.previous.of_record[record as usize]);
            if a == b {
                continue;
            }
            for id in [a, b] {
                if id != NONE {
                    likeness[id as usize].get_or_insert(link);
                }
            }
        }
        likeness
    }
}
