//! What units did, each response added to the total of its unit: kept one by one, since totals are cut off at a quantile of them.

/// Bytes of a unit's total.
const BYTES: usize = 44;

/// Responses that are waited for before those of a unit are added up, so that memory goes by units.
const PENDING: usize = 1 << 16;

/// What a unit did, added up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Response {
    /// A number that no other unit has.
    pub unit: u64,
    /// What it was drawn with: a number that its cluster shares.
    pub cluster: i32,
    /// What totals of a unit are kept apart by, such as a day.
    pub part: i32,
    /// Responses that are in the sums.
    pub responses: u32,
    pub events: f64,
    pub value: f64,
    /// NaN if one of them was not known.
    pub covariate: f64,
}

impl Response {
    /// One response; a covariate that is not known is NaN.
    pub fn new(unit: u64, cluster: i32, part: i32, [events, value, covariate]: [f64; 3]) -> Self {
        Response { unit, cluster, part, responses: 1, events, value, covariate }
    }

    fn key(&self) -> (u64, i32) {
        (self.unit, self.part)
    }

    /// Adds another of the same unit.
    pub fn add(&mut self, other: &Response) {
        self.responses += other.responses;
        self.events += other.events;
        self.value += other.value;
        self.covariate += other.covariate;
    }
}

/// Totals of units, by part. Merges.
#[derive(Clone, Debug, Default)]
pub struct Responses {
    list: Vec<Response>,
    /// As many at the start are in order, and one of a kind.
    settled: usize,
}

impl Responses {
    pub fn add(&mut self, response: Response) {
        self.list.push(response);
        if self.list.len() - self.settled > self.settled.max(PENDING) {
            self.settle();
        }
    }

    pub fn merge(&mut self, other: Responses) {
        if self.list.is_empty() {
            *self = other;
        } else {
            self.list.extend(other.list);
            self.settle();
        }
    }

    /// Totals in the order of units and parts.
    pub fn totals(&mut self) -> &[Response] {
        self.settle();
        &self.list
    }

    /// Totals of units, whatever their parts.
    pub fn units(&mut self) -> impl Iterator<Item = Response> + '_ {
        self.histories().map(|parts| {
            let mut total = parts[0];
            parts[1..].iter().for_each(|part| total.add(part));
            total
        })
    }

    /// Totals of each unit, part by part.
    pub fn histories(&mut self) -> impl Iterator<Item = &[Response]> {
        self.totals().chunk_by(|a, b| a.unit == b.unit)
    }

    fn settle(&mut self) {
        if self.settled < self.list.len() {
            // Stable, and so quick on what is in order already.
            self.list.sort_by_key(Response::key);
            self.list.dedup_by(|next, total| {
                let same = next.key() == total.key();
                if same {
                    total.add(next);
                }
                same
            });
            self.settled = self.list.len();
        }
    }

    /// Totals as little-endian numbers.
    pub fn to_bytes(&mut self) -> Vec<u8> {
        let totals = self.totals();
        let mut bytes = Vec::with_capacity(BYTES * totals.len());
        for total in totals {
            bytes.extend_from_slice(&total.unit.to_le_bytes());
            bytes.extend_from_slice(&total.cluster.to_le_bytes());
            bytes.extend_from_slice(&total.part.to_le_bytes());
            bytes.extend_from_slice(&total.responses.to_le_bytes());
            for number in [total.events, total.value, total.covariate] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    /// `None` for bytes that are no totals.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(BYTES) {
            return None;
        }
        let list: Option<Vec<Response>> = bytes.chunks_exact(BYTES).map(response).collect();
        let list = list?;
        let in_order = list.is_sorted_by(|a, b| a.key() < b.key());
        in_order.then_some(Responses { settled: list.len(), list })
    }
}

