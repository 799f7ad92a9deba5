//! Sufficient statistics of a linearised logistic likelihood.

use faer::Mat;

/// Sums over decisions: precision Λ = Σ ω w xxᵀ and linear term b = Σ ω ((y − p) + w η) x, linearised where each was
/// added. They add up, so they can be merged, corrected and carried to another layout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Lower triangle of Λ, row by row.
    pub precision: Vec<f64>,
    pub linear: Vec<f64>,
}

/// Start of the serialised form; the last byte is its version.
const MAGIC: &[u8; 8] = b"dstats\0\x01";

impl Statistics {
    pub fn new(len: usize) -> Self {
        Statistics { precision: vec![0.0; len * (len + 1) / 2], linear: vec![0.0; len] }
    }

    /// Number of coefficients.
    pub fn len(&self) -> usize {
        self.linear.len()
    }

    pub fn is_empty(&self) -> bool {
        self.linear.is_empty()
    }

    /// Whether nothing has been summed up.
    pub fn is_zero(&self) -> bool {
        self.precision.iter().chain(&self.linear).all(|x| *x == 0.0)
    }

    /// Adds sums over decisions of one arm, taken by column: `curvature` holds Σ ω w xxᵀ in its lower triangle and
    /// `scores` Σ ω ((y − p) + w η) x; `entries` lists coefficients, ascending, with the column that each multiplies.
    pub(super) fn spread(&mut self, entries: &[(u32, u32)], curvature: &Mat<f64>, scores: &[f64]) {
        for (at, (i, column)) in entries.iter().enumerate() {
            let (i, column) = (*i as usize, *column as usize);
            self.linear[i] += scores[column];
            let start = i * (i + 1) / 2;
            let lower = &mut self.precision[start..=start + i];
            for (j, other) in &entries[..=at] {
                let other = *other as usize;
                lower[*j as usize] += curvature[(column.max(other), column.min(other))];
            }
        }
    }

    /// Multiplies all sums: what they hold fades.
    pub fn scale(&mut self, factor: f64) {
        self.precision.iter_mut().chain(&mut self.linear).for_each(|x| *x *= factor);
    }

    /// Corrects the outcome of a decision already added: `change` is ω (y_new − y_old).
    pub fn correct(&mut self, row: &[(u32, f64)], change: f64) {
        for (i, x) in row {
            self.linear[*i as usize] += change * x;
        }
    }

    /// Adds the sums of `other`, which has the same layout.
    pub fn merge(&mut self, other: &Statistics) {
        self.precision.iter_mut().zip(&other.precision).for_each(|(a, b)| *a += b);
        self.linear.iter_mut().zip(&other.linear).for_each(|(a, b)| *a += b);
    }

    /// The same sums in another layout: `positions` says where each new coefficient stood; new ones start empty.
    pub fn rearranged(&self, positions: &[Option<usize>]) -> Statistics {
        let mut out = Statistics::new(positions.len());
        for (i, old_i) in positions.iter().enumerate() {
            let Some(old_i) = old_i else { continue };
            out.linear[i] = self.linear[*old_i];
            for (j, old_j) in positions[..=i].iter().enumerate() {
                if let Some(old_j) = old_j {
                    let (high, low) = (*old_i.max(old_j), *old_i.min(old_j));
                    out.precision[i * (i + 1) / 2 + j] = self.precision[high * (high + 1) / 2 + low];
                }
            }
        }
        out
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + 8 * (self.precision.len() + self.linear.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(self.len() as u64).to_le_bytes());
        for x in self.linear.iter().chain(&self.precision) {
            bytes.extend_from_slice(&x.to_le_bytes());
        }
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes) back; `None` if the bytes are anything else or hold a non-finite number.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = parse(bytes)?;
        let mut numbers = rest.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap_or_default()));
        let linear: Vec<f64> = numbers.by_ref().take(len).collect();
        let precision: Vec<f64> = numbers.collect();
        let finite = linear.iter().chain(&precision).all(|x| x.is_finite());
        finite.then_some(Statistics { precision, linear })
    }
}

