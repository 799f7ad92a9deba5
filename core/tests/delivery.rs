//! Feedback about a send, in any order.

use decisioning_core::delivery::{Report, Status};
use proptest::prelude::*;

fn reports() -> impl Strategy<Value = Vec<Report>> {
    let feedback: Vec<Status> = Status::feedback().filter_map(Status::parse).collect();
    let report = (proptest::sample::select(feedback), 0_i64..20).prop_map(|(status, at)| Report { status, at });
    proptest::collection::vec(report, 1..8)
}

fn heard(reports: &[Report]) -> Report {
    reports.iter().fold(Report { status: Status::Queued, at: 7 }, |known, told| known.then(*told))
}

proptest! {
    #[test]
    fn the_order_in_which_reports_are_heard_does_not_matter(
        (reports, shuffled) in reports().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
    ) {
        prop_assert_eq!(heard(&reports), heard(&shuffled));
        let twice: Vec<Report> = reports.iter().chain(&shuffled).copied().collect();
        prop_assert_eq!(heard(&reports), heard(&twice));
    }
}
