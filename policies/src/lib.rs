//! The planner: a pure function from a snapshot to a plan.
