//! Are predicted probabilities what is observed?

use statrs::distribution::{ContinuousCDF, Normal};

use super::parity::wilson;

/// Log-odds are counted in steps of this, so that any number of predictions takes flat memory.
const STEP: f64 = 0.01;

/// Log-odds beyond ±LIMIT count as that.
const LIMIT: f64 = 15.0;

/// Predicted probabilities and what came of them.
#[derive(Clone, Debug)]
pub struct Calibration {
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    count: f64,
    /// As many independent predictions as tell as much.
    effective: f64,
    predicted: f64,
    observed: f64,
}

/// Predictions of about the same size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationBin {
    pub count: f64,
    /// Mean predicted probability.
    pub predicted: f64,
    /// Share that happened.
    pub observed: f64,
    /// Wilson's interval of `observed`, of as many predictions as are independent.
    pub lower: f64,
    pub upper: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Calibration { cells: vec![Cell::default(); (2.0 * LIMIT / STEP) as usize + 1] }
    }
}

impl Calibration {
    /// Adds a prediction in (0, 1), and whether it happened. `overlap` is in how many windows of the same customer an event of this one
    /// lies at a time, his own included: a sum over all of them varies so many times as much as if they were apart.
    pub fn add(&mut self, predicted: f64, happened: bool, overlap: f64) {
        let log_odds = (predicted / (1.0 - predicted)).ln().clamp(-LIMIT, LIMIT);
        let cell = &mut self.cells[((log_odds + LIMIT) / STEP).round() as usize];
        cell.count += 1.0;
        cell.effective += 1.0 / overlap.max(1.0);
        cell.predicted += predicted;
        cell.observed += f64::from(u8::from(happened));
    }

    /// At most `bins` groups of about the same size, in order of the prediction; predictions of the same log-odds (within
    /// 0.01) stay together. `confidence` is that of the intervals, 0.95 say.
    pub fn bins(&self, bins: usize, confidence: f64) -> Vec<CalibrationBin> {
        let total: f64 = self.cells.iter().map(|cell| cell.count).sum();
        let z = Normal::standard().inverse_cdf(0.5 + confidence / 2.0);
        let mut found = Vec::new();
        let (mut sum, mut before) = (Cell::default(), 0.0);
        for cell in &self.cells {
            sum.count += cell.count;
            sum.effective += cell.effective;
            sum.predicted += cell.predicted;
            sum.observed += cell.observed;
            let full = before + sum.count >= total * (found.len() + 1) as f64 / bins as f64 - 1e-9;
            if sum.count > 0.0 && full {
                before += sum.count;
                found.push(sum.bin(z));
                sum = Cell::default();
            }
        }
        found
    }
}

impl Cell {
    /// With Wilson's score interval (1927) at the normal quantile `z`.
    fn bin(&self, z: f64) -> CalibrationBin {
        let (n, p) = (self.count, self.observed / self.count);
        let (lower, upper) = wilson(p, self.effective, z);
        CalibrationBin { count: n, predicted: self.predicted / n, observed: p, lower, upper }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn deciles_are_of_one_size_and_hold_their_rates() {
        let mut calibration = Calibration::default();
        for n in 0..10_000_u32 {
            let decile = n % 10;
            let predicted = 0.05 + 0.1 * f64::from(decile);
            // what happens is the prediction, but in the last decile
            let rate = if decile == 9 { 0.5 } else { predicted };
            calibration.add(predicted, f64::from(n / 10) < 1000.0 * rate, 1.0);
        }
        let bins = calibration.bins(10, 0.95);
        assert_eq!(bins.len(), 10);
        for (decile, bin) in bins.iter().enumerate() {
            let predicted = 0.05 + 0.1 * decile as f64;
            assert_eq!(bin.count, 1000.0);
            assert!((bin.predicted - predicted).abs() < 1e-12);
            assert_eq!(bin.lower < predicted && predicted < bin.upper, decile < 9, "{bin:?}");
        }
    }

    /// binomtest(7, 50).proportion_ci(method="wilson") of scipy 1.17 gives 0.069508, 0.261862.
    #[test]
    fn interval_is_wilsons() {
        let mut calibration = Calibration::default();
        (0..50).for_each(|n| calibration.add(0.1, n < 7, 1.0));
        let bin = calibration.bins(10, 0.95)[0];
        assert!((bin.lower - 0.069_508).abs() < 1e-6 && (bin.upper - 0.261_862).abs() < 1e-6, "{bin:?}");
        let mut overlapping = Calibration::default();
        (0..200).for_each(|n| overlapping.add(0.1, n < 28, 4.0));
        let wide = overlapping.bins(10, 0.95)[0];
        assert_eq!(
            (wide.count, wide.lower, wide.upper),
            (200.0, bin.lower, bin.upper),
            "four that overlap tell as much as one"
        );
    }

    /// Customers are decided for every day and respond at random; a window of a week sees each response seven times. Tenths are outside
    /// of their intervals no more often than intervals of 95 % are.
    #[test]
    fn windows_that_overlap_are_not_independent() {
        const WINDOW: usize = 7;
        let (mut outside, mut looked_at) = (0, 0);
        for seed in 0..40 {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut calibration = Calibration::default();
            for customer in 0..600 {
                let daily = 0.002 * f64::from(1 + customer % 10);
                let responds: Vec<bool> = (0..60 + WINDOW).map(|_| random.random::<f64>() < daily).collect();
                for day in 0..60 {
                    let seen = responds[day..day + WINDOW].contains(&true);
                    calibration.add(1.0 - (1.0 - daily).powi(WINDOW as i32), seen, (day + 1).min(WINDOW) as f64);
                }
            }
            for bin in calibration.bins(10, 0.95) {
                looked_at += 1;
                outside += usize::from(!(bin.lower..=bin.upper).contains(&bin.predicted));
            }
        }
        let share = outside as f64 / looked_at as f64;
        assert!((0.02..0.09).contains(&share), "{outside} of {looked_at}");
    }

    #[test]
    fn extremes_and_nothing_are_fine() {
        assert!(Calibration::default().bins(10, 0.95).is_empty());
        let mut calibration = Calibration::default();
        calibration.add(1e-300, false, 1.0);
        calibration.add(1.0 - 1e-16, true, 1.0);
        let bins = calibration.bins(10, 0.95);
        assert_eq!(bins.len(), 2);
        assert!(bins.iter().all(|bin| bin.lower >= 0.0 && bin.upper <= 1.0));
    }
}
