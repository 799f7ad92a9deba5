//! Persons as they grow, and what stands in the way of joining two.

use std::collections::HashMap;

use super::super::linkage::{in_parallel, Edge, Judge};
use super::super::Rule;
use super::{Constraints, DropReason, Dropped, Likeness, Link, RefusalReason, Refused, NOBODY};

/// Pairs whose persons are weighed ahead of being looked at, on all threads.
const PAIRS_AHEAD: usize = 16_384;

/// Of these, the pairs that a thread takes at a time.
const PAIRS_PER_PIECE: usize = 512;

/// Passes over the pairs: what did not suffice alone may do so once persons have grown.
const ROUNDS: usize = 3;

/// Bits by which a shared identifier may stay below the threshold.
const SLACK: f32 = 3.0;

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

/// Persons so far, and what became of them.
pub struct Work<'a> {
    pub rules: Vec<Rule>,
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
    pub links: Vec<Link>,
    pub dropped: Vec<Dropped>,
    pub alike: Vec<Edge>,
    pub refused: Vec<Refused>,
}

impl<'a> Work<'a> {
    /// Every record on its own. Shared identifiers are questioned by `judge`, if there is one.
    pub fn new(records: usize, rules: Vec<Rule>, judge: Option<&'a Judge<'a>>) -> Self {
        Work {
            rules,
            parents: (0..records as u32).collect(),
            held: vec![Vec::new(); records],
            next: (0..records as u32).collect(),
            sizes: vec![1; records],
            enemies: HashMap::new(),
            judge,
            known: HashMap::new(),
            links: Vec::new(),
            dropped: Vec::new(),
            alike: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Joins what the user confirmed, and remembers what must stay apart; a pair that is both stays apart.
    pub fn obey(&mut self, constraints: &Constraints) {
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
    pub fn link_alike(&mut self, likeness: &Likeness<'_>, tick: &mut dyn FnMut()) {
        let judge = &likeness.judge;
        let mut rest: Vec<Refused> = Vec::new();
        for round in 0..ROUNDS {
            let again: Vec<Edge> = std::mem::take(&mut rest).into_iter().map(|refused: Refused| refused.edge).collect();
            let edges = if round == 0 { &likeness.edges } else { &again };
            let mut joined = false;
            for edges in edges.chunks(PAIRS_AHEAD) {
                tick();
                let ahead = self.weigh_ahead(judge, edges, likeness.threads);
                for (step, edge) in edges.iter().enumerate() {
                    let (a, b) = (self.find(edge.older), self.find(edge.younger));
                    if a == b {
                        continue;
                    }
                    // Persons only grow, so of the same size together they are what was weighed.
                    let size = self.sizes[a as usize] + self.sizes[b as usize];
                    let weighed = match ahead.get(step) {
                        Some(ahead) if ahead.size == size => *ahead,
                        _ => self.weigh(judge, edge),
                    };
                    match self.join_alike(judge.threshold, edge, weighed) {
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

    /// Weighs the persons of each pair as they are by now, where there are threads to share that. What is joined meanwhile is
    /// weighed again when its turn comes, so the result is that of one thread.
    fn weigh_ahead(&self, judge: &Judge<'_>, edges: &[Edge], threads: usize) -> Vec<Weighed> {
        if threads < 2 {
            return Vec::new();
        }
        let pieces: Vec<&[Edge]> = edges.chunks(PAIRS_PER_PIECE).collect();
        let weighed = in_parallel(threads, pieces.len(), |piece| {
            pieces[piece].iter().map(|edge| self.weigh(judge, edge)).collect::<Vec<_>>()
        });
        weighed.into_iter().flatten().collect()
    }

    /// Match weight of the persons of a pair, from memory if neither has grown since they were found too light.
    fn weigh(&self, judge: &Judge<'_>, edge: &Edge) -> Weighed {
        let (a, b) = (self.root(edge.older), self.root(edge.younger));
        let size = self.sizes[a as usize] + self.sizes[b as usize];
        if a == b || size == 2 {
            return Weighed { size, weight: edge.weight };
        }
        match self.known.get(&in_order(a, b)) {
            Some(known) if known.size == size => *known,
            _ => Weighed { size, weight: judge.groups(&self.members(a), &self.members(b)).weight },
        }
    }

    /// Joins the persons of a pair if all of what is known of them allows it; else says what is in the way.
    fn join_alike(&mut self, threshold: f32, edge: &Edge, weighed: Weighed) -> Option<RefusalReason> {
        let (a, b) = (self.find(edge.older), self.find(edge.younger));
        if self.are_enemies(a, b) {
            return Some(RefusalReason::Forbidden);
        }
        if weighed.weight < threshold {
            if weighed.size > 2 {
                self.known.insert(in_order(a, b), weighed);
            }
            let is_weak = edge.weight < threshold;
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
    pub fn find(&mut self, mut record: u32) -> u32 {
        while self.parents[record as usize] != record {
            let above = self.parents[self.parents[record as usize] as usize];
            self.parents[record as usize] = above;
            record = above;
        }
        record
    }

    /// Persons that the records belong to, each as its root and the oldest of `records` that it has, in order of the latter.
    pub fn persons(&mut self, records: &[u32]) -> Vec<(u32, u32)> {
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
    pub fn link(&mut self, column: usize, value: u32, records: &[u32], is_weak: bool) -> u32 {
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

    pub fn drop_value(&mut self, column: usize, value: u32, reason: DropReason, records: usize, persons: usize) {
        self.dropped.push(Dropped { column, value, reason, records: records as u32, persons: persons as u32 });
    }
}
