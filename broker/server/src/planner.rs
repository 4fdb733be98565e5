//! The task that plans: keeps one planner that hears of every change, asks it for a plan when something has changed,
//! and has the core carry out what still holds.
//!
//! A whole plan of a long queue takes a while and then rests. Jobs that come meanwhile are laid at once behind what is
//! planned, and go where the order wants them with the next whole plan.
//!
//! Invariant: what the planner knows is what it was told of the state; where telling may have gone wrong it is
//! forgotten, and a new one is told everything. It loses nothing but since when starts were promised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spillway_core::command::Endpoint;
use spillway_core::{Command, Feed, Key, Reply};
use spillway_policies::{Decision, Displacement, Explanation, Planner, Policy};
use spillway_types::{JobId, UnixMs};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::{Engine, EngineError, Explanations, Unseen, View};

/// Time changes plans too: waiting budgets run out, overdue jobs go on.
const AT_LEAST_EVERY: Duration = Duration::from_millis(1_000);
/// After a plan that started nothing, whole plans rest this many times as long as it took, after others as long as it
/// took: a long queue must not take the machine from the jobs.
const REST_FACTOR: u64 = 4;
/// Longest that explaining a plan may hold up carrying it out, in milliseconds: jobs at the front of the queue get every
/// candidate, those that are not reached by then reason, planned start and position.
const EXPLAINING_MS: u64 = 250;

/// Plans until told to stop.
pub async fn run(engine: Engine, endpoint: Endpoint, stop: CancellationToken) {
    let mut revision = engine.revision();
    let mut planning =
        Planning { engine, endpoint, follower: None, doubtful: BTreeSet::new(), rest_until: 0 };
    let mut pause = AT_LEAST_EVERY;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = revision.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
        pause = AT_LEAST_EVERY;
        if !planning.engine.mode().acts() {
            continue;
        }
        match planning.once().await {
            Ok(next) => pause = pause.min(next),
            Err(EngineError::Stopped) => return,
            Err(error) => tracing::error!(%error, "a plan could not be carried out; planning goes on"),
        }
    }
}

/// The planner with what it was told.
struct Follower {
    planner: Planner,
    feed: Feed,
}

impl Follower {
    fn new(policy: &Policy) -> Self {
        Self { planner: Planner::new(policy.clone()), feed: Feed::default() }
    }

    fn hear(&mut self, view: &View<'_>, rows: &BTreeSet<Key>) {
        let federation = view.federation;
        self.planner.set_gate(federation.gatekeeper());
        self.planner.set_data(federation.data());
        self.feed.tell(&mut self.planner, (federation.state(), federation.offers()), rows, view.now);
    }
}

/// A planner that knows the present.
struct Heard {
    follower: Follower,
    /// Jobs that are new or have changed.
    jobs: Vec<JobId>,
    now: UnixMs,
}

/// What a planner makes of the present.
struct Made {
    follower: Follower,
    decisions: Vec<Decision>,
    displacements: Vec<Displacement>,
    explanations: Option<Explanations>,
    /// How long a whole plan took, in milliseconds; none where there was none.
    whole_ms: Option<u64>,
}

/// All of its methods need it for themselves alone: a planner may go from thread to thread, but not be seen by two.
struct Planning {
    engine: Engine,
    endpoint: Endpoint,
    /// None at the start, and where a round ended before its end.
    follower: Option<Follower>,
    /// Rows that a decision named which could not be carried out: the planner has to look at them again.
    doubtful: BTreeSet<Key>,
    /// When the next whole plan may be made, by the clock's elapsed milliseconds.
    rest_until: u64,
}

