//! The draw bank: posterior draws that decisions choose by.

use faer::Mat;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::posterior::Posterior;

/// Draws per model version; propensities are multiples of 1/DRAWS before the floor.
pub const DRAWS: usize = 64;

/// [`DRAWS`] draws of the coefficient vector; those of one coefficient stand together.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawBank(Vec<f32>);

impl DrawBank {
    /// Draws mean + temper · L⁻ᵀ z from the posterior, by a seed; `tempers` has one factor per coefficient.
    pub fn sample(posterior: &Posterior, tempers: &[f64], seed: u64) -> Self {
        let len = posterior.mean.len();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut draws = Mat::<f64>::zeros(len, DRAWS);
        for draw in 0..DRAWS {
            for i in 0..len {
                draws[(i, draw)] = random.sample(StandardNormal);
            }
        }
        posterior.correlate(&mut draws);
        let bank = (0..len)
            .flat_map(|i| (0..DRAWS).map(move |draw| (i, draw)))
            .map(|(i, draw)| (posterior.mean[i] + tempers[i] * draws[(i, draw)]) as f32)
            .collect();
        DrawBank(bank)
    }

    /// Number of coefficients.
    pub fn len(&self) -> usize {
        self.0.len() / DRAWS
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All draws of one coefficient.
    pub fn of(&self, coefficient: usize) -> &[f32; DRAWS] {
        let (draws, _) = self.0.as_chunks::<DRAWS>();
        &draws[coefficient]
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// Reads [`to_bytes`](Self::to_bytes) back; `None` unless it holds `len` coefficients, all finite.
    pub fn from_bytes(bytes: &[u8], len: usize) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() || Some(numbers.len()) != len.checked_mul(DRAWS) {
            return None;
        }
        let bank: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        bank.iter().all(|x| x.is_finite()).then_some(DrawBank(bank))
    }
}
