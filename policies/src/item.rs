//! A queued job, compiled: what its waiting and its runs are worth, and until when.

use spillway_types::{DurationMs, GroupName, HourlyRate, Interconnect, Market, UnixMs};

use crate::moving::Moving;
use crate::occupancy::Counted;
use crate::offer::Offer;
use crate::policy::Terms;
use crate::risk::{self, Progress};
use crate::shape::{KindFit, OfferFit, PLAIN_SPEED, Shape, span_at};
use crate::{Amounts, Burst, Delay, Policy, QueuedJob};

const MS_PER_HOUR: f64 = 3_600_000.0;
/// Price of taking what is fully taken otherwise, as a share of what it saves against the cloud: somebody else may have
/// to leave for it. Level from 0.3 to 0.5 on resampled traces of Starburst (ATC'24), and worse beyond.
const HOLD_SHARE: f64 = 0.35;

/// One queued job.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) job: QueuedJob,
    pub(crate) shape: usize,
    pub(crate) group: usize,
    /// What a millisecond of waiting costs, in micros.
    pub(crate) wait_price: f64,
    /// The wait ends here where a cloud can take it.
    pub(crate) bound: i64,
    /// Until here it waits whatever that costs: the policy's least wait, or all that the job itself allows.
    pub(crate) patient_until: i64,
    /// Whether it may wait beyond that as long as the wait costs less than the cloud.
    pub(crate) weighs: Weighs,
    /// Whether it may leave for clouds.
    pub(crate) burst: Burst,
    /// What clouds could take it, the cheapest first.
    pub(crate) launches: Vec<Launch>,
    /// What of the present occupancies is its own.
    pub(crate) counted: Vec<Counted>,
    /// How many waiting jobs read the data that it reads, itself included: they share what bringing it costs.
    pub(crate) readers: u32,
    /// The start that the last plan gave its next task.
    pub(crate) promise: Option<i64>,
    /// What it was promised before a plan made its start later.
    pub(crate) delay: Option<Delay>,
    /// The policy's terms for it.
    pub(crate) terms: Terms,
}

/// Who says how long a job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weighs {
    /// The planner: as long as the wait costs less than leaving.
    Cost,
    /// The job's own `max_wait`.
    OwnWord,
}

/// One offer for one task of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch {
    pub(crate) offer: usize,
    /// The run as it is estimated, boot and staging included, at the price of the whole instances: nobody else pays
    /// the rest. At least the shortest time that is billed.
    pub(crate) run_micros: i64,
    /// The same at the job's limit.
    pub(crate) hold_micros: i64,
    /// What interruptions are thought to cost, in micros: what is paid and waited for again.
    pub(crate) risk_micros: f64,
    /// Generalised cost, in micros: run, data and risk, and the wait for boot, data and a slower run.
    pub(crate) cost: f64,
}

/// As a number for comparisons only.
#[expect(clippy::cast_precision_loss, reason = "costs are compared, never posted")]
pub(crate) const fn real(micros: i64) -> f64 {
    micros as f64
}

/// The nearest instant or length; at the ends where it is too large.
#[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
pub(crate) const fn whole(ms: f64) -> i64 {
    ms as i64
}

