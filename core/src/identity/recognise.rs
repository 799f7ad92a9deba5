//! Who somebody is who shows up online with some identifiers.
//!
//! The strongest identifier that is known decides, unless a stronger one that is new contradicts it: somebody with a new
//! login on a known device is somebody new. Nobody is merged here: who else the identifiers belong to is a conflict that
//! the next full run settles, with the same rules.

use std::collections::HashMap;

use super::{Identifier, Rules};

/// An identifier that was shown, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub identifier: Identifier,
    /// Normalised.
    pub value: String,
    pub owner: Owner,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Never seen.
    New,
    /// Known to identify nobody: too many records or persons share it.
    Nobody,
    Customer(String),
}

/// Who it is, and what to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// Nothing that was shown identifies anybody.
    Nobody,
    /// A known customer. `attach` are the new identifiers that become theirs, by place in the input.
    Known { customer_id: String, attach: Vec<usize>, conflicts: Vec<usize> },
    /// Somebody new, with these identifiers.
    Unknown { attach: Vec<usize>, conflicts: Vec<usize> },
}

/// Sorts identifiers from the strongest to the weakest and drops repeated and disabled ones. [`recognise`] expects this, and
/// whoever writes in this order does not deadlock with others who do.
pub fn strongest_first(rules: &Rules, shown: &mut Vec<(Identifier, String)>) {
    shown.retain(|(identifier, _)| rules.rule(identifier).enabled);
    shown.sort_by(|a, b| (rules.rule(&a.0).priority, a).cmp(&(rules.rule(&b.0).priority, b)));
    shown.dedup();
}

/// Decides who it is. `held(customer, identifier)` is the number of values of an identifier that a customer has.
pub fn recognise(rules: &Rules, shown: &[Shown], mut held: impl FnMut(&str, &Identifier) -> u32) -> Recognition {
    for (place, candidate) in shown.iter().enumerate() {
        let Owner::Customer(customer) = &candidate.owner else { continue };
        let attach = fitting(rules, shown, |identifier| held(customer, identifier));
        let contradicted = shown[..place].iter().enumerate().any(|(stronger, shown)| {
            shown.owner == Owner::New && shown.identifier != candidate.identifier && !attach.contains(&stronger)
        });
        if !contradicted {
            let conflicts = rest(shown, &attach, Some(customer));
            return Recognition::Known { customer_id: customer.clone(), attach, conflicts };
        }
    }
    let attach = fitting(rules, shown, |_| 0);
    if attach.is_empty() {
        return Recognition::Nobody;
    }
    let conflicts = rest(shown, &attach, None);
    Recognition::Unknown { attach, conflicts }
}

/// The same for somebody of whom it is known who it is: a customer, or `None` for somebody new.
pub fn settle(
    rules: &Rules,
    shown: &[Shown],
    customer: Option<String>,
    mut held: impl FnMut(&str, &Identifier) -> u32,
) -> Recognition {
    match customer {
        Some(customer_id) => {
            let attach = fitting(rules, shown, |identifier| held(&customer_id, identifier));
            let conflicts = rest(shown, &attach, Some(&customer_id));
            Recognition::Known { customer_id, attach, conflicts }
        }
        None => {
            let attach = fitting(rules, shown, |_| 0);
            let conflicts = rest(shown, &attach, None);
            Recognition::Unknown { attach, conflicts }
        }
    }
}

/// New identifiers for which somebody who holds so many values has room.
fn fitting(rules: &Rules, shown: &[Shown], mut held: impl FnMut(&Identifier) -> u32) -> Vec<usize> {
    let mut room: HashMap<&Identifier, u32> = HashMap::new();
    let mut fitting = Vec::new();
    for (place, Shown { identifier, owner, .. }) in shown.iter().enumerate() {
        if *owner == Owner::New {
            let room = room
                .entry(identifier)
                .or_insert_with(|| rules.rule(identifier).identity_limit.saturating_sub(held(identifier)));
            if *room > 0 {
                *room -= 1;
                fitting.push(place);
            }
        }
    }
    fitting
}

/// What neither became the customer's nor was it.
fn rest(shown: &[Shown], attached: &[usize], customer: Option<&String>) -> Vec<usize> {
    let is_conflict = |place: usize| match &shown[place].owner {
        Owner::New => !attached.contains(&place),
        Owner::Nobody => false,
        Owner::Customer(owner) => Some(owner) != customer,
    };
    (0..shown.len()).filter(|place| is_conflict(*place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(identifier: &str, value: &str, owner: &str) -> Shown {
        let owner = match owner {
            "" => Owner::New,
            "-" => Owner::Nobody,
            customer => Owner::Customer(customer.to_owned()),
        };
        Shown { identifier: identifier.parse().unwrap(), value: value.to_owned(), owner }
    }

    fn known(customer_id: &str, attach: &[usize], conflicts: &[usize]) -> Recognition {
        let customer_id = customer_id.to_owned();
        Recognition::Known { customer_id, attach: attach.to_vec(), conflicts: conflicts.to_vec() }
    }

    #[test]
    fn the_strongest_known_identifier_decides() {
        let shown = [shown("external_id", "A", "a"), shown("email", "e", ""), shown("device_id", "d", "b")];
        assert_eq!(recognise(&Rules::default(), &shown, |_, _| 1), known("a", &[1], &[2]));
    }

    #[test]
    fn a_new_login_on_a_known_device_is_somebody_new() {
        let shown = [shown("external_id", "B", ""), shown("device_id", "d", "a")];
        let has_login = |_: &str, identifier: &Identifier| u32::from(identifier.to_string() == "external_id");
        assert_eq!(
            recognise(&Rules::default(), &shown, has_login),
            Recognition::Unknown { attach: vec![0], conflicts: vec![1] }
        );
        // A device that nobody has logged in on yet belongs to who does.
        assert_eq!(recognise(&Rules::default(), &shown, |_, _| 0), known("a", &[0], &[]));
    }

    #[test]
    fn what_does_not_fit_is_not_attached() {
        let shown = [shown("external_id", "A", "a"), shown("email", "e1", ""), shown("email", "e2", "")];
        assert_eq!(recognise(&Rules::default(), &shown, |_, _| 4), known("a", &[1], &[2]));
    }

    #[test]
    fn nobody_is_recognised_by_what_everybody_has() {
        assert_eq!(recognise(&Rules::default(), &[], |_, _| 0), Recognition::Nobody);
        assert_eq!(recognise(&Rules::default(), &[shown("device_id", "kiosk", "-")], |_, _| 0), Recognition::Nobody);
    }

    #[test]
    fn identifiers_are_sorted_by_strength() {
        let pair = |identifier: &str, value: &str| (identifier.parse::<Identifier>().unwrap(), value.to_owned());
        let mut shown = vec![
            pair("device_id", "d"),
            pair("email", "b"),
            pair("external_id:x", "1"),
            pair("email", "a"),
            pair("email", "b"),
        ];
        strongest_first(&Rules::default(), &mut shown);
        assert_eq!(shown, [pair("external_id:x", "1"), pair("email", "a"), pair("email", "b"), pair("device_id", "d")]);
    }
}
