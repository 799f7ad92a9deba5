//! Customers by what was known of them: features, cut into a few levels each.

use std::collections::{BTreeMap, HashMap};

/// Features that are looked at: those that vary most.
const FEATURES: usize = 12;

/// Levels of a category that are told apart; the others are one, about which nothing is said.
const LEVELS: usize = 10;

/// Different numbers up to which each is a level.
const NUMBERS: usize = 5;

/// Features of which notice is taken at all, the length of a name up to which it is, and that at which values are cut: memory is bounded.
const NAMES: usize = 500;
const LENGTH: usize = 100;

/// How far rounding may move a bound, as a share of customers.
const ROUNDING: f64 = 0.03;

/// Missing is a level like others.
pub const MISSING: u8 = 0;

/// What was known of a feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    Missing,
    Number(f64),
    Boolean(bool),
    Text(String),
}

/// A feature with levels, which are numbered from 0, missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    pub name: String,
    kind: Kind,
    /// How many of the sample had each level.
    counts: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// The levels, and then the others.
    Category(Vec<String>),
    /// Below the first bound, between, and from the last bound on.
    Number(Vec<f64>),
}

/// A sample of what was known, from which features are cut.
#[derive(Clone, Debug, Default)]
pub struct Sampled {
    rows: usize,
    columns: BTreeMap<String, Column>,
}

#[derive(Clone, Debug, Default)]
struct Column {
    numbers: Vec<f64>,
    texts: HashMap<String, usize>,
}

impl Sampled {
    pub fn add(&mut self, row: impl IntoIterator<Item = (String, Known)>) {
        self.rows += 1;
        for (name, known) in row {
            let full = self.columns.len() >= NAMES;
            if known == Known::Missing || name.len() > LENGTH || full && !self.columns.contains_key(&name) {
                continue;
            }
            let column = self.columns.entry(name).or_default();
            match known {
                Known::Number(x) if x.is_finite() => column.numbers.push(x),
                known => *column.texts.entry(known.text()).or_default() += 1,
            }
        }
    }

    /// The features that vary most, by the entropy of their levels; those that vary most first.
    pub fn features(self) -> Vec<Feature> {
        let rows = self.rows as f64;
        let mut features: Vec<Feature> =
            self.columns.into_iter().map(|(name, column)| column.feature(name, rows)).collect();
        features.retain(|feature| feature.entropy() > 0.0);
        // Stable, so that features that vary alike stay in the order of their names.
        features.sort_by(|a, b| b.entropy().total_cmp(&a.entropy()));
        features.truncate(FEATURES);
        features
    }
}

impl Known {
    /// As a level of a category.
    fn text(&self) -> String {
        match self {
            Known::Missing => String::new(),
            Known::Number(x) => x.to_string(),
            Known::Boolean(x) => x.to_string(),
            Known::Text(text) => text.chars().take(LENGTH).collect(),
        }
    }
}

impl Column {
    fn feature(mut self, name: String, rows: f64) -> Feature {
        let texts: usize = self.texts.values().sum();
        self.numbers.sort_by(f64::total_cmp);
        let mut different = self.numbers.clone();
        different.dedup();
        let is_number = self.numbers.len() > texts && different.len() > NUMBERS;
        let kind = if is_number {
            Kind::Number(bounds(&self.numbers))
        } else {
            for x in &self.numbers {
                *self.texts.entry(Known::Number(*x).text()).or_default() += 1;
            }
            let mut levels: Vec<(&String, &usize)> = self.texts.iter().collect();
            levels.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
            Kind::Category(levels.into_iter().take(LEVELS).map(|(level, _)| level.clone()).collect())
        };
        let mut feature = Feature { name, kind, counts: Vec::new() };
        let mut counts = vec![0.0; feature.levels()];
        if is_number {
            self.numbers.iter().for_each(|x| counts[usize::from(feature.level(&Known::Number(*x)))] += 1.0);
        } else {
            for (text, count) in &self.texts {
                counts[usize::from(feature.level_of_text(text))] += *count as f64;
            }
        }
        counts[usize::from(MISSING)] = rows - counts.iter().sum::<f64>();
        feature.counts = counts;
        feature
    }
}

/// Terciles, rounded as far as that hardly moves anybody.
fn bounds(sorted: &[f64]) -> Vec<f64> {
    let below = |bound: f64| sorted.partition_point(|x| *x < bound) as f64 / sorted.len() as f64;
    let mut bounds: Vec<f64> = [1, 2]
        .into_iter()
        .map(|third| {
            let exact = sorted[sorted.len() * third / 3];
            let near = |rounded: &f64| (below(*rounded) - below(exact)).abs() <= ROUNDING;
            (0..6).map(|digits| format!("{exact:.digits$e}").parse().unwrap_or(exact)).find(near).unwrap_or(exact)
        })
        .filter(|bound| *bound > sorted[0])
        .collect();
    bounds.dedup();
    bounds
}

impl Feature {
    /// Number of levels, missing and others included.
    pub fn levels(&self) -> usize {
        match &self.kind {
            Kind::Category(levels) => levels.len() + 2,
            Kind::Number(bounds) => bounds.len() + 2,
        }
    }

    pub fn level(&self, known: &Known) -> u8 {
        match (&self.kind, known) {
            (_, Known::Missing) => MISSING,
            (Kind::Number(bounds), Known::Number(x)) if x.is_finite() => {
                1 + bounds.partition_point(|bound| bound <= x) as u8
            }
            (Kind::Number(_), _) => MISSING,
            (Kind::Category(_), known) => self.level_of_text(&known.text()),
        }
    }

