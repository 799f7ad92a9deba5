//! Sums by when their decisions were made.

use super::statistics::Statistics;

/// An epoch begins this share of the attribution window after the one before, or later.
const SHORTEST: f64 = 0.5;

/// Two neighbours become one when they are no longer together than this share of their age: what is long ago need not be told
/// apart as finely, and there are few.
const LONGEST: f64 = 0.5;

/// Windows back at which epochs begin when much is absorbed at once: the least that are not joined soon. What is older is one.
const BEGINNINGS: [f64; 8] = [16.0, 12.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5];

/// Sums over the decisions of one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// When it begins, in microseconds; it ends where the next one begins. The first holds what is older as well, and the last
    /// what is younger.
    pub since: i64,
    pub sums: Statistics,
    /// Whether more than discounting has happened to it since it was read.
    pub changed: bool,
}

/// Sums over decisions, those of about the same time together: so that a drift between any two epochs can be told, and what was
/// learned before it put aside, until epochs on both sides are joined.
#[derive(Clone, Debug, PartialEq)]
pub struct Epochs {
    /// Number of coefficients.
    len: usize,
    /// The oldest first.
    epochs: Vec<Epoch>,
}

impl Epochs {
    pub fn new(len: usize) -> Self {
        Epochs { len, epochs: Vec::new() }
    }

    /// Those that were kept; `None` if they are not in order or of another length.
    pub fn of(len: usize, epochs: Vec<Epoch>) -> Option<Self> {
        let sound = epochs.iter().all(|epoch| epoch.sums.len() == len)
            && epochs.windows(2).all(|pair| pair[0].since < pair[1].since);
        sound.then_some(Epochs { len, epochs })
    }

    /// Epochs that begin at these times, in which nothing is summed up.
    pub fn beginning(len: usize, at: impl IntoIterator<Item = i64>) -> Self {
        let mut beginnings: Vec<i64> = at.into_iter().collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        let mut epochs = Epochs::new(len);
        beginnings.into_iter().for_each(|since| epochs.push(since));
        epochs
    }

    /// The same epochs, in which nothing is summed up; with those that would be begun if much of before the first came at once.
    pub fn emptied(&self, now: i64, window: f64) -> Self {
        let kept: Vec<i64> = self.epochs.iter().map(|epoch| epoch.since).filter(|since| *since <= now).collect();
        let first = kept.first().copied().unwrap_or(i64::MAX);
        let mut earlier = Epochs::new(self.len);
        earlier.begin(i64::MIN, now, window);
        let earlier = earlier.epochs.into_iter().map(|epoch| epoch.since).filter(|since| *since < first);
        let mut epochs = Epochs::beginning(self.len, earlier.chain(kept));
        epochs.begin(i64::MIN, now, window);
        epochs
    }

