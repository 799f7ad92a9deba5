//! Sums that grow row by row, taken in batches.

use std::rc::Rc;

use super::point::{Point, PointError};
use super::rows::{Observed, Rows};
use super::statistics::Statistics;

/// Rows that wait to be summed together: enough for dense blocks, few enough to be forgotten as memory.
const BATCH: usize = 4096;

/// Sums of decisions linearised at one point, those of other accumulators merged in.
#[derive(Clone, Debug)]
pub struct Accumulator {
    /// Where rows are linearised, with those that wait; none if only sums were ever merged.
    waiting: Option<(Rc<Point>, Rows)>,
    sums: Statistics,
}

impl Accumulator {
    pub fn new(point: Rc<Point>) -> Self {
        let sums = Statistics::new(point.len());
        let rows = point.rows();
        Accumulator { waiting: Some((point, rows)), sums }
    }

    /// Goes on from sums that were taken elsewhere.
    pub fn of(sums: Statistics) -> Self {
        Accumulator { waiting: None, sums }
    }

    /// Adds a decision; its point must be that of this accumulator.
    ///
    /// # Errors
    /// [`PointError::Misfit`]; the sums stay as they were.
    pub fn add(&mut self, point: &Rc<Point>, observed: &Observed) -> Result<(), PointError> {
        let (_, rows) = self.waiting.get_or_insert_with(|| (point.clone(), point.rows()));
        rows.push(observed)?;
        if rows.len() >= BATCH {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds all that `other` holds.
    ///
    /// # Errors
    /// [`PointError::OtherLength`].
    pub fn merge(&mut self, other: &mut Accumulator) -> Result<(), PointError> {
        let (found, wanted) = (other.sums.len(), self.sums.len());
        if found != wanted {
            return Err(PointError::OtherLength { found, wanted });
        }
        self.sums.merge(other.sums()?);
        Ok(())
    }

    /// The sums of all that was added.
    ///
    /// # Errors
    /// [`PointError::Misfit`].
    pub fn sums(&mut self) -> Result<&Statistics, PointError> {
        self.flush()?;
        Ok(&self.sums)
    }

    fn flush(&mut self) -> Result<(), PointError> {
        if let Some((point, rows)) = self.waiting.as_mut().filter(|(_, rows)| !rows.is_empty()) {
            let sums = point.linearise(rows)?;
            self.sums.merge(&sums);
            *rows = point.rows();
        }
        Ok(())
    }
}
