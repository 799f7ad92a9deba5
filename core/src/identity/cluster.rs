//! Which records are one person: links of shared identifiers, best first, under limits.
//!
//! Identifiers are taken in order of priority. A person *holds* values, at most `identity_limit` of each identifier.
//! Each value goes to the person of the oldest record that has it and room for it, and joins the other records that
//! have it, unless the person so made would hold more than a limit allows: then that link is dropped, not the persons
//! merged. Since stronger identifiers come first, a weak link never undoes a strong one.
//!
//! A value that would bring together a crowd (a kiosk, a call centre's number) tells nothing about any of them: it joins
//! nobody and identifies nobody. So does a value that more records share than `record_limit`.

use std::collections::HashMap;

use super::linkage::{in_parallel, Edge, Judge};
use super::order::Order;
use super::records::{Column, Records};
use super::{IdentifierKind, Rule, Standing};

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

/// Pairs whose persons are weighed ahead of being looked at, on all threads.
const PAIRS_AHEAD: usize = 16_384;

/// Of these, the pairs that a thread takes at a time.
const PAIRS_PER_PIECE: usize = 512;

/// Passes over the pairs: what did not suffice alone may do so once persons have grown.
const ROUNDS: usize = 3;

/// Bits by which a shared identifier may stay below the threshold.
const SLACK: f32 = 3.0;

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

    let mut work = Work {
        rules,
        parents: (0..order.len() as u32).collect(),
        held: vec![Vec::new(); order.len()],
        next: (0..order.len() as u32).collect(),
        sizes: vec![1; order.len()],
        enemies: HashMap::new(),
        judge: likeness.as_ref().map(|likeness| &likeness.judge),
        known: HashMap::new(),
        links: Vec::new(),
        dropped: Vec::new(),
        alike: Vec::new(),
        refused: Vec::new(),
    };
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

/// A value of a column.
type Held = (usize, u32);

/// How many records two persons have together, and their match weight.
#[derive(Clone, Copy)]
struct Weighed {
    size: u32,
    weight: f32,
}

fn in_order(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

struct Work<'a> {
    rules: Vec<Rule>,
    /// Union-find in which the root is the oldest record.
    parents: Vec<u32>,
    /// Values that each person holds, sorted; kept at the root.
    held: Vec<Vec<Held>>,
    /// The records of a person in a ring.
    next: Vec<u32>,
    /// How many records each person has; kept at the root.
    sizes: Vec<u32>,
    /// Persons who must stay apart, by root; both ways.
    enemies: HashMap<u32, Vec<u32>>,
    judge: Option<&'a Judge<'a>>,
    /// Pairs of persons that were too light.
    known: HashMap<(u32, u32), Weighed>,
    links: Vec<Link>,
    dropped: Vec<Dropped>,
    alike: Vec<Edge>,
    refused: Vec<Refused>,
}

