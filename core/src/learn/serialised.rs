//! Sums as bytes, changed where they lie: the state of aggregates that must have a type of its own.

use super::point::{Point, PointError};
use super::rows::Observed;
use super::statistics::{parse, Statistics};

/// The serialised form of [`Statistics`]: its header is sound, its numbers may still be anything.
pub struct Serialised<'a> {
    linear: &'a mut [u8],
    precision: &'a mut [u8],
    len: usize,
}

impl<'a> Serialised<'a> {
    /// # Errors
    /// [`PointError::Damaged`] unless header and length are those of [`Statistics::to_bytes`].
    pub fn new(bytes: &'a mut [u8]) -> Result<Self, PointError> {
        let (len, numbers) = parse(bytes).ok_or(PointError::Damaged)?;
        let header = bytes.len() - numbers.len();
        let (linear, precision) = bytes[header..].split_at_mut(8 * len);
        Ok(Serialised { linear, precision, len })
    }

    /// Adds one decision, linearised at `point`.
    ///
    /// # Errors
    /// [`PointError::Misfit`], [`PointError::OtherLength`]; the sums stay as they were.
    pub fn add(&mut self, point: &Point, observed: &Observed) -> Result<(), PointError> {
        self.wants(point.len())?;
        point.rows().push(observed)?;
        let mut row = Vec::new();
        let (curvature, score) = point.row(observed, &mut row);
        for (at, (i, x)) in row.iter().enumerate() {
            let i = *i as usize;
            add(self.linear, i, score * x);
            let start = i * (i + 1) / 2;
            for (j, y) in &row[..=at] {
                add(self.precision, start + *j as usize, curvature * x * y);
            }
        }
        Ok(())
    }

    /// Adds `other`.
    ///
    /// # Errors
    /// [`PointError::OtherLength`].
    pub fn merge(&mut self, other: &Statistics) -> Result<(), PointError> {
        self.wants(other.len())?;
        other.linear.iter().enumerate().for_each(|(at, x)| add(self.linear, at, *x));
        other.precision.iter().enumerate().for_each(|(at, x)| add(self.precision, at, *x));
        Ok(())
    }

    fn wants(&self, found: usize) -> Result<(), PointError> {
        let wanted = self.len;
        if found == wanted {
            Ok(())
        } else {
            Err(PointError::OtherLength { found, wanted })
        }
    }
}

