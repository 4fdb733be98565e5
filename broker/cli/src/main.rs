//! The one binary of Spillway.

fn main() {}
