//! Count, mean and variance of one variable, added value by value.
/// Count, mean and sum of squared deviations; merges exactly (Chan, Golub, LeVeque 1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    pub count: f64,
    pub mean: f64,
    pub squares: f64,
}

impl Moments {
    /// Adds a value that counts `weight` times (Welford 1962, West 1979).
    pub fn add(&mut self, weight: f64, value: f64) {
        if weight > 0.0 {
            self.count += weight;
            let from_mean = value - self.mean;
            self.mean += from_mean * weight / self.count;
            self.squares += weight * from_mean * (value - self.mean);
        }
    }

    /// Standard error of the mean of independent values.
    pub fn standard_error(&self) -> f64 {
        if self.count > 0.0 {
            (self.variance() / self.count).sqrt()
        } else {
            0.0
        }
    }

    /// Sample variance; 0 with fewer than two values.
    pub fn variance(&self) -> f64 {
        if self.count > 1.0 {
            (self.squares / (self.count - 1.0)).max(0.0)
        } else {
            0.0
        }
    }
}
