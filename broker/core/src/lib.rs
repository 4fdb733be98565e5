//! The federation as one pure state machine: commands give events, events give state, and the state says what
//! should be true at each agent and each provider.
//!
//! - [`Federation::handle`] checks a command against the state and applies the events it gives. The caller
//!   writes them down in one transaction and acknowledges only then; if it cannot, it throws this state away
//!   and loads the last one that was written.
//! - `State::apply` (see [`State::replay`]) is the only place where state changes; the same events give the same state.
//! - [`desired`] and [`snapshot`] read the state; [`invariants`] checks it.
//!
//! There is no clock, no randomness and no I/O here: `now` and ids come in as arguments.

pub mod command;
pub mod desired;
pub mod entity;
pub mod event;
pub mod federation;
pub mod feed;
pub mod history;
pub mod invariants;
pub mod limited;
mod moved;
pub mod pools;
mod rating;
pub mod refusal;
pub mod shares;
pub mod snapshot;
pub mod state;
pub mod usage;
mod used;

mod apply;
mod handle;

pub use apply::ApplyError;
pub use command::{Command, Reply};
pub use event::Event;
pub use federation::{Federation, Outcome};
pub use feed::Feed;
pub use handle::MAX_DISPLACEMENTS;
pub use history::History;
pub use refusal::Refusal;
pub use state::{Changes, Key, State};
