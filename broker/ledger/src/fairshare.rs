//! Who is next, and how much each may have, where there is less than all want.
//!
//! Four ways, each of a system that people know: [`share_value`] orders groups by what they borrow (Kueue),
//! [`divide`] gives each what it deserves and shares out the rest by weight (KAI-Scheduler), [`scale`] shrinks quotas
//! to a pool that is smaller than they are (HTCondor), and [`factors`] orders by what was used (Slurm). [`bill`] adds
//! up what of several resources is used.
//!
//! Integers throughout: the same figures give the same order on every machine.

mod billing;
mod borrowed;
mod deserved;
mod factor;
mod scaling;

pub use billing::bill;
pub use borrowed::{ShareNode, fill, share_value};
pub use deserved::{Division, Queue, divide};
pub use factor::{Account, Factor, ONE, factors};
pub use scaling::scale;
