//! Harness, end-to-end tests, architecture rules and benches.
