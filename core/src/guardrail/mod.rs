//! What a customer may be sent, and when: windows of the day, caps on contacts, order of messages.
//!
//! Nothing here knows a table. A customer's contacts are times with the action taken; what an action is, is told by a closure
//! or a position. Every function is exact: what it allows may be done, whatever else happens later.

mod cap;
mod contest;
mod order;
mod selector;
mod window;

pub use cap::{Cap, CapError, Contact, Ramp, Span};
pub use contest::Claim;
pub use order::{Order, Requirement};
pub use selector::{Facts, Selector};
pub use window::{Clock, Hours, Kind, Stretch, WeekdayError, Weekdays};
