//! The project's own commands: ci, test, demo, bench.

fn main() {}
