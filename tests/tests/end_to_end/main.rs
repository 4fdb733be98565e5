//! End-to-end tests with real processes. Each starts a federation of its own and closes with the auditor.
//!
//! [`crash`] kills the broker at every step of a job's way, [`agents`] and [`wires`] do the same to agents and to
//! what lies between, [`copies`] starts brokers from old copies, [`databases`] takes the database away, and
//! [`bad_input`] says wrong things, [`limits`] has groups use no more than they may, [`alerts`] tells of it, [`moves`] has jobs give way and come home.

mod agents;
mod alerts;
mod bad_input;
mod copies;
mod crash;
mod databases;
mod datasets;
mod focus;
mod happy;
mod limits;
mod moves;
mod wires;
