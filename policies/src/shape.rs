//! Jobs that ask for the same are one shape: which kinds of nodes and which offers would do is found once for all
//! of them.

use std::cell::Cell;
use std::collections::BTreeMap;

use spillway_types::{
    DataMap, DatasetName, GpuRequest, GpuSelector, GroupName, HourlyRate, SiteKind, SiteName,
};

use crate::fleet::{Fleet, Kind};
use crate::fragmentation::{ANY_MODEL, Ask};
use crate::gate::{Gatekeeper, Refused, Seen};
use crate::item::Item;
use crate::judge::{Bar, Terms};
use crate::layout::{ClassMask, Need};
use crate::moving::Moving;
use crate::offer::Offer;
use crate::policy::SpotRule;
use crate::{NodePrice, Policy, QueuedJob};

/// A speed of 1, in thousandths.
pub(crate) const PLAIN_SPEED: u32 = 1000;

/// What makes two jobs the same shape: all that the hard rules and prices look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShapeKey {
    who: Who,
    gpus: Option<GpuRequest>,
    cpus_milli: u32,
    memory_mib: u64,
    nodes: u32,
    image: Option<String>,
    allow: Vec<SiteName>,
    prefer: Vec<SiteName>,
    residency: Vec<String>,
    max_price: Option<HourlyRate>,
    inputs: Vec<DatasetName>,
    spot: SpotRule,
    /// What the gate sees beside that.
    seen: Option<Seen>,
}

/// What of a job's group tells where it may run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// In which of the sets of groups that pools are for it is: [`Fleet::sets_with`].
    In(Vec<usize>),
    /// The group itself, where a gate is asked.
    Group(GroupName),
}

impl ShapeKey {
    pub(crate) fn of(job: &QueuedJob, spot: SpotRule, fleet: &Fleet) -> Self {
        Self {
            who: Who::In(fleet.sets_with(&job.group)),
            gpus: job.resources.gpus.clone(),
            cpus_milli: job.resources.cpus_milli,
            memory_mib: job.resources.memory_mib,
            nodes: job.nodes,
            image: job.image.clone(),
            allow: job.placement.allow.clone(),
            prefer: job.placement.prefer.clone(),
            residency: job.placement.residency.clone(),
            max_price: job.placement.max_price,
            inputs: job.inputs.clone(),
            spot,
            seen: None,
        }
    }