    /// The oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Epoch> {
        self.epochs.iter()
    }

    /// The sums of all.
    pub fn total(&self) -> Statistics {
        let mut total = Statistics::new(self.len);
        self.epochs.iter().for_each(|epoch| total.merge(&epoch.sums));
        total
    }

    /// The sums of those that begin before a moment, and of the others.
    pub fn parted(&self, moment: i64) -> (Statistics, Statistics) {
        let (mut before, mut since) = (Statistics::new(self.len), Statistics::new(self.len));
        for epoch in &self.epochs {
            if epoch.since < moment { &mut before } else { &mut since }.merge(&epoch.sums);
        }
        (before, since)
    }

    /// Multiplies all sums: what they hold fades.
    pub fn scale(&mut self, factor: f64) {
        self.epochs.iter_mut().for_each(|epoch| epoch.sums.scale(factor));
    }

    /// The same in another layout, as [`Statistics::rearranged`].
    pub fn rearranged(&self, positions: &[Option<usize>]) -> Self {
        let rearranged =
            |epoch: &Epoch| Epoch { since: epoch.since, sums: epoch.sums.rearranged(positions), changed: true };
        Epochs { len: positions.len(), epochs: self.epochs.iter().map(rearranged).collect() }
    }

    /// Empties all; they begin when they did.
    pub fn empty(&mut self) {
        for epoch in &mut self.epochs {
            *epoch = Epoch { since: epoch.since, sums: Statistics::new(self.len), changed: true };
        }
    }

    /// Makes room for decisions that were made from `from` on and whose window, of so many microseconds, has closed by `now`.
    pub fn begin(&mut self, from: i64, now: i64, window: f64) {
        let back = BEGINNINGS.map(|windows| now.saturating_sub((windows * window) as i64));
        let shortest = ((SHORTEST * window) as i64).max(1);
        for since in std::iter::once(from.max(back[0])).chain(back) {
            if self.epochs.last().is_none_or(|last| since >= last.since.saturating_add(shortest)) {
                self.push(since);
            }
        }
    }

    fn push(&mut self, since: i64) {
        self.epochs.push(Epoch { since, sums: Statistics::new(self.len), changed: true });
    }

    /// The epoch of a decision, of those that have begun.
    pub fn position(&self, decided_at: i64) -> usize {
        self.epochs.partition_point(|epoch| epoch.since <= decided_at).saturating_sub(1)
    }

    /// The sums over the epoch of a decision, to be changed. One begins with it if none has.
    pub fn at(&mut self, decided_at: i64) -> &mut Statistics {
        if self.epochs.is_empty() {
            self.push(decided_at);
        }
        let position = self.position(decided_at);
        let epoch = &mut self.epochs[position];
        epoch.changed = true;
        &mut epoch.sums
    }

    /// Joins those that need not be told apart any more, and forgets those that hold nothing. What was before a drift and what came
    /// after it stay apart, however long ago it was.
    pub fn settle(&mut self, now: i64, window: f64, drifted_at: Option<i64>) {
        self.epochs.retain(|epoch| !epoch.sums.is_zero());
        let mut at = 0;
        // The last may still grow.
        while at + 2 < self.epochs.len() {
            let (start, end) = (self.epochs[at].since, self.epochs[at + 2].since);
            let age = (now - end) as f64;
            let old = (end - start) as f64 <= LONGEST * age || age >= BEGINNINGS[0] * window;
            if old && drifted_at != Some(self.epochs[at + 1].since) {
                let next = self.epochs.remove(at + 1);
                self.epochs[at].sums.merge(&next.sums);
                self.epochs[at].changed = true;
            } else {
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn one(x: f64) -> Statistics {
        Statistics { precision: vec![x], linear: vec![2.0 * x] }
    }

    fn add(epochs: &mut Epochs, decided_at: i64, x: f64) {
        epochs.at(decided_at).merge(&one(x));
    }

    /// Days on which epochs begin, and what they hold.
    fn days(epochs: &Epochs) -> Vec<(i64, f64)> {
        epochs.iter().map(|epoch| (epoch.since / DAY, epoch.sums.precision[0])).collect()
    }

    /// A decision a day, absorbed when its window of four days has closed.
    fn daily(days: i64) -> Epochs {
        let window = 4 * DAY;
        let mut epochs = Epochs::new(1);
        for day in 0..days {
            let now = day * DAY + window;
            epochs.begin(day * DAY, now, window as f64);
            add(&mut epochs, day * DAY, 1.0);
            epochs.settle(now, window as f64, None);
        }
        epochs
    }

    #[test]
    fn recent_epochs_are_short_and_old_ones_long() {
        assert_eq!(days(&daily(5)), [(0, 2.0), (2, 2.0), (4, 1.0)]);
        let long = days(&daily(400));
        assert!(long.len() <= 14, "{long:?}");
        assert_eq!(long.iter().map(|(_, decisions)| decisions).sum::<f64>(), 400.0);
        let ends = long.iter().skip(1).map(|(since, _)| *since).chain([400]);
        for ((since, decisions), end) in long.iter().zip(ends) {
            assert_eq!(*decisions, (end - since) as f64);
            let age = 403 - end;
            assert!(*since == 0 || age < 4 || (end - since) <= age, "{since} to {end}");
        }
        assert!(long[1].0 > 400 - 4 * 16 * 2, "{long:?}");
    }

    #[test]
    fn much_at_once_is_told_apart_like_what_came_day_by_day() {
        let window = 4 * DAY;
        let mut epochs = Epochs::new(1);
        epochs.begin(0, 403 * DAY, window as f64);
        (0..400).for_each(|day| add(&mut epochs, day * DAY, 1.0));
        let before = days(&epochs);
        epochs.settle(403 * DAY, window as f64, None);
        assert_eq!(days(&epochs), before, "nothing to join");
        assert_eq!(before.len(), 8);
        assert_eq!(before[..2], [(339, 355.0), (355, 16.0)]);
        assert_eq!(before[7], (397, 3.0));
    }

    #[test]
    fn what_is_late_belongs_where_it_was_made() {
        let mut epochs = daily(5);
        add(&mut epochs, 3 * DAY, 10.0);
        add(&mut epochs, -DAY, 100.0);
        assert_eq!(days(&epochs), [(0, 102.0), (2, 12.0), (4, 1.0)]);
        let changed: Vec<bool> = epochs.iter().map(|epoch| epoch.changed).collect();
        assert_eq!(changed, [true; 3]);
        let mut first = Epochs::new(1);
        add(&mut first, 7 * DAY, 1.0);
        assert_eq!(days(&first), [(7, 1.0)]);
    }

    #[test]
    fn only_what_changed_is_called_changed() {
        let kept: Vec<Epoch> = daily(5).iter().map(|epoch| Epoch { changed: false, ..epoch.clone() }).collect();
        let mut epochs = Epochs::of(1, kept).unwrap();
        epochs.scale(0.5);
        add(&mut epochs, 2 * DAY, 1.0);
        let changed: Vec<bool> = epochs.iter().map(|epoch| epoch.changed).collect();
        assert_eq!(changed, [false, true, false]);
    }

    #[test]
    fn those_begun_anew_begin_when_they_did() {
        let epochs = daily(9);
        let mut again = epochs.emptied(12 * DAY, 4.0 * DAY as f64);
        assert!(again.total().is_zero());
        (0..9).for_each(|day| add(&mut again, day * DAY, 1.0));
        again.settle(12 * DAY, 4.0 * DAY as f64, None);
        assert_eq!(again, epochs);

        let mut late = Epochs::new(1);
        add(&mut late, 398 * DAY, 1.0);
        let mut late = late.emptied(403 * DAY, 4.0 * DAY as f64);
        (0..400).for_each(|day| add(&mut late, day * DAY, 1.0));
        late.settle(403 * DAY, 4.0 * DAY as f64, None);
        assert_eq!(
            days(&late)[..2],
            [(339, 355.0), (355, 16.0)],
            "what lies before the first that was kept is told apart"
        );
    }

    #[test]
    fn the_two_sides_of_a_drift_stay_apart() {
        let window = 4 * DAY;
        let drifted_at = 100 * DAY;
        let mut epochs = Epochs::new(1);
        for day in 0..400 {
            let now = day * DAY + window;
            epochs.begin(day * DAY, now, window as f64);
            add(&mut epochs, day * DAY, 1.0);
            epochs.settle(now, window as f64, Some(drifted_at));
        }
        assert_eq!(epochs.parted(drifted_at), (one(100.0), one(300.0)));
        assert_eq!(days(&epochs)[..2], [(0, 100.0), (100, 224.0)]);
        epochs.settle(403 * DAY, window as f64, None);
        assert_eq!(days(&epochs)[0], (0, 324.0), "until it is no drift any more");
    }

    #[test]
    fn parted_at_a_moment_and_emptied() {
        let mut epochs = daily(5);
        assert_eq!(epochs.parted(2 * DAY), (one(2.0), one(3.0)));
        assert_eq!(epochs.parted(9 * DAY), (one(5.0), Statistics::new(1)));
        epochs.empty();
        assert_eq!(days(&epochs), [(0, 0.0), (2, 0.0), (4, 0.0)]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let epoch = |since| Epoch { since, sums: one(1.0), changed: false };
        assert!(Epochs::of(1, vec![epoch(1), epoch(2)]).is_some());
        assert!(Epochs::of(1, vec![epoch(2), epoch(1)]).is_none());
        assert!(Epochs::of(2, vec![epoch(1)]).is_none());
    }

    proptest! {
        #[test]
        fn nothing_is_lost(decided in prop::collection::vec((0..500_i64, 0..20_i64), 1..60), window in 1..40_i64) {
            let window = (window * DAY / 2) as f64;
            let mut epochs = Epochs::new(1);
            let (mut now, mut sum) = (0, 0.0);
            for (n, (day, later)) in decided.iter().enumerate() {
                now = (now + later * DAY).max(day * DAY + window as i64);
                epochs.begin(day * DAY, now, window);
                add(&mut epochs, day * DAY, n as f64 + 1.0);
                sum += n as f64 + 1.0;
                if n % 3 == 0 {
                    epochs.settle(now, window, None);
                }
                prop_assert_eq!(epochs.total(), one(sum));
                prop_assert!(epochs.iter().is_sorted_by(|a, b| a.since < b.since));
            }
        }
    }
}
