//! Treatment groups.

use super::seed::BUCKETS;

/// How a customer is treated in a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Never contacted.
    Holdout,
    /// A fixed business-as-usual rule.
    Control,
    /// Random actions.
    Explore,
    /// The learned policy.
    Optimise,
}

impl Group {
    pub const ALL: [Group; 4] = [Group::Holdout, Group::Control, Group::Explore, Group::Optimise];

    pub fn as_str(self) -> &'static str {
        match self {
            Group::Holdout => "holdout",
            Group::Control => "control",
            Group::Explore => "explore",
            Group::Optimise => "optimise",
        }
    }

    pub fn parse(text: &str) -> Option<Group> {
        Group::ALL.into_iter().find(|group| group.as_str() == text)
    }
}

/// Shares of the groups; optimise has the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    pub holdout: f64,
    pub control: f64,
    pub explore: f64,
}

impl Shares {
    /// Group of a bucket: holdout, control, explore and optimise follow each other in bucket order.
    pub fn group(&self, bucket: u16) -> Group {
        let [holdout, control, explore] = self.bounds();
        match f64::from(bucket) {
            b if b < holdout => Group::Holdout,
            b if b < control => Group::Control,
            b if b < explore => Group::Explore,
            _ => Group::Optimise,
        }
    }

    /// Buckets of the control group below this have moved to optimise when `share` of it has, in the order of buckets. Once
    /// all have, so have those who came into control under other shares.
    pub fn ramp_bound(&self, share: f64) -> u16 {
        let [holdout, control, _] = self.bounds();
        match share {
            s if s <= 0.0 => 0,
            s if s >= 1.0 => BUCKETS,
            s => (holdout + s * (control - holdout)).round() as u16,
        }
    }

    /// The shares as they are drawn, in the order of [`Group::ALL`].
    pub fn exact(&self) -> [f64; 4] {
        let [holdout, control, explore] = self.bounds();
        let all = f64::from(BUCKETS);
        [holdout, control - holdout, explore - control, all - explore].map(|buckets| buckets / all)
    }

    /// Whole buckets, so that the expected shares are exact.
    fn bounds(&self) -> [f64; 3] {
        let bound = |share: f64| (share * f64::from(BUCKETS)).round();
        [bound(self.holdout), bound(self.holdout + self.control), bound(self.holdout + self.control + self.explore)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_fill_the_shares_exactly() {
        let shares = Shares { holdout: 0.1, control: 0.0, explore: 0.05 };
        let count = |group| (0..BUCKETS).filter(|bucket| shares.group(*bucket) == group).count();
        assert_eq!(Group::ALL.map(count), [1000, 0, 500, 8500]);
        assert_eq!(shares.exact(), [0.1, 0.0, 0.05, 0.85]);
        let half = Shares { holdout: 0.1, control: 0.2, explore: 0.05 };
        let moved =
            |share| (0..BUCKETS).filter(|b| half.group(*b) == Group::Control && *b < half.ramp_bound(share)).count();
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(moved), [0, 500, 1000, 2000]);
        assert_eq!((half.ramp_bound(0.0), half.ramp_bound(1.0)), (0, BUCKETS));
        let all = Shares { holdout: 1.0, control: 0.0, explore: 0.0 };
        assert!((0..BUCKETS).all(|bucket| all.group(bucket) == Group::Holdout));
    }
}
