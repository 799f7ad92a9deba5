//! A model version compiled for choosing.

use pulp::Arch;
use serde::{Deserialize, Serialize};

use crate::learn::{Arm, DrawBank, Layout, Link, DRAWS};

/// Scores of one arm under every draw.
type Scores = [f32; DRAWS];

/// A model version, laid out for one pass over the context per block. Every sum runs in a fixed order over f32, and the
/// exponential is not the machine's, so that a replay gives the same bits everywhere.
pub struct Policy {
    layout: Layout,
    /// Levels of every arm.
    levels: Vec<Vec<u32>>,
    response: Part,
    worth: Option<(Part, Unit)>,
    harms: Vec<Part>,
}

/// How the Gaussian part of a model counts worth: as (worth − centre) / scale, of worth within [low, high].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    pub centre: f64,
    pub scale: f64,
    pub low: f64,
    pub high: f64,
}

/// What an arm costs, in units of worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    #[serde(rename = "cost_send")]
    pub send: f64,
    /// Per response.
    #[serde(rename = "cost_on_goal")]
    pub on_goal: f64,
    /// Share of the worth of a response.
    #[serde(rename = "cost_on_goal_share")]
    pub on_goal_share: f64,
}

/// What responses, harm and sends are worth. All in one unit, such as a currency.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Worth of a response where it is not modelled.
    pub value: f64,
    /// Worth of each modelled kind of harm; negative.
    pub harms: Vec<f64>,
    /// By arm.
    pub costs: Vec<Cost>,
    /// A send must be worth this much more than no-send.
    pub minimum_uplift: f64,
}

impl Cost {
    /// The cost as the choice sees it: every unit of money times `factor`, and every send `per_send` dearer.
    pub fn priced(self, factor: f64, per_send: f64) -> Self {
        Cost {
            send: self.send * factor + per_send,
            on_goal: self.on_goal * factor,
            on_goal_share: self.on_goal_share * factor,
        }
    }

    /// What one send is expected to cost, where a response has this probability and this worth.
    pub fn expected(self, probability: f64, worth: f64) -> f64 {
        self.send + probability * (self.on_goal + self.on_goal_share * worth.max(0.0))
    }
}

impl Unit {
    pub fn standardise(&self, worth: f64) -> f64 {
        (worth.clamp(self.low, self.high) - self.centre) / self.scale
    }
}

impl Terms {
    /// Every response is worth 1, and nothing costs anything.
    pub fn free(arms: usize) -> Self {
        Terms { value: 1.0, harms: Vec::new(), costs: vec![Cost::default(); arms], minimum_uplift: 0.0 }
    }

    /// Whether the best arm is just the one with the highest probability of a response.
    fn rank_by_response(&self) -> bool {
        self.value > 0.0
            && self.harms.is_empty()
            && self.minimum_uplift == 0.0
            && self.costs.iter().all(|cost| *cost == Cost::default())
    }
}

/// The draws of one linear predictor, compiled for the arms.
struct Part {
    bank: DrawBank,
    /// Pairwise terms of each arm; they do not depend on the context.
    pairs: Vec<Scores>,
}

/// The blocks of one linear predictor for a context.
struct Blocks {
    send: Scores,
    levels: Vec<Scores>,
}

impl Policy {
    /// Compiles draws of the response for `arms`.
    pub fn new(layout: Layout, response: DrawBank, arms: &[Arm]) -> Self {
        let response = Part::new(&layout, response, arms);
        let levels = arms.iter().map(|arm| arm.levels.clone()).collect();
        Policy { layout, levels, response, worth: None, harms: Vec::new() }
    }

    /// Adds draws of the worth of a response.
    pub fn with_worth(mut self, worth: DrawBank, unit: Unit, arms: &[Arm]) -> Self {
        self.worth = Some((Part::new(&self.layout, worth, arms), unit));
        self
    }