    /// The same where a gate is asked.
    pub(crate) fn at(self, gate: Option<&Gatekeeper>, job: &QueuedJob) -> Self {
        match gate {
            Some(gate) => Self { who: Who::Group(job.group.clone()), seen: Some(gate.sees(job)), ..self },
            None => self,
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
    /// What has to be brought there.
    pub(crate) moving: Moving,
}

impl KindFit {
    /// How long a run takes a node: the data comes first, then it runs at its speed there.
    pub(crate) fn span(&self, item: &Item) -> i64 {
        span_at(item.job.estimate.0, self.speed_milli).saturating_add(self.moving.ms)
    }
}

/// An offer against the shape; parallel to the offers.
#[derive(Debug)]
pub(crate) struct OfferFit {
    pub(crate) bar: Option<Bar>,
    /// What one part is charged per hour.
    pub(crate) rate: i64,
    pub(crate) preferred: usize,
    pub(crate) speed_milli: u32,
    /// What has to be brought there.
    pub(crate) moving: Moving,
}

/// One shape.
#[derive(Debug)]
pub(crate) struct Shape {
    /// A job of the shape; only what the key holds of it counts.
    sample: QueuedJob,
    spot: SpotRule,
    pub(crate) need: Need,
    /// The same for the fragmentation of nodes; none where no share of accelerators is asked.
    pub(crate) ask: Option<Ask>,
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
    gate: Option<Gatekeeper>,
    /// What the gate said against kinds and offers, by their number.
    denied_kinds: BTreeMap<usize, Refused>,
    denied_offers: BTreeMap<usize, Refused>,
}

/// What a job asks of the accelerators of one node, as the fragmentation of nodes is counted: MIG slices lose none.
pub(crate) fn ask_of(job: &QueuedJob, fleet: &Fleet) -> Option<Ask> {
    let gpus = job.resources.gpus.as_ref()?;
    let models = match &gpus.selector {
        GpuSelector::Any | GpuSelector::MemoryAtLeast { .. } => ANY_MODEL,
        GpuSelector::Model(model) => fleet.model(model).map_or(ANY_MODEL, |number| 1 << number),
        GpuSelector::Mig { .. } => return None,
    };
    let (cpus_milli, memory_mib) = (job.resources.cpus_milli, job.resources.memory_mib);
    Some(Ask { cpus_milli, memory_mib, gpus: Some(gpus.quantity), models })
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
    pub(crate) fn of(job: &QueuedJob, spot: SpotRule) -> Self {
        Self {
            sample: job.clone(),
            spot,
            need: Need::of(&job.resources),
            ask: None,
            nodes: usize::try_from(job.nodes.max(1)).unwrap_or(usize::MAX),
            kinds: Vec::new(),
            open: Vec::new(),
            favourite: Cell::new(None),
            units: BTreeMap::new(),
            offers: Vec::new(),
            gate: None,
            denied_kinds: BTreeMap::new(),
            denied_offers: BTreeMap::new(),
        }
    }

    /// The same where a gate is asked.
    pub(crate) fn at(self, gate: Option<&Gatekeeper>) -> Self {
        Self { gate: gate.cloned(), ..self }
    }

    /// What the gate said against a kind.
    pub(crate) fn refused_at_kind(&self, kind: usize) -> Option<&Refused> {
        self.denied_kinds.get(&kind)
    }

    /// What the gate said against an offer.
    pub(crate) fn refused_at_offer(&self, offer: usize) -> Option<&Refused> {
        self.denied_offers.get(&offer)
    }

    /// Judges the kinds and offers that are new since the last call. Whoever changes the offers clears them first.
    pub(crate) fn extend(&mut self, fleet: &Fleet, offers: &[Offer], (policy, data): (&Policy, &DataMap)) {
        if self.kinds.len() == fleet.kinds.len() && self.offers.len() == offers.len() {
            return;
        }
        if self.offers.is_empty() {
            self.denied_offers.clear();
        }
        let terms = Terms::of(&self.sample, self.spot).at(self.gate.as_ref());
        for at in self.kinds.len()..fleet.kinds.len() {
            let kind = &fleet.kinds[at];
            let judged = terms.kind(kind);
            if judged.bar.is_none() {
                self.open.push(at);
                let unit = (Tier::of(kind), kind.sample.site.clone());
                self.units.entry(unit).or_default().push(at);
            }
            self.denied_kinds.extend(judged.refused.map(|refused| (at, refused)));
            self.kinds.push(KindFit {
                bar: judged.bar,
                mask: judged.mask,
                rate: judged.rate.0,
                marginal: marginal(kind, judged.rate.0),
                preferred: preference(&self.sample, &kind.sample.site),
                wastes_gpus: self.sample.resources.gpus.is_none() && kind.layout.has_gpus(),
                speed_milli: speed(&self.sample, &kind.sample.capacity, policy),
                moving: Moving::to(&kind.sample.site, &self.sample.inputs, data),
            });
        }
        for offer in &offers[self.offers.len()..] {
            let judged = terms.offer(offer);
            self.denied_offers.extend(judged.refused.map(|refused| (self.offers.len(), refused)));
            self.offers.push(OfferFit {
                bar: judged.bar,
                rate: judged.rate.0,
                preferred: preference(&self.sample, &offer.view.site),
                speed_milli: speed(&self.sample, &offer.view.capacity, policy),
                moving: Moving::to(&offer.view.site, &self.sample.inputs, data),
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
