//! When each action may be sent first, worked out once for all customers of a call who are in the same place.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::rules::Place;
use crate::api::campaign::Campaign;
use crate::pg::error::Result;

/// By arm: a moment in microseconds, or what keeps the action back.
pub type Moments = Rc<Vec<std::result::Result<i64, String>>>;

type Key = (Option<String>, Option<String>);

pub struct Timetable {
    now: i64,
    known: RefCell<HashMap<Key, Moments>>,
}

impl Timetable {
    /// `now` in microseconds.
    pub fn new(now: i64) -> Self {
        Timetable { now, known: RefCell::default() }
    }

    pub fn moments(&self, campaign: &Campaign, place: &Place<'_>) -> Result<Moments> {
        let key = (place.zone.map(str::to_owned), place.jurisdiction.map(str::to_owned));
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(known.clone());
        }
        let arms = 0..campaign.actions.len();
        let moments: Moments =
            Rc::new(arms.map(|arm| campaign.guardrails.moment(campaign, place, arm, self.now)).collect::<Result<_>>()?);
        self.known.borrow_mut().insert(key, moments.clone());
        Ok(moments)
    }
}
