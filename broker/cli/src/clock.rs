//! The clock of the command line: ages in tables, and time-outs.

use spillway_types::UnixMs;

/// The present.
#[expect(clippy::disallowed_methods, reason = "tables show ages, so something has to read the clock")]
pub(crate) fn now() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
