//! Delivery: from decisions to what was sent.
//!
//! A decision that chose a send waits in the outbox. `dispatch` takes what is due and puts it into the table `sends`, whose rows
//! are synced by a tool or claimed by workers; `feedback` comes back from them, one by one or from a `source`. Whenever a send is
//! handed on, everything that could keep it back is looked at again (`recheck`).
//!
//! Whoever changes `sends` ticks its clock and holds it until he commits, so that the times of changes ascend in the order in which
//! others come to see them. All lock in this order: suppressions, as who follows identities does; the turn to say what became of sends, which
//! one session has at a time; sends, those that are free where they are handed on, and those that are meant where somebody says what became of
//! them; the clock; budgets and then assignments, as decisions do.

mod claim;
mod dispatch;
mod feedback;
mod recheck;
mod source;
mod state;

pub use feedback::begin_reports;
pub use source::{ingest_source, sources};
pub use state::{begin, cancel_suppressed, clear_outbox, keep_house, release, tick, IS_MADE, IS_RELEASED};