    fn level_of_text(&self, text: &str) -> u8 {
        match &self.kind {
            Kind::Category(levels) => 1 + levels.iter().position(|level| level == text).unwrap_or(levels.len()) as u8,
            Kind::Number(_) => MISSING,
        }
    }

    /// The levels that make a segment. Of two that share everybody, one is enough.
    pub fn segments(&self) -> Vec<u8> {
        let others = match &self.kind {
            Kind::Category(levels) => levels.len() + 1,
            Kind::Number(_) => usize::MAX,
        };
        let held: Vec<usize> = (0..self.levels()).filter(|level| self.counts[*level] > 0.0).collect();
        let mut named: Vec<usize> = held.iter().copied().filter(|level| *level != others).collect();
        if held.len() == 2 {
            // Rather what is true than what is not, and what is known than what is missing.
            let last = |level: &usize| match &self.kind {
                Kind::Category(levels) => *level == 0 || levels.get(level - 1).is_some_and(|name| name == "false"),
                Kind::Number(_) => *level == 0,
            };
            named.sort_by_key(last);
            named.truncate(1);
        }
        named.into_iter().map(|level| level as u8).collect()
    }

    /// Shannon's, of the levels in the sample.
    fn entropy(&self) -> f64 {
        let total: f64 = self.counts.iter().sum();
        let shares = self.counts.iter().map(|count| count / total).filter(|share| *share > 0.0);
        shares.map(|share| -share * share.ln()).sum()
    }

    /// A level as a condition: `age 25 to 40`, `country = GB`.
    pub fn label(&self, level: u8) -> String {
        match &self.kind {
            _ if level == MISSING => format!("{} missing", self.name),
            Kind::Category(levels) => {
                let known = levels.get(usize::from(level) - 1);
                known.map_or_else(|| format!("{} other", self.name), |known| format!("{} = {known}", self.name))
            }
            Kind::Number(_) => format!("{} {}", self.name, self.words(level)),
        }
    }

    /// A level in a sentence, after `whose`: `age is 25 to 40`.
    pub fn clause(&self, level: u8) -> String {
        format!("{} is {}", self.name, self.words(level))
    }

    fn words(&self, level: u8) -> String {
        match &self.kind {
            _ if level == MISSING => "missing".to_owned(),
            Kind::Category(levels) => {
                levels.get(usize::from(level) - 1).cloned().unwrap_or_else(|| "another".to_owned())
            }
            Kind::Number(bounds) => {
                let at = usize::from(level) - 1;
                match (at.checked_sub(1).and_then(|at| bounds.get(at)), bounds.get(at)) {
                    (None, Some(upper)) => format!("below {upper}"),
                    (Some(lower), Some(upper)) => format!("{lower} to {upper}"),
                    (Some(lower), None) => format!("{lower} or more"),
                    (None, None) => "known".to_owned(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: impl IntoIterator<Item = Vec<(&'static str, Known)>>) -> Vec<Feature> {
        let mut sample = Sampled::default();
        rows.into_iter().for_each(|row| sample.add(row.into_iter().map(|(name, known)| (name.to_owned(), known))));
        sample.features()
    }

    #[test]
    fn numbers_are_cut_where_one_would() {
        let features = sample((0..999).map(|n| vec![("age", Known::Number(f64::from(n % 90)))]));
        let labels: Vec<String> = (0..features[0].levels() as u8).map(|level| features[0].label(level)).collect();
        assert_eq!(labels, ["age missing", "age below 30", "age 30 to 60", "age 60 or more"]);
        let level = |x: f64| features[0].level(&Known::Number(x));
        assert_eq!([level(-5.0), level(29.9), level(30.0), level(1e9), level(f64::NAN)], [1, 1, 2, 3, MISSING]);
        assert_eq!(features[0].segments(), [1, 2, 3]);
        assert_eq!(features[0].clause(2), "age is 30 to 60");
    }

    #[test]
    fn few_numbers_and_truths_are_categories() {
        let row = |n: u32| {
            vec![("children", Known::Number(f64::from(n % 3))), ("member", Known::Boolean(n.is_multiple_of(4)))]
        };
        let features = sample((0..300).map(row));
        assert_eq!(features.iter().map(|feature| feature.name.as_str()).collect::<Vec<_>>(), ["children", "member"]);
        assert_eq!(features[0].label(features[0].level(&Known::Number(2.0))), "children = 2");
        assert_eq!(features[1].segments().len(), 1);
        assert_eq!(features[1].label(features[1].segments()[0]), "member = true");
    }

    #[test]
    fn rare_levels_are_others_and_what_does_not_vary_is_left_out() {
        let row = |n: usize| {
            let letter = if n.is_multiple_of(2) { "x".to_owned() } else { format!("rare {n}") };
            let zip = if n.is_multiple_of(5) { Known::Missing } else { Known::Text(letter) };
            vec![("zip", zip), ("planet", Known::Text("earth".to_owned()))]
        };
        let features = sample((0..100).map(row));
        assert_eq!(features.len(), 1);
        let zip = &features[0];
        assert_eq!(zip.levels(), LEVELS + 2);
        assert_eq!(zip.level(&Known::Text("unseen".to_owned())), LEVELS as u8 + 1);
        assert!(!zip.segments().contains(&(LEVELS as u8 + 1)) && zip.segments().contains(&MISSING));
        assert!(sample([]).is_empty());
    }
}
