//! Jobs that ask for the same are one shape: which kinds of nodes and which offers would do is found once for all
//! of them.

use std::cell::Cell;
use std::collections::BTreeMap;

use spillway_types::{GpuRequest, GpuSelector, GroupName, HourlyRate, SiteKind, SiteName};

use crate::fleet::{Fleet, Kind};
use crate::judge::{Bar, Terms};
use crate::layout::{ClassMask, Need};
use crate::offer::Offer;
use crate::{NodePrice, Policy, QueuedJob};

/// A speed of 1, in thousandths.
const PLAIN_SPEED: u32 = 1000;

/// What makes two jobs the same shape: all that the hard rules and prices look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShapeKey {
    group: GroupName,
    gpus: Option<GpuRequest>,
    cpus_milli: u32,
    memory_mib: u64,
    nodes: u32,
    needs_container: bool,
    allow: Vec<SiteName>,
    prefer: Vec<SiteName>,
    residency: Vec<String>,
    max_price: Option<HourlyRate>,
}

impl ShapeKey {
    pub(crate) fn of(job: &QueuedJob) -> Self {
        Self {
            group: job.group.clone(),
            gpus: job.resources.gpus.clone(),
            cpus_milli: job.resources.cpus_milli,
            memory_mib: job.resources.memory_mib,
            nodes: job.nodes,
            needs_container: job.needs_container,
            allow: job.placement.allow.clone(),
            prefer: job.placement.prefer.clone(),
            residency: job.placement.residency.clone(),
            max_price: job.placement.max_price,
        }
    }
}

/// Nodes of one kind against the shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KindFit {
    pub(crate) bar: Option<Bar>,
    pub(crate) mask: ClassMask,
    /// What one part is charged per hour.
    pub(crate) rate: i64,
    /// What one part costs the organisation more per hour than if the node stood idle: nothing on machines that
    /// it owns; the rate on a lent machine, whose owner is paid, and on an instance, which runs as long as it is used.
    pub(crate) marginal: i64,
    /// Place of the site in the job's `prefer` list; smaller is better.
    pub(crate) preferred: usize,
    /// The job wants no accelerator and these nodes have some.
    pub(crate) wastes_gpus: bool,
    /// How fast the job runs here, in thousandths of what its estimate is for.
    pub(crate) speed_milli: u32,
}

/// An offer against the shape; parallel to the offers.
#[derive(Debug)]
pub(crate) struct OfferFit {
    pub(crate) bar: Option<Bar>,
    /// What one part is charged per hour.
    pub(crate) rate: i64,
    pub(crate) preferred: usize,
    pub(crate) speed_milli: u32,
}

/// One shape.
#[derive(Debug)]
pub(crate) struct Shape {
    /// A job of the shape; only what the key holds of it counts.
    sample: QueuedJob,
    pub(crate) need: Need,
    /// How many nodes start together.
    pub(crate) nodes: usize,
    /// Parallel to the fleet's kinds.
    pub(crate) kinds: Vec<KindFit>,
    /// Those with nothing in the way.
    pub(crate) open: Vec<usize>,
    /// The kind that was best for the last task of this shape: a place to begin, never a reason to end there.
    pub(crate) favourite: Cell<Option<usize>>,
    /// The kinds that would do and take work, by who pays for them idle and by site: what a gang is spread over.
    pub(crate) units: BTreeMap<(Tier, SiteName), Vec<usize>>,
    /// Parallel to the offers.
    pub(crate) offers: Vec<OfferFit>,
}

/// Who pays for a node while nothing runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// On-prem and personal nodes, charged by tariff.
    Owned,
    /// Cloud instances that run already.
    Rented,
}

impl Tier {
    pub(crate) const fn of(kind: &Kind) -> Self {
        match kind.sample.price {
            NodePrice::Tariff(_) => Self::Owned,
            NodePrice::Instance(_) => Self::Rented,
        }
    }
}

impl Shape {
    pub(crate) fn of(job: &QueuedJob) -> Self {
        Self {
            sample: job.clone(),
            need: Need::of(&job.resources),
            nodes: usize::try_from(job.nodes.max(1)).unwrap_or(usize::MAX),
            kinds: Vec::new(),
            open: Vec::new(),
            favourite: Cell::new(None),
            units: BTreeMap::new(),
            offers: Vec::new(),
        }
    }

    /// Judges the kinds and offers that are new since the last call. Whoever changes the offers clears them first.
    pub(crate) fn extend(&mut self, fleet: &Fleet, offers: &[Offer], policy: &Policy) {
        if self.kinds.len() == fleet.kinds.len() && self.offers.len() == offers.len() {
            return;
        }
        let terms = Terms::of(&self.sample);
        for at in self.kinds.len()..fleet.kinds.len() {
            let kind = &fleet.kinds[at];
            let judged = terms.kind(kind);
            if judged.bar.is_none() {
                self.open.push(at);
                let unit = (Tier::of(kind), kind.sample.site.clone());
                self.units.entry(unit).or_default().push(at);
            }
            self.kinds.push(KindFit {
                bar: judged.bar,
                mask: judged.mask,
                rate: judged.rate.0,
                marginal: marginal(kind, judged.rate.0),
                preferred: preference(&self.sample, &kind.sample.site),
                wastes_gpus: self.sample.resources.gpus.is_none() && kind.layout.has_gpus(),
                speed_milli: speed(&self.sample, &kind.sample.capacity, policy),
            });
        }
        for offer in &offers[self.offers.len()..] {
            let judged = terms.offer(offer);
            self.offers.push(OfferFit {
                bar: judged.bar,
                rate: judged.rate.0,
                preferred: preference(&self.sample, &offer.view.site),
                speed_milli: speed(&self.sample, &offer.view.capacity, policy),
            });
        }
    }
}

const fn marginal(kind: &Kind, rate: i64) -> i64 {
    match (kind.sample.price, kind.sample.kind) {
        (NodePrice::Tariff(_), SiteKind::OnPrem) => 0,
        (NodePrice::Tariff(_), SiteKind::Personal | SiteKind::Cloud) | (NodePrice::Instance(_), _) => rate,
    }
}

fn preference(job: &QueuedJob, site: &SiteName) -> usize {
    job.placement.prefer.iter().position(|wanted| wanted == site).unwrap_or(job.placement.prefer.len())
}

/// Where the job names its model, its estimate is for that model; else the policy's table says how fast the
/// slowest accelerator that would do is.
fn speed(job: &QueuedJob, capacity: &spillway_types::NodeCapacity, policy: &Policy) -> u32 {
    let Some(request) = &job.resources.gpus else { return PLAIN_SPEED };
    if matches!(request.selector, GpuSelector::Model(_)) {
        return PLAIN_SPEED;
    }
    let suitable = capacity.accelerators.iter().filter(|accelerator| request.selector.matches(accelerator));
    let speeds = suitable.map(|accelerator| policy.speed_milli(&accelerator.model).unwrap_or(PLAIN_SPEED));
    speeds.min().unwrap_or(PLAIN_SPEED)
}

/// How long a run that is thought to take `ms` takes at a speed; at least a millisecond, so that it takes any time.
pub(crate) fn span_at(ms: u64, speed_milli: u32) -> i64 {
    let scaled = if speed_milli == PLAIN_SPEED {
        u128::from(ms)
    } else {
        (u128::from(ms) * u128::from(PLAIN_SPEED)).div_ceil(u128::from(speed_milli.max(1)))
    };
    i64::try_from(scaled).unwrap_or(i64::MAX / 4).clamp(1, i64::MAX / 4)
}
