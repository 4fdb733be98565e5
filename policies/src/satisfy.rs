//! Questions that are asked when a job is submitted: could it ever run here, and what would it hold at least.
//!
//! Both look at everything that is known, open or not, free or not. What is not here yet is not foreseen.

use std::collections::{BTreeMap, BTreeSet};

use spillway_types::{GpuModel, GpuRequest, GpuSelector, HourlyRate, NodeCapacity, SiteName};

use crate::fleet::{Fleet, Kind};
use crate::gate::{Gatekeeper, Refused};
use crate::item::part_hold;
use crate::judge::{Bar, Terms};
use crate::layout::{Layout, Level, Need, Want};
use crate::offer::Offer;
use crate::policy::SpotRule;
use crate::shape::Tier;
use crate::{QueuedJob, Snapshot, Verdict};

/// Why nothing that is known could ever run a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsatisfiable {
    /// No node and no offer has an accelerator of that kind.
    #[error("no site has {asked}; known models: {}", listed(known))]
    UnknownModel {
        /// What was asked, without the count: `RTX-9999`, `200GB+`, `mig-9g.80gb`.
        asked: String,
        /// Models that exist, in order; empty where there is none at all.
        known: Vec<GpuModel>,
    },
    /// They exist, but not so many on one node.
    #[error("{asked} is more than any node has: at most {largest} on one node; use `nodes` for more")]
    TooManyGpus {
        /// What was asked.
        asked: GpuRequest,
        /// The most of that kind on one node.
        largest: u32,
    },
    /// The accelerators exist, but not with so many CPUs and so much memory.
    #[error(
        "no node that has the GPUs has {cpus_milli} thousandths of a CPU and {memory_mib} MiB: at most {largest_cpus_milli} and {largest_memory_mib}"
    )]
    TooLarge {
        /// Asked, in thousandths of a CPU.
        cpus_milli: u32,
        /// Asked, in MiB.
        memory_mib: u64,
        /// The most CPUs of a node that has the accelerators, in thousandths.
        largest_cpus_milli: u32,
        /// The most memory of a node that has the accelerators, in MiB.
        largest_memory_mib: u64,
    },
    /// Fewer nodes of one site would do than the gang wants.
    #[error("nodes: {wanted} wanted in one site, at most {most} would do{}", others(denied))]
    TooFewNodes {
        /// Asked.
        wanted: u32,
        /// The most in one site.
        most: u32,
        /// What access policies say against others.
        denied: BTreeSet<Refused>,
    },
    /// What is large enough is ruled out by the job's own rules or by the place's.
    #[error("every place that is large enough is ruled out: {}", rules(by, denied))]
    RuledOut {
        /// By what: `NotAllowed`, `OtherGroups`, `NoContainer`, `NoFractions`.
        by: BTreeSet<Verdict>,
        /// What access policies say against the rest.
        denied: BTreeSet<Refused>,
    },
}

fn listed(known: &[GpuModel]) -> String {
    match known {
        [] => "none yet".to_owned(),
        known => known.iter().map(GpuModel::as_str).collect::<Vec<_>>().join(", "),
    }
}

fn others(denied: &BTreeSet<Refused>) -> String {
    denied.iter().map(|refused| format!("; others are {refused}")).collect()
}

fn rules(by: &BTreeSet<Verdict>, denied: &BTreeSet<Refused>) -> String {
    let word = |verdict: &Verdict| match verdict {
        Verdict::NotAllowed => "`allow`, `residency` or a missing image",
        Verdict::OtherGroups => "pools of other groups",
        Verdict::NoContainer => "agents without containers",
        Verdict::NoFractions => "agents that give out no parts of an accelerator",
        Verdict::Chosen
        | Verdict::Planned
        | Verdict::Dearer
        | Verdict::Full
        | Verdict::TooSmall
        | Verdict::MaxPrice
        | Verdict::Budget
        | Verdict::Deadline
        | Verdict::NoCapacity
        | Verdict::Closed => "other rules",
    };
    let denied = denied.iter().map(ToString::to_string);
    denied.chain(by.iter().map(|verdict| word(verdict).to_owned())).collect::<Vec<_>>().join("; ")
}

