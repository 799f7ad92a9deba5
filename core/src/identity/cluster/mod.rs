//! Which records are one person: links of shared identifiers, best first, under limits.
//!
//! Identifiers are taken in order of priority. A person *holds* values, at most `identity_limit` of each identifier.
//! Each value goes to the person of the oldest record that has it and room for it, and joins the other records that
//! have it, unless the person so made would hold more than a limit allows: then that link is dropped, not the persons
//! merged. Since stronger identifiers come first, a weak link never undoes a strong one.
//!
//! A value that would bring together a crowd (a kiosk, a call centre's number) tells nothing about any of them: it joins
//! nobody and identifies nobody. So does a value that more records share than `record_limit`.

mod work;

use super::linkage::{Edge, Judge};
use super::order::Order;
use super::records::{Column, Records};
use super::{IdentifierKind, Rule, Standing};
use work::Work;

/// Nobody: the owner of a value that identifies no one.
pub const NOBODY: u32 = u32::MAX;

/// Links and persons found.
pub struct Clustering {
    /// Oldest record of the person that each record belongs to.
    pub oldest: Vec<u32>,
    /// By column and value: a record of the person who holds it, or [`NOBODY`].
    pub owners: Vec<Vec<u32>>,
    /// Links that made the persons, best first: a spanning forest of the records.
    pub links: Vec<Link>,
    /// What was not linked.
    pub dropped: Vec<Dropped>,
    /// Links by similarity, best first.
    pub alike: Vec<Edge>,
    /// Pairs that look alike and are not one person in the end.
    pub refused: Vec<Refused>,
}

/// A pair that was not linked, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refused {
    pub edge: Edge,
    pub reason: RefusalReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// Below the threshold.
    Weak,
    /// The pair is alike, the persons that they belong to are not.
    Cohesion,
    /// Somebody would have had more values of an identifier than allowed.
    Limit,
    /// The user said so.
    Forbidden,
}

impl RefusalReason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::Cohesion => "cohesion",
            Self::Limit => "limit",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What similarity says, beside the identifiers.
pub struct Likeness<'a> {
    pub judge: Judge<'a>,
    /// Pairs that are or might be one person, best first.
    pub edges: Vec<Edge>,
    pub threads: usize,
}

/// What the user said about pairs of records.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    pub confirmed: Vec<(u32, u32)>,
    pub forbidden: Vec<(u32, u32)>,
}

/// Two records that were joined because both have a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub column: u32,
    pub value: u32,
    pub older: u32,
    pub younger: u32,
}

/// A value that does not link all of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub column: usize,
    pub value: u32,
    pub reason: DropReason,
    /// Records that have the value.
    pub records: u32,
    /// Persons whose records have it.
    pub persons: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// More records have it than `record_limit`.
    Frequent,
    /// It would bring together a crowd.
    Shared,
    /// Some of its records, or all, belong to persons who would hold too much.
    Limit,
}

impl DropReason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Frequent => "frequent",
            Self::Shared => "shared",
            Self::Limit => "limit",
        }
    }
}

/// Steps between two calls of the tick.
const STEPS_PER_TICK: usize = 4096;

