//! Products of two columns that tell for whom sends work.

use std::collections::BTreeSet;

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, Par};
use pulp::{Arch, NullaryFnOnce};

use super::layout::{Arm, Layout};
use super::posterior::{in_parallel, Effects, Local, Slice, BLOCK, LANES};
use super::rows::{Link, Rows};
use crate::features::Encoder;

/// Log-evidence that a cross must win, in nats: among some thousand products of columns, for sends and every dimension, chance makes one look
/// better than none.
const LEAST_GAIN: f64 = 8.0;

/// Most crosses of a model.
const MOST: usize = 8;

/// Prior standard deviations of the effects of a cross; the one that makes them most probable counts.
const SCALES: [f64; 4] = [0.1, 0.2, 0.4, 0.8];

/// What is left of a sum of squares is rounding below this share of it.
const SINGULAR: f64 = 1e-9;

/// Information below this says nothing that the normal approximation holds for.
const LEAST_INFORMATION: f64 = 1.0;

/// Slices of one thread whose sums are kept until they are added.
const AT_ONCE: usize = 4;

/// What decisions that were sends say of every product of two columns, beyond what the model says: the score of its effect, and how
/// well that is known.
///
/// With the residual r and the curvature h of each row, the score of the product z of columns x and y is Σ r z*, where z* is what a constant, x
/// and y do not explain of z, and its information is Σ h z*² (the efficient score; Cox and Hinkley, "Theoretical Statistics", 1974, §9.3): for
/// all products together, a few products of matrices. They are kept for all sends, and for those with each level.
pub struct CrossSearch<'a> {
    layout: &'a Layout,
    arms: &'a [Arm],
    at: &'a [f64],
    /// Columns that may be factors, with the features behind them.
    columns: Vec<(u32, String)>,
    known: &'a [(u32, u32)],
    /// Of all sends, then of those with each level.
    sums: Vec<Sums>,
}

/// Sums over rows, by two columns; a constant 1 is the last of them. All but `skewed` are lower triangles.
#[derive(Clone)]
struct Sums {
    /// Σ r x y
    scores: Mat<f64>,
    /// Σ r² x² y²
    spread: Mat<f64>,
    /// Σ h x y
    plain: Mat<f64>,
    /// Σ h x² y
    skewed: Mat<f64>,
    /// Σ h x² y²
    squares: Mat<f64>,
}

impl Sums {
    fn new(columns: usize) -> Self {
        let nothing = || Mat::zeros(columns + 1, columns + 1);
        Sums { scores: nothing(), spread: nothing(), plain: nothing(), skewed: nothing(), squares: nothing() }
    }

    fn add(&mut self, other: &Sums) {
        self.scores += &other.scores;
        self.spread += &other.spread;
        self.plain += &other.plain;
        self.skewed += &other.skewed;
        self.squares += &other.squares;
    }

    /// Score and information of the effect of the product of columns `i` and `j`, the latter smaller; `None` if there is too little to tell. Where
    /// residuals vary more than the model says, as one response does of somebody whose product is large, so does the score.
    fn effect(&self, i: usize, j: usize) -> Option<(f64, f64)> {
        let constant = self.plain.nrows() - 1;
        let count = self.plain[(constant, constant)];
        if count < LEAST_INFORMATION {
            return None;
        }
        let mean = |column: usize| self.plain[(constant, column)] / count;
        let (x, y, z) = (mean(i), mean(j), self.plain[(i, j)] / count);
        let (xx, yy) = (self.plain[(i, i)] - count * x * x, self.plain[(j, j)] - count * y * y);
        let (xy, zz) = (self.plain[(i, j)] - count * x * y, self.squares[(i, j)] - count * z * z);
        let (zx, zy) = (self.skewed[(i, j)] - count * z * x, self.skewed[(j, i)] - count * z * y);
        let determinant = xx * yy - xy * xy;
        let varies = |left: f64, column: usize| left > SINGULAR * self.plain[(column, column)];
        if !(varies(xx, i) && varies(yy, j) && determinant > SINGULAR * xx * yy) {
            return None;
        }
        // z = b x + c y + z*, all without their means.
        let (b, c) = ((zx * yy - zy * xy) / determinant, (zy * xx - zx * xy) / determinant);
        let information = zz - b * zx - c * zy;
        let of_constant = self.scores[(constant, constant)];
        let centred = |column: usize, mean: f64| self.scores[(constant, column)] - mean * of_constant;
        let score = self.scores[(i, j)] - z * of_constant - b * centred(i, x) - c * centred(j, y);
        let excess = (self.spread[(i, j)] / self.squares[(i, j)]).max(1.0);
        (information >= LEAST_INFORMATION).then(|| (score / excess, information / excess))
    }
}

