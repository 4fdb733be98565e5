//! Named points at which a test can have the broker die, as by `kill -9`, to see what it finds when it starts
//! again. In release builds there are none.
//!
//! The points: `job-submitted`, `attempt-placed`, `instance-intended`, `attempt-leased`, `attempt-activated`,
//! `part-ended`, `attempt-settled`, `instance-terminating` (after such an event is durable, before anybody is
//! told), and `instance-launched` (the provider has answered, nothing is written yet).

use spillway_core::Event;
use spillway_types::InstanceStep;

/// Dies here if the environment names this point in `SPILLWAY_CRASH_AT`.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("SPILLWAY_CRASH_AT").ok());
    if wanted.as_deref() == Some(name) {
        tracing::error!(name, "dying here, as asked");
        // No destructor, no flush, no goodbye: the same as a kill from outside.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
        std::thread::park();
    }
}

/// There are no such points in release builds.
#[cfg(not(debug_assertions))]
pub(crate) const fn point(_: &str) {}

/// The points that a commit of these events passes.
pub(crate) fn points(events: &[Event]) -> Vec<&'static str> {
    let name = |event: &Event| {
        if matches!(event, Event::JobSubmitted { .. }) {
            Some("job-submitted")
        } else if matches!(event, Event::AttemptPlaced(_)) {
            Some("attempt-placed")
        } else if matches!(event, Event::InstanceIntended(_)) {
            Some("instance-intended")
        } else if matches!(event, Event::AttemptLeased { .. }) {
            Some("attempt-leased")
        } else if matches!(event, Event::AttemptActivated { .. }) {
            Some("attempt-activated")
        } else if matches!(event, Event::PartEnded { .. }) {
            Some("part-ended")
        } else if matches!(event, Event::AttemptSettled { .. }) {
            Some("attempt-settled")
        } else if matches!(event, Event::InstanceStepped { step: InstanceStep::Terminate, .. }) {
            Some("instance-terminating")
        } else {
            None
        }
    };
    if cfg!(debug_assertions) { events.iter().filter_map(name).collect() } else { vec![] }
}
