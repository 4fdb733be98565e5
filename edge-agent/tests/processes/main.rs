//! Tests with real processes: supervisors, the executor, and a whole agent against a broker of the test's own.

mod common;
mod executor;
mod session;
mod supervisor;