impl Planning {
    /// Plans and carries it out. Gives the longest pause until the next time.
    async fn once(&mut self) -> Result<Duration, EngineError> {
        let (follower, doubtful) = (self.follower.take(), std::mem::take(&mut self.doubtful));
        let heard = self.engine.follow(move |view, unseen| hear(follower, &doubtful, view, unseen)).await?;
        let planner = &heard.follower.planner;
        if planner.waiting() == 0 && !planner.has_travellers() {
            self.follower = Some(heard.follower);
            return Ok(AT_LEAST_EVERY);
        }
        let clock = self.engine.clock();
        let rests = clock.elapsed_ms() < self.rest_until;
        let work = move || if rests { admit(heard, clock) } else { plan_whole(heard, clock) };
        let Ok(made) = tokio::task::spawn_blocking(work).await else {
            tracing::error!("the planner panicked; this plan is skipped, and the next planner starts anew");
            return Ok(AT_LEAST_EVERY);
        };
        if let Some(explanations) = made.explanations {
            self.engine.set_explanations(explanations).await;
        }
        self.displace(made.displacements).await?;
        let started = self.place(made.decisions).await?;
        self.follower = Some(made.follower);
        let now = clock.elapsed_ms();
        let Some(took) = made.whole_ms else {
            return Ok(Duration::from_millis(self.rest_until.saturating_sub(now)));
        };
        self.rest_until =
            now.saturating_add(if started == 0 { took.saturating_mul(REST_FACTOR) } else { took });
        Ok(AT_LEAST_EVERY)
    }

    async fn displace(&mut self, displacements: Vec<Displacement>) -> Result<(), EngineError> {
        for Displacement { attempt, because } in displacements {
            match self.engine.command(Command::Preempt { attempt, because }).await {
                Ok(_) => tracing::info!(attempt = %attempt, "an attempt gives way"),
                Err(EngineError::Refused(refusal)) => {
                    tracing::debug!(%refusal, "an attempt does not give way")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives how many tasks it started.
    async fn place(&mut self, decisions: Vec<Decision>) -> Result<usize, EngineError> {
        if decisions.is_empty() {
            return Ok(0);
        }
        let (wanted, named) = (decisions.len(), decisions.iter().flat_map(Feed::named).collect());
        let reply =
            self.engine.command(Command::Place { decisions, endpoint: self.endpoint.clone() }).await?;
        let Reply::Placed { started, stale } = reply else { return Ok(0) };
        if stale > 0 {
            self.doubtful = named;
        }
        tracing::debug!(wanted, started, stale, "a plan was carried out");
        Ok(started)
    }
}

/// Tells the planner what it has not seen, or a new one everything.
fn hear(follower: Option<Follower>, doubtful: &BTreeSet<Key>, view: &View<'_>, unseen: Unseen) -> Heard {
    let (mut follower, rows) = match (follower, unseen) {
        (Some(follower), Unseen::Rows(rows)) => (follower, &rows | doubtful),
        (None, _) | (_, Unseen::Everything) => {
            (Follower::new(view.policy), Feed::everything(view.federation.state()))
        }
    };
    follower.hear(view, &rows);
    let job = |key: &Key| if let Key::Job(job) = key { Some(*job) } else { None };
    Heard { follower, jobs: rows.iter().filter_map(job).collect(), now: view.now }
}

/// Plans and explains within the times that these may take.
fn plan_whole(heard: Heard, clock: Clock) -> Made {
    let Heard { mut follower, now, .. } = heard;
    let planner = &mut follower.planner;
    let began = clock.elapsed_ms();
    let decisions = planner.plan(now, &mut within(planner.policy().plan_time.0, clock));
    let displacements = planner.take_displacements();
    let explanations = planner.explanations_while(&mut within(EXPLAINING_MS, clock));
    let whole_ms = Some(clock.elapsed_ms().saturating_sub(began));
    Made {
        follower,
        decisions,
        displacements,
        explanations: Some(Explanations::OfAll(explanations)),
        whole_ms,
    }
}

/// Lays the jobs that have come while whole plans rest.
fn admit(heard: Heard, clock: Clock) -> Made {
    let Heard { mut follower, jobs, now } = heard;
    let admitted = follower.planner.admit(now);
    let explanations = admitted.is_some().then(|| {
        let mut go_on = within(EXPLAINING_MS, clock);
        let explained = jobs.into_iter().take_while(|_| go_on());
        let explain = |job| Some((job, follower.planner.explanation(job)?));
        Explanations::OfNew(explained.filter_map(explain).collect::<BTreeMap<JobId, Explanation>>())
    });
    let decisions = admitted.unwrap_or_default();
    Made { follower, decisions, displacements: vec![], explanations, whole_ms: None }
}

/// Says yes for so long.
fn within(limit_ms: u64, clock: Clock) -> impl FnMut() -> bool {
    let began = clock.elapsed_ms();
    move || clock.elapsed_ms().saturating_sub(began) < limit_ms
}

#[cfg(test)]
mod tests;
