//! One part of an attempt: what one node runs of it.

use serde::{Deserialize, Serialize};

/// How far an attempt part is on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartPhase {
    /// Its folder is made; it waits for the word to start.
    Prepared,
    /// Its program runs.
    Running,
    /// It ended; its end may not have been acknowledged yet.
    Ended,
}

/// How far a part should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WantedPhase {
    /// Make ready and say so: the gang is not whole yet.
    Prepared,
    /// Run.
    Running,
    /// Stop: signal, grace, kill. Ended parts stay listed until the broker has settled them.
    Stopped,
}

/// How a part ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum PartEnd {
    /// The program ended by itself with this code.
    Exited {
        /// The code.
        code: i32,
    },
    /// A signal that Spillway did not send ended it.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// It was stopped because the broker wanted it stopped, or did not list it any more.
    Stopped,
    /// It was stopped because its time limit ran out.
    TimeLimit,
    /// It was stopped because its lease ran out.
    LeaseExpired,
    /// It could not be started.
    NotStarted {
        /// Why, for people.
        message: String,
    },
    /// Its supervisor vanished without a record: the machine went down, or somebody killed it.
    Vanished,
}
