//! Candidate pairs that may be one person.

use super::blocks::{Blocks, PIECES_PER_ROUND};
use super::judge::Judge;
use super::work::in_parallel;

/// Two records and their match weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    pub older: u32,
    pub younger: u32,
    pub weight: f32,
}

/// Pairs of at least this weight, best first; equal ones by age. The same for any number of threads.
pub fn edges(judge: &Judge<'_>, blocks: &Blocks, least: f32, threads: usize, tick: &mut dyn FnMut()) -> Vec<Edge> {
    edges_of(judge, blocks, least, &|_| true, threads, tick)
}

/// The same of the pairs in which at least one record `counts`.
pub fn edges_of(
    judge: &Judge<'_>,
    blocks: &Blocks,
    least: f32,
    counts: &(dyn Fn(u32) -> bool + Sync),
    threads: usize,
    tick: &mut dyn FnMut(),
) -> Vec<Edge> {
    let mut edges = Vec::new();
    for some in blocks.pieces().chunks(PIECES_PER_ROUND) {
        tick();
        let found = in_parallel(threads, some.len(), |place| {
            let mut edges = Vec::new();
            blocks.pairs(&some[place], |a, b| {
                if !counts(a) && !counts(b) {
                    return;
                }
                let weight = judge.pair(a, b);
                if weight >= least {
                    edges.push(Edge { older: a.min(b), younger: a.max(b), weight });
                }
            });
            edges
        });
        edges.extend(found.into_iter().flatten());
    }
    edges.sort_unstable_by(|a, b| b.weight.total_cmp(&a.weight).then((a.older, a.younger).cmp(&(b.older, b.younger))));
    edges
}
