//! Effects in words.

use super::feature::Feature;
use super::lever::Contrast;
use super::Seen;

/// What is said of any send against none.
const SENT: (&str, &str) = ("sent", "at all");

impl Contrast {
    /// Dimension and level, or the other level where there are two.
    pub(super) fn names(&self, turned: bool) -> (&str, &str) {
        match self {
            Contrast::Sent => SENT,
            Contrast::Level { dimension, other: Some(other), .. } if turned => (dimension, other),
            Contrast::Level { dimension, level, .. } => (dimension, level),
        }
    }
}

/// `top_activity = martial arts and age 25 to 40`.
pub fn label(segment: &[(&Feature, u8)]) -> String {
    segment.iter().map(|(feature, level)| feature.label(*level)).collect::<Vec<_>>().join(" and ")
}

pub fn sentence(
    segment: &[(&Feature, u8)],
    contrast: &Contrast,
    turned: bool,
    seen: Option<&Seen>,
    confirmed: bool,
) -> String {
    let who = segment.iter().map(|(feature, level)| feature.clause(*level)).collect::<Vec<_>>().join(" and whose ");
    let what = match (contrast, contrast.names(turned)) {
        (Contrast::Sent, _) => "when sent something as when not".to_owned(),
        (Contrast::Level { level, other: Some(other), .. }, (dimension, name)) => {
            format!("to {dimension} {name} as to {}", if turned { level } else { other })
        }
        (Contrast::Level { .. }, (dimension, name)) => format!("to {dimension} {name} as to any other {dimension}"),
    };
    let Some(seen) = seen else {
        return format!("customers whose {who} seemed to respond otherwise than others {what}, but too few responded among those it was to be confirmed by");
    };
    let doubt = if confirmed { "" } else { "; not confirmed by the other half of the customers" };
    format!(
        "customers whose {who} respond {} × as often {what}, others {} ×: {} times as much, 90 % interval {} to {}{doubt}",
        number(seen.inside),
        number(seen.outside),
        number(seen.ratio.estimate),
        number(seen.ratio.lower),
        number(seen.ratio.upper),
    )
}

/// With two digits or so.
fn number(x: f64) -> String {
    match x {
        x if x < 0.995 => format!("{x:.2}"),
        x if x < 99.5 => format!("{x:.1}"),
        x => format!("{x:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::feature::{Known, Sampled};
    use super::*;
    use crate::measure::Bounded;

    #[test]
    fn read_well() {
        let mut sample = Sampled::default();
        for n in 0..90 {
            let activity = Known::Text(["martial arts", "swimming", "yoga"][n % 3].to_owned());
            sample.add([("top_activity".to_owned(), activity), ("age".to_owned(), Known::Number(n as f64))]);
        }
        let features = sample.features();
        let find = |name: &str| features.iter().find(|feature| feature.name == name).unwrap();
        let activity = (find("top_activity"), find("top_activity").level(&Known::Text("martial arts".to_owned())));
        let age = (find("age"), find("age").level(&Known::Number(40.0)));
        let message = Contrast::Level { dimension: "message".into(), level: "swimming".into(), other: None };
        let ratio = Bounded { estimate: 2.123, lower: 1.41, upper: 2.94 };
        let seen = Seen { rate: 0.2, baseline: 0.1, inside: 2.1, outside: 0.987, ratio };
        assert_eq!(
            sentence(&[activity], &message, false, Some(&seen), true),
            "customers whose top_activity is martial arts respond 2.1 × as often to message swimming as to any other message, \
             others 0.99 ×: 2.1 times as much, 90 % interval 1.4 to 2.9"
        );
        let channel = Contrast::Level { dimension: "channel".into(), level: "email".into(), other: Some("sms".into()) };
        assert_eq!(
            sentence(&[activity, age], &channel, true, Some(&seen), false),
            "customers whose top_activity is martial arts and whose age is 30 to 60 respond 2.1 × as often to channel sms as to email, \
             others 0.99 ×: 2.1 times as much, 90 % interval 1.4 to 2.9; not confirmed by the other half of the customers"
        );
        assert_eq!(label(&[activity, age]), "top_activity = martial arts and age 30 to 60");
        assert!(sentence(&[age], &Contrast::Sent, false, None, false).contains("too few responded"));
    }
}
