//! The agent of one node: joins, runs leased attempts, reports.
//!
//! - [`supervisor`]: one small process for each part, which outlives the agent and ends the program in time;
//! - [`part`]: the folder through which agent and supervisor speak;
//! - [`reconcile`] and [`renewals`]: what to do, purely from what is wanted, what is there, and the time;
//! - [`executor`]: carries that out: folders, supervisors, how they end;
//! - `datasets`: what parts read, brought here before they start;
//! - [`spool`]: events on the disk until the broker has them;
//! - [`inventory`]: what the node has;
//! - [`agent`]: the whole, with the session to the broker.
//!
//! A binary that runs agents hands over to the supervisor first of all:
//! ```no_run
//! if let Some(dir) = spillway_agent::supervisor::folder_to_supervise() {
//!     let code = spillway_agent::supervisor::supervise_main(std::path::Path::new(&dir));
//!     // return `code` from main
//! #   let _ = code;
//! }
//! ```

pub mod agent;
pub mod clock;
mod datasets;
pub mod executor;
pub mod inventory;
pub mod part;
pub mod reconcile;
pub mod renewals;
pub mod spool;
pub mod supervisor;
