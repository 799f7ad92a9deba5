//! Blocks of records, and the pairs that meet in them.

use super::super::records::Records;
use super::blocking::{placed, BlockingRules};
use super::profile::{Attribute, MISSING};
use super::profiles::Profiles;
use super::work::in_parallel;

/// Records by rule and block.
pub struct Blocks {
    rules: Vec<Rule>,
    /// Block of each record by rule, record by record; [`NONE`] where it is in none.
    homes: Vec<u32>,
    /// Further blocks of records with several values: record, rule, block. Sorted.
    further: Vec<(u32, u32, u32)>,
    marks: Vec<u64>,
    pub oversized: Vec<Oversized>,
}

const NONE: u32 = u32::MAX;

/// Blocks of one rule.
#[derive(Default)]
struct Rule {
    /// Where the members of each block start, and one past the last.
    starts: Vec<u32>,
    members: Vec<u32>,
}

/// A block beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversized {
    /// Place of its rule among the blocking rules.
    pub rule: usize,
    /// A record of the block.
    pub example: u32,
    pub records: u32,
    /// Of these, records that were compared with nobody here, since they are still too many with the same name, or have none.
    pub left_out: u32,
    /// Pairs of the block that are not compared here.
    pub skipped_pairs: u64,
}

/// What a rule would compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    pub rule: String,
    pub blocks: u64,
    pub largest: u32,
    /// Pairs that meet in the blocks of this rule.
    pub pairs: u64,
    /// Of these, pairs that met in no rule before.
    pub new_pairs: u64,
    pub oversized: u32,
    /// Pairs of oversized blocks that are not compared.
    pub skipped_pairs: u64,
}

/// Keys of all records for one rule.
struct Keyed {
    /// Key and record.
    entries: Vec<(u64, u32)>,
}

impl Keyed {
    /// Calls `each` with every key as it is stored, and the records that have it.
    fn each(&self, rule: usize, each: &mut dyn FnMut(u64, &[u32])) {
        let mut block = Vec::new();
        for of_key in self.entries.chunk_by(|a, b| placed(rule, a.0) == placed(rule, b.0)) {
            block.clear();
            block.extend(of_key.iter().map(|entry| entry.1));
            each(placed(rule, of_key[0].0), &block);
        }
    }
}

impl Blocks {
    /// Makes the blocks. Calls `each` with every key, as [`Records::block_keys`] has it, and the records of its block, in order of
    /// the keys.
    pub fn of(
        records: &Records,
        profiles: &Profiles,
        rules: &BlockingRules,
        threads: usize,
        tick: &mut dyn FnMut(),
        each: &mut dyn FnMut(u64, &[u32]),
    ) -> Self {
        let salts = rules.salts();
        let numbers: Vec<usize> = (0..rules.rules.len()).collect();
        let mut made = Vec::with_capacity(numbers.len());
        for some in numbers.chunks(threads.max(1)) {
            tick();
            let of_rules = in_parallel(threads, some.len(), |place| {
                let number = some[place];
                let keyed = keyed(records, profiles, rules, number, salts[number]);
                let grouped = grouped(profiles, &keyed, number, rules.block_limit);
                (keyed, grouped)
            });
            for (rule, (keyed, grouped)) in some.iter().zip(of_rules) {
                keyed.each(*rule, each);
                made.push(grouped);
            }
        }
        tick();
        let width = rules.rules.len();
        let mut blocks = Blocks {
            rules: Vec::with_capacity(width),
            homes: vec![NONE; profiles.len() * width],
            further: Vec::new(),
            marks: vec![0; profiles.len().div_ceil(64)],
            oversized: Vec::new(),
        };
        for (number, (rule, oversized)) in made.into_iter().enumerate() {
            for (block, bounds) in rule.starts.windows(2).enumerate() {
                for &member in &rule.members[bounds[0] as usize..bounds[1] as usize] {
                    let home = &mut blocks.homes[member as usize * width + number];
                    if *home == NONE {
                        *home = block as u32;
                    } else {
                        blocks.further.push((member, number as u32, block as u32));
                        blocks.marks[member as usize / 64] |= 1u64 << (member % 64);
                    }
                }
            }
            blocks.rules.push(rule);
            blocks.oversized.extend(oversized);
        }
        blocks.further.sort_unstable();
        blocks
    }

