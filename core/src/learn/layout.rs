//! Which coefficient means what.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::prior::{self, Block};
use super::rows::Link;
use crate::features::Encoder;

/// Highest factor on the posterior spread of a level that is less known than others. In simulations of a message that
/// joins after four weeks, 1 left it tried too little to be found, and 2 tried the others too little.
const HIGHEST_TEMPER: f64 = 1.5;

/// The same for what it changes by feature. With many levels, of which each suits few, 1 found them sooner than 0.5.
const HIGHEST_SLOPE_TEMPER: f64 = 1.0;

/// Level of each dimension of one action.
pub type Dimensions = BTreeMap<String, String>;

/// The blocks of the coefficient vector, in order: base, send, one per level, one scalar per pair of levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// Encoder column names; column 0 is the intercept.
    pub columns: Vec<String>,
    /// A column of log-odds that enter the base of responses as they are, without a coefficient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// Columns in the base block.
    pub base: Vec<u32>,
    /// Columns in the send block.
    pub send: Vec<u32>,
    /// Columns in each level's block.
    pub interacting: Vec<u32>,
    /// `(dimension, level)`.
    pub levels: Vec<(String, String)>,
    /// Indices into `levels`, smaller first.
    pub pairs: Vec<(u32, u32)>,
    /// Columns that bend the base and are in no other block; some of them may be left out of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<u32>,
}

/// An action in terms of a layout. Levels that the layout does not know yet add nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arm {
    pub levels: Vec<u32>,
    pub pairs: Vec<u32>,
}

/// Columns that are not like the others.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Enters the linear predictor as it is, and has no coefficients.
    pub offset: Option<u32>,
    /// Only bend the base; ascending.
    pub curves: Vec<u32>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// Even without interactions the levels alone exceed the limit.
    #[error("{levels} dimension levels do not fit into {limit} coefficients")]
    TooManyLevels { levels: usize, limit: usize },
}

