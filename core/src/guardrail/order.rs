//! Order of messages: one only after another, or never after it.

use super::cap::Contact;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// There must have been a contact of the other kind before.
    After,
    /// There must not have been one.
    NotAfter,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    pub requirement: Requirement,
    /// How long a contact counts, in microseconds; `None` for ever.
    pub within: Option<i64>,
}

impl Order {
    /// Whether a contact at `at` would break the rule; `other` tells contacts of the other kind. For [`Requirement::NotAfter`]
    /// contacts that are reserved for a later moment count too, since they would come into the same stretch.
    pub fn forbids<A: Copy>(&self, contacts: &[Contact<A>], at: i64, other: impl Fn(A) -> bool) -> bool {
        let near = |distance: i64| self.within.is_none_or(|within| distance < within);
        let mut others = contacts.iter().filter(|contact| other(contact.action));
        match self.requirement {
            Requirement::After => !others.any(|contact| contact.at <= at && near(at - contact.at)),
            Requirement::NotAfter => others.any(|contact| near((at - contact.at).abs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_needs_an_earlier_contact_and_not_after_none_near() {
        let contacts = [Contact { at: 10, action: 'a' }, Contact { at: 50, action: 'b' }];
        let forbids = |requirement, within, at, other| {
            Order { requirement, within }.forbids(&contacts, at, |action| action == other)
        };
        use Requirement::{After, NotAfter};
        assert!(forbids(After, None, 5, 'a'), "not yet");
        assert!(!forbids(After, None, 10, 'a'));
        assert!(!forbids(After, Some(20), 29, 'a'));
        assert!(forbids(After, Some(20), 30, 'a'), "too long ago");
        assert!(forbids(After, None, 100, 'c'));
        assert!(forbids(NotAfter, None, 100, 'a'));
        assert!(!forbids(NotAfter, None, 100, 'c'));
        assert!(!forbids(NotAfter, Some(20), 30, 'a'));
        assert!(forbids(NotAfter, Some(20), 40, 'b'), "one that is to come is near, too");
    }
}
