//! The tunnel between broker and agents: protocol (pure), QUIC driver, enrolment.

pub mod protocol;
