//! The decision for one task: start here, wait for here, launch in a cloud, or neither.
//!
//! A task may wait for nodes that are here until its job's waiting budget is over (the compute-wait of Starburst,
//! ATC'24, with reservations). Owned nodes come first; rented ones are asked where no owned one is in time; a
//! launch is the last resort, and the cheapest one is taken.

use spillway_types::{DurationMs, HourlyRate, Reason, UnixMs};

use crate::judge::Bar;
use crate::planner::{Planner, Progress, span_ms};
use crate::search::{Found, Query, earliest_in_tier};
use crate::world::Tier;
use crate::{Policy, QueuedJob};

const MS_PER_HOUR: u128 = 3_600_000;
/// Thousandths of a GPU that a CPU-only task counts for its waiting budget, on each node: an eighth.
const CPU_TASK_MILLI_GPUS: u64 = 125;

/// What is best for the next task of a job.
#[derive(Debug)]
pub(crate) enum Look {
    Start(Found),
    Wait(Found),
    Launch {
        offer: usize,
        /// When it could have started here.
        local: Option<i64>,
    },
    Blocked(Reason),
}

/// What a launch costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch {
    /// The run as it is estimated, boot included, at the price of the whole instances: nobody else pays the rest.
    pub(crate) cost_micros: i64,
    /// The same at the job's limit.
    pub(crate) hold_micros: i64,
}

/// How long a job may wait for nodes that are here: GPU-hours of a task times the policy's wait for each,
/// within the policy's bounds; or what the job itself says.
pub(crate) fn waiting_budget(job: &QueuedJob, policy: &Policy) -> DurationMs {
    if let Some(wait) = job.placement.max_wait {
        return wait;
    }
    let milli_gpus = job.resources.gpus.as_ref().map_or(CPU_TASK_MILLI_GPUS, |gpus| gpus.blocks() * 10);
    let milli_gpu_ms = u128::from(milli_gpus) * u128::from(job.nodes.max(1)) * u128::from(job.estimate.0);
    let wait = u128::from(policy.wait_per_gpu_hour_ms).saturating_mul(milli_gpu_ms) / (1000 * MS_PER_HOUR);
    let wait = DurationMs(u64::try_from(wait).unwrap_or(u64::MAX));
    wait.max(policy.min_wait).min(policy.max_wait)
}

/// Until when a start here is worth waiting for.
pub(crate) fn due(job: &QueuedJob, policy: &Policy) -> UnixMs {
    job.since.plus(waiting_budget(job, policy))
}

/// What one part holds at a rate, in micros.
pub(crate) fn part_hold(job: &QueuedJob, rate: i64) -> i64 {
    HourlyRate(rate).cost_micros(1, 1, 0, job.longest.0)
}

impl<'a> Planner<'a> {
    /// Decides for the next task of the job.
    pub(crate) fn look(&mut self, progress: &Progress<'a>) -> Look {
        let due = progress.due.0.max(self.now());
        let (owned, refused) = self.affordable_start(progress, Tier::Owned);
        let (local, refused) = match owned {
            Some(found) if found.start <= due => (Some(found), refused),
            late => {
                let (rented, refused_there) = self.affordable_start(progress, Tier::Rented);
                (sooner(late, rented), refused.or(refused_there))
            }
        };
        match local {
            Some(found) if found.start <= self.now() => Look::Start(found),
            Some(found) if found.start <= due => Look::Wait(found),
            late => {
                let start = late.as_ref().map(|found| found.start);
                match (self.cheapest_offer(progress, start), late) {
                    (Some(offer), _) => Look::Launch { offer, local: start },
                    (None, Some(found)) => Look::Wait(found),
                    (None, None) => Look::Blocked(self.what_blocks(progress, refused)),
                }
            }
        }
    }

    /// What the job's group may still hold.
    pub(crate) fn purse(&self, job: &QueuedJob) -> i64 {
        self.purses.get(&job.group).copied().unwrap_or(i64::MAX)
    }

    /// The highest rate of one part that the group can pay until the job's limit; -1 where none is.
    pub(crate) fn rate_cap(&self, progress: &Progress<'a>) -> i64 {
        let purse = self.purse(progress.job);
        if purse == i64::MAX {
            return i64::MAX;
        }
        let rates = &self.shapes[progress.shape].rates;
        let payable = rates.partition_point(|rate| part_hold(progress.job, *rate) <= purse);
        payable.checked_sub(1).map_or(-1, |at| rates[at])
    }

