//! The global holdout: customers whom no campaign contacts.

use super::seed::{Salt, BUCKETS};

/// A share of all customers, drawn by a hash of its own, so that it is the same customers in every campaign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GlobalHoldout {
    pub salt: Salt,
    /// Share in force.
    pub share: f64,
    /// The largest share that was in force since there is a global holdout.
    pub most: f64,
}

/// Whether a customer is in the global holdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    Member,
    /// Was one when the share was larger. He stays one if it was applied to him: groups are sticky.
    Former,
    Outside,
}

impl GlobalHoldout {
    /// Bucket of a customer, in `0..BUCKETS`.
    pub fn bucket(&self, customer: &str) -> u16 {
        self.salt.global_bucket(customer)
    }

    /// What the bucket of a customer says. A larger share adds customers to those of a smaller one.
    pub fn membership(&self, bucket: u16) -> Membership {
        let within = |share: f64| f64::from(bucket) < (share * f64::from(BUCKETS)).round();
        if within(self.share) {
            Membership::Member
        } else if within(self.most) {
            Membership::Former
        } else {
            Membership::Outside
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::chi_square;

    fn holdout(share: f64, most: f64) -> GlobalHoldout {
        GlobalHoldout { salt: Salt([9; 16]), share, most }
    }

    #[test]
    fn members_are_as_many_as_the_share_says() {
        let holdout = holdout(0.05, 0.05);
        let ids: Vec<String> = (0..20_000).map(|n| format!("customer-{n}")).collect();
        let members =
            ids.iter().filter(|id| holdout.membership(holdout.bucket(id)) == Membership::Member).count() as f64;
        let (_, p) = chi_square(&[members, 20_000.0 - members], &[1000.0, 19_000.0]).unwrap();
        assert!(p > 0.001, "{members} members");
        let mut deciles = [0.0; 10];
        ids.iter().for_each(|id| deciles[usize::from(holdout.bucket(id) / 1000)] += 1.0);
        let (_, p) = chi_square(&deciles, &[2000.0; 10]).unwrap();
        assert!(p > 0.001, "{deciles:?}");
    }

    #[test]
    fn members_fall_into_the_groups_of_a_campaign_like_anybody() {
        let (holdout, campaign) = (holdout(0.2, 0.2), Salt([1; 16]));
        // The same key, too: buckets of different purposes tell nothing of each other.
        for salt in [campaign, holdout.salt] {
            let mut joint = [0.0; 4];
            for n in 0..20_000 {
                let id = format!("customer-{n}");
                let member = holdout.membership(holdout.bucket(&id)) == Membership::Member;
                joint[usize::from(member) * 2 + usize::from(salt.bucket(&id, 0) < 5000)] += 1.0;
            }
            let (_, p) = chi_square(&joint, &[8000.0, 8000.0, 2000.0, 2000.0]).unwrap();
            assert!(p > 0.001, "{joint:?}");
        }
    }

    #[test]
    fn a_larger_share_adds_and_a_smaller_one_frees() {
        let count = |holdout: GlobalHoldout| {
            let of = |wanted| (0..BUCKETS).filter(|bucket| holdout.membership(*bucket) == wanted).count();
            [of(Membership::Member), of(Membership::Former), of(Membership::Outside)]
        };
        assert_eq!(count(holdout(0.05, 0.05)), [500, 0, 9500]);
        assert_eq!(count(holdout(0.02, 0.05)), [200, 300, 9500]);
        assert_eq!(count(holdout(0.0, 0.0)), [0, 0, 10_000]);
        let (small, large) = (holdout(0.05, 0.05), holdout(0.08, 0.08));
        let kept = |bucket: &u16| small.membership(*bucket) != Membership::Member;
        assert!((0..BUCKETS).all(|bucket| kept(&bucket) || large.membership(bucket) == Membership::Member));
    }
}