impl<'a> CrossSearch<'a> {
    /// For the model of `encoder` and `layout` with these coefficients. Columns that do not interact with levels are no factors.
    pub fn new(encoder: &'a Encoder, layout: &'a Layout, arms: &'a [Arm], at: &'a [f64]) -> Self {
        let crosses = encoder.width() - encoder.crosses.len()..encoder.width();
        let columns: Vec<(u32, String)> = layout
            .interacting
            .iter()
            .filter(|column| **column != 0 && !crosses.contains(&(**column as usize)))
            .map(|column| (*column, Encoder::feature_of(&layout.columns[*column as usize]).into_owned()))
            .collect();
        let sums = vec![Sums::new(columns.len()); 1 + layout.levels.len()];
        CrossSearch { layout, arms, at, columns, known: &encoder.crosses, sums }
    }

    /// How many more crosses a model may have that may have `limit` coefficients.
    pub fn room(encoder: &Encoder, layout: &Layout, limit: usize) -> usize {
        let free = limit.saturating_sub(layout.len()) / (layout.levels.len() + 2);
        free.min(MOST.saturating_sub(encoder.crosses.len()))
    }

    /// Adds the sends among `rows`, which have the layout's columns.
    pub fn add(&mut self, rows: &Rows) {
        let offset = self.layout.offset_column(rows.link);
        let sends = rows.groups.iter().filter_map(|(arm, group)| Some((self.arms.get((*arm)? as usize)?, group)));
        let sends: Vec<_> =
            sends.map(|(arm, group)| (arm, Effects::new(self.layout, Some(arm), self.at), group)).collect();
        let slices = sends.iter().flat_map(|(arm, effects, group)| group.slices(effects).map(|slice| (*arm, slice)));
        let slices: Vec<_> = slices.collect();
        // A few at a time: each has sums of its own, as large as the square of the columns.
        for slices in slices.chunks(AT_ONCE * rows.threads.max(1)) {
            let found = in_parallel(slices, rows.threads, |(_, slice)| self.sum(slice, rows.link, offset));
            for ((arm, _), found) in slices.iter().zip(&found) {
                self.sums[0].add(found);
                arm.levels.iter().for_each(|level| self.sums[1 + *level as usize].add(found));
            }
        }
    }

    fn sum(&self, slice: &Slice<'_>, link: Link, offset: Option<usize>) -> Sums {
        let len = self.columns.len();
        let mut sums = Sums::new(len);
        let mut factors = [(); 6].map(|()| Mat::<f64>::zeros((len + 1).next_multiple_of(LANES), BLOCK));
        let width = slice.effects.columns.len();
        for (encoded, responses) in slice.encoded.chunks(BLOCK * width).zip(slice.responses.chunks(BLOCK)) {
            let columns = &self.columns;
            let part = Slice { effects: slice.effects, encoded, responses };
            Arch::new().dispatch(Factors { slice: part, columns, link, offset, factors: &mut factors });
            let [x, squares, by_residual, squares_by_residual, by_curvature, squares_by_curvature] =
                factors.each_ref().map(|factor| factor.submatrix(0, 0, len + 1, responses.len()));
            for (sums, shape, left, right) in [
                (&mut sums.scores, BlockStructure::TriangularLower, by_residual, x),
                (&mut sums.spread, BlockStructure::TriangularLower, squares_by_residual, squares),
                (&mut sums.plain, BlockStructure::TriangularLower, by_curvature, x),
                (&mut sums.skewed, BlockStructure::Rectangular, squares_by_curvature, x),
                (&mut sums.squares, BlockStructure::TriangularLower, squares_by_curvature, squares),
            ] {
                triangular::matmul(
                    sums.as_mut(),
                    shape,
                    Accum::Add,
                    left,
                    BlockStructure::Rectangular,
                    right.transpose(),
                    BlockStructure::Rectangular,
                    1.0,
                    Par::Seq,
                );
            }
        }
        sums
    }