/// All that is known, gathered for these questions: made once, asked often.
#[derive(Debug)]
pub struct Places {
    fleet: Fleet,
    offers: Vec<Offer>,
    gate: Option<Gatekeeper>,
}

impl Places {
    /// What a snapshot knows; its queue does not matter.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut fleet = Fleet::default();
        for node in &snapshot.nodes {
            fleet.set(node.clone(), snapshot.now);
        }
        let offers = snapshot.offers.iter().cloned().map(Offer::of).collect();
        Self { fleet, offers, gate: snapshot.gate.clone() }
    }

    /// The kinds that have nodes, each with its site and tier.
    fn kinds(&self) -> impl Iterator<Item = ((Tier, &SiteName), &Kind)> {
        let kinds = self.fleet.kinds.iter().filter(|kind| !kind.nodes.is_empty());
        kinds.map(|kind| ((Tier::of(kind), &kind.sample.site), kind))
    }

    /// Whether anything that is known could run a task of `job` if it were empty, open and cheap enough.
    ///
    /// # Errors
    /// [`Unsatisfiable`] says what is missing and what is there instead.
    pub fn could_ever_run(&self, job: &QueuedJob) -> Result<(), Unsatisfiable> {
        let terms = Terms::of(job, SpotRule::Allow).at(self.gate.as_ref());
        let wanted = usize::try_from(job.nodes.max(1)).unwrap_or(usize::MAX);
        let (mut bars, mut denied) = (BTreeSet::new(), BTreeSet::new());
        let mut suitable: BTreeMap<(Tier, &SiteName), usize> = BTreeMap::new();
        for (unit, kind) in self.kinds() {
            let judged = terms.kind(kind);
            denied.extend(judged.refused);
            match judged.bar {
                None | Some(Bar::MaxPrice | Bar::Closed) => {
                    *suitable.entry(unit).or_default() += kind.nodes.len()
                }
                Some(bar) => {
                    bars.insert(bar);
                }
            }
        }
        for offer in &self.offers {
            let judged = terms.offer(offer);
            denied.extend(judged.refused);
            match judged.bar {
                None | Some(Bar::MaxPrice | Bar::Closed) => return Ok(()),
                Some(bar) => {
                    bars.insert(bar);
                }
            }
        }
        let most = suitable.into_values().max().unwrap_or(0);
        if most >= wanted {
            return Ok(());
        }
        if most > 0 {
            let most = u32::try_from(most).unwrap_or(u32::MAX);
            return Err(Unsatisfiable::TooFewNodes { wanted: job.nodes, most, denied });
        }
        let ruled_out = || {
            let others = bars.into_iter().filter(|bar| !matches!(bar, Bar::Size | Bar::Access));
            Unsatisfiable::RuledOut { by: others.map(Bar::verdict).collect(), denied }
        };
        Err(self.too_large(job, &terms.need).unwrap_or_else(ruled_out))
    }

    /// What no capacity that is known has; none where some capacity is large enough.
    fn too_large(&self, job: &QueuedJob, need: &Need) -> Option<Unsatisfiable> {
        let kinds = self.kinds().map(|(_, kind)| (&kind.sample.capacity, &kind.layout, &kind.all));
        let offers = self.offers.iter().map(|offer| (&offer.view.capacity, &offer.layout, &offer.all));
        let places: Vec<(&NodeCapacity, &Layout, &Level)> = kinds.chain(offers).collect();
        let request = job.resources.gpus.as_ref();
        let mask = |layout: &Layout| request.map_or(0, |gpus| layout.mask(&gpus.selector));
        if let Some(request) = request {
            if places.iter().all(|(_, layout, _)| mask(layout) == 0) {
                let accelerators = places.iter().flat_map(|(capacity, ..)| &capacity.accelerators);
                let known: BTreeSet<_> = accelerators.map(|accelerator| accelerator.model.clone()).collect();
                let asked = selector_words(request);
                return Some(Unsatisfiable::UnknownModel { asked, known: known.into_iter().collect() });
            }
            let largest = places.iter().map(|(_, layout, all)| all.whole_free(mask(layout))).max();
            let largest = largest.unwrap_or(0);
            if matches!(need.want, Want::Whole(count) if count > largest) {
                return Some(Unsatisfiable::TooManyGpus { asked: request.clone(), largest });
            }
        }
        let with_gpus = || {
            places.iter().filter(|(_, layout, all)| match need.want {
                Want::Nothing => true,
                Want::Whole(count) => all.whole_free(mask(layout)) >= count,
                Want::Blocks(blocks) => all.most_blocks_free(mask(layout)) >= blocks,
            })
        };
        if with_gpus().any(|(_, layout, all)| need.fits(all, mask(layout))) {
            return None;
        }
        Some(Unsatisfiable::TooLarge {
            cpus_milli: need.cpus_milli,
            memory_mib: need.memory_mib,
            largest_cpus_milli: with_gpus().map(|(capacity, ..)| capacity.cpus_milli).max().unwrap_or(0),
            largest_memory_mib: with_gpus().map(|(capacity, ..)| capacity.memory_mib).max().unwrap_or(0),
        })
    }

    /// The least money, in micros, that a start of one task would hold anywhere it may run, open or not, free or
    /// not; none where it may run nowhere, `max_price` included.
    #[must_use]
    pub fn cheapest_hold(&self, job: &QueuedJob) -> Option<i64> {
        let terms = Terms::of(job, SpotRule::Allow).at(self.gate.as_ref());
        let wanted = usize::try_from(job.nodes.max(1)).unwrap_or(usize::MAX);
        let mut rates: BTreeMap<(Tier, &SiteName), Vec<i64>> = BTreeMap::new();
        for (unit, kind) in self.kinds() {
            let judged = terms.kind(kind);
            if matches!(judged.bar, None | Some(Bar::Closed)) {
                let count = kind.nodes.len().min(wanted);
                rates.entry(unit).or_default().extend(std::iter::repeat_n(judged.rate.0, count));
            }
        }
        let gang = |mut rates: Vec<i64>| {
            rates.sort_unstable();
            let chosen = rates.get(..wanted)?;
            let rate: i128 = chosen.iter().map(|rate| i128::from(*rate)).sum();
            let payable = job.placement.max_price.is_none_or(|most| rate <= i128::from(most.0));
            let holds = chosen.iter().map(|rate| part_hold(job, *rate));
            payable.then(|| holds.fold(0_i64, i64::saturating_add))
        };
        let launch = |offer: &Offer| {
            let judged = terms.offer(offer);
            let ms = job.longest.0.saturating_add(offer.view.boot.0);
            let price: HourlyRate = offer.view.price;
            judged.bar.is_none().then(|| price.cost_micros(u64::from(job.nodes.max(1)), 1, 0, ms))
        };
        let here = rates.into_values().filter_map(gang);
        here.chain(self.offers.iter().filter_map(launch)).min()
    }
}

/// [`Places::could_ever_run`] for one question.
///
/// # Errors
/// [`Unsatisfiable`] as there.
pub fn could_ever_run(snapshot: &Snapshot, job: &QueuedJob) -> Result<(), Unsatisfiable> {
    Places::of(snapshot).could_ever_run(job)
}

/// [`Places::cheapest_hold`] for one question.
#[must_use]
pub fn cheapest_hold(snapshot: &Snapshot, job: &QueuedJob) -> Option<i64> {
    Places::of(snapshot).cheapest_hold(job)
}

fn selector_words(request: &GpuRequest) -> String {
    match &request.selector {
        GpuSelector::Any => "a GPU".to_owned(),
        GpuSelector::Model(model) => model.to_string(),
        GpuSelector::MemoryAtLeast { gib } => format!("{gib}GB+"),
        GpuSelector::Mig { profile } => format!("mig-{profile}"),
    }
}