/// Links the records. Calls `tick` every few thousand steps.
pub fn cluster(
    records: &Records,
    order: &Order,
    likeness: Option<Likeness<'_>>,
    constraints: &Constraints,
    tick: &mut dyn FnMut(),
) -> Clustering {
    let mut phases: Vec<usize> = (0..records.columns.len()).collect();
    let rules: Vec<Rule> = records.columns.iter().map(|column| records.rules.rule(&column.identifier)).collect();
    phases.sort_by_key(|&column| (rules[column].priority, &records.columns[column].identifier));

    let mut work = Work::new(order.len(), rules, likeness.as_ref().map(|likeness| &likeness.judge));
    work.obey(constraints);
    let mut is_pending = likeness.is_some();
    let mut owners: Vec<Vec<u32>> = records.columns.iter().map(|column| vec![NOBODY; column.values.len()]).collect();
    for number in phases {
        // Ids that systems gave out come first, what is alike next, and then what else is shared.
        if is_pending && records.columns[number].identifier.kind != IdentifierKind::ExternalId {
            is_pending = false;
            likeness.iter().for_each(|likeness| work.link_alike(likeness, tick));
        }
        let column = &records.columns[number];
        let is_weak = column.identifier.kind != IdentifierKind::ExternalId;
        let holders = Holders::of(column, order);
        tick();
        let mut common = Vec::new();
        let mut own = Vec::new();
        for value in 0..column.values.len() as u32 {
            let (records_of, rule) = (holders.of_value(value), &work.rules[number]);
            if records_of.len() > rule.record_limit as usize
                && records.rules.standing(&column.identifier, column.values.text(value)) != Standing::Allowed
            {
                let persons = work.persons(records_of).len();
                work.drop_value(number, value, DropReason::Frequent, records_of.len(), persons);
            } else if records_of.len() > 1 {
                common.push(value);
            } else {
                own.push((records_of[0], value));
            }
        }
        // Rare values are the better evidence. Values of the same record count and oldest record go by their text.
        common.sort_unstable_by(|&a, &b| {
            let (of_a, of_b) = (holders.of_value(a), holders.of_value(b));
            (of_a.len(), of_a[0])
                .cmp(&(of_b.len(), of_b[0]))
                .then_with(|| column.values.text(a).cmp(column.values.text(b)))
        });
        for (step, &value) in common.iter().enumerate() {
            if step % STEPS_PER_TICK == 0 {
                tick();
            }
            owners[number][value as usize] = work.link(number, value, holders.of_value(value), is_weak);
        }
        // What only one record has links nothing; it comes last, so that it never takes the room of a link.
        own.sort_unstable_by(|&(record_a, a), &(record_b, b)| {
            record_a.cmp(&record_b).then_with(|| column.values.text(a).cmp(column.values.text(b)))
        });
        for (step, &(record, value)) in own.iter().enumerate() {
            if step % STEPS_PER_TICK == 0 {
                tick();
            }
            owners[number][value as usize] = work.link(number, value, &[record], is_weak);
        }
    }
    if is_pending {
        likeness.iter().for_each(|likeness| work.link_alike(likeness, tick));
    }
    let oldest: Vec<u32> = (0..order.len() as u32).map(|record| work.find(record)).collect();
    let refused = best_of_persons(work.refused, &oldest);
    Clustering { oldest, owners, links: work.links, dropped: work.dropped, alike: work.alike, refused }
}

/// Of the pairs that were not linked, the best one of every two persons, best first.
fn best_of_persons(mut refused: Vec<Refused>, oldest: &[u32]) -> Vec<Refused> {
    let persons = |edge: &Edge| {
        let (a, b) = (oldest[edge.older as usize], oldest[edge.younger as usize]);
        (a.min(b), a.max(b))
    };
    refused.retain(|refused| oldest[refused.edge.older as usize] != oldest[refused.edge.younger as usize]);
    refused.sort_unstable_by_key(|refused| (persons(&refused.edge), rank(&refused.edge)));
    refused.dedup_by_key(|refused| persons(&refused.edge));
    refused.sort_unstable_by_key(|refused| rank(&refused.edge));
    refused
}

/// Orders pairs by weight, the best first, and equal ones by age.
fn rank(edge: &Edge) -> (std::cmp::Reverse<i64>, u32, u32) {
    // Bits of a float read as a number go as its value does, once negative ones are turned around.
    let bits = edge.weight.to_bits() as i32;
    (std::cmp::Reverse(i64::from(bits ^ (bits >> 31 & i32::MAX))), edge.older, edge.younger)
}

/// The records of each value in order of age, each once.
struct Holders {
    starts: Vec<u32>,
    records: Vec<u32>,
}

impl Holders {
    fn of(column: &Column, order: &Order) -> Self {
        let mut pairs: Vec<(u32, u32)> =
            column.holders.iter().map(|&(value, source, key)| (value, order.record(source, key))).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let mut starts = vec![0; column.values.len() + 1];
        for &(value, _) in &pairs {
            starts[value as usize + 1] += 1;
        }
        for value in 0..column.values.len() {
            starts[value + 1] += starts[value];
        }
        Holders { starts, records: pairs.into_iter().map(|(_, record)| record).collect() }
    }

    fn of_value(&self, value: u32) -> &[u32] {
        &self.records[self.starts[value as usize] as usize..self.starts[value as usize + 1] as usize]
    }
}
