//! The real core and planner under a virtual clock: simulated nodes and a simulated cloud around them.
//!
//! - [`World`] owns a federation, a clock that only [`World::pass`] moves, nodes and machines. It does what the
//!   server does, step by step, and records every journal entry. Tests drive it by hand.
//! - [`Simulation`] drives a world by itself: work comes in, nodes run it, the cloud launches and ends machines.
//! - [`replay()`] drives one from event to event through a whole trace, under any [`Scheduler`].
//! - [`baselines`] are the schedulers that others have published, to compare with.
//! - [`trace`] reads what once ran, [`generate`] makes it up, [`federation`] says where it is to run, [`contender`]
//!   who decides, and [`report`] what came of it; [`match_wait`] makes contenders comparable.
//!
//! The same seed and description give the same journal. There is no clock, no thread and no I/O here. It leaves
//! out on purpose: networks (a node is connected or not), output of programs, and the time that messages take.

mod outside;
mod replay;
mod scheduler;
mod simulation;
mod world;

mod cloud;
mod node;
mod random;

pub mod baselines;
pub mod contender;
pub mod federation;
pub mod generate;
pub mod match_wait;
pub mod report;
pub mod trace;

pub use cloud::{Answer, Machine};
pub use node::{FakeNode, Link, Program};
pub use outside::{Failing, Fault, OfferNews, OfferStep, Outside};
pub use random::Random;
pub use replay::{
    Asks, Place, Placed, Progress, Replay, ReplayError, Sample, TraceJob, Trouble, replay, replay_posting,
};
pub use scheduler::{PlannerScheduler, Scheduler, Seen};
pub use simulation::{Description, Simulation, Summary, Work};
pub use world::{JournalEntry, Keep, Records, Watch, World};
