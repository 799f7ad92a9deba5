//! Records by age, as far as one can tell: by source in the order in which they were added, then by key.

use super::records::{Records, SourceNumber};

/// Numbers all records from the oldest to the youngest; independent of the order in which they were read.
pub struct Order {
    /// First number of each source, and one past the last.
    starts: Vec<u32>,
    /// Key number to place among the records of the source.
    places: Vec<Vec<u32>>,
    /// The inverse.
    keys: Vec<Vec<u32>>,
}

impl Order {
    pub fn of(records: &Records) -> Self {
        let mut order = Order { starts: vec![0], places: Vec::new(), keys: Vec::new() };
        for source in &records.sources {
            let mut keys: Vec<u32> = (0..source.keys.len() as u32).collect();
            // Shorter first, then bytewise: 9 before 10, c-9 before c-10.
            keys.sort_unstable_by(|&a, &b| {
                let (a, b) = (source.keys.text(a), source.keys.text(b));
                a.len().cmp(&b.len()).then_with(|| a.cmp(b))
            });
            let mut places = vec![0; keys.len()];
            for (place, key) in keys.iter().enumerate() {
                places[*key as usize] = place as u32;
            }
            order.starts.push(order.starts[order.starts.len() - 1] + keys.len() as u32);
            order.places.push(places);
            order.keys.push(keys);
        }
        order
    }

    pub fn len(&self) -> usize {
        self.starts[self.starts.len() - 1] as usize
    }

    /// Number of the record with this source and key.
    pub fn record(&self, source: SourceNumber, key: u32) -> u32 {
        let source = usize::from(source);
        self.starts[source] + self.places[source][key as usize]
    }

    /// Number of the first record of each source, and one past the last.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Source of a record.
    pub fn source(&self, record: u32) -> SourceNumber {
        source_of(&self.starts, record)
    }

    /// Source of a record and the number of its key.
    pub fn key(&self, record: u32) -> (SourceNumber, u32) {
        let source = self.source(record);
        let place = record - self.starts[usize::from(source)];
        (source, self.keys[usize::from(source)][place as usize])
    }
}

/// Source of a record, by the first records of the sources.
pub fn source_of(starts: &[u32], record: u32) -> SourceNumber {
    (starts.partition_point(|start| *start <= record) - 1) as SourceNumber
}
