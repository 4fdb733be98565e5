//! The one clock and the one source of ids of a broker.

use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use spillway_types::{IdSource, UnixMs};
use uuid::{ContextV7, Timestamp, Uuid};

/// Wall-clock time that never goes back while the broker runs: read once, then counted by the monotonic clock.
/// A step of the machine's clock changes nothing until the next start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_unix: UnixMs,
}

impl Clock {
    /// A clock that starts now, but not before `at_least`: time in a journal never goes back.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]
    pub fn start(at_least: UnixMs) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let wall = UnixMs(i64::try_from(wall).unwrap_or(i64::MAX));
        Self { started: Instant::now(), started_unix: wall.max(at_least) }
    }

    /// Milliseconds since the start, by the monotonic clock.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.started_unix.plus(spillway_types::DurationMs(self.elapsed_ms()))
    }
}

/// Version 7 UUIDs that follow the broker's clock.
#[derive(Debug)]
pub struct RealIds {
    clock: Clock,
    context: Mutex<ContextV7>,
}

impl RealIds {
    /// Ids by this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, context: Mutex::new(ContextV7::new()) }
    }
}

impl IdSource for RealIds {
    fn next_uuid(&mut self) -> Uuid {
        let now = self.clock.now().0.unsigned_abs();
        let nanos = u32::try_from(now % 1000).unwrap_or(0) * 1_000_000;
        Uuid::new_v7(Timestamp::from_unix(&self.context, now / 1000, nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_and_time_does_not_go_back() {
        let future = UnixMs(4_000_000_000_000);
        let clock = Clock::start(future);
        assert!(clock.now() >= future);
        let mut ids = RealIds::new(clock);
        let made: Vec<Uuid> = (0..1000).map(|_| ids.next_uuid()).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