    /// Pieces of work of about [`PAIRS_PER_PIECE`] pairs each, in order: rule, first block, block after the last.
    pub fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (rule, blocks) in self.rules.iter().enumerate() {
            let (mut first, mut pairs) = (0, 0u64);
            for (block, bounds) in blocks.starts.windows(2).enumerate() {
                let records = u64::from(bounds[1] - bounds[0]);
                pairs += records * (records - 1) / 2;
                if pairs >= PAIRS_PER_PIECE {
                    pieces.push(Piece { rule, first, end: block + 1, pairs });
                    (first, pairs) = (block + 1, 0);
                }
            }
            if pairs > 0 {
                pieces.push(Piece { rule, first, end: blocks.starts.len() - 1, pairs });
            }
        }
        pieces
    }

    /// Calls `visit` with each pair of a piece that met in no block before, the older record first.
    pub fn pairs(&self, piece: &Piece, mut visit: impl FnMut(u32, u32)) {
        let rule = &self.rules[piece.rule];
        for block in piece.first..piece.end {
            let members = &rule.members[rule.starts[block] as usize..rule.starts[block + 1] as usize];
            for (place, &a) in members.iter().enumerate() {
                for &b in &members[place + 1..] {
                    if !self.met_before(a, b, piece.rule, block as u32) {
                        visit(a, b);
                    }
                }
            }
        }
    }

    fn met_before(&self, a: u32, b: u32, rule: usize, block: u32) -> bool {
        let width = self.rules.len();
        let homes = |record: u32| &self.homes[record as usize * width..record as usize * width + width];
        let (homes_a, homes_b) = (homes(a), homes(b));
        if homes_a[..rule].iter().zip(&homes_b[..rule]).any(|(a, b)| a == b && *a != NONE) {
            return true;
        }
        let has_further = |record: u32| self.marks[record as usize / 64] >> (record % 64) & 1 == 1;
        if !has_further(a) && !has_further(b) {
            return false;
        }
        (0..=rule).any(|earlier| {
            let all_b: Vec<u32> = self.all_blocks(b, earlier).collect();
            self.all_blocks(a, earlier).any(|common| all_b.contains(&common) && (earlier < rule || common < block))
        })
    }

    fn all_blocks(&self, record: u32, rule: usize) -> impl Iterator<Item = u32> + '_ {
        let home = self.homes[record as usize * self.rules.len() + rule];
        let start = self.further.partition_point(|entry| (entry.0, entry.1) < (record, rule as u32));
        let further = self.further[start..].iter().take_while(move |entry| (entry.0, entry.1) == (record, rule as u32));
        std::iter::once(home).filter(|home| *home != NONE).chain(further.map(|entry| entry.2))
    }

    /// What each rule compares, and what it leaves out.
    pub fn sizes(&self, rules: &BlockingRules, threads: usize, tick: &mut dyn FnMut()) -> Vec<BlockSizes> {
        let mut new_pairs = vec![0; self.rules.len()];
        let pieces = self.pieces();
        for some in pieces.chunks(PIECES_PER_ROUND) {
            tick();
            let counted = in_parallel(threads, some.len(), |place| {
                let mut count = 0u64;
                self.pairs(&some[place], |_, _| count += 1);
                count
            });
            for (piece, count) in some.iter().zip(counted) {
                new_pairs[piece.rule] += count;
            }
        }
        self.rules
            .iter()
            .enumerate()
            .map(|(number, rule)| {
                let sizes = rule.starts.windows(2).map(|bounds| bounds[1] - bounds[0]);
                let oversized = || self.oversized.iter().filter(move |block| block.rule == number);
                let pairs: u64 = sizes.clone().map(|records| pairs_of(u64::from(records))).sum();
                BlockSizes {
                    rule: rules.rules[number].to_string(),
                    blocks: sizes.clone().count() as u64,
                    largest: sizes.max().unwrap_or(0).max(oversized().map(|block| block.records).max().unwrap_or(0)),
                    pairs,
                    new_pairs: new_pairs[number],
                    oversized: oversized().count() as u32,
                    skipped_pairs: oversized().map(|block| block.skipped_pairs).sum(),
                }
            })
            .collect()
    }
}

/// Pairs of so many records.
fn pairs_of(records: u64) -> u64 {
    records * records.saturating_sub(1) / 2
}

/// Some neighbouring blocks of a rule.
pub struct Piece {
    pub rule: usize,
    first: usize,
    end: usize,
    pub pairs: u64,
}

/// So few that a round of pieces takes some tens of milliseconds.
const PAIRS_PER_PIECE: u64 = 20_000;

/// Pieces between two ticks.
pub const PIECES_PER_ROUND: usize = 16;

