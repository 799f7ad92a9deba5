//! What senders say about a send, in whatever order they say it.

/// Where a send has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    Queued,
    Claimed,
    /// Must not be made any more.
    Cancelled,
    /// Another campaign contacts the customer instead.
    Preempted,
    /// Was not made in time.
    Expired,
    /// The lease of a worker ended and he said nothing.
    Unknown,
    /// Nobody said anything for days.
    AssumedSent,
    Failed,
    /// Not delivered this time.
    SoftBounced,
    Sent,
    Delivered,
    /// The address does not take anything.
    Bounced,
    Unsubscribed,
    Complained,
}

use Status::*;

const ALL: [(Status, &str); 14] = [
    (Queued, "queued"),
    (Claimed, "claimed"),
    (Cancelled, "cancelled"),
    (Preempted, "preempted"),
    (Expired, "expired"),
    (Unknown, "unknown"),
    (AssumedSent, "assumed_sent"),
    (Failed, "failed"),
    (SoftBounced, "soft_bounced"),
    (Sent, "sent"),
    (Delivered, "delivered"),
    (Bounced, "bounced"),
    (Unsubscribed, "unsubscribed"),
    (Complained, "complained"),
];

impl Status {
    pub fn as_str(self) -> &'static str {
        ALL.iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }

    pub fn parse(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known)| *known == name).map(|(status, _)| *status)
    }

    /// Whether a sender may say so.
    pub fn is_feedback(self) -> bool {
        self.rank() > 0
    }

    /// What senders may say.
    pub fn feedback() -> impl Iterator<Item = &'static str> {
        ALL.iter().filter(|(status, _)| status.is_feedback()).map(|(_, name)| *name)
    }

    /// Whether the customer has been, or may have been, or may yet be contacted by it: then caps count it.
    pub fn counts(self) -> bool {
        !matches!(self, Cancelled | Preempted | Expired | Failed | SoftBounced | Bounced)
    }

    /// Whether the customer must not be sent anything on the channel after it.
    pub fn suppresses(self) -> bool {
        matches!(self, Bounced | Unsubscribed | Complained)
    }

    /// How final a status is. Attempts are all of one rank: a send that failed may be tried again.
    fn rank(self) -> u8 {
        match self {
            Queued | Claimed | Cancelled | Preempted | Expired | Unknown | AssumedSent => 0,
            Failed | SoftBounced | Sent => 1,
            Delivered => 2,
            Bounced => 3,
            Unsubscribed => 4,
            Complained => 5,
        }
    }
}

/// A status, and when a send came to it, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub status: Status,
    pub at: i64,
}

impl Report {
    /// What holds when `told` is heard after this: the most final status, as of its first time; of attempts the latest. In
    /// whatever order, and however often, the same reports are heard, the same holds in the end.
    pub fn then(self, told: Report) -> Report {
        let key = |report: Report| {
            let rank = report.status.rank();
            let time = if rank == 1 { report.at } else { -report.at };
            (rank, time, report.status)
        };
        if told.status.is_feedback() && key(told) > key(self) {
            told
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: Status, at: i64) -> Report {
        Report { status, at }
    }

    #[test]
    fn names_are_those_that_are_read() {
        for (status, name) in ALL {
            assert_eq!(Status::parse(name), Some(status));
            assert_eq!(status.as_str(), name);
        }
        assert_eq!(Status::parse("opened"), None);
    }

    #[test]
    fn a_later_attempt_counts_and_a_late_word_does_not_undo() {
        let failed = report(Queued, 0).then(report(Failed, 10));
        assert_eq!(failed, report(Failed, 10));
        assert_eq!(failed.then(report(Sent, 20)).status, Sent, "tried again");
        assert_eq!(failed.then(report(Sent, 5)).status, Failed, "an earlier word that came late");
        let delivered = failed.then(report(Delivered, 30));
        assert_eq!(delivered.then(report(Sent, 40)), delivered);
        assert_eq!(delivered.then(report(Delivered, 50)), delivered, "said twice");
        assert_eq!(delivered.then(report(Bounced, 35)).status, Bounced, "bounces may come after the server took it");
        assert_eq!(delivered.then(report(Queued, 60)), delivered, "that is not for senders to say");
    }

    #[test]
    fn what_a_sender_says_counts_more_than_what_was_thought() {
        for ours in [Queued, Claimed, Cancelled, Expired, Unknown, AssumedSent] {
            assert_eq!(report(ours, 100).then(report(Failed, 1)).status, Failed);
        }
    }
}
