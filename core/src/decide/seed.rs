//! Our own keyed hash: groups, seeds and decision ids follow from a campaign's salt alone, on every machine and
//! Postgres version, before and after a restore.

use std::hash::Hasher;

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use siphasher::sip128::{Hasher128, SipHasher24};

/// Number of hash buckets that customers fall into.
pub const BUCKETS: u16 = 10_000;

/// The key of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

impl Salt {
    /// 128 bits of SipHash-2-4 of a purpose, a customer and a number. Lengths are hashed too, so that no two inputs
    /// run into each other.
    fn hash(&self, purpose: &str, customer: &str, number: i64) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        for text in [purpose, customer] {
            hasher.write(&(text.len() as u64).to_le_bytes());
            hasher.write(text.as_bytes());
        }
        hasher.write(&number.to_le_bytes());
        hasher.finish128().as_u128()
    }

    /// Bucket of a customer, in `0..BUCKETS`.
    pub fn bucket(&self, customer: &str, draw: i32) -> u16 {
        (self.hash("bucket", customer, i64::from(draw)) % u128::from(BUCKETS)) as u16
    }

    /// Bucket of a customer in the global holdout, in `0..BUCKETS`.
    pub fn global_bucket(&self, customer: &str) -> u16 {
        (self.hash("global holdout", customer, 0) % u128::from(BUCKETS)) as u16
    }

    /// Generator for the customer's decision number `ordinal`.
    pub fn random(&self, customer: &str, ordinal: i64) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(self.hash("choice", customer, ordinal) as u64)
    }

    /// Fold of a customer in cross-fitting, in `0..folds`.
    pub fn fold(&self, customer: &str, folds: usize) -> usize {
        (self.hash("fold", customer, 0) % folds as u128) as usize
    }

    /// Whether a customer is of the half that confirms what the other half finds.
    pub fn confirms(&self, customer: &str) -> bool {
        self.hash("confirm", customer, 0) & 1 == 1
    }

    /// Generator for the number of times that a customer is in each bootstrap replicate.
    pub fn resampling(&self, customer: &str) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(self.hash("bootstrap", customer, 0) as u64)
    }

    /// Seed for the draw bank of a model version.
    pub fn bank_seed(&self, model_version: i64) -> u64 {
        self.hash("bank", "", model_version) as u64
    }

    /// Seed for the sample from which the encoder is fitted.
    pub fn profile_seed(&self) -> u64 {
        self.hash("profile", "", 0) as u64
    }

    /// 128 bits that stand for a text where keeping the text would cost too much.
    pub fn fingerprint(&self, text: &str) -> u128 {
        self.hash("fingerprint", text, 0)
    }

    /// Time-ordered uuid (RFC 9562, version 7): milliseconds since the Unix epoch, then bits that follow from the
    /// salt, the customer and the ordinal.
    pub fn decision_id(&self, customer: &str, ordinal: i64, millis: u64) -> [u8; 16] {
        let noise = self.hash("decision", customer, ordinal);
        let mut bits = (u128::from(millis) << 80) | (noise & ((1 << 80) - 1));
        bits = (bits & !(0xF << 76)) | (0x7 << 76);
        bits = (bits & !(0x3 << 62)) | (0x2 << 62);
        bits.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::chi_square;

    #[test]
    fn golden_values_must_never_change() {
        let salt = Salt([7; 16]);
        let values = (salt.bucket("c-1042", 0), salt.hash("choice", "c-1042", 3));
        assert_eq!(values, (GOLDEN_BUCKET, GOLDEN_HASH));
        assert_eq!(salt.global_bucket("c-1042"), GOLDEN_GLOBAL_BUCKET);
    }

    const GOLDEN_BUCKET: u16 = 8563;
    const GOLDEN_GLOBAL_BUCKET: u16 = 9128;
    const GOLDEN_HASH: u128 = 238432304520672599757730869896363152039;

    #[test]
    fn buckets_are_uniform_and_differ_between_campaigns_and_draws() {
        let (a, b) = (Salt([1; 16]), Salt([2; 16]));
        assert_independent(|customer| [a.bucket(customer, 0), b.bucket(customer, 0)]);
        assert_independent(|customer| [a.bucket(customer, 0), a.bucket(customer, 1)]);
    }

    fn assert_independent(buckets: impl Fn(&str) -> [u16; 2]) {
        let mut joint = [0.0; 100];
        for i in 0..100_000 {
            let customer = format!("customer-{i}");
            let [one, other] = buckets(&customer).map(|bucket| usize::from(bucket / 1000));
            joint[one * 10 + other] += 1.0;
        }
        let (_, p) = chi_square(&joint, &[1000.0; 100]).unwrap();
        assert!(p > 0.001, "{p}");
    }

    #[test]
    fn decision_ids_are_version_seven_and_sort_by_time() {
        let salt = Salt([3; 16]);
        let id = salt.decision_id("c", 1, 1_700_000_000_000);
        assert_eq!((id[6] >> 4, id[8] >> 6), (7, 2));
        assert_eq!(id, salt.decision_id("c", 1, 1_700_000_000_000));
        assert_ne!(id, salt.decision_id("c", 2, 1_700_000_000_000));
        assert!(id < salt.decision_id("a", 9, 1_700_000_000_001));
    }
}
