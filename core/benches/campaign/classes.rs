//! Classification as a bandit: rows of a table, whose class is the action that is rewarded.

use decisioning_core::features::{Declared, Encoder, Observation, Profile, Value};

/// A data set: numbers and texts by column, and the class of every row.
pub struct Classes {
    pub name: String,
    pub encoder: Encoder,
    pub encoded: Vec<Vec<f32>>,
    pub classes: Vec<usize>,
    pub count: usize,
}

impl Classes {
    /// Reads a CSV file whose header says `number` or `text` for every column and whose last column is the class, from 0.
    pub fn read(path: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.lines();
        let kinds: Vec<bool> = lines.next().unwrap().split(',').map(|kind| kind == "number").collect();
        let width = kinds.len() - 1;
        let (mut rows, mut classes): (Vec<Observation>, Vec<usize>) = (Vec::new(), Vec::new());
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let value = |n: usize| match kinds[n] {
                true => Value::Number(fields[n].parse().unwrap()),
                false => Value::Text(fields[n].to_owned()),
            };
            rows.push((0..width).map(value).collect());
            classes.push(fields[width].parse().unwrap());
        }
        let declared = |n: usize| if kinds[n] { Declared::Numeric } else { Declared::Category };
        let mut profile = Profile::new((0..width).map(|n| (format!("x{n}"), declared(n))).collect(), 0);
        rows.iter().for_each(|row| profile.add(row.clone()));
        let encoder = profile.encoder();
        let encode = |row: &Observation| {
            let mut encoded = vec![0.0; encoder.width()];
            encoder.encode(row, &mut encoded);
            encoded
        };
        let encoded = rows.iter().map(encode).collect();
        let count = classes.iter().max().unwrap() + 1;
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Classes { name, encoder, encoded, classes, count }
    }
}
