//! What can be done for customers: the levels of the dimensions, each against the others.

use std::collections::{BTreeMap, BTreeSet};

use crate::learn::Dimensions;

/// Contrasts that are looked at, a bit each.
const CONTRASTS: usize = 64;

/// A level of a dimension against its others, or any send against none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contrast {
    Sent,
    /// A level, and the other one where there are two: then the second would say the same again.
    Level {
        dimension: String,
        level: String,
        other: Option<String>,
    },
}

/// The contrasts of a campaign, and the actions on either side of each.
#[derive(Clone, Debug, Default)]
pub struct Levers {
    pub contrasts: Vec<Contrast>,
    /// By action, which contrasts it is on this side of, as bits.
    with: Vec<u64>,
    against: Vec<u64>,
}

impl Levers {
    /// Of actions by position; `None` is no-send.
    pub fn new(actions: &[Option<&Dimensions>]) -> Self {
        let mut dimensions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (dimension, level) in actions.iter().copied().flatten().flatten() {
            dimensions.entry(dimension).or_default().insert(level);
        }
        let mut contrasts = vec![Contrast::Sent];
        for (dimension, levels) in dimensions {
            let levels: Vec<&str> = levels.into_iter().collect();
            let contrast = |level: &str, other: Option<&str>| Contrast::Level {
                dimension: dimension.to_owned(),
                level: level.to_owned(),
                other: other.map(str::to_owned),
            };
            match levels.as_slice() {
                [] | [_] => {}
                [level, other] => contrasts.push(contrast(level, Some(other))),
                levels => contrasts.extend(levels.iter().map(|level| contrast(level, None))),
            }
        }
        contrasts.truncate(CONTRASTS);
        let bits = |wanted: &dyn Fn(&Contrast) -> bool| {
            contrasts
                .iter()
                .zip(0..)
                .filter(|(contrast, _)| wanted(contrast))
                .fold(0, |bits, (_, at)| bits | 1_u64 << at)
        };
        let (mut with, mut against) = (Vec::new(), Vec::new());
        for action in actions {
            with.push(bits(&|contrast| match contrast {
                Contrast::Sent => action.is_some(),
                Contrast::Level { dimension, level, .. } => action.is_some_and(|d| d.get(dimension) == Some(level)),
            }));
            against.push(bits(&|contrast| match contrast {
                Contrast::Sent => action.is_none(),
                Contrast::Level { dimension, level, .. } => {
                    action.and_then(|d| d.get(dimension)).is_some_and(|known| known != level)
                }
            }));
        }
        Levers { contrasts, with, against }
    }

    /// The contrasts of which a decision tells, on this side and on the other: those of which both sides were possible.
    pub fn told(&self, taken: usize, candidates: &[usize]) -> (u64, u64) {
        let any = |side: &[u64]| candidates.iter().fold(0, |bits, action| bits | side[*action]);
        let both = any(&self.with) & any(&self.against);
        (self.with[taken] & both, self.against[taken] & both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_must_have_been_possible() {
        let action = |message: &str, channel: &str| -> Dimensions {
            [("message", message), ("channel", channel)].map(|(d, l)| (d.to_owned(), l.to_owned())).into()
        };
        let actions = [action("a", "sms"), action("b", "sms"), action("c", "email")];
        let levers = Levers::new(&[None, Some(&actions[0]), Some(&actions[1]), Some(&actions[2])]);
        let level = |dimension: &str, level: &str, other: Option<&str>| Contrast::Level {
            dimension: dimension.to_owned(),
            level: level.to_owned(),
            other: other.map(str::to_owned),
        };
        let expected = [
            Contrast::Sent,
            level("channel", "email", Some("sms")),
            level("message", "a", None),
            level("message", "b", None),
            level("message", "c", None),
        ];
        assert_eq!(levers.contrasts, expected);
        // Message a by sms, and all was possible; no-send; and where only a and b were.
        assert_eq!(levers.told(1, &[0, 1, 2, 3]), (0b00101, 0b11010));
        assert_eq!(levers.told(0, &[0, 1, 2, 3]), (0, 0b00001));
        assert_eq!(levers.told(1, &[1, 2]), (0b00100, 0b01000));
    }
}
