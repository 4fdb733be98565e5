//! The agent of one node: joins, runs leased attempts, reports.
