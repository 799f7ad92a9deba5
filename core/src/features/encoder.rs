//! The encoder: frozen per version, so that a logged context always means the same numbers.

use serde::{Deserialize, Serialize};

/// A standardised numeric is clipped to this many robust standard deviations.
const CLIP: f64 = 4.0;

/// Log-odds of a score are clipped to this.
const OFFSET_LIMIT: f64 = 8.0;

/// One feature value as read.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Missing,
    Number(f64),
    Text(String),
}

/// The values of an encoder's features, in its order.
pub type Observation = Vec<Value>;

/// One feature and how it becomes columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Column of the customers relation.
    pub name: String,
    pub kind: FeatureKind,
}

/// Columns of each kind: a numeric gives its standardised value and a missing flag, a boolean (0/1) the same,
/// a category one column per known level, one for any other level and one for missing, an offset its log-odds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeatureKind {
    /// `(x − center) / scale`, clipped; median and normal-consistent interquartile range of the audience.
    Numeric {
        center: f64,
        scale: f64,
    },
    /// A date or time: its age in days, standardised like a numeric.
    Age {
        center: f64,
        scale: f64,
    },
    Boolean,
    Category {
        levels: Vec<String>,
    },
    /// A score from elsewhere as log-odds, for the offset of the model; `missing` is that of the audience's median.
    Offset {
        scale: OffsetScale,
        missing: f64,
    },
}

/// What a score is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffsetScale {
    Probability,
    LogOdds,
}

impl OffsetScale {
    /// Log-odds of a score, within ±8 (1 in 3 000); `None` for what is not on this scale.
    pub fn log_odds(self, score: f64) -> Option<f64> {
        let log_odds = match self {
            OffsetScale::Probability if (0.0..=1.0).contains(&score) => (score / (1.0 - score)).ln(),
            OffsetScale::LogOdds if score.is_finite() => score,
            _ => return None,
        };
        Some(log_odds.clamp(-OFFSET_LIMIT, OFFSET_LIMIT))
    }
}

impl Feature {
    fn width(&self) -> usize {
        match &self.kind {
            FeatureKind::Numeric { .. } | FeatureKind::Age { .. } | FeatureKind::Boolean => 2,
            FeatureKind::Category { levels } => levels.len() + 2,
            FeatureKind::Offset { .. } => 1,
        }
    }
}

/// Turns observations into columns; column 0 is the intercept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    pub features: Vec<Feature>,
    /// Variance of each column in the audience, intercept included (1 by convention): what a column can explain.
    pub variances: Vec<f64>,
}

impl Encoder {
    /// Number of columns, intercept included.
    pub fn width(&self) -> usize {
        1 + self.features.iter().map(Feature::width).sum::<usize>()
    }

    /// Name of every column: `intercept`, `age`, `age is missing`, `city = Berlin`, `city is other`.
    /// Names identify coefficients across versions.
    pub fn column_names(&self) -> Vec<String> {
        let mut names = vec!["intercept".to_owned()];
        for Feature { name, kind } in &self.features {
            match kind {
                FeatureKind::Numeric { .. } | FeatureKind::Boolean => names.push(name.clone()),
                FeatureKind::Age { .. } => names.push(format!("{name} (age)")),
                FeatureKind::Category { levels } => {
                    names.extend(levels.iter().map(|level| format!("{name} = {level}")));
                    names.push(format!("{name} is other"));
                }
                FeatureKind::Offset { .. } => {
                    names.push(format!("{name} (offset)"));
                    continue;
                }
            }
            names.push(format!("{name} is missing"));
        }
        names
    }

    /// The feature behind a column, by the name of the column: `city` of `city = Berlin` and of `city is missing`.
    pub fn feature_of(column: &str) -> &str {
        let name = column.split(" = ").next().unwrap_or(column);
        [" is other", " is missing", " (age)"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
    }

    /// The score that is the model's offset, if there is one.
    pub fn offset(&self) -> Option<&Feature> {
        self.features.iter().find(|feature| matches!(feature.kind, FeatureKind::Offset { .. }))
    }

    /// Its column.
    pub fn offset_column(&self) -> Option<u32> {
        let at = self.features.iter().position(|feature| matches!(feature.kind, FeatureKind::Offset { .. }))?;
        Some(1 + self.features[..at].iter().map(Feature::width).sum::<usize>() as u32)
    }

    /// Encodes one observation into `out` (length [`width`](Self::width)). Values of an unexpected type and
    /// non-finite numbers are missing; an unseen category is "other".
    pub fn encode(&self, observation: &[Value], out: &mut [f32]) {
        debug_assert_eq!(out.len(), self.width());
        out.fill(0.0);
        out[0] = 1.0;
        let mut at = 1;
        for (feature, value) in self.features.iter().zip(observation) {
            let width = feature.width();
            let columns = &mut out[at..at + width];
            match (&feature.kind, value) {
                (FeatureKind::Numeric { center, scale } | FeatureKind::Age { center, scale }, Value::Number(x))
                    if x.is_finite() =>
                {
                    columns[0] = ((x - center) / scale).clamp(-CLIP, CLIP) as f32;
                }
                (FeatureKind::Boolean, Value::Number(x)) if x.is_finite() => {
                    columns[0] = if *x != 0.0 { 1.0 } else { 0.0 };
                }
                (FeatureKind::Category { levels }, Value::Text(text)) => {
                    let level = levels.iter().position(|level| level == text).unwrap_or(levels.len());
                    columns[level] = 1.0;
                }
                (FeatureKind::Offset { scale, missing }, value) => {
                    let score = if let Value::Number(x) = value { scale.log_odds(*x) } else { None };
                    columns[0] = score.unwrap_or(*missing) as f32;
                }
                _ => columns[width - 1] = 1.0,
            }
            at += width;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder() -> Encoder {
        Encoder {
            variances: vec![],
            features: vec![
                Feature { name: "age".into(), kind: FeatureKind::Numeric { center: 40.0, scale: 10.0 } },
                Feature { name: "member".into(), kind: FeatureKind::Boolean },
                Feature {
                    name: "city".into(),
                    kind: FeatureKind::Category { levels: vec!["Bern".into(), "Rom".into()] },
                },
            ],
        }
    }

    fn encode(observation: &[Value]) -> Vec<f32> {
        let encoder = encoder();
        let mut out = vec![9.0; encoder.width()];
        encoder.encode(observation, &mut out);
        out
    }

    #[test]
    fn names_match_the_width() {
        let names = encoder().column_names();
        assert_eq!(names.len(), encoder().width());
        assert_eq!(names[5..], ["city = Bern", "city = Rom", "city is other", "city is missing"]);
        let features: Vec<&str> = names.iter().map(|name| Encoder::feature_of(name)).collect();
        assert_eq!(features, ["intercept", "age", "age", "member", "member", "city", "city", "city", "city"]);
        assert_eq!(Encoder::feature_of("last_order (age)"), "last_order");
    }

    #[test]
    fn encodes_each_kind() {
        let row = encode(&[Value::Number(55.0), Value::Number(1.0), Value::Text("Rom".into())]);
        assert_eq!(row, [1.0, 1.5, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn missing_unseen_and_wild_values_have_their_own_columns() {
        let row = encode(&[Value::Missing, Value::Text("yes".into()), Value::Text("Ulm".into())]);
        assert_eq!(row, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        let row = encode(&[Value::Number(f64::NAN), Value::Number(0.0), Value::Missing]);
        assert_eq!(row, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        let row = encode(&[Value::Number(1e30), Value::Number(0.0), Value::Missing]);
        assert_eq!(row[1], CLIP as f32);
    }
}