fn keyed(records: &Records, profiles: &Profiles, rules: &BlockingRules, number: usize, salt: u64) -> Keyed {
    let rule = &rules.rules[number];
    // How each part sees each value, once.
    let tables: Vec<Vec<(Attribute, Vec<u64>)>> = rule
        .parts
        .iter()
        .map(|part| {
            let needs = part.source.needs().iter().filter(|attribute| **attribute != Attribute::DateOfBirth);
            needs
                .map(|&attribute| {
                    let values = match attribute {
                        Attribute::EmailLocal => &profiles.locals,
                        attribute => records.values(attribute),
                    };
                    let hash = |value| part.hash(attribute, value, values.text(value), &records.nicknames);
                    (attribute, (0..values.len() as u32).map(hash).collect())
                })
                .collect()
        })
        .collect();
    let hash = |part: usize, attribute: Attribute, value: u32| match tables[part].iter().find(|of| of.0 == attribute) {
        Some((_, hashes)) => hashes[value as usize],
        None => rule.parts[part].hash(attribute, value, "", &records.nicknames),
    };
    let mut entries = Vec::with_capacity(profiles.len());
    for record in 0..profiles.len() as u32 {
        if profiles.has_extras(record) {
            let values = |attribute| profiles.values(record, attribute).collect();
            entries.extend(rule.keys(salt, &values, &hash).into_iter().map(|key| (key, record)));
        } else if let Some(key) = rule.key(salt, profiles.row(record), &hash) {
            entries.push((key, record));
        }
    }
    entries.sort_unstable();
    Keyed { entries }
}

fn grouped(profiles: &Profiles, keyed: &Keyed, rule: usize, limit: u32) -> (Rule, Vec<Oversized>) {
    let mut made = Rule { starts: vec![0], members: Vec::new() };
    let mut oversized = Vec::new();
    let mut push = |members: &mut dyn Iterator<Item = u32>| {
        made.members.extend(members);
        made.starts.push(made.members.len() as u32);
    };
    for block in keyed.entries.chunk_by(|a, b| a.0 == b.0) {
        if block.len() < 2 {
            continue;
        }
        if block.len() <= limit as usize {
            push(&mut block.iter().map(|entry| entry.1));
            continue;
        }
        let mut by_name: Vec<(u32, u32, u32)> = block
            .iter()
            .map(|&(_, record)| {
                let row = profiles.row(record);
                (row[Attribute::FamilyName as usize], row[Attribute::GivenName as usize], record)
            })
            .collect();
        by_name.sort_unstable();
        let mut left_out = 0;
        let mut skipped_pairs = pairs_of(block.len() as u64);
        for named in by_name.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            if named[0].0 == MISSING || named[0].1 == MISSING || named.len() > limit as usize {
                left_out += named.len() as u32;
            } else if named.len() > 1 {
                skipped_pairs -= pairs_of(named.len() as u64);
                push(&mut named.iter().map(|entry| entry.2));
            }
        }
        oversized.push(Oversized { rule, example: block[0].1, records: block.len() as u32, left_out, skipped_pairs });
    }
    (made, oversized)
}

#[cfg(test)]
mod tests {
    use super::super::super::{Fields, Matching, Records, Rules};
    use super::*;

    #[test]
    fn what_is_skipped_is_what_is_not_compared() {
        // Six records with one phone number: two namesakes, three other namesakes, one without a name.
        let names = ["ada", "ada", "bea", "bea", "bea", ""];
        let mut records = Records::new(Rules::default(), &["file"]).unwrap();
        for (key, name) in names.iter().enumerate() {
            let record = records.add(0, &key.to_string()).unwrap();
            let mut fields = Fields::new();
            let phone = ("phone", "+491701234567");
            for (kind, value) in [phone, ("given_name", *name), ("family_name", *name)] {
                fields.push(&kind.parse().unwrap(), value);
            }
            records.describe(record, &fields, None).unwrap();
        }
        let matching = Matching::new(records).unwrap();
        let of = |limit| {
            let rules = BlockingRules::new(vec!["phone".parse().unwrap()], limit).unwrap();
            let sizes = &matching.block_sizes(&rules, 1, &mut || {})[0];
            (sizes.blocks, sizes.largest, sizes.pairs, sizes.oversized, sizes.skipped_pairs)
        };
        assert_eq!(of(6), (1, 6, 15, 0, 0));
        assert_eq!(of(5), (2, 6, 1 + 3, 1, 15 - 4));
        // Three namesakes are too many as well.
        assert_eq!(of(2), (1, 6, 1, 1, 15 - 1));
    }
}
