//! The encoder: frozen per version, so that a logged context always means the same numbers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A standardised numeric is clipped to this many robust standard deviations.
pub(super) const CLIP: f64 = 4.0;

/// Between the names of two columns in that of their product: a dot operator, which names of columns and levels hardly have.
const PRODUCT: &str = " ⋅ ";

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

/// Columns of each kind: a numeric gives its standardised value, one hinge per knot and a missing flag, a boolean (0/1)
/// its value and the flag, a category one column per known level, one for any other level and one for missing, an offset
/// its log-odds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeatureKind {
    /// `z = (x − center) / scale`, clipped; median and normal-consistent interquartile range of the audience. A hinge is
    /// `max(z − (knot − center) / scale, 0)`.
    Numeric {
        center: f64,
        scale: f64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        knots: Vec<f64>,
    },
    /// A date or time: its age in days, encoded like a numeric.
    Age {
        center: f64,
        scale: f64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        knots: Vec<f64>,
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
            FeatureKind::Numeric { knots, .. } | FeatureKind::Age { knots, .. } => knots.len() + 2,
            FeatureKind::Boolean => 2,
            FeatureKind::Category { levels } => levels.len() + 2,
            FeatureKind::Offset { .. } => 1,
        }
    }
}

/// Turns observations into columns; column 0 is the intercept, those of features follow, and crosses come last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    pub features: Vec<Feature>,
    /// Variance of each column in the audience, intercept included (1 by convention): what a column can explain.
    pub variances: Vec<f64>,
    /// Columns of features whose product is a column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crosses: Vec<(u32, u32)>,
}

impl Encoder {
    /// Number of columns, intercept included.
    pub fn width(&self) -> usize {
        self.feature_width() + self.crosses.len()
    }

    /// The same without crosses.
    pub fn feature_width(&self) -> usize {
        1 + self.features.iter().map(Feature::width).sum::<usize>()
    }

    /// The same with the product of each of these pairs of columns of features as one more column. It counts as varying as much as the less
    /// varying of the two: what leaves that one out leaves the product out as well.
    pub fn crossed(&self, pairs: &[(u32, u32)]) -> Encoder {
        let mut encoder = self.clone();
        for (a, b) in pairs {
            let variance = |at: &u32| self.variances.get(*at as usize).copied().unwrap_or_default();
            encoder.variances.push(variance(a).min(variance(b)));
            encoder.crosses.push((*a, *b));
        }
        encoder
    }

    /// The same with the crosses of another one whose columns mean the same here.
    pub fn crossed_like(&self, other: &Encoder) -> Encoder {
        let (names, other_names) = (self.column_names(), other.column_names());
        let same = |column: &u32| {
            let name = other_names.get(*column as usize)?;
            let at = names.iter().position(|known| known == name)?;
            (self.feature_at(at)? == other.feature_at(*column as usize)?).then_some(at as u32)
        };
        let pairs = other.crosses.iter().filter_map(|(a, b)| same(a).zip(same(b)));
        self.crossed(&pairs.collect::<Vec<_>>())
    }

    /// The feature of a column, if it is that of one.
    fn feature_at(&self, column: usize) -> Option<&Feature> {
        let mut next = 1;
        self.features.iter().find(|feature| {
            next += feature.width();
            (1..next).contains(&column)
        })
    }

    /// Whether crosses are of columns of features: an encoder read from elsewhere may have others.
    pub fn is_consistent(&self) -> bool {
        let features = 1..self.feature_width() as u32;
        self.crosses.iter().all(|(a, b)| features.contains(a) && features.contains(b))
    }

    /// The columns of a context that was encoded with the same features, but other crosses.
    pub fn recrossed(&self, mut encoded: Vec<f32>) -> Vec<f32> {
        encoded.truncate(self.feature_width());
        encoded.resize(self.width(), 0.0);
        self.multiply(&mut encoded);
        encoded
    }

    fn multiply(&self, out: &mut [f32]) {
        let (features, products) = out.split_at_mut(self.feature_width());
        for (product, (a, b)) in products.iter_mut().zip(&self.crosses) {
            *product = features[*a as usize] * features[*b as usize];
        }
    }

    /// Columns that are hinges, ascending.
    pub fn hinges(&self) -> Vec<u32> {
        let mut hinges = Vec::new();
        let mut at = 1;
        for feature in &self.features {
            if let FeatureKind::Numeric { knots, .. } | FeatureKind::Age { knots, .. } = &feature.kind {
                hinges.extend(at + 1..at + 1 + knots.len() as u32);
            }
            at += feature.width() as u32;
        }
        hinges
    }

