//! The Connector trait, its typed errors and its conformance suite.