    /// Adds draws of a kind of harm.
    pub fn with_harm(mut self, harm: DrawBank, arms: &[Arm]) -> Self {
        self.harms.push(Part::new(&self.layout, harm, arms));
        self
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// For every draw, the best candidate under `terms`: the one that is worth most net of its costs, where no-send gets
    /// the minimum uplift on top. `candidates` holds arm indices, `None` for no-send; ties go to the earlier candidate.
    /// Returns positions in `candidates`.
    ///
    /// Runs with the widest vectors that the processor has. Draws do not mix and sums keep their order, so that the bits do
    /// not depend on it.
    pub fn best(&self, encoded: &[f32], candidates: &[Option<usize>], terms: &Terms) -> [u32; DRAWS] {
        Arch::new().dispatch(
            #[inline(always)]
            || self.best_inlined(encoded, candidates, terms),
        )
    }

    #[inline(always)]
    fn best_inlined(&self, encoded: &[f32], candidates: &[Option<usize>], terms: &Terms) -> [u32; DRAWS] {
        let mut best = [0_u32; DRAWS];
        let mut highest = [f32::NEG_INFINITY; DRAWS];
        let mut offer = |at: usize, scores: &Scores| {
            for draw in 0..DRAWS {
                if scores[draw] > highest[draw] {
                    highest[draw] = scores[draw];
                    best[draw] = at as u32;
                }
            }
        };
        let blocks = |part: &Part| part.blocks(&self.layout, encoded, &self.used(candidates));
        let response = blocks(&self.response);
        if self.worth.is_none() && terms.rank_by_response() {
            // The base is common to all candidates, so only the differences to no-send matter.
            for (at, candidate) in candidates.iter().enumerate() {
                offer(at, &self.scores(&self.response, &response, *candidate));
            }
            return best;
        }

        let base = |part: &Part| part.block(encoded, &self.layout.base, 0);
        let mut response_base = base(&self.response);
        add(&mut response_base, &[self.layout.offset_of(Link::Logistic, encoded); DRAWS]);
        let worth = self.worth.as_ref().map(|(part, unit)| (part, unit, base(part), blocks(part)));
        let harms: Vec<_> = self
            .harms
            .iter()
            .zip(&terms.harms)
            .map(|(part, worth)| (part, *worth as f32, base(part), blocks(part)))
            .collect();
        for (at, candidate) in candidates.iter().enumerate() {
            let cost = candidate.map_or_else(Cost::default, |arm| terms.costs[arm]);
            let minimum = if candidate.is_none() { terms.minimum_uplift } else { 0.0 };
            let odds = self.scores(&self.response, &response, *candidate);
            let mut net = [(minimum - cost.send) as f32; DRAWS];
            let mut values = [terms.value as f32; DRAWS];
            if let Some((part, unit, base, blocks)) = &worth {
                let scores = self.scores(part, blocks, *candidate);
                for draw in 0..DRAWS {
                    let worth = unit.centre as f32 + unit.scale as f32 * (base[draw] + scores[draw]);
                    values[draw] = worth.clamp(unit.low as f32, unit.high as f32);
                }
            }
            for draw in 0..DRAWS {
                let margin = values[draw] * (1.0 - cost.on_goal_share as f32) - cost.on_goal as f32;
                net[draw] += sigmoid(response_base[draw] + odds[draw]) * margin;
            }
            for (part, worth, base, blocks) in &harms {
                let scores = self.scores(part, blocks, *candidate);
                for draw in 0..DRAWS {
                    net[draw] += sigmoid(base[draw] + scores[draw]) * worth;
                }
            }
            offer(at, &net);
        }
        best
    }

    /// Levels that some candidate has.
    fn used(&self, candidates: &[Option<usize>]) -> Vec<bool> {
        let mut used = vec![false; self.layout.levels.len()];
        for arm in candidates.iter().flatten() {
            self.levels[*arm].iter().for_each(|level| used[*level as usize] = true);
        }
        used
    }

    /// A linear predictor of a candidate, less that of no-send.
    #[inline(always)]
    fn scores(&self, part: &Part, blocks: &Blocks, candidate: Option<usize>) -> Scores {
        let Some(arm) = candidate else { return [0.0; DRAWS] };
        let mut scores = blocks.send;
        self.levels[arm].iter().for_each(|level| add(&mut scores, &blocks.levels[*level as usize]));
        add(&mut scores, &part.pairs[arm]);
        scores
    }
}

impl Part {
    fn new(layout: &Layout, bank: DrawBank, arms: &[Arm]) -> Self {
        let pairs = arms
            .iter()
            .map(|arm| {
                let mut pairs = [0.0; DRAWS];
                for pair in &arm.pairs {
                    add(&mut pairs, bank.of(layout.pair_offset() + *pair as usize));
                }
                pairs
            })
            .collect();
        Part { bank, pairs }
    }

    #[inline(always)]
    fn blocks(&self, layout: &Layout, encoded: &[f32], used: &[bool]) -> Blocks {
        let level = |(level, used): (usize, &bool)| match used {
            true => self.block(encoded, &layout.interacting, layout.level_offset(level)),
            false => [0.0; DRAWS],
        };
        Blocks {
            send: self.block(encoded, &layout.send, layout.send_offset()),
            levels: used.iter().enumerate().map(level).collect(),
        }
    }

    /// Σ x · coefficient over one block, for every draw.
    #[inline(always)]
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

#[inline(always)]
fn add(sum: &mut Scores, other: &Scores) {
    for draw in 0..DRAWS {
        sum[draw] += other[draw];
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}
