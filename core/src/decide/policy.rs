//! A model version compiled for choosing.

use crate::learn::{Arm, DrawBank, Layout, DRAWS};

/// Scores of one arm under every draw.
type Scores = [f32; DRAWS];

/// The send part of a model, laid out for one pass over the context per block.
///
/// Only differences to no-send matter for the choice, and base(x) is common to all arms, so it is left out.
/// Every sum runs in a fixed order over f32, so that a replay gives the same bits.
pub struct Policy {
    layout: Layout,
    bank: DrawBank,
    arms: Vec<CompiledArm>,
}

struct CompiledArm {
    levels: Vec<u32>,
    /// Pairwise terms do not depend on the context.
    pairs: Scores,
}

impl Policy {
    /// Compiles `bank` for `arms`.
    pub fn new(layout: Layout, bank: DrawBank, arms: &[Arm]) -> Self {
        let arms = arms
            .iter()
            .map(|arm| {
                let mut pairs = [0.0; DRAWS];
                for pair in &arm.pairs {
                    add(&mut pairs, bank.of(layout.pair_offset() + *pair as usize));
                }
                CompiledArm { levels: arm.levels.clone(), pairs }
            })
            .collect();
        Policy { layout, bank, arms }
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// For every draw, the candidate with the highest log-odds over no-send. `candidates` holds arm indices, `None`
    /// for no-send (which scores 0); ties go to the earlier candidate. Returns positions in `candidates`.
    pub fn best(&self, encoded: &[f32], candidates: &[Option<usize>]) -> [u32; DRAWS] {
        let send = self.block(encoded, &self.layout.send, self.layout.send_offset());
        let mut used = vec![false; self.layout.levels.len()];
        for arm in candidates.iter().flatten() {
            self.arms[*arm].levels.iter().for_each(|level| used[*level as usize] = true);
        }
        let levels: Vec<Scores> = (0..used.len())
            .map(|level| match used[level] {
                true => self.block(encoded, &self.layout.interacting, self.layout.level_offset(level)),
                false => [0.0; DRAWS],
            })
            .collect();

        let mut best = [0_u32; DRAWS];
        let mut highest = [f32::NEG_INFINITY; DRAWS];
        for (at, candidate) in candidates.iter().enumerate() {
            let scores = match candidate {
                None => [0.0; DRAWS],
                Some(arm) => {
                    let arm = &self.arms[*arm];
                    let mut scores = send;
                    arm.levels.iter().for_each(|level| add(&mut scores, &levels[*level as usize]));
                    add(&mut scores, &arm.pairs);
                    scores
                }
            };
            for draw in 0..DRAWS {
                if scores[draw] > highest[draw] {
                    highest[draw] = scores[draw];
                    best[draw] = at as u32;
                }
            }
        }
        best
    }

    /// Σ x · coefficient over one block, for every draw.
    fn block(&self, encoded: &[f32], columns: &[u32], offset: usize) -> Scores {
        let mut sum = [0.0; DRAWS];
        for (at, column) in columns.iter().enumerate() {
            let x = encoded[*column as usize];
            if x != 0.0 {
                let draws = self.bank.of(offset + at);
                for draw in 0..DRAWS {
                    sum[draw] += x * draws[draw];
                }
            }
        }
        sum
    }
}

fn add(sum: &mut Scores, other: &Scores) {
    for draw in 0..DRAWS {
        sum[draw] += other[draw];
    }
}
