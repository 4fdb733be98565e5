//! The real core and planner under a virtual clock.
