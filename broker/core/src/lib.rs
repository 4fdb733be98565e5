//! The federation as one pure state machine.
