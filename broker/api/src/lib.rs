//! The HTTP API of the broker: wire types v1, routes, the error envelope, and a typed client.
//!
//! Requests refuse unknown fields; answers may grow fields, and readers skip those they do not know. Server
//! and client share the paths in [`route`]. There is no HTTP server here.

pub mod client;
pub mod error;
pub mod parse;
pub mod route;
pub mod secret;
pub mod v1;

pub use client::{Client, ClientError};
pub use error::{ApiError, ErrorCode};
pub use secret::Secret;
