//! The thin agent binary for nodes.

fn main() {}
