//! Holds, rating, double entry and budgets, as pure functions.