    /// Name of every column: `intercept`, `age`, `age above 40`, `age is missing`, `city = Berlin`, `city is other`, `age ⋅ city = Berlin`.
    /// Names identify coefficients across versions.
    pub fn column_names(&self) -> Vec<String> {
        let mut names = vec!["intercept".to_owned()];
        for Feature { name, kind } in &self.features {
            match kind {
                FeatureKind::Boolean => names.push(name.clone()),
                FeatureKind::Numeric { knots, .. } => {
                    names.push(name.clone());
                    names.extend(knots.iter().map(|knot| format!("{name} above {knot}")));
                }
                FeatureKind::Age { knots, .. } => {
                    names.push(format!("{name} (age)"));
                    names.extend(knots.iter().map(|knot| format!("{name} (age) above {knot}")));
                }
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
        let products =
            self.crosses.iter().map(|(a, b)| format!("{}{PRODUCT}{}", names[*a as usize], names[*b as usize]));
        let products: Vec<String> = products.collect();
        names.extend(products);
        names
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

    /// The feature behind a column, by the name of the column: `city` of `city = Berlin` and of `city is missing`, `age ⋅ city` of
    /// `age ⋅ city = Berlin`.
    pub fn feature_of(column: &str) -> Cow<'_, str> {
        if let Some((a, b)) = column.split_once(PRODUCT) {
            return format!("{}{PRODUCT}{}", Encoder::feature_of(a), Encoder::feature_of(b)).into();
        }
        let name = column.split(" = ").next().unwrap_or(column);
        let hinge = name.rsplit_once(" above ").filter(|(_, knot)| knot.parse::<f64>().is_ok());
        let name = hinge.map_or(name, |(name, _)| name);
        [" is other", " is missing", " (age)"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).into()
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
                (
                    FeatureKind::Numeric { center, scale, knots } | FeatureKind::Age { center, scale, knots },
                    Value::Number(x),
                ) if x.is_finite() => {
                    let z = ((x - center) / scale).clamp(-CLIP, CLIP);
                    columns[0] = z as f32;
                    for (hinge, knot) in columns[1..].iter_mut().zip(knots) {
                        *hinge = (z - (knot - center) / scale).max(0.0) as f32;
                    }
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
        self.multiply(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(knots: Vec<f64>) -> FeatureKind {
        FeatureKind::Numeric { center: 40.0, scale: 10.0, knots }
    }

    fn encoder() -> Encoder {
        Encoder {
            features: vec![
                Feature { name: "age".into(), kind: numeric(vec![]) },
                Feature { name: "member".into(), kind: FeatureKind::Boolean },
                Feature {
                    name: "city".into(),
                    kind: FeatureKind::Category { levels: vec!["Bern".into(), "Rom".into()] },
                },
            ],
            ..Encoder::default()
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
        let features: Vec<_> = names.iter().map(|name| Encoder::feature_of(name)).collect();
        assert_eq!(features, ["intercept", "age", "age", "member", "member", "city", "city", "city", "city"]);
        assert_eq!(Encoder::feature_of("last_order (age)"), "last_order");
    }

    #[test]
    fn encodes_each_kind() {
        let row = encode(&[Value::Number(55.0), Value::Number(1.0), Value::Text("Rom".into())]);
        assert_eq!(row, [1.0, 1.5, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn hinges_follow_their_number() {
        let mut encoder = encoder();
        encoder.features[0].kind = numeric(vec![35.0, 50.0]);
        assert_eq!(encoder.hinges(), [2, 3]);
        let names = encoder.column_names();
        assert_eq!(names[1..5], ["age", "age above 35", "age above 50", "age is missing"]);
        let encode = |age| {
            let mut row = vec![9.0; encoder.width()];
            encoder.encode(&[age, Value::Missing, Value::Missing], &mut row);
            row[1..5].to_vec()
        };
        assert_eq!(encode(Value::Number(55.0)), [1.5, 2.0, 0.5, 0.0]);
        assert_eq!(encode(Value::Number(36.0)), [-0.4, 0.1, 0.0, 0.0]);
        assert_eq!(encode(Value::Number(1e9)), [4.0, 4.5, 3.0, 0.0]);
        assert_eq!(encode(Value::Number(f64::NAN)), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn crosses_are_products_of_columns() {
        let mut plain = encoder();
        plain.variances = vec![1.0, 2.0, 0.1, 0.25, 0.1, 0.2, 0.2, 0.1, 0.1];
        let crossed = plain.crossed(&[(1, 6), (3, 5)]);
        assert_eq!(crossed.width(), plain.width() + 2);
        assert_eq!(crossed.variances[9..], [0.2, 0.2]);
        assert_eq!(crossed.column_names()[9..], ["age ⋅ city = Rom", "member ⋅ city = Bern"]);
        assert_eq!(Encoder::feature_of("age ⋅ city = Rom"), "age ⋅ city");
        let observation = [Value::Number(55.0), Value::Number(1.0), Value::Text("Rom".into())];
        let mut row = vec![9.0; crossed.width()];
        crossed.encode(&observation, &mut row);
        assert_eq!(row[..9], encode(&observation));
        assert_eq!(row[9..], [1.5, 0.0]);
        assert_eq!(crossed.recrossed(encode(&observation)), row);
        assert_eq!(plain.recrossed(row.clone()), encode(&observation));
        assert_eq!(plain.crossed(&[(1, 5)]).recrossed(row)[9..], [0.0]);
        assert!(crossed.is_consistent() && !plain.crossed(&[(1, 9)]).is_consistent());
        let written = serde_json::to_string(&crossed).unwrap();
        assert_eq!(serde_json::from_str::<Encoder>(&written).unwrap(), crossed);
        assert!(!serde_json::to_string(&plain).unwrap().contains("crosses"));
    }

    #[test]
    fn crosses_go_where_their_features_are_the_same() {
        let crossed = encoder().crossed(&[(1, 6), (3, 5)]);
        let mut other = encoder();
        other.features.rotate_left(1);
        assert_eq!(other.crossed_like(&crossed).column_names()[9..], ["age ⋅ city = Rom", "member ⋅ city = Bern"]);
        other.features[0].kind = numeric(vec![]);
        assert_eq!(other.crossed_like(&crossed).column_names()[9..], ["age ⋅ city = Rom"], "member is a number now");
        other.features[1].kind = FeatureKind::Category { levels: vec!["Bern".into()] };
        assert_eq!(other.crossed_like(&crossed).crosses, []);
    }

    #[test]
    fn an_encoder_from_before_hinges_reads_back() {
        let written = r#"{"features": [{"name": "age", "kind": {"kind": "numeric", "center": 40.0, "scale": 10.0}}], "variances": []}"#;
        let encoder: Encoder = serde_json::from_str(written).unwrap();
        assert_eq!((encoder.width(), encoder.hinges().len()), (3, 0));
        assert!(!serde_json::to_string(&encoder).unwrap().contains("knots"));
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
