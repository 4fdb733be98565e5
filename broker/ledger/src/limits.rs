//! What groups may use: how many accelerators at once, how much accelerator time and money over a window.
//!
//! [`Limits`] knows the tree of groups, their limits, and what is held and used. The way of one attempt:
//! [`Limits::hold`] checks every limit of its group and of all above it at once and reserves, or says which one
//! binds; [`Limits::extend`] does the same for a rolling lease; [`Limits::charge`] turns what is held into what is
//! used and is never refused; [`Limits::step`] ends it and gives back what was not needed. Each hold resolves once.
//!
//! Rules: accelerators at once may be lent and borrowed between groups ([`quota`]); budgets never are,
//! children may have more than their parent, and used + held stays within each limit at every ancestor. What is held
//! counts in the window of now; what is used counts in the window in which it was used, for ever.
//!
//! Where a limit's thresholds are crossed, [`alerts`] says what somebody is told.
//!
//! Left out on purpose: prices (the caller gives the most that is to be paid), when a slice of use was reported
//! before ([`crate::SliceBook`]), and postings, which are [`crate::Book`]'s.

pub mod alerts;
pub mod quota;

mod amount;
mod demand;
mod grants;
mod limit;
mod phase;
mod refusal;
mod tally;
mod weights;

mod admit;
mod change;
mod rows;
mod state;
mod transfer;
mod view;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use admit::{Charge, Extension, HoldError};
pub use amount::AmountError;
pub use change::LimitsError;
pub use demand::{Adjustment, Demand, LeaseTerms, Place, Share, overshoot_micros};
pub use limit::{Action, Limit, LimitId, LimitProblem, MAX_AMOUNT, MAX_THRESHOLDS, Metric, Scope, TermError};
pub use phase::{HoldPhase, HoldStep};
pub use refusal::{LimitRefusal, LimitRefusalKind};
pub use rows::{LimitKey, LimitRow, LimitsChange};
pub use state::{Holding, Limits};
pub use tally::Tally;
pub use transfer::Transfer;
pub use view::{Standing, Use};
pub use weights::{DEFAULT_WEIGHT, WeightChange, WeightError, Weights};