/// Adds to the number at position `at`.
fn add(numbers: &mut [u8], at: usize, change: f64) {
    let (numbers, _) = numbers.as_chunks_mut::<8>();
    numbers[at] = (f64::from_le_bytes(numbers[at]) + change).to_le_bytes();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::super::{Accumulator, Dimensions, Layout, Link, Roles, Scales};
    use super::*;

    fn dimensions(channel: &str) -> Dimensions {
        [("channel".to_owned(), channel.to_owned()), ("offer".to_owned(), "ten".to_owned())].into()
    }

    fn point(link: Link) -> Point {
        let actions = [(3, dimensions("email")), (7, dimensions("sms"))];
        let columns = ["intercept", "x", "x above 1", "y"].map(str::to_owned).to_vec();
        let layout = Layout::with_roles(
            columns,
            Roles { offset: Some(3), curves: vec![2] },
            &[1.0; 4],
            actions.iter().map(|(_, action)| action),
            1024,
        )
        .unwrap();
        let coefficients = (0..layout.len()).map(|at| (at as f64 * 0.7).sin()).collect();
        Point::new(link, layout, Scales::default(), coefficients, BTreeMap::from(actions)).unwrap()
    }

    type Row = (usize, [f32; 3], f64, bool);

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = (0..3_usize, prop::array::uniform3(-3.0..3.0_f32), 0.0..1.0_f64, any::<bool>());
        prop::collection::vec(row, 1..40)
    }

    fn observed(point: &Point, row: &Row) -> Observed {
        let (arm, [x, y, z], weight, rewarded) = *row;
        point.observed([0, 3, 7][arm], vec![1.0, x, y, z], weight, f64::from(u8::from(rewarded))).unwrap()
    }

    fn in_place(point: &Point, rows: &[Row]) -> Vec<u8> {
        let mut bytes = Statistics::new(point.len()).to_bytes();
        let mut sums = Serialised::new(&mut bytes).unwrap();
        rows.iter().for_each(|row| sums.add(point, &observed(point, row)).unwrap());
        bytes
    }

    fn close(a: &Statistics, b: &Statistics) -> bool {
        let all = |s: &Statistics| s.precision.iter().chain(&s.linear).copied().collect::<Vec<_>>();
        a.len() == b.len() && all(a).iter().zip(all(b)).all(|(a, b)| (a - b).abs() < 1e-9)
    }

    proptest! {
        #[test]
        fn in_place_and_in_batches_equal_what_learn_takes(rows in rows(), cut in 0..40_usize, gaussian: bool) {
            let point = Rc::new(point(if gaussian { Link::Gaussian } else { Link::Logistic }));
            let mut batch = point.rows();
            rows.iter().for_each(|row| batch.push(&observed(&point, row)).unwrap());
            let whole = point.linearise(&batch).unwrap();

            let cut = cut.min(rows.len());
            let mut bytes = in_place(&point, &rows[..cut]);
            let rest = Statistics::from_bytes(&in_place(&point, &rows[cut..])).unwrap();
            Serialised::new(&mut bytes).unwrap().merge(&rest).unwrap();
            prop_assert!(close(&Statistics::from_bytes(&bytes).unwrap(), &whole));

            let [mut first, mut second] = [&rows[..cut], &rows[cut..]].map(|rows| {
                let mut part = Accumulator::new(point.clone());
                rows.iter().for_each(|row| part.add(&point, &observed(&point, row)).unwrap());
                part
            });
            first.merge(&mut second).unwrap();
            prop_assert!(close(first.sums().unwrap(), &whole));
            let mut sent = Accumulator::of(Statistics::from_bytes(&bytes).unwrap());
            prop_assert!(close(sent.sums().unwrap(), &whole));
        }

        #[test]
        fn a_damaged_byte_is_noticed(at: prop::sample::Index, flip in 1..=255_u8) {
            let mut bytes = point(Link::Logistic).to_bytes().unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(Point::from_bytes(&bytes).err(), Some(PointError::Damaged));
        }
    }

    #[test]
    fn many_rows_are_summed_in_batches() {
        let point = Rc::new(point(Link::Logistic));
        let row = observed(&point, &(1, [0.5, 0.0, -1.0], 0.5, true));
        let mut sums = Accumulator::new(point.clone());
        let mut once = Accumulator::new(point.clone());
        (0..10_000).for_each(|_| sums.add(&point, &row).unwrap());
        once.add(&point, &row).unwrap();
        let mut expected = once.sums().unwrap().clone();
        expected.scale(10_000.0);
        assert!(close(sums.sums().unwrap(), &expected));
    }

    #[test]
    fn a_point_comes_back() {
        let point = point(Link::Gaussian);
        let bytes = point.to_bytes().unwrap();
        let back = Point::from_bytes(&bytes).unwrap();
        assert_eq!(back.layout(), point.layout());
        assert_eq!(back.to_bytes(), Ok(bytes.clone()));
        assert_eq!(Point::key(&bytes), Point::key(&back.to_bytes().unwrap()));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_no_trace() {
        let point = Rc::new(point(Link::Logistic));
        let good = observed(&point, &(1, [0.5, 0.0, -1.0], 0.5, true));
        let mut bytes = in_place(&point, &[]);
        for bad in [
            Observed { encoded: vec![1.0], ..good.clone() },
            Observed { encoded: vec![1.0, f32::NAN, 0.0, 0.0], ..good.clone() },
            Observed { weight: f64::INFINITY, ..good.clone() },
            Observed { reward: 31.5, ..good.clone() },
        ] {
            let refused = Serialised::new(&mut bytes).unwrap().add(&point, &bad);
            assert_eq!(refused, Err(PointError::Misfit(super::super::Misfit)));
            assert!(Accumulator::new(point.clone()).add(&point, &bad).is_err());
        }
        assert_eq!(bytes, in_place(&point, &[]));
        assert_eq!(point.observed(4, vec![], 1.0, 0.0).err(), Some(PointError::UnknownAction(4)));
        let other = PointError::OtherLength { found: 2, wanted: point.len() };
        let merged = Serialised::new(&mut bytes).unwrap().merge(&Statistics::new(2));
        assert_eq!(merged, Err(other));
        assert!(matches!(point.step(&Statistics::new(2)), Err(PointError::OtherLength { .. })));
        assert!(Serialised::new(&mut bytes[1..]).is_err());
    }
}
