//! Tells people and programs of limits that fill up: by webhook, Slack and e-mail.
//!
//! [`Alerts::offer`] takes what was crossed; a task for each destination sends it, one after the other, and goes on
//! trying until it was taken, so that a slow or broken destination keeps nobody else waiting. Each alert gets to each
//! destination at least once: what was taken is written down (`delivered`), and what was not when the broker ended
//! is found again from where the limits stand ([`watch`]). A receiver that sees an idempotency key twice can pass over
//! the second one; that happens only where the broker ended between the sending and its note.
//!
//! Left out on purpose: who may be told what (the settings say it), and an outbox (what should have been told follows
//! from the state).

mod delivered;
mod send;
pub mod signature;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use spillway_api::v1::DestinationView;
use spillway_ledger::limits::alerts::Alert;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::settings::Destination;

use delivered::Delivered;
use send::{SendError, Sender};
pub use watch::run as watch;

/// Most alerts that wait for one destination. There are as many as thresholds of limits; what is beyond is offered
/// again after the next start.
const MAX_WAITING: usize = 10_000;
/// The pause after a first failure; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: a receiver that is back is used again within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A receiver that asks to be left alone for longer is asked again then.
const LONGEST_WISH: Duration = Duration::from_secs(3600);

/// What waits for a destination.
#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which it was offered. The first one is being sent.
    alerts: VecDeque<Alert>,
    /// Keys of what waits and of what was delivered.
    known: BTreeSet<String>,
    problem: Option<String>,
}

/// A destination with what waits for it.
#[derive(Debug)]
struct Lane {
    destination: Destination,
    waiting: Mutex<Waiting>,
    more: Notify,
}

/// All destinations.
#[derive(Debug)]
pub struct Alerts {
    lanes: Vec<Arc<Lane>>,
}

impl Alerts {
    /// Opens the file of what was delivered, and starts a task for each destination. They end with `stop`.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or where a destination's `ca_file` holds no certificates.
    pub fn start(
        destinations: &[Destination],
        file: &Path,
        clock: Clock,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        if destinations.is_empty() {
            return Ok(Arc::new(Self { lanes: vec![] }));
        }
        let delivered = Delivered::open(file, clock.now());
        let delivered = delivered.with_context(|| format!("cannot read or write {}", file.display()))?;
        let delivered = Arc::new(Mutex::new(delivered));
        let mut lanes = vec![];
        for destination in destinations {
            let name = &destination.name;
            let sender = Sender::open(destination).with_context(|| format!("alerts `{name}`"))?;
            let waiting = Waiting { known: lock(&delivered).of(name), ..Waiting::default() };
            let (destination, more) = (destination.clone(), Notify::new());
            let lane = Arc::new(Lane { destination, waiting: Mutex::new(waiting), more });
            let work = Arc::clone(&lane).work(sender, clock, Arc::clone(&delivered), stop.clone());
            tasks.spawn(work);
            lanes.push(lane);
        }
        Ok(Arc::new(Self { lanes }))
    }

    /// Whether there is nobody to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Puts alerts into the queues of the destinations that want them. What waits or was delivered already, by its
    /// key, changes nothing.
    pub fn offer(&self, alerts: &[Alert]) {
        for lane in &self.lanes {
            let wanted = alerts.iter().filter(|alert| lane.destination.wants(alert));
            if lane.add(wanted) > 0 {
                lane.more.notify_one();
            }
        }
    }

    /// How each destination is, in the order of the settings.
    #[must_use]
    pub fn status(&self) -> Vec<DestinationView> {
        let status = |lane: &Arc<Lane>| {
            let (waiting, to) = (lock(&lane.waiting), &lane.destination);
            DestinationView {
                name: to.name.clone(),
                channel: to.channel.kind().to_owned(),
                groups: to.groups.iter().cloned().collect(),
                thresholds: to.thresholds.iter().copied().collect(),
                waiting: waiting.alerts.len(),
                problem: waiting.problem.clone(),
            }
        };
        self.lanes.iter().map(status).collect()
    }
}

impl Lane {
    /// Gives how many are new.
    fn add<'a>(&self, alerts: impl Iterator<Item = &'a Alert>) -> usize {
        let mut waiting = lock(&self.waiting);
        let before = waiting.alerts.len();
        for alert in alerts {
            if waiting.known.contains(&alert.key) {
                continue;
            }
            if waiting.alerts.len() >= MAX_WAITING {
                tracing::error!(
                    destination = %self.destination.name, key = %alert.key,
                    "too many alerts wait for a destination that takes none; this one is left out until the next start"
                );
                continue;
            }
            waiting.known.insert(alert.key.clone());
            waiting.alerts.push_back(alert.clone());
        }
        waiting.alerts.len() - before
    }

    fn first(&self) -> Option<Alert> {
        lock(&self.waiting).alerts.front().cloned()
    }

    /// Sends what waits until told to stop.
    async fn work(
        self: Arc<Self>,
        sender: Sender,
        clock: Clock,
        delivered: Arc<Mutex<Delivered>>,
        stop: CancellationToken,
    ) {
        let mut failures = 0_u32;
        loop {
            let Some(alert) = self.first() else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.more.notified() => continue,
                }
            };
            let sent = tokio::select! {
                () = stop.cancelled() => return,
                sent = sender.send(&alert, clock.now()) => sent,
            };
            let Err(error) = sent else {
                failures = 0;
                self.taken(&alert, &delivered).await;
                continue;
            };
            failures = failures.saturating_add(1);
            let wait = pause(failures, error.retry_after);
            self.failed(&alert, &error, failures, wait);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// It was taken: that is written down before it is forgotten.
    async fn taken(&self, alert: &Alert, delivered: &Arc<Mutex<Delivered>>) {
        let (name, key, until) = (self.destination.name.clone(), alert.key.clone(), alert.until);
        tracing::info!(destination = %name, %key, "an alert was delivered");
        let delivered = Arc::clone(delivered);
        let noted = tokio::task::spawn_blocking(move || lock(&delivered).note(&name, &key, until)).await;
        if let Ok(Err(error)) = noted {
            let name = &self.destination.name;
            tracing::error!(destination = %name, %error, "a delivery cannot be noted; it is made again after the next start");
        }
        let mut waiting = lock(&self.waiting);
        waiting.alerts.pop_front();
        waiting.problem = None;
    }

    /// Said at the first failure, and then less and less often.
    fn failed(&self, alert: &Alert, error: &SendError, failures: u32, wait: Duration) {
        let (name, key, problem) = (&self.destination.name, &alert.key, &error.problem);
        if failures.is_power_of_two() {
            tracing::warn!(
                destination = %name, %key, %problem, failures, wait_s = wait.as_secs(),
                "an alert was not taken; it is sent again"
            );
        }
        lock(&self.waiting).problem = Some(problem.clone());
    }
}

/// How long to wait after so many failures in a row: doubling, or what the receiver asked for where that is longer.
fn pause(failures: u32, wish: Option<Duration>) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    let own = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
    wish.map_or(own, |wish| own.max(wish.min(LONGEST_WISH)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
