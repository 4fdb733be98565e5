//! The real core and planner under a virtual clock: simulated nodes and a simulated cloud around them.
//!
//! - [`World`] owns a federation, a clock that only [`World::pass`] moves, nodes and machines. It does what the
//!   server does, step by step, and records every journal entry. Tests drive it by hand.
//! - [`Simulation`] drives a world by itself: work comes in, nodes run it, the cloud launches and ends machines.
//!
//! The same seed and description give the same journal. There is no clock, no thread and no I/O here. It leaves
//! out on purpose: networks (a node is connected or not), output of programs, and the time that messages take.

mod simulation;
mod world;

mod cloud;
mod node;
mod random;

pub use cloud::{Answer, Machine};
pub use node::{FakeNode, Link, Program};
pub use random::Random;
pub use simulation::{Description, Simulation, Summary, Work};
pub use world::{JournalEntry, Records, Watch, World};