/// Number of coefficients, and the bytes of the numbers behind the header.
pub(super) fn parse(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (len, rest) = rest.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    let numbers = len.checked_mul(len.checked_add(3)?)? / 2;
    (rest.len() == numbers.checked_mul(8)?).then_some((len, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Adds one row: `scale · xxᵀ` to the precision and `score · x` to the linear term.
    fn add(s: &mut Statistics, row: &[f64], scale: f64, score: f64) {
        let entries: Vec<(u32, u32)> = (0..row.len() as u32).map(|at| (at, at)).collect();
        let scores: Vec<f64> = row.iter().map(|x| score * x).collect();
        s.spread(&entries, &Mat::from_fn(row.len(), row.len(), |i, j| scale * row[i] * row[j]), &scores);
    }

    #[test]
    fn one_row_by_hand() {
        let mut s = Statistics::new(3);
        add(&mut s, &[1.0, 0.0, 2.0], 0.25, 0.5);
        assert_eq!(s.linear, [0.5, 0.0, 1.0]);
        assert_eq!(s.precision, [0.25, 0.0, 0.0, 0.5, 0.0, 1.0]);
        s.correct(&[(0, 1.0), (2, 2.0)], -0.5);
        assert_eq!(s.linear, [0.0, 0.0, 0.0]);
        s.scale(0.5);
        assert_eq!(s.precision, [0.125, 0.0, 0.0, 0.25, 0.0, 0.5]);
    }

    #[test]
    fn coefficients_of_one_column_share_its_sums() {
        let mut s = Statistics::new(4);
        // coefficients 0 and 2 multiply column 1, coefficient 3 column 0
        let curvature = Mat::from_fn(2, 2, |i, j| [[1.0, f64::NAN], [2.0, 3.0]][i][j]);
        s.spread(&[(0, 1), (2, 1), (3, 0)], &curvature, &[5.0, 7.0]);
        assert_eq!(s.linear, [7.0, 0.0, 7.0, 5.0]);
        assert_eq!(s.precision, [3.0, 0.0, 0.0, 3.0, 0.0, 3.0, 2.0, 0.0, 2.0, 1.0]);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = Statistics::new(4).to_bytes();
        assert!(Statistics::from_bytes(&bytes[..bytes.len() - 1]).is_none());
        assert!(Statistics::from_bytes(b"dstats\0\x02").is_none());
        let mut nan = bytes.clone();
        nan[16..24].copy_from_slice(&f64::NAN.to_le_bytes());
        assert!(Statistics::from_bytes(&nan).is_none());
        let mut huge = bytes;
        huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Statistics::from_bytes(&huge).is_none());
    }

    fn rows() -> impl Strategy<Value = Vec<(Vec<f64>, f64, f64)>> {
        prop::collection::vec((prop::collection::vec(-3.0..3.0_f64, 4), 0.0..1.0_f64, -1.0..1.0_f64), 1..20)
    }

    fn sums(rows: &[(Vec<f64>, f64, f64)]) -> Statistics {
        let mut s = Statistics::new(4);
        for (x, scale, score) in rows {
            add(&mut s, x, *scale, *score);
        }
        s
    }

    proptest! {
        #[test]
        fn merging_parts_equals_the_whole(rows in rows(), cut in 0..20_usize) {
            let cut = cut.min(rows.len());
            let mut merged = sums(&rows[..cut]);
            merged.merge(&sums(&rows[cut..]));
            let whole = sums(&rows);
            for (a, b) in merged.precision.iter().chain(&merged.linear).zip(whole.precision.iter().chain(&whole.linear)) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }

        #[test]
        fn bytes_round_trip(rows in rows()) {
            let s = sums(&rows);
            prop_assert_eq!(Statistics::from_bytes(&s.to_bytes()), Some(s));
        }

        #[test]
        fn rearranging_back_and_forth_is_identity(rows in rows()) {
            let s = sums(&rows);
            let there = s.rearranged(&[Some(3), None, Some(1), Some(0), Some(2)]);
            prop_assert_eq!(there.linear[1], 0.0);
            prop_assert_eq!(there.rearranged(&[Some(3), Some(2), Some(4), Some(0)]), s);
        }
    }
}