impl Layout {
    /// Lays out a model for `columns` with the given `variances` and for all levels in `actions`, within `limit`
    /// coefficients; every column has every effect.
    ///
    /// # Errors
    /// [`LayoutError::TooManyLevels`].
    pub fn new<'a>(
        columns: Vec<String>,
        variances: &[f64],
        actions: impl IntoIterator<Item = &'a Dimensions>,
        limit: usize,
    ) -> Result<Self, LayoutError> {
        Layout::with_roles(columns, Roles::default(), variances, actions, limit)
    }

    /// The same where some columns have a role of their own. To stay under `limit`, what bends the base goes first, what
    /// varies least before others; then the interactions of the columns that vary least; then pairwise terms; then the send
    /// and base effects of the least varying columns. Intercepts always stay.
    ///
    /// # Errors
    /// [`LayoutError::TooManyLevels`].
    pub fn with_roles<'a>(
        columns: Vec<String>,
        Roles { offset, curves }: Roles,
        variances: &[f64],
        actions: impl IntoIterator<Item = &'a Dimensions>,
        limit: usize,
    ) -> Result<Self, LayoutError> {
        let (mut levels, mut together) = (BTreeSet::new(), BTreeSet::new());
        for dimensions in actions {
            for (dimension, level) in dimensions {
                levels.insert((dimension.clone(), level.clone()));
                for (other_dimension, other) in dimensions.iter().filter(|(other, _)| *other > dimension) {
                    together.insert(((dimension.clone(), level.clone()), (other_dimension.clone(), other.clone())));
                }
            }
        }
        let levels: Vec<(String, String)> = levels.into_iter().collect();
        let index = |level: &(String, String)| levels.binary_search(level).unwrap_or_default() as u32;
        let mut pairs: Vec<(u32, u32)> = together.iter().map(|(a, b)| (index(a), index(b))).collect();
        if levels.len() + 2 > limit {
            return Err(LayoutError::TooManyLevels { levels: levels.len(), limit });
        }

        // Columns from most to least varying, the intercept first.
        let variance = |column: &u32| variances.get(*column as usize).copied().unwrap_or(0.0);
        let by_variance = |a: &u32, b: &u32| variance(b).total_cmp(&variance(a)).then(a.cmp(b));
        let (mut bends, mut order): (Vec<u32>, Vec<u32>) = (0..columns.len() as u32)
            .filter(|column| Some(*column) != offset)
            .partition(|column| curves.binary_search(column).is_ok());
        bends.retain(|column| variance(column) > 0.0);
        bends.sort_by(by_variance);
        order[1..].sort_by(by_variance);

        let varying = 1 + order[1..].iter().take_while(|column| variance(column) > 0.0).count();
        let (mut base, mut send) = (order.len(), order.len());
        let mut interacting = if levels.is_empty() { 1 } else { varying };
        let fits = |bends: usize, base: usize, send: usize, interacting: usize, pairs: usize| {
            bends + base + send + levels.len() * interacting + pairs <= limit
        };
        while !bends.is_empty() && !fits(bends.len(), base, send, interacting, pairs.len()) {
            bends.pop();
        }
        while interacting > 1 && !fits(bends.len(), base, send, interacting, pairs.len()) {
            interacting -= 1;
        }
        if !fits(bends.len(), base, send, interacting, pairs.len()) {
            pairs.clear();
        }
        while send > 1 && !fits(bends.len(), base, send, interacting, pairs.len()) {
            send -= 1;
        }
        while base > 1 && !fits(bends.len(), base, send, interacting, pairs.len()) {
            base -= 1;
        }
        let kept = |kept: &[u32], bends: &[u32]| {
            let mut kept = [kept, bends].concat();
            kept.sort_unstable();
            kept
        };
        Ok(Layout {
            base: kept(&order[..base], &bends),
            send: kept(&order[..send], &[]),
            interacting: kept(&order[..interacting], &[]),
            columns,
            offset,
            levels,
            pairs,
            curves,
        })
    }

    /// Number of coefficients.
    pub fn len(&self) -> usize {
        self.pair_offset() + self.pairs.len()
    }

    /// True only for a default-constructed layout; a real one has at least the two intercepts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all columns, levels and pairs refer to what there is: a layout read from elsewhere may not.
    pub fn is_consistent(&self) -> bool {
        let within = |columns: &[u32]| {
            columns.iter().all(|at| (*at as usize) < self.columns.len())
                && columns.windows(2).all(|pair| pair[0] < pair[1])
        };
        let level = |at: u32| (at as usize) < self.levels.len();
        [&self.base, &self.send, &self.interacting, &self.curves].into_iter().all(|columns| within(columns))
            && self.pairs.iter().all(|(a, b)| level(*a) && level(*b))
            && self.offset.is_none_or(|column| (column as usize) < self.columns.len())
            && !self.base.is_empty()
    }

    pub fn send_offset(&self) -> usize {
        self.base.len()
    }

    pub fn level_offset(&self, level: usize) -> usize {
        self.base.len() + self.send.len() + level * self.interacting.len()
    }

    pub fn pair_offset(&self) -> usize {
        self.level_offset(self.levels.len())
    }

    /// What was left out to stay under the coefficient limit, in words; empty if nothing was. Columns that never vary
    /// have nothing to interact with and are not missed.
    pub fn left_out(&self, variances: &[f64]) -> Vec<String> {
        let missing = |kept: &[u32], what: &str, without: &[u32]| {
            (0..self.columns.len() as u32)
                .filter(|column| !kept.contains(column) && !without.contains(column) && Some(*column) != self.offset)
                .filter(|column| variances.get(*column as usize).is_some_and(|variance| *variance > 0.0))
                .map(|column| format!("{what} {}", self.columns[column as usize]))
                .collect::<Vec<_>>()
        };
        let mut left_out = missing(&self.interacting, "interactions of", &self.curves);
        left_out.extend(missing(&self.send, "send effect of", &self.curves));
        left_out.extend(missing(&self.base, "base effect of", &[]));
        left_out
    }

    /// The arm of an action.
    pub fn arm(&self, dimensions: &Dimensions) -> Arm {
        let mut levels: Vec<u32> = dimensions
            .iter()
            .filter_map(|(dimension, level)| {
                self.levels.iter().position(|(d, l)| d == dimension && l == level).map(|at| at as u32)
            })
            .collect();
        levels.sort_unstable();
        let pairs = self
            .pairs
            .iter()
            .enumerate()
            .filter(|(_, (a, b))| levels.contains(a) && levels.contains(b))
            .map(|(at, _)| at as u32)
            .collect();
        Arm { levels, pairs }
    }

    /// Non-zero entries of the design row for `encoded` and an arm (`None` is no-send), by ascending coefficient.
    pub fn design(&self, encoded: &[f32], arm: Option<&Arm>, row: &mut Vec<(u32, f64)>) {
        row.clear();
        let mut block = |columns: &[u32], offset: usize| {
            for (at, column) in columns.iter().enumerate() {
                let x = encoded[*column as usize];
                if x != 0.0 {
                    row.push(((offset + at) as u32, f64::from(x)));
                }
            }
        };
        block(&self.base, 0);
        if let Some(arm) = arm {
            block(&self.send, self.send_offset());
            for level in &arm.levels {
                block(&self.interacting, self.level_offset(*level as usize));
            }
            row.extend(arm.pairs.iter().map(|pair| ((self.pair_offset() + *pair as usize) as u32, 1.0)));
        }
    }

    /// The column that enters a linear predictor under `link` as it is.
    pub fn offset_column(&self, link: Link) -> Option<usize> {
        self.offset.filter(|_| link == Link::Logistic).map(|column| column as usize)
    }

    /// The linear predictor of an arm (`None` is no-send) in an encoded context.
    pub fn predictor(&self, link: Link, coefficients: &[f64], encoded: &[f32], arm: Option<&Arm>) -> f64 {
        let mut row = Vec::new();
        self.design(encoded, arm, &mut row);
        let linear: f64 = row.iter().map(|(coefficient, x)| coefficients[*coefficient as usize] * x).sum();
        linear + f64::from(self.offset_of(link, encoded))
    }

    /// What a context adds to the linear predictor under `link` as it is.
    pub fn offset_of(&self, link: Link, encoded: &[f32]) -> f32 {
        self.offset_column(link).map_or(0.0, |column| encoded[column])
    }

    /// The coefficients of an arm (`None` is no-send), ascending, each with the column that it multiplies; pairs multiply
    /// a constant 1, which stands behind the last column.
    pub(super) fn entries(&self, arm: Option<&Arm>) -> Vec<(u32, u32)> {
        let mut entries = Vec::new();
        let mut block = |columns: &[u32], offset: usize| {
            entries.extend(columns.iter().zip(offset as u32..).map(|(column, at)| (at, *column)));
        };
        block(&self.base, 0);
        if let Some(arm) = arm {
            block(&self.send, self.send_offset());
            arm.levels.iter().for_each(|level| block(&self.interacting, self.level_offset(*level as usize)));
            let constant = self.columns.len() as u32;
            entries.extend(arm.pairs.iter().map(|pair| (self.pair_offset() as u32 + pair, constant)));
        }
        entries
    }

    /// A name for every coefficient, the same across versions as long as it means the same.
    pub fn coefficient_names(&self) -> Vec<String> {
        let column = |at: &u32| &self.columns[*at as usize];
        let mut names: Vec<String> = self.base.iter().map(|at| format!("base: {}", column(at))).collect();
        names.extend(self.send.iter().map(|at| format!("send: {}", column(at))));
        for (dimension, level) in &self.levels {
            names.extend(self.interacting.iter().map(|at| match at {
                0 => format!("{dimension}={level}"),
                _ => format!("{dimension}={level} × {}", column(at)),
            }));
        }
        let level = |at: u32| {
            let (dimension, level) = &self.levels[at as usize];
            format!("{dimension}={level}")
        };
        names.extend(self.pairs.iter().map(|(a, b)| format!("{} × {}", level(*a), level(*b))));
        names
    }

    /// Coefficients by what their size has in common: what sending or a level changes for everybody; pairs; and, feature by
    /// feature, base effects, how the base bends, for whom sending matters, and for whom the levels of one dimension matter. The base
    /// intercept belongs to none.
    pub fn blocks(&self) -> Vec<Block> {
        let intercept = |columns: &[u32], offset: usize| columns.iter().position(|at| *at == 0).map(|at| offset + at);
        let mut main: Vec<usize> = intercept(&self.send, self.send_offset()).into_iter().collect();
        let mut slopes: BTreeMap<(String, Cow<'_, str>), (f64, Vec<usize>)> = BTreeMap::new();
        let mut add = |family: String, initial: f64, columns: &[u32], offset: usize| {
            for (at, column) in columns.iter().enumerate().filter(|(_, column)| **column != 0) {
                let (family, initial) = match self.curves.binary_search(column) {
                    Ok(_) => ("base curves".to_owned(), prior::CURVE),
                    Err(_) => (family.clone(), initial),
                };
                let feature = Encoder::feature_of(&self.columns[*column as usize]);
                slopes.entry((family, feature)).or_insert((initial, Vec::new())).1.push(offset + at);
            }
        };
        add("base".to_owned(), prior::BASE, &self.base, 0);
        add("send".to_owned(), prior::INTERACTION, &self.send, self.send_offset());
        for (level, (dimension, _)) in self.levels.iter().enumerate() {
            let offset = self.level_offset(level);
            main.extend(intercept(&self.interacting, offset));
            add(dimension_name(dimension), prior::INTERACTION, &self.interacting, offset);
        }
        let alone = |name: &str, initial, coefficients| Block {
            family: name.to_owned(),
            name: name.to_owned(),
            initial,
            coefficients,
        };
        let mut blocks = vec![
            alone("main effects", prior::MAIN, main),
            alone("pairs", prior::PAIR, (self.pair_offset()..self.len()).collect()),
        ];
        blocks.extend(slopes.into_iter().map(|((family, feature), (initial, coefficients))| Block {
            name: format!("{family} × {feature}"),
            family,
            initial,
            coefficients,
        }));
        blocks
    }

    /// Coefficients of what sends do, by lever: `send` for what all have in common, `dimension …` for what its levels change, and
    /// `pairs`.
    pub fn levers(&self) -> BTreeMap<String, Vec<usize>> {
        let mut levers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut add = |name: String, from: usize, end: usize| levers.entry(name).or_default().extend(from..end);
        add("send".to_owned(), self.send_offset(), self.level_offset(0));
        for (level, (dimension, _)) in self.levels.iter().enumerate() {
            add(dimension_name(dimension), self.level_offset(level), self.level_offset(level + 1));
        }
        add("pairs".to_owned(), self.pair_offset(), self.len());
        levers.retain(|_, coefficients| !coefficients.is_empty());
        levers
    }

    /// Factors on the posterior spread when choosing: `temper`, and for what a level changes, for everybody or by feature, as
    /// much more as it is less known than the best known level of its dimension. Otherwise a level that is new, or that others
    /// keep from being tried, would stay what its prior says, which is average. `errors` are conditional: those of levels
    /// that only occur together are large for all of them, however well their differences are known.
    pub fn tempers(&self, temper: f64, errors: &[f64]) -> Vec<f64> {
        let mut tempers = vec![temper; self.len()];
        for (at, column) in self.interacting.iter().enumerate() {
            let highest = if *column == 0 { HIGHEST_TEMPER } else { HIGHEST_SLOPE_TEMPER };
            let mut best_known: BTreeMap<&str, f64> = BTreeMap::new();
            for (level, (dimension, _)) in self.levels.iter().enumerate() {
                let error = errors[self.level_offset(level) + at];
                best_known.entry(dimension).and_modify(|least| *least = least.min(error)).or_insert(error);
            }
            for (level, (dimension, _)) in self.levels.iter().enumerate() {
                let at = self.level_offset(level) + at;
                tempers[at] = (temper * errors[at] / best_known[dimension.as_str()]).min(highest).max(temper);
            }
        }
        tempers
    }

    /// For every coefficient of `self`, where it stands in `earlier`, if there.
    pub fn positions_in(&self, earlier: &Layout) -> Vec<Option<usize>> {
        let names = earlier.coefficient_names();
        let at: BTreeMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        self.coefficient_names().iter().map(|name| at.get(name.as_str()).copied()).collect()
    }
}

