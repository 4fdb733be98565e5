//! The one clock of the local cloud: its machines are real processes, so their time is the system's.

use std::time::{SystemTime, UNIX_EPOCH};

use spillway_types::UnixMs;

/// Now, by the system's clock.
#[expect(clippy::disallowed_methods, reason = "the one place where this crate reads the clock")]
pub(crate) fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
