//! Access and residency: policies in Cedar that say which job may run where, and cases that hold them to it.
//!
//! Invariants:
//! - What is not permitted is denied, and what a policy cannot decide is denied: an evaluation error never opens a
//!   place.
//! - A rule set that exists fits the schema, strictly: no unknown attribute, no kind that does not exist, no policy that
//!   could never apply, an `@id` on each.
//! - The same request gets the same answer, with the deciding policies in the order of their ids.
//!
//! Left out on purpose: what a job says of itself (`allow`, `residency`, `max_price`) and the groups of a pool, which
//! the planner judges with or without policies; templates, since nothing would link them; addresses, decimals and
//! dates, which Cedar knows but no request has: no clock is read.

mod cases;
mod depth;
mod entities;
mod error;
mod request;
mod rules;
mod schema;
mod source;
#[cfg(test)]
mod testing;

pub use cases::{CaseReport, CaseResult, CasesError, MAX_CASES_BYTES};
pub use depth::MAX_SIGNS;
pub use error::{AccessError, At, Problem};
pub use request::{Asker, Input, JobFacts, NO_JURISDICTION, PlaceFacts, Request};
pub use rules::{Access, AccessRules, Decision, PolicyFailure};
pub use schema::SCHEMA;
pub use source::{MAX_FILE_BYTES, MAX_FILES, MAX_ID, MAX_POLICIES};
