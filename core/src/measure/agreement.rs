//! How far found groups agree with actual ones, over pairs of members.

use std::collections::HashMap;
use std::hash::Hash;

/// Numbers of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Pairs that belong together.
    pub actual: u64,
    /// Pairs that were put together.
    pub found: u64,
    /// Pairs of which both holds.
    pub right: u64,
}

impl Agreement {
    /// Of members, each with its actual and its found group.
    pub fn of_groups<A: Eq + Hash + Copy, F: Eq + Hash + Copy>(members: impl Iterator<Item = (A, F)>) -> Self {
        let (mut actual, mut found) = (HashMap::<A, u64>::new(), HashMap::<F, u64>::new());
        let mut right: HashMap<(A, F), u64> = HashMap::new();
        for (a, f) in members {
            *actual.entry(a).or_default() += 1;
            *found.entry(f).or_default() += 1;
            *right.entry((a, f)).or_default() += 1;
        }
        Agreement { actual: pairs(actual.values()), found: pairs(found.values()), right: pairs(right.values()) }
    }

    /// Share of the found pairs that belong together; `None` if none were found.
    pub fn precision(&self) -> Option<f64> {
        (self.found > 0).then(|| self.right as f64 / self.found as f64)
    }

    /// Share of the pairs that belong together that were found; `None` if there are none.
    pub fn recall(&self) -> Option<f64> {
        (self.actual > 0).then(|| self.right as f64 / self.actual as f64)
    }

    /// Harmonic mean of precision and recall.
    pub fn f1(&self) -> Option<f64> {
        let both = self.actual + self.found;
        (both > 0).then(|| 2.0 * self.right as f64 / both as f64)
    }
}

fn pairs<'a>(sizes: impl Iterator<Item = &'a u64>) -> u64 {
    sizes.map(|size| size * (size - 1) / 2).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted() {
        // Actual {1, 2, 3}, {4, 5}; found {1, 2}, {3, 4, 5}.
        let members = [('a', 'x'), ('a', 'x'), ('a', 'y'), ('b', 'y'), ('b', 'y')];
        let agreement = Agreement::of_groups(members.into_iter());
        assert_eq!(agreement, Agreement { actual: 4, found: 4, right: 2 });
        assert_eq!((agreement.precision(), agreement.recall(), agreement.f1()), (Some(0.5), Some(0.5), Some(0.5)));
    }

    #[test]
    fn nothing_is_no_ratio() {
        let single = Agreement::of_groups([('a', 'x'), ('b', 'y')].into_iter());
        assert_eq!((single.precision(), single.recall(), single.f1()), (None, None, None));
    }
}
