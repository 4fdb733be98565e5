//! The things that the state consists of. Each is one row of the store.

mod attempt;
mod instance;
mod job;
mod node;
mod tenant;

pub use attempt::{Attempt, Input, Machine, Moved, Part, PartState, StopCause};
pub use instance::{GoneReason, Instance, PriceStep};
pub use job::{HeldBy, Job, Tries};
pub use node::{JoinScope, JoinToken, Node, Pool, Site};
pub use tenant::{Group, Submission, Token, User};