/// How the effects of a dimension are called.
fn dimension_name(dimension: &str) -> String {
    format!("dimension {dimension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn dimensions(pairs: &[(&str, &str)]) -> Dimensions {
        pairs.iter().map(|(d, l)| ((*d).to_owned(), (*l).to_owned())).collect()
    }

    fn actions() -> Vec<Dimensions> {
        vec![
            dimensions(&[("channel", "email"), ("offer", "none")]),
            dimensions(&[("channel", "sms"), ("offer", "none")]),
            dimensions(&[("channel", "email"), ("offer", "10")]),
        ]
    }

    fn layout(limit: usize) -> Layout {
        let columns = ["intercept", "age", "rare", "city = Rom"].map(str::to_owned).to_vec();
        Layout::new(columns, &[1.0, 1.0, 0.01, 0.2], &actions(), limit).unwrap()
    }

    #[test]
    fn one_name_per_coefficient() {
        let layout = layout(1024);
        assert_eq!(layout.len(), 4 + 4 + 4 * 4 + 3);
        let names = layout.coefficient_names();
        assert_eq!(names.len(), layout.len());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        let mut blocks: Vec<usize> = layout.blocks().into_iter().flat_map(|block| block.coefficients).collect();
        blocks.sort_unstable();
        assert_eq!(blocks, (1..layout.len()).collect::<Vec<_>>(), "every coefficient but the first is in one block");
        assert!(layout.left_out(&[1.0; 4]).is_empty());
    }

    #[test]
    fn the_limit_drops_the_least_varying_interactions_first() {
        let layout = layout(23);
        assert_eq!(layout.interacting, [0, 1, 3]);
        assert_eq!(layout.left_out(&[1.0, 1.0, 0.01, 0.2]), ["interactions of rare"]);
        for limit in 6..30 {
            assert!(self::layout(limit).len() <= limit, "{limit}");
        }
        let columns = vec!["intercept".to_owned()];
        assert_eq!(
            Layout::new(columns, &[1.0], &actions(), 5),
            Err(LayoutError::TooManyLevels { levels: 4, limit: 5 })
        );
    }

    #[test]
    fn curves_bend_the_base_alone_and_go_first() {
        let columns = ["intercept", "age", "age above 30", "age above 50", "member"].map(str::to_owned).to_vec();
        let variances = [1.0, 1.0, 0.4, 0.3, 0.2];
        let layout = |limit| {
            Layout::with_roles(
                columns.clone(),
                Roles { offset: None, curves: vec![2, 3] },
                &variances,
                &actions(),
                limit,
            )
            .unwrap()
        };
        let full = layout(1024);
        assert_eq!((full.base.len(), full.send.len(), full.interacting.len()), (5, 3, 3));
        assert!(full.left_out(&variances).is_empty() && full.is_consistent());
        let names = |family: &str| {
            let blocks = full.blocks().into_iter().filter(|found| found.family == family);
            let coefficients = blocks.flat_map(|block| block.coefficients);
            coefficients.map(|at| full.coefficient_names()[at].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names("base"), ["base: age", "base: member"]);
        assert_eq!(names("base curves"), ["base: age above 30", "base: age above 50"]);

        let tight = layout(full.len() - 1);
        assert_eq!((tight.base.as_slice(), tight.interacting.len()), ([0, 1, 2, 4].as_slice(), 3));
        assert_eq!(tight.left_out(&variances), ["base effect of age above 50"]);
        let tighter = layout(full.len() - 3);
        assert_eq!((tighter.base.as_slice(), tighter.interacting.len()), ([0, 1, 4].as_slice(), 2));
        for limit in 6..30 {
            assert!(layout(limit).len() <= limit, "{limit}");
        }
    }

    #[test]
    fn a_layout_from_before_curves_reads_back() {
        let plain = layout(1024);
        let written = serde_json::to_string(&plain).unwrap();
        assert!(!written.contains("curves"), "{written}");
        assert_eq!(serde_json::from_str::<Layout>(&written).unwrap(), plain);
    }

    #[test]
    fn inconsistent_layouts_are_known() {
        let sound = layout(1024);
        assert!(sound.is_consistent());
        assert!(!Layout { base: vec![0, 9], ..sound.clone() }.is_consistent());
        assert!(!Layout { send: vec![1, 0], ..sound.clone() }.is_consistent());
        assert!(!Layout { pairs: vec![(0, 9)], ..sound.clone() }.is_consistent());
        assert!(!Layout { base: Vec::new(), ..sound }.is_consistent());
    }

    #[test]
    fn design_rows_touch_base_alone_without_a_send() {
        let layout = layout(1024);
        let encoded = [1.0, 0.5, 0.0, 1.0];
        let mut row = Vec::new();
        layout.design(&encoded, None, &mut row);
        assert_eq!(row, [(0, 1.0), (1, 0.5), (3, 1.0)]);
        layout.design(&encoded, Some(&layout.arm(&actions()[2])), &mut row);
        assert_eq!(row.len(), 3 + 3 + 2 * 3 + 1);
        assert!(row.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn unknown_levels_add_nothing() {
        let layout = layout(1024);
        let arm = layout.arm(&dimensions(&[("channel", "push"), ("offer", "10")]));
        assert_eq!((arm.levels.len(), arm.pairs.len()), (1, 0));
    }

    #[test]
    fn coefficients_are_found_again_by_meaning() {
        let old = layout(1024);
        let mut more = actions();
        more.push(dimensions(&[("channel", "push"), ("offer", "10")]));
        let columns = ["intercept", "age", "city = Rom"].map(str::to_owned).to_vec();
        let new = Layout::new(columns, &[1.0, 1.0, 0.2], &more, 1024).unwrap();
        let positions = new.positions_in(&old);
        let (old_names, new_names) = (old.coefficient_names(), new.coefficient_names());
        for (name, position) in new_names.iter().zip(positions) {
            assert_eq!(position.map(|at| &old_names[at]), old_names.iter().find(|old| *old == name));
        }
    }
}