    /// The best start in a tier that the group can pay and the job's `max_price` allows. Where the best nodes of a
    /// gang cost too much together, the dearest are left out and the search goes on; the second value then says
    /// what was in the way.
    fn affordable_start(&mut self, progress: &Progress<'a>, tier: Tier) -> (Option<Found>, Option<Reason>) {
        let mut query = self.query(progress);
        let purse = self.purse(progress.job);
        let mut refused = None;
        loop {
            let shape = &mut self.shapes[progress.shape];
            let Some(found) = earliest_in_tier(shape, &self.world, &self.timelines, tier, query) else {
                return (None, refused);
            };
            if shape.nodes == 1 {
                return (Some(found), refused);
            }
            let rates = || found.fits.iter().map(|at| shape.fits[*at].rate);
            let rate: i128 = rates().map(i128::from).sum();
            let hold: i128 = rates().map(|rate| i128::from(part_hold(progress.job, rate))).sum();
            if hold > i128::from(purse) {
                refused = Some(Reason::Budget);
            } else if progress.job.placement.max_price.is_some_and(|most| rate > i128::from(most.0)) {
                refused = Some(Reason::MaxPrice);
            } else {
                return (Some(found), refused);
            }
            query.rate_cap = rates().max().unwrap_or(0) - 1;
        }
    }

    pub(crate) fn query(&self, progress: &Progress<'a>) -> Query {
        Query { now: self.now(), span_ms: span_ms(progress.job), rate_cap: self.rate_cap(progress) }
    }

    /// What launching this offer for one task costs.
    pub(crate) fn launch_terms(&self, job: &QueuedJob, offer: usize) -> Launch {
        let offer = &self.world.snapshot.offers[offer];
        let cost = |run: DurationMs| {
            let ms = run.0.saturating_add(offer.boot.0);
            offer.price.cost_micros(u64::from(job.nodes.max(1)), 1, 0, ms)
        };
        Launch { cost_micros: cost(job.estimate), hold_micros: cost(job.longest) }
    }

    /// Whether enough of an offer can be had now.
    pub(crate) fn has_capacity(&self, job: &QueuedJob, offer: usize) -> bool {
        self.offers_left[offer] >= job.nodes.max(1)
    }

    /// The cheapest offer that may be launched for one task. Where the waiting budget is the policy's and not
    /// the job's own word, an offer that would be ready later than the nodes here is not worth its price.
    fn cheapest_offer(&self, progress: &Progress<'a>, local: Option<i64>) -> Option<usize> {
        let job = progress.job;
        let shape = &self.shapes[progress.shape];
        let purse = self.purse(job);
        let mut best = None;
        for (at, offer) in self.world.snapshot.offers.iter().enumerate() {
            if shape.offers[at].bar.is_some() || !self.has_capacity(job, at) {
                continue;
            }
            let ready = self.world.snapshot.now.plus(offer.boot).0;
            if job.placement.max_wait.is_none() && local.is_some_and(|start| start <= ready) {
                continue;
            }
            let launch = self.launch_terms(job, at);
            if launch.hold_micros > purse {
                continue;
            }
            let names = (&offer.cloud, &offer.site, &offer.instance_type);
            let rank = (launch.cost_micros, shape.offers[at].preferred, offer.boot, names);
            if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, at));
            }
        }
        best.map(|(_, at)| at)
    }

    /// The one word for why nothing can be planned: the bar that is nearest to falling.
    fn what_blocks(&self, progress: &Progress<'a>, refused: Option<Reason>) -> Reason {
        let job = progress.job;
        let shape = &self.shapes[progress.shape];
        let purse = self.purse(job);
        let parts = i128::from(job.nodes.max(1));
        let pools = shape.pools.iter().map(|pool| match pool.bar {
            None if i128::from(part_hold(job, pool.rate)) * parts > i128::from(purse) => Reason::Budget,
            None => refused.unwrap_or(Reason::Resources),
            Some(bar) => reason_of(bar),
        });
        let offers = shape.offers.iter().enumerate().map(|(at, offer)| match offer.bar {
            None if !self.has_capacity(job, at) => Reason::Unavailable,
            None => Reason::Budget,
            Some(bar) => reason_of(bar),
        });
        let seen: Vec<Reason> = pools.chain(offers).collect();
        let nearest = [Reason::Resources, Reason::Budget, Reason::Unavailable, Reason::MaxPrice];
        nearest.into_iter().find(|reason| seen.contains(reason)).unwrap_or(Reason::Unsatisfiable)
    }
}

/// The sooner of two starts; the first where they are level.
fn sooner(owned: Option<Found>, rented: Option<Found>) -> Option<Found> {
    match (owned, rented) {
        (Some(owned), Some(rented)) => Some(if rented.start < owned.start { rented } else { owned }),
        (owned, rented) => owned.or(rented),
    }
}

const fn reason_of(bar: Bar) -> Reason {
    match bar {
        Bar::Site
        | Bar::Jurisdiction
        | Bar::Group
        | Bar::Size
        | Bar::Container
        | Bar::OnlyContainers
        | Bar::Fractions
        | Bar::Nodes => Reason::Unsatisfiable,
        Bar::MaxPrice => Reason::MaxPrice,
        Bar::Closed => Reason::Unavailable,
    }
}