pub(crate) fn signed(duration: DurationMs) -> i64 {
    i64::try_from(duration.0).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

impl Item {
    pub(crate) fn of(job: QueuedJob, shape: usize, group: usize, policy: &Policy) -> Self {
        let terms = policy.terms(job.class.as_ref());
        let (patient, weighs) = match job.placement.max_wait {
            Some(own) => (own, Weighs::OwnWord),
            None => (policy.min_wait, Weighs::Cost),
        };
        let bound = bound(&job, &terms);
        Self {
            shape,
            group,
            wait_price: real(terms.wait_hour_price.0) / MS_PER_HOUR,
            burst: terms.burst,
            bound,
            patient_until: job.since.0.saturating_add(signed(patient)).min(bound),
            weighs,
            launches: Vec::new(),
            counted: Vec::new(),
            readers: 1,
            promise: None,
            delay: None,
            terms,
            job,
        }
    }

    /// Works out what each offer would cost. Instances of a cloud are in no interconnect domain that is known.
    pub(crate) fn price(&mut self, shape: &Shape, offers: &[Offer]) {
        self.launches.clear();
        let apart = self.job.nodes > 1 && self.job.placement.interconnect == Interconnect::SameDomain;
        if self.burst == Burst::Never || apart {
            return;
        }
        for (at, (offer, fit)) in offers.iter().zip(&shape.offers).enumerate() {
            if fit.bar.is_some() {
                continue;
            }
            self.launches.push(self.launch(at, offer, fit));
        }
        let names = |launch: &Launch| {
            let view = &offers[launch.offer].view;
            (shape.offers[launch.offer].preferred, view.boot, &view.cloud, &view.site, &view.instance_type)
        };
        self.launches.sort_by(|a, b| a.cost.total_cmp(&b.cost).then_with(|| names(a).cmp(&names(b))));
    }

    fn launch(&self, at: usize, offer: &Offer, fit: &OfferFit) -> Launch {
        let (terms, boot, moving) = (&offer.view.terms, signed(offer.view.boot), &fit.moving);
        let cost = |ms: i64| {
            let ms = ms.max(signed(terms.minimum)).unsigned_abs();
            offer.view.price.cost_micros(u64::from(self.job.nodes.max(1)), 1, 0, ms)
        };
        let run = span_at(self.job.estimate.0, fit.speed_milli);
        let ready = boot.saturating_add(moving.ms);
        let run_micros = cost(run.saturating_add(ready));
        let risk_micros = if terms.market == Market::Spot {
            let extra = risk::extra_ms(run, terms.mean_life, self.job.restarts, ready);
            extra * (real(cost(3_600_000)) / MS_PER_HOUR + self.wait_price)
        } else {
            0.0
        };
        let data_micros = self.share_of(moving);
        let waits = real(ready) + self.slower(run);
        Launch {
            offer: at,
            run_micros,
            hold_micros: cost(signed(self.job.longest).saturating_add(ready))
                .saturating_add(self.bytes(moving)),
            risk_micros,
            cost: real(run_micros) + risk_micros + data_micros + self.wait_price * waits,
        }
    }

    /// How much later the job ends because its run takes `run_ms`, in milliseconds; below 0 where it ends sooner.
    pub(crate) fn slower(&self, run_ms: i64) -> f64 {
        real(run_ms) - real(span_at(self.job.estimate.0, PLAIN_SPEED))
    }

    /// Its part of what bringing the data costs that it shares with others.
    pub(crate) fn share_of(&self, moving: &Moving) -> f64 {
        real(moving.egress_of(self.job.nodes)) / f64::from(self.readers.max(1))
    }

    /// What its deadline allows, where it has one.
    pub(crate) fn progress(&self, offers: &[Offer]) -> Option<Progress> {
        let boots = self.launches.iter().map(|launch| signed(offers[launch.offer].view.boot));
        Progress::of(&self.job, boots.max().unwrap_or(0))
    }

    /// Whether the planner weighs its wait against what leaving costs.
    pub(crate) fn weighs_cost(&self) -> bool {
        self.weighs == Weighs::Cost
    }

    /// What one part holds on nodes of a kind, in micros.
    pub(crate) fn part_hold(&self, fit: &KindFit) -> i64 {
        part_hold(&self.job, fit.rate).saturating_add(fit.moving.held_micros)
    }

    /// What of a job's hold is for bytes that are brought, in micros.
    pub(crate) fn bytes(&self, moving: &Moving) -> i64 {
        moving.held_micros.saturating_mul(i64::from(self.job.nodes.max(1)))
    }

    /// What it costs others, in micros, that the job takes for `taken_ms` what others take too: a share of what the
    /// nodes save against the cloud. `marginal` is what the run costs there more, per hour, for all parts.
    pub(crate) fn holding(&self, taken_ms: f64, marginal: i64) -> f64 {
        let Some(cheapest) = self.launches.first() else { return 0.0 };
        let cloud = real(cheapest.run_micros) / real(signed(self.job.estimate).max(1));
        (cloud - real(marginal) / MS_PER_HOUR).max(0.0) * HOLD_SHARE * taken_ms
    }
}

/// When a job's wait ends where a cloud can take it: the longest wait, or the latest start by which its deadline is met.
pub(crate) fn bound(job: &QueuedJob, terms: &Terms) -> i64 {
    let longest = job.placement.max_wait.unwrap_or(terms.max_wait);
    let in_time = job.deadline.map_or(i64::MAX, |end| end.0.saturating_sub(signed(job.estimate)));
    job.since.0.saturating_add(signed(longest)).min(in_time)
}

/// What one part of a job holds at a rate, in micros.
pub(crate) fn part_hold(job: &QueuedJob, rate: i64) -> i64 {
    HourlyRate(rate).cost_micros(1, 1, 0, job.longest.0)
}

/// When a job was submitted, and which: the order of those that are level otherwise.
pub(crate) fn age(job: &QueuedJob) -> (UnixMs, spillway_types::JobId) {
    (job.since, job.job)
}

/// A group that the federation does not know has priority 0, weight 1 and no limit.
pub(crate) fn standing(
    groups: &std::collections::BTreeMap<GroupName, crate::GroupView>,
    name: &GroupName,
) -> crate::GroupView {
    groups.get(name).cloned().unwrap_or(crate::GroupView {
        priority: 0,
        weight: 1,
        in_use: Amounts::default(),
        budget_left: None,
    })
}

#[cfg(test)]
mod tests {
    use spillway_types::{DurationMs, UnixMs};

    use crate::testing::job;
    use crate::{Burst, Planner, Policy, QueuedJob};

    #[test]
    fn a_job_is_promised_no_longer_wait_than_it_and_its_policy_allow() {
        let policy = Policy { max_wait: DurationMs::from_secs(3600), ..Policy::default() };
        let bound = |policy: &Policy, queued: &QueuedJob| {
            let bound = Planner::new(policy.clone()).bound(queued);
            bound.map(|bound| (bound.0 - queued.since.0) / 1000)
        };
        let mut queued = job(1, "1").runs(600);
        queued.placement.max_wait = None;
        assert_eq!(bound(&policy, &queued), Some(3600));
        queued.placement.max_wait = Some(DurationMs::from_secs(60));
        assert_eq!(bound(&policy, &queued), Some(60));
        // Due in ten minutes and 30 seconds: it starts within 30 seconds.
        queued.deadline = Some(UnixMs(queued.since.0 + 630_000));
        assert_eq!(bound(&policy, &queued), Some(30));
        let never = Policy { burst: Burst::Never, ..policy };
        assert_eq!(bound(&never, &queued), None);
    }
}
