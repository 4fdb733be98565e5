//! Tests with real processes: supervisors, the executor, and a whole agent against a broker of the test's own.

#[cfg(test)]
mod common;
#[cfg(test)]
mod datasets;
#[cfg(test)]
mod executor;
#[cfg(test)]
mod session;
#[cfg(test)]
mod supervisor;
