//! Responses by segment and contrast, over the levels of one or two features.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::log::Log;

/// Responses in a segment, to both sides of a contrast together, from which on it is looked at.
const FEWEST: f64 = 30.0;

/// Kish's effective number of responses, on either side, from which on the logarithm of a ratio is about normal.
const EFFECTIVE: f64 = 8.0;

/// Weighted responses and weights: of decisions with the level, and of those against it.
const PARTS: usize = 4;

/// Which half of the customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Effects are found here.
    Discovery,
    /// What was found is looked at again here.
    Confirmation,
}

/// Sums over the decisions of a segment that tell of a contrast.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    totals: [f64; PARTS],
    /// Sums over customers of products of what each added to the totals; a customer who changes segment counts in each.
    products: [[f64; PARTS]; PARTS],
    responses: f64,
    /// Σ (weight · response)² with the level and against it.
    squares: [f64; 2],
    pub customers: f64,
    pub decisions: f64,
}

/// How much more often customers of a segment respond to a level than to others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub rate: f64,
    pub baseline: f64,
    log: f64,
    variance: f64,
    /// Effective numbers of responses on either side.
    effective: [f64; 2],
}

/// A ratio of such ratios: of a segment, and of the customers that it is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    pub inside: Ratio,
    pub outside: Ratio,
    /// Its logarithm, with standard error, and the degrees of freedom of the latter.
    pub log: f64,
    pub error: f64,
    degrees: f64,
}

/// Cells by level of a feature, level of another one (or just one for all), and contrast.
pub struct Table {
    levels: [usize; 2],
    contrasts: usize,
    cells: Vec<Cell>,
}

impl Table {
    /// Over half of the customers. Calls `tick` every few thousand decisions.
    pub fn new(log: &Log, features: [Option<usize>; 2], half: Half, tick: &mut impl FnMut()) -> Self {
        let levels = features.map(|feature| feature.map_or(1, |at| log.features[at].levels()));
        let contrasts = log.levers.contrasts.len();
        let mut cells = vec![Cell::default(); levels[0] * levels[1] * contrasts];
        // What the current customer has added so far.
        let mut added = vec![[0.0; PARTS]; cells.len()];
        let (mut touched, mut customer) = (Vec::new(), u32::MAX);
        for (n, row) in log.rows.iter().enumerate() {
            if n % 4096 == 0 {
                tick();
            }
            if row.half != half {
                continue;
            }
            if row.customer != customer {
                close(&mut cells, &mut added, &mut touched);
                customer = row.customer;
            }
            let [i, j] = features.map(|feature| feature.map_or(0, |at| usize::from(log.level(n, at))));
            let first = (i * levels[1] + j) * contrasts;
            let (weight, response) = (f64::from(row.weight), f64::from(u8::from(row.responded)));
            let mut told = row.with | row.against;
            while told != 0 {
                let at = first + told.trailing_zeros() as usize;
                let side = usize::from(row.with & (told & told.wrapping_neg()) == 0);
                if added[at] == [0.0; PARTS] {
                    touched.push(at);
                }
                added[at][2 * side] += weight * response;
                added[at][2 * side + 1] += weight;
                let cell = &mut cells[at];
                cell.responses += response;
                cell.decisions += 1.0;
                cell.squares[side] += weight * weight * response;
                told &= told - 1;
            }
        }
        close(&mut cells, &mut added, &mut touched);
        Table { levels, contrasts, cells }
    }

    fn cell(&self, i: usize, j: usize, contrast: usize) -> &Cell {
        &self.cells[(i * self.levels[1] + j) * self.contrasts + contrast]
    }

    pub fn segment(&self, levels: [u8; 2], contrast: usize) -> &Cell {
        self.cell(usize::from(levels[0]), usize::from(levels[1]), contrast)
    }

