//! The protocol, pure: messages, framing and limits. Knows no sockets.

pub mod message;

pub use message::*;
