//! Waiting for a condition, with a bound, and telling how far it got when the bound is reached.
//!
//! The one place here that reads a clock or sleeps.

use std::fmt;
use std::time::{Duration, Instant};

/// Between two looks at a condition. Short against what a person notices, long against what a look costs.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Measures real time from its start.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts measuring.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "real time is the point; everybody here asks this clock")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// How long ago it started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A condition did not come true in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub timeout: Duration,
    /// What the condition said when it was last asked.
    pub last_status: String,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, timeout, last_status } = self;
        write!(f, "waited {timeout:?} for {what}; last status: {last_status}")
    }
}

impl std::error::Error for TimedOut {}

/// Asks `condition` until it answers `Ok`, at least once and at most for `timeout`.
///
/// `Err` holds the status so far in words; the last one is in the error.
///
/// # Errors
/// The condition was not met within `timeout`.
pub fn wait_until<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T, TimedOut> {
    let watch = Stopwatch::start();
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(last_status) if watch.elapsed() >= timeout => {
                return Err(TimedOut { what: what.to_owned(), timeout, last_status });
            }
            Err(_) => pause(LOOK_EVERY),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_comes_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let value = wait_until("three looks", Duration::from_secs(10), || {
            looks += 1;
            if looks == 3 { Ok("there") } else { Err(format!("{looks} looks")) }
        });
        assert_eq!((value, looks), (Ok("there"), 3));
    }

    #[test]
    fn the_error_names_what_was_awaited_and_the_last_status() {
        let mut looks = 0;
        let error = wait_until("the moon", Duration::ZERO, || -> Result<(), String> {
            looks += 1;
            Err(format!("{looks} looks"))
        })
        .expect_err("it never holds");
        assert_eq!(error.to_string(), "waited 0ns for the moon; last status: 1 looks");
    }
}
