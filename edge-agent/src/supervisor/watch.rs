//! When a running program is signalled and when it is killed: pure, so that every order of lease, limit and
//! stop can be tested.
//!
//! A program is dead by `deadline + grace` of its lease, whatever else happens: the time of the kill follows
//! from the lease, never from the moment at which the supervisor woke.

use spillway_tunnel::protocol::PartEnd;

/// Why a program is being stopped. The first cause stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The agent asked.
    Stopped,
    /// Its time limit ran out.
    TimeLimit,
    /// Its lease ran out.
    LeaseExpired,
}

impl Cause {
    /// The end that is reported.
    pub(super) const fn end(self) -> PartEnd {
        match self {
            Self::Stopped => PartEnd::Stopped,
            Self::TimeLimit => PartEnd::TimeLimit,
            Self::LeaseExpired => PartEnd::LeaseExpired,
        }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing.
    Wait,
    /// Ask the program to stop.
    Signal(Cause),
    /// Kill its process group.
    Kill,
}

/// How far the stopping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Stopping { cause: Cause, kill_at: u64 },
    Killed { cause: Cause },
}

/// The watch over one program. Times are milliseconds of CLOCK_BOOTTIME.
#[derive(Debug)]
pub(super) struct Watch {
    limit_at: u64,
    grace_ms: u64,
    phase: Phase,
}

impl Watch {
    /// A watch over a program that runs from `started_ms`.
    pub(super) const fn new(started_ms: u64, limit_ms: u64, grace_ms: u64) -> Self {
        Self { limit_at: started_ms.saturating_add(limit_ms), grace_ms, phase: Phase::Running }
    }

    /// What to do at `now`, with the lease as it stands and, where a stop was asked for, the most grace that it
    /// leaves. To be called again at once after anything but [`Act::Wait`].
    pub(super) fn step(&mut self, now: u64, lease_until: u64, stop_asked: Option<u64>) -> Act {
        match self.phase {
            Phase::Running => {
                let cause = if stop_asked.is_some() {
                    Cause::Stopped
                } else if lease_until <= now {
                    Cause::LeaseExpired
                } else if self.limit_at <= now {
                    Cause::TimeLimit
                } else {
                    return Act::Wait;
                };
                let by_lease = lease_until.saturating_add(self.grace_ms);
                let grace_ms = stop_asked.unwrap_or(u64::MAX).min(self.grace_ms);
                let kill_at = now.saturating_add(grace_ms).min(by_lease);
                self.phase = Phase::Stopping { cause, kill_at };
                Act::Signal(cause)
            }
            Phase::Stopping { cause, kill_at } if kill_at <= now => {
                self.phase = Phase::Killed { cause };
                Act::Kill
            }
            Phase::Stopping { .. } | Phase::Killed { .. } => Act::Wait,
        }
    }

    /// When to look again if nothing happens before; none once everything was done.
    pub(super) fn wake_at(&self, lease_until: u64) -> Option<u64> {
        match self.phase {
            Phase::Running => Some(lease_until.min(self.limit_at)),
            Phase::Stopping { kill_at, .. } => Some(kill_at),
            Phase::Killed { .. } => None,
        }
    }

    /// Why the program was stopped; none where it was not.
    pub(super) const fn cause(&self) -> Option<Cause> {
        match self.phase {
            Phase::Running => None,
            Phase::Stopping { cause, .. } | Phase::Killed { cause } => Some(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_cause_has_its_times() {
        // (time, lease, stop asked) -> act, then the next wake; started at 100, limit 1000, grace 50
        type Steps = &'static [(u64, u64, Option<u64>)];
        let cases: [(Steps, Act, Option<u64>); 9] = [
            (&[(100, 500, None)], Act::Wait, Some(500)),
            (&[(500, 500, None)], Act::Signal(Cause::LeaseExpired), Some(550)),
            (&[(500, 900, None)], Act::Wait, Some(900)),
            (&[(200, 500, Some(u64::MAX))], Act::Signal(Cause::Stopped), Some(250)),
            (&[(200, 500, Some(20))], Act::Signal(Cause::Stopped), Some(220)),
            (&[(200, 500, Some(0)), (200, 500, Some(0))], Act::Kill, None),
            (&[(490, 500, Some(60)), (540, 500, Some(60))], Act::Kill, None),
            (&[(1100, 5000, None)], Act::Signal(Cause::TimeLimit), Some(1150)),
            (&[(9000, 500, None), (9000, 500, None)], Act::Kill, None),
        ];
        for (steps, act, wake) in cases {
            let mut watch = Watch::new(100, 1000, 50);
            let mut last = Act::Wait;
            let mut lease = 0;
            for &(now, until, stop) in steps {
                last = watch.step(now, until, stop);
                lease = until;
            }
            assert_eq!((last, watch.wake_at(lease)), (act, wake), "{steps:?}");
        }
    }

    proptest! {
        #[test]
        fn a_kill_is_never_later_than_lease_and_grace(
            lease in 0u64..2000, grace in 0u64..500, limit in 0u64..2000, stop_at in 0u64..3000,
        ) {
            let mut watch = Watch::new(0, limit, grace);
            let mut now = 0;
            let killed_at = loop {
                match watch.step(now, lease, (stop_at <= now).then_some(u64::MAX)) {
                    Act::Kill => break now,
                    Act::Signal(_) => {}
                    Act::Wait => {
                        let wake = watch.wake_at(lease).unwrap();
                        let stop = if stop_at > now { stop_at } else { u64::MAX };
                        now = wake.min(stop);
                    }
                }
            };
            prop_assert!(killed_at <= lease + grace);
            prop_assert!(watch.cause().is_some());
        }
    }
}