impl Work<'_> {
    /// Joins what the user confirmed, and remembers what must stay apart; a pair that is both stays apart.
    fn obey(&mut self, constraints: &Constraints) {
        for &(a, b) in &constraints.forbidden {
            if a != b {
                self.enemies.entry(a).or_default().push(b);
                self.enemies.entry(b).or_default().push(a);
            }
        }
        for &(a, b) in &constraints.confirmed {
            let edge = Edge { older: a.min(b), younger: a.max(b), weight: f32::INFINITY };
            let (a, b) = (self.find(a), self.find(b));
            if a == b {
                continue;
            }
            if self.are_enemies(a, b) {
                self.refused.push(Refused { edge, reason: RefusalReason::Forbidden });
            } else {
                self.join(a, b, Vec::new());
                self.alike.push(edge);
            }
        }
    }

    fn are_enemies(&mut self, a: u32, b: u32) -> bool {
        let Some(enemies) = self.enemies.get(&a).cloned() else { return false };
        enemies.into_iter().any(|enemy| self.find(enemy) == b)
    }

    /// Records of a person.
    fn members(&self, person: u32) -> Vec<u32> {
        let mut members = vec![person];
        let mut record = self.next[person as usize];
        while record != person {
            members.push(record);
            record = self.next[record as usize];
        }
        members.sort_unstable();
        members
    }

    /// Makes one person of two, who then holds `held`. Returns the root.
    fn join(&mut self, a: u32, b: u32, held: Vec<Held>) -> u32 {
        let (root, other) = (a.min(b), a.max(b));
        self.parents[other as usize] = root;
        self.held[other as usize] = Vec::new();
        self.held[root as usize] = held;
        self.next.swap(root as usize, other as usize);
        self.sizes[root as usize] += self.sizes[other as usize];
        if let Some(enemies) = self.enemies.remove(&other) {
            self.enemies.entry(root).or_default().extend(enemies);
        }
        root
    }

    /// Joins persons who are alike, best pair first, if they are alike as a whole.
    fn link_alike(&mut self, likeness: &Likeness<'_>, tick: &mut dyn FnMut()) {
        let judge = &likeness.judge;
        let mut rest: Vec<Refused> = Vec::new();
        for round in 0..ROUNDS {
            let again: Vec<Edge> = std::mem::take(&mut rest).into_iter().map(|refused: Refused| refused.edge).collect();
            let edges = if round == 0 { &likeness.edges } else { &again };
            let mut joined = false;
            for edges in edges.chunks(PAIRS_AHEAD) {
                tick();
                let ahead = self.weigh_ahead(judge, edges, likeness.threads);
                for (edge, weighed) in edges.iter().zip(ahead) {
                    let (a, b) = (self.find(edge.older), self.find(edge.younger));
                    if a == b {
                        continue;
                    }
                    match self.join_alike(judge, edge, a, b, weighed) {
                        None => joined = true,
                        Some(reason) => rest.push(Refused { edge: *edge, reason }),
                    }
                }
            }
            if !joined {
                break;
            }
        }
        self.refused.extend(rest);
    }

    /// Weighs the persons of each pair as they are by now. What is joined meanwhile is weighed again when its turn comes, so
    /// the result is that of one thread.
    fn weigh_ahead(&self, judge: &Judge<'_>, edges: &[Edge], threads: usize) -> Vec<Weighed> {
        let pieces: Vec<&[Edge]> = edges.chunks(PAIRS_PER_PIECE).collect();
        let weighed = in_parallel(threads, pieces.len(), |piece| {
            let weigh = |edge: &Edge| {
                let (a, b) = (self.root(edge.older), self.root(edge.younger));
                let size = self.sizes[a as usize] + self.sizes[b as usize];
                if a == b || size == 2 {
                    return Weighed { size, weight: edge.weight };
                }
                match self.known.get(&in_order(a, b)) {
                    Some(known) if known.size == size => *known,
                    _ => Weighed { size, weight: judge.groups(&self.members(a), &self.members(b)).weight },
                }
            };
            pieces[piece].iter().map(weigh).collect::<Vec<_>>()
        });
        weighed.into_iter().flatten().collect()
    }

    /// Joins two persons if all of what is known of them allows it; else says what is in the way.
    fn join_alike(
        &mut self,
        judge: &Judge<'_>,
        edge: &Edge,
        a: u32,
        b: u32,
        weighed: Weighed,
    ) -> Option<RefusalReason> {
        if self.are_enemies(a, b) {
            return Some(RefusalReason::Forbidden);
        }
        let size = self.sizes[a as usize] + self.sizes[b as usize];
        // Persons only grow, so of the same size together they are what was weighed.
        let weight = match weighed.size == size {
            true => weighed.weight,
            false => judge.groups(&self.members(a), &self.members(b)).weight,
        };
        if weight < judge.threshold {
            if size > 2 {
                self.known.insert(in_order(a, b), Weighed { size, weight });
            }
            let is_weak = edge.weight < judge.threshold;
            return Some(if is_weak { RefusalReason::Weak } else { RefusalReason::Cohesion });
        }
        let Some(held) = self.union_of_held(a, b) else { return Some(RefusalReason::Limit) };
        self.join(a, b, held);
        self.alike.push(*edge);
        None
    }

    /// Whether what else is known of two persons speaks against a shared identifier.
    fn is_contradicted(&mut self, a: u32, b: u32) -> bool {
        if self.are_enemies(a, b) {
            return true;
        }
        let Some(judge) = self.judge else { return false };
        let verdict = judge.groups(&self.members(a), &self.members(b));
        verdict.is_described && verdict.weight < judge.threshold - SLACK
    }

    /// The person that a record belongs to.
    fn root(&self, mut record: u32) -> u32 {
        while self.parents[record as usize] != record {
            record = self.parents[record as usize];
        }
        record
    }

    /// The same, which shortens the way for the next time.
    fn find(&mut self, mut record: u32) -> u32 {
        while self.parents[record as usize] != record {
            let above = self.parents[self.parents[record as usize] as usize];
            self.parents[record as usize] = above;
            record = above;
        }
        record
    }

    /// Persons that the records belong to, each as its root and the oldest of `records` that it has, in order of the latter.
    fn persons(&mut self, records: &[u32]) -> Vec<(u32, u32)> {
        if let [record] = records {
            return vec![(self.find(*record), *record)];
        }
        let mut persons: Vec<(u32, u32)> = records.iter().map(|&record| (self.find(record), record)).collect();
        persons.sort_unstable();
        persons.dedup_by_key(|person| person.0);
        persons.sort_unstable_by_key(|person| person.1);
        persons
    }

    /// Gives the value to a person and joins the others who have it. Returns a record of that person.
    fn link(&mut self, column: usize, value: u32, records: &[u32], is_weak: bool) -> u32 {
        let persons = self.persons(records);
        if self.is_crowd(&persons) {
            self.drop_value(column, value, DropReason::Shared, records.len(), persons.len());
            return NOBODY;
        }
        let Some(&(owner, older)) = persons.iter().find(|(person, _)| self.has_room(*person, column)) else {
            self.drop_value(column, value, DropReason::Limit, records.len(), persons.len());
            return NOBODY;
        };
        let held = &mut self.held[owner as usize];
        if let Err(place) = held.binary_search(&(column, value)) {
            held.insert(place, (column, value));
        }
        let mut owner = owner;
        let mut is_complete = true;
        for (person, younger) in persons {
            if person == owner || younger == older {
                continue;
            }
            let is_contradicted = is_weak && self.is_contradicted(owner, person) || self.are_enemies(owner, person);
            match self.union_of_held(owner, person).filter(|_| !is_contradicted) {
                Some(held) => {
                    let root = self.join(owner, person, held);
                    let (older, younger) = (older.min(younger), older.max(younger));
                    self.links.push(Link { column: column as u32, value, older, younger });
                    owner = root;
                }
                None => is_complete = false,
            }
        }
        if !is_complete {
            let persons = self.persons(records).len();
            self.drop_value(column, value, DropReason::Limit, records.len(), persons);
        }
        owner
    }

    fn has_room(&self, person: u32, column: usize) -> bool {
        let held = self.held[person as usize].iter().filter(|(of, _)| *of == column).count();
        held < self.rules[column].identity_limit as usize
    }

    /// Whether these are too many different persons to be one: of some identifier they hold more values than the limit
    /// allows, and more than two. Two persons are no crowd: the older keeps the value and their link is dropped.
    fn is_crowd(&self, persons: &[(u32, u32)]) -> bool {
        if persons.len() < 3 {
            return false;
        }
        let mut held: Vec<Held> =
            persons.iter().flat_map(|(person, _)| self.held[*person as usize].iter().copied()).collect();
        held.sort_unstable();
        held.dedup();
        held.chunk_by(|a, b| a.0 == b.0)
            .any(|values| values.len() > (self.rules[values[0].0].identity_limit as usize).max(2))
    }

    /// What two persons would hold as one, unless it is more than a limit allows.
    fn union_of_held(&self, a: u32, b: u32) -> Option<Vec<Held>> {
        let (a, b) = (&self.held[a as usize], &self.held[b as usize]);
        let mut union: Vec<Held> = Vec::with_capacity(a.len() + b.len());
        union.extend(a);
        union.extend(b);
        union.sort_unstable();
        union.dedup();
        union
            .chunk_by(|a, b| a.0 == b.0)
            .all(|values| values.len() <= self.rules[values[0].0].identity_limit as usize)
            .then_some(union)
    }

    fn drop_value(&mut self, column: usize, value: u32, reason: DropReason, records: usize, persons: usize) {
        self.dropped.push(Dropped { column, value, reason, records: records as u32, persons: persons as u32 });
    }
}
