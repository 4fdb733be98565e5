//! The datasets that parts read: brought to this node before their parts are ready to start, and kept for the next.
//!
//! 1. A path is used where it lies. A URL is downloaded to `STATE/datasets/NAME/VERSION/NAME`, where the version is the
//!    content's SHA-256, or its size where nobody said one.
//! 2. One part downloads a content at a time; others that need it wait, and go on where it ended, be it whole or not.
//! 3. A download goes to `.partial` beside it. A connection that breaks, and an agent that starts again, go on at its
//!    end. Its name carries the boot where no hash would tell what a crash of the machine has left of it.
//! 4. What came over the network is written down in `STATE/datasets/.moves` before the first byte, and said to the broker
//!    as the part's, however the download ends. The record goes when the broker has what it says.
//! 5. Where room is short, contents that no living part reads are removed, the longest unused first.
//!
//! Who reads what and which part goes on is the engine's; here is only what takes time.

mod content;
mod fetch;
mod moves;
mod room;
mod stage;

pub(crate) use moves::Move;
pub(crate) use stage::{Brought, Datasets, Wanted};
