//! Who gives way when campaigns compete for what a cap leaves.

/// What a decision lays to a contact with a customer.
///
/// Of two claims under one cap exactly one counts against the other, unless both contacts are made: then both do. So however many
/// are laid, no more than the cap are made, if each looks at the others before it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// Ascends in the order of decisions; `None` is later than all that are made.
    pub decided: Option<[u8; 16]>,
    /// Of campaigns with a priority: priority × what the contact is expected to add. `None` neither takes over nor gives way.
    pub stake: Option<f64>,
    /// Too late to take it over.
    pub made: bool,
}

impl Claim {
    /// Whether this claim counts against `other`: it is made, has the higher stake, or, where a stake is missing or they are equal,
    /// was decided first.
    pub fn counts_against(&self, other: &Claim) -> bool {
        self.made
            || match (self.stake, other.stake) {
                (Some(ours), Some(theirs)) if ours != theirs => ours > theirs,
                _ => self.precedes(other),
            }
    }

    /// Whether it counts by its higher stake: it takes over what the other has reserved.
    pub fn preempts(&self, other: &Claim) -> bool {
        !self.made && self.stake.zip(other.stake).is_some_and(|(ours, theirs)| ours > theirs)
    }

    fn precedes(&self, other: &Claim) -> bool {
        match (self.decided, other.decided) {
            (Some(ours), Some(theirs)) => ours < theirs,
            (ours, _) => ours.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> impl Iterator<Item = Claim> {
        let stakes = [None, Some(0.0), Some(1.0), Some(2.5)];
        let decided = (0..3).map(|n| Some([n; 16])).chain([None]);
        decided.flat_map(move |decided| {
            stakes.into_iter().flat_map(move |stake| [false, true].map(|made| Claim { decided, stake, made }))
        })
    }

    #[test]
    fn of_two_claims_one_counts_against_the_other() {
        for (a, b) in claims().flat_map(|a| claims().map(move |b| (a, b))).filter(|(a, b)| a.decided != b.decided) {
            let counts = [a.counts_against(&b), b.counts_against(&a)];
            if a.made || b.made {
                assert!(counts[0] || counts[1], "{a:?} {b:?}");
                assert!((!a.made || counts[0]) && (!b.made || counts[1]), "what is made counts: {a:?} {b:?}");
            } else {
                assert!(counts[0] != counts[1], "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_higher_stake_takes_over_what_is_not_made() {
        let early = |stake, made| Claim { decided: Some([1; 16]), stake, made };
        let late = |stake| Claim { decided: None, stake, made: false };
        assert!(!early(Some(1.0), false).counts_against(&late(Some(2.0))));
        assert!(late(Some(2.0)).preempts(&early(Some(1.0), false)));
        assert!(early(Some(1.0), true).counts_against(&late(Some(2.0))), "it is made");
        assert!(early(Some(2.0), false).counts_against(&late(Some(2.0))), "who was first keeps it");
        for (ours, theirs) in [(None, Some(9.0)), (Some(0.1), None), (None, None)] {
            assert!(early(ours, false).counts_against(&late(theirs)), "a campaign without priority takes no part");
            assert!(!late(theirs).preempts(&early(ours, false)));
        }
    }
}
