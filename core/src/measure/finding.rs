//! What a readout comes to, in a word.

use super::readout::Bounded;

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Too few have responded to say anything.
    Collecting,
    /// It may be chance.
    Inconclusive,
    /// More of a success, or less of a harm.
    Positive,
    /// Less of a success, or more of a harm than is tolerated.
    Negative,
    /// If there is more of a harm, then no more than is tolerated.
    Tolerated,
    /// The groups are not as large as they should be: no difference between them means anything.
    Invalid,
    /// The groups differ in a feature as it was before: no difference between them means anything.
    Unlike,
}

impl Finding {
    pub fn as_str(self) -> &'static str {
        match self {
            Finding::Collecting => "collecting",
            Finding::Inconclusive => "inconclusive",
            Finding::Positive => "positive",
            Finding::Negative => "negative",
            Finding::Tolerated => "tolerated",
            Finding::Invalid => "invalid: sample ratio",
            Finding::Unlike => "invalid: features",
        }
    }

    /// Whether differences mean something.
    pub fn is_valid(self) -> bool {
        !matches!(self, Finding::Invalid | Finding::Unlike)
    }

    /// Of a success, by the bounds of its difference; `None` are no bounds yet.
    pub fn of_success(bounds: Option<Bounded>) -> Self {
        match bounds {
            None => Finding::Collecting,
            Some(bounds) if bounds.lower > 0.0 => Finding::Positive,
            Some(bounds) if bounds.upper < 0.0 => Finding::Negative,
            Some(_) => Finding::Inconclusive,
        }
    }

    /// Of a harm of which so large an increase is tolerated.
    pub fn of_harm(bounds: Option<Bounded>, tolerated: f64) -> Self {
        match bounds {
            None => Finding::Collecting,
            Some(bounds) if bounds.upper < 0.0 => Finding::Positive,
            Some(bounds) if bounds.lower > tolerated => Finding::Negative,
            Some(bounds) if bounds.upper <= tolerated => Finding::Tolerated,
            Some(_) => Finding::Inconclusive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let bounds = |lower: f64, upper: f64| Some(Bounded { estimate: (lower + upper) / 2.0, lower, upper });
        let success = [None, bounds(0.1, 0.2), bounds(-0.2, -0.1), bounds(-0.1, 0.1)].map(Finding::of_success);
        use Finding::{Collecting, Inconclusive, Negative, Positive, Tolerated};
        assert_eq!(success, [Collecting, Positive, Negative, Inconclusive]);
        let harm = [None, bounds(-0.2, -0.1), bounds(0.03, 0.04), bounds(0.001, 0.015), bounds(0.001, 0.03)];
        let harm = harm.map(|bounds| Finding::of_harm(bounds, 0.02));
        assert_eq!(harm, [Collecting, Positive, Negative, Tolerated, Inconclusive]);
    }
}