    /// A segment against everybody else, and the distance of this from nothing in standard errors of a normal distribution. For a segment of two features it is the
    /// smallest of three distances: from everybody else, and from those who share the first feature or the second alone, because what
    /// one feature says needs no other. `None` if too few responded.
    pub fn compare(&self, levels: [u8; 2], contrast: usize) -> Option<(Comparison, f64)> {
        let [i, j] = levels.map(usize::from);
        let inside = self.segment(levels, contrast);
        let (rows, columns) = (0..self.levels[0], 0..self.levels[1]);
        let all = |at: &mut dyn Iterator<Item = (usize, usize)>| {
            at.filter(|at| *at != (i, j)).fold(Cell::default(), |sum, (i, j)| sum.with(self.cell(i, j, contrast)))
        };
        let everybody = all(&mut rows.clone().flat_map(|i| columns.clone().map(move |j| (i, j))));
        let ratio = inside.ratio()?;
        let comparison = Comparison::new(ratio, everybody.ratio()?);
        let mut distance = comparison.distance();
        if self.levels[1] > 1 {
            for mut parent in [&mut columns.map(|j| (i, j)) as &mut dyn Iterator<Item = _>, &mut rows.map(|i| (i, j))] {
                let other = Comparison::new(ratio, all(&mut parent).ratio()?).distance();
                distance = if other * distance <= 0.0 { 0.0 } else { other.abs().min(distance.abs()).copysign(other) };
            }
        }
        distance.is_finite().then_some((comparison, distance))
    }
}

fn close(cells: &mut [Cell], added: &mut [[f64; PARTS]], touched: &mut Vec<usize>) {
    for at in touched.drain(..) {
        let of = std::mem::take(&mut added[at]);
        let cell = &mut cells[at];
        cell.customers += 1.0;
        for (row, x) in cell.products.iter_mut().zip(of) {
            row.iter_mut().zip(of).for_each(|(product, y)| *product += x * y);
        }
        cell.totals.iter_mut().zip(of).for_each(|(total, x)| *total += x);
    }
}

impl Cell {
    fn with(mut self, other: &Cell) -> Self {
        self.totals.iter_mut().zip(other.totals).for_each(|(total, x)| *total += x);
        for (row, other) in self.products.iter_mut().zip(other.products) {
            row.iter_mut().zip(other).for_each(|(product, x)| *product += x);
        }
        self.squares.iter_mut().zip(other.squares).for_each(|(square, x)| *square += x);
        self.responses += other.responses;
        self.customers += other.customers;
        self.decisions += other.decisions;
        self
    }

    /// ln (Σwr / Σw) of one side less that of the other, and its variance by the delta method, over customers.
    fn ratio(&self) -> Option<Ratio> {
        let [responses, weights, other_responses, other_weights] = self.totals;
        let kish = |sum: f64, square: f64| if square > 0.0 { sum * sum / square } else { 0.0 };
        let effective = [kish(responses, self.squares[0]), kish(other_responses, self.squares[1])];
        let known = self.responses >= FEWEST && effective.iter().all(|n| *n >= EFFECTIVE) && self.customers > 1.0;
        known.then(|| {
            let of = [1.0 / responses, -1.0 / weights, -1.0 / other_responses, 1.0 / other_weights];
            let row = |row: &[f64; PARTS]| row.iter().zip(of).map(|(product, b)| product * b).sum::<f64>();
            let variance: f64 = self.products.iter().zip(of).map(|(products, a)| a * row(products)).sum();
            let (rate, baseline) = (responses / weights, other_responses / other_weights);
            let variance = variance.max(0.0) * self.customers / (self.customers - 1.0);
            Ratio { rate, baseline, log: (rate / baseline).ln(), variance, effective }
        })
    }
}

impl Ratio {
    pub fn ratio(&self) -> f64 {
        self.log.exp()
    }
}

impl Comparison {
    /// The error has the degrees of freedom of a sum of variances, each about one by the number of responses (Satterthwaite 1946).
    fn new(inside: Ratio, outside: Ratio) -> Self {
        let parts = inside.effective.into_iter().chain(outside.effective);
        let (sum, squares) =
            parts.fold((0.0, 0.0), |(sum, squares), n| (sum + 1.0 / n, squares + 1.0 / (n * n * (n - 1.0))));
        Comparison {
            inside,
            outside,
            log: inside.log - outside.log,
            error: (inside.variance + outside.variance).sqrt(),
            degrees: sum * sum / squares,
        }
    }

    /// As far from nothing as a normal variable with the same tail beyond it.
    fn distance(&self) -> f64 {
        let t = self.log / self.error;
        let tail = StudentsT::new(0.0, 1.0, self.degrees).map_or(f64::NAN, |student| student.sf(t.abs()));
        let normal = -Normal::standard().inverse_cdf(tail.max(f64::MIN_POSITIVE));
        normal.copysign(t)
    }

    /// Half of the length of an interval of the logarithm.
    pub fn half_interval(&self, confidence: f64) -> f64 {
        let student = StudentsT::new(0.0, 1.0, self.degrees);
        self.error * student.map_or(f64::NAN, |student| student.inverse_cdf(0.5 + confidence / 2.0))
    }
}
