//! A cloud on this machine: instances are child processes that run agents.
