//! The protocol, pure: messages, framing, limits and the delay before a reconnect. Knows no sockets.

pub mod backoff;
pub mod frame;
pub mod message;
pub mod usage;

pub use message::*;
pub use usage::*;