    /// Crosses that the rows speak for, those that win most first, at most `most`: pairs of columns of two features. What a cross wins is
    /// the most that its effects on sends, or on the levels of one dimension, do, if they are normal with a common variance. Of each feature only
    /// the best one: whether another tells anything beside it is not known before it is in the model.
    pub fn found(&self, most: usize) -> Vec<(u32, u32)> {
        let mut groups: Vec<Vec<&Sums>> = vec![vec![&self.sums[0]]];
        for levels in self.layout.levels.chunk_by(|a, b| a.0 == b.0) {
            let from = groups.iter().map(Vec::len).sum::<usize>();
            groups.push(self.sums[from..from + levels.len()].iter().collect());
        }
        let mut found: Vec<(f64, (u32, u32), [&str; 2])> = Vec::new();
        for (i, (column, feature)) in self.columns.iter().enumerate() {
            for (j, (other, other_feature)) in self.columns[..i].iter().enumerate() {
                let pair = (*other, *column);
                if feature == other_feature || [pair, (pair.1, pair.0)].iter().any(|pair| self.known.contains(pair)) {
                    continue;
                }
                let gain = groups.iter().map(|group| gain(group, i, j)).fold(0.0, f64::max);
                if gain >= LEAST_GAIN {
                    found.push((gain, pair, [other_feature, feature]));
                }
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut used = BTreeSet::new();
        found.retain(|(_, _, features)| {
            let is_new = features.iter().all(|feature| !used.contains(feature));
            if is_new {
                used.extend(*features);
            }
            is_new
        });
        found.into_iter().take(most).map(|(_, pair, _)| pair).collect()
    }
}

/// Log-evidence that effects of the product of columns `i` and `j` win in a group of sums over none, with one step from the mode without them.
fn gain(group: &[&Sums], i: usize, j: usize) -> f64 {
    let effects: Vec<(f64, f64)> = group.iter().filter_map(|sums| sums.effect(i, j)).collect();
    let of = |variance: f64| -> f64 {
        let of = |(score, information): &(f64, f64)| {
            let spread = 1.0 + variance * information;
            0.5 * (variance * score * score / spread - spread.ln())
        };
        effects.iter().map(of).sum()
    };
    SCALES.iter().map(|scale| of(scale * scale)).fold(f64::NEG_INFINITY, f64::max)
}

/// The factors of the products of a block: columns, their squares, and both by residual (squares by its square) and by curvature. To be compiled for the widest vectors that the processor has, as other passes over rows are.
struct Factors<'a> {
    slice: Slice<'a>,
    columns: &'a [(u32, String)],
    link: Link,
    offset: Option<usize>,
    factors: &'a mut [Mat<f64>; 6],
}

impl NullaryFnOnce for Factors<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Factors { slice: Slice { effects, encoded, responses }, columns, link, offset, factors } = self;
        for (n, (encoded, response)) in encoded.chunks_exact(effects.columns.len()).zip(responses).enumerate() {
            let eta = effects.predict(encoded) + offset.map_or(0.0, |column| f64::from(encoded[column]));
            let local = Local::of(link, eta, response.reward, response.reported);
            let (residual, curvature) = (response.weight * local.score, response.weight * local.curvature);
            let [x, squares, by_residual, squares_by_residual, by_curvature, squares_by_curvature] =
                factors.each_mut().map(|factor| factor.col_as_slice_mut(n));
            let values = columns.iter().map(|(column, _)| f64::from(encoded[*column as usize])).chain([1.0]);
            for (at, value) in values.enumerate() {
                x[at] = value;
                squares[at] = value * value;
                by_residual[at] = residual * value;
                squares_by_residual[at] = residual * residual * value * value;
                by_curvature[at] = curvature * value;
                squares_by_curvature[at] = curvature * value * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Feature, FeatureKind};
    use crate::learn::Observed;

    /// Score and information of the product of x and y where h and r are the first of each row, by Gram and Schmidt.
    fn effect(rows: &[([f64; 2], [f64; 2])]) -> (f64, f64) {
        let product =
            |a: &[f64], b: &[f64]| -> f64 { rows.iter().zip(a).zip(b).map(|((([h, _], _), a), b)| h * a * b).sum() };
        let mut basis: Vec<Vec<f64>> = Vec::new();
        let values = [|_: f64, _: f64| 1.0, |x, _| x, |_, y| y, |x, y| x * y];
        for value in values {
            let mut left: Vec<f64> = rows.iter().map(|(_, [x, y])| value(*x, *y)).collect();
            for known in &basis {
                let share = product(&left, known) / product(known, known);
                left.iter_mut().zip(known).for_each(|(left, known)| *left -= share * known);
            }
            basis.push(left);
        }
        let score = rows.iter().zip(&basis[3]).map(|(([_, r], _), left)| r * left).sum();
        (score, product(&basis[3], &basis[3]))
    }

    #[test]
    fn an_effect_is_what_a_constant_and_both_columns_leave() {
        let numeric = |name: &str| Feature {
            name: name.to_owned(),
            kind: FeatureKind::Numeric { center: 0.0, scale: 1.0, knots: Vec::new() },
        };
        let encoder = Encoder {
            features: vec![numeric("x"), numeric("y")],
            variances: vec![1.0, 1.0, 0.0, 1.0, 0.0],
            ..Encoder::default()
        };
        let action = [("channel".to_owned(), "sms".to_owned())].into();
        let layout = Layout::new(encoder.column_names(), &encoder.variances, [&action], 100).unwrap();
        let arms = [layout.arm(&action)];
        let at = vec![0.1; layout.len()];
        let mut rows = Rows::new(Link::Logistic, encoder.width());
        let mut expected = Vec::new();
        for n in 0..700 {
            let (x, y) = (((n * 37) % 101) as f32 / 50.0 - 1.0, ((n * n) % 83) as f32 / 40.0 - 0.7);
            let (weight, reward) = (0.2 + 0.2 * f64::from(n % 3), f64::from(u8::from(n % 5 == 0)));
            let arm = (n % 7 > 0).then_some(0);
            let encoded = vec![1.0, x, 0.0, y, 0.0];
            let eta = layout.predictor(Link::Logistic, &at, &encoded, Some(&arms[0]));
            let p = 1.0 / (1.0 + (-eta).exp());
            if arm.is_some() {
                expected.push(([weight * p * (1.0 - p), weight * (reward - p)], [f64::from(x), f64::from(y)]));
            }
            rows.push(&Observed { encoded, arm, weight, reward, reported: 1.0 }).unwrap();
        }
        let mut search = CrossSearch::new(&encoder, &layout, &arms, &at);
        search.add(&rows);
        assert_eq!(search.columns.iter().map(|(column, _)| *column).collect::<Vec<_>>(), [1, 3]);
        let (score, information) = effect(&expected);
        for sums in &search.sums {
            let found = sums.effect(1, 0).unwrap();
            assert!((found.0 / score - 1.0).abs() < 1e-9 && (found.1 / information - 1.0).abs() < 1e-9);
        }
    }
}
