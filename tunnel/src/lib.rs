//! The tunnel between broker and agents: protocol (pure), identities and enrolment, QUIC driver.
//!
//! - [`protocol`] is pure: messages, frames, limits, the delay before a reconnect.
//! - [`identity`] is the deployment's private CA, the certificates it issues, and what each side checks.
//! - [`quic`] is the thin driver: the broker's [`quic::Listener`], the agent's [`quic::enrol`] and
//!   [`quic::connect`].
//!
//! Agents dial out and never listen. The crate decides nothing about nodes, jobs or tokens: it says who is
//! at the other end and carries messages; two sessions of one node are two sessions here.
//!
//! Not here yet, each with a place of its own beside [`quic`]: the WebSocket fallback where UDP is blocked,
//! port-forwards (a kind of stream that agent and broker open), and bulk streams (a second connection, so
//! that a fault there does not end a shell).

pub mod identity;
pub mod protocol;
pub mod quic;