fn response(bytes: &[u8]) -> Option<Response> {
    let (unit, rest) = bytes.split_first_chunk()?;
    let (cluster, rest) = rest.split_first_chunk()?;
    let (part, rest) = rest.split_first_chunk()?;
    let (responses, rest) = rest.split_first_chunk()?;
    let (events, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_first_chunk()?;
    let (covariate, _) = rest.split_first_chunk()?;
    let response = Response {
        unit: u64::from_le_bytes(*unit),
        cluster: i32::from_le_bytes(*cluster),
        part: i32::from_le_bytes(*part),
        responses: u32::from_le_bytes(*responses),
        events: f64::from_le_bytes(*events),
        value: f64::from_le_bytes(*value),
        covariate: f64::from_le_bytes(*covariate),
    };
    (response.events.is_finite() && response.value.is_finite()).then_some(response)
}

/// The smallest of the totals that at least the share `quantile` of them does not exceed, by size; `None` of none.
pub fn quantile_of_sizes(totals: impl Iterator<Item = f64>, quantile: f64) -> Option<f64> {
    let mut sizes: Vec<f64> = totals.map(f64::abs).collect();
    let rank = (quantile * sizes.len() as f64).ceil() as usize;
    let at = rank.clamp(1, sizes.len().max(1)) - 1;
    (at < sizes.len()).then(|| *sizes.select_nth_unstable_by(at, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn responses(of: &[(u64, i32, i32)]) -> Responses {
        let mut responses = Responses::default();
        of.iter().for_each(|&(unit, part, worth)| {
            responses.add(Response::new(unit, 7, part, [1.0, f64::from(worth), f64::NAN]));
        });
        responses
    }

    proptest! {
        #[test]
        fn parts_add_up(of in prop::collection::vec((0..5_u64, -1..2_i32, -9..9_i32), 0..60), cut in 0..60_usize) {
            let (left, right) = of.split_at(cut.min(of.len()));
            let mut merged = responses(left);
            merged.merge(responses(right));
            let bytes = merged.to_bytes();
            let Some(mut merged) = Responses::from_bytes(&bytes) else { panic!("the bytes are not taken back") };
            for total in merged.totals() {
                let own = || of.iter().filter(|(unit, part, _)| (*unit, *part) == total.key());
                prop_assert_eq!(total.responses as usize, own().count());
                prop_assert_eq!(total.events, own().count() as f64);
                prop_assert_eq!(total.value, own().map(|(_, _, worth)| f64::from(*worth)).sum::<f64>());
                prop_assert!(total.covariate.is_nan());
            }
            for total in merged.units() {
                let own = of.iter().filter(|(unit, ..)| *unit == total.unit);
                prop_assert_eq!(total.value, own.map(|(_, _, worth)| f64::from(*worth)).sum::<f64>());
                prop_assert_eq!(total.cluster, 7);
            }
            let all: u32 = merged.totals().iter().map(|total| total.responses).sum();
            prop_assert_eq!(all as usize, of.len());
        }
    }

    #[test]
    fn memory_goes_by_units() {
        let mut responses = Responses::default();
        for at in 0..1_000_000_u64 {
            responses.add(Response::new(at % 10, 7, 0, [1.0, 0.5, 0.0]));
            assert!(responses.list.len() <= 2 * PENDING);
        }
        assert_eq!(responses.totals().len(), 10);
        assert_eq!(responses.totals()[3].value, 50_000.0);
    }

    #[test]
    fn other_bytes_are_no_totals() {
        let bytes = responses(&[(1, 0, 3), (2, 0, 4)]).to_bytes();
        assert!(Responses::from_bytes(&bytes[1..]).is_none());
        let disorder: Vec<u8> = bytes[BYTES..].iter().chain(&bytes[..BYTES]).copied().collect();
        assert!(Responses::from_bytes(&disorder).is_none());
        let mut unknown = bytes;
        unknown[20..28].copy_from_slice(&f64::NAN.to_le_bytes());
        assert!(Responses::from_bytes(&unknown).is_none());
    }

    #[test]
    fn quantiles_are_of_what_there_is() {
        let quantile = |sizes: &[f64], at| quantile_of_sizes(sizes.iter().copied(), at);
        assert_eq!(quantile(&[-3.0, 1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[-3.0, 1.0, 2.0, 4.0], 0.51), Some(3.0));
        assert_eq!(quantile(&[-3.0, 1.0, 2.0, 4.0], 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
