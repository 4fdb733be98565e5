//! Jobs that ask for the same are one shape: which nodes and offers would do is found once for all of them, and
//! what a search has learnt about starts is kept for the next one.

use std::collections::BTreeMap;
use std::ops::Range;

use spillway_types::{GpuRequest, GroupName, HourlyRate, SiteName};

use crate::QueuedJob;
use crate::judge::{Bar, Terms};
use crate::layout::{ClassMask, Need};
use crate::world::World;

/// What makes two jobs the same shape: all that the hard rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShapeKey<'a> {
    group: &'a GroupName,
    gpus: Option<&'a GpuRequest>,
    cpus_milli: u32,
    memory_mib: u64,
    nodes: u32,
    needs_container: bool,
    allow: &'a [SiteName],
    prefer: &'a [SiteName],
    residency: &'a [String],
    max_price: Option<HourlyRate>,
}

impl<'a> ShapeKey<'a> {
    pub(crate) fn of(job: &'a QueuedJob) -> Self {
        Self {
            group: &job.group,
            gpus: job.resources.gpus.as_ref(),
            cpus_milli: job.resources.cpus_milli,
            memory_mib: job.resources.memory_mib,
            nodes: job.nodes,
            needs_container: job.needs_container,
            allow: &job.placement.allow,
            prefer: &job.placement.prefer,
            residency: &job.placement.residency,
            max_price: job.placement.max_price,
        }
    }
}

/// A node that may and can run one part, and takes work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FitNode {
    pub(crate) node: usize,
    pub(crate) mask: ClassMask,
    pub(crate) rate: i64,
    /// The job wants no accelerator and this node has some.
    pub(crate) wastes_gpus: bool,
}

/// A pool against the shape; parallel to `World::pools`.
#[derive(Debug, Clone)]
pub(crate) struct PoolFit {
    /// Its part of `Shape::fits`.
    pub(crate) fits: Range<usize>,
    pub(crate) bar: Option<Bar>,
    /// The cheapest rate of a part on a node that would do, where one is open among the open ones; `i64::MAX` for none.
    pub(crate) rate: i64,
}

/// A site's nodes of one tier against the shape; parallel to `World::units`.
#[derive(Debug)]
pub(crate) struct UnitFit {
    /// Its part of `Shape::fits`; empty where a gang does not find enough nodes.
    pub(crate) fits: Range<usize>,
    /// Place of the site in the job's `prefer` list; smaller is better.
    pub(crate) preferred: usize,
    /// Nodes that would do and take work; that would do but take none; that would do but are too dear alone.
    pub(crate) open: usize,
    pub(crate) closed: usize,
    pub(crate) dear: usize,
}

/// An offer against the shape; parallel to `Snapshot::offers`.
#[derive(Debug)]
pub(crate) struct OfferFit {
    pub(crate) bar: Option<Bar>,
    /// What one part is charged per hour.
    pub(crate) rate: i64,
    pub(crate) preferred: usize,
}

impl Default for Memo {
    /// Nothing is known yet.
    fn default() -> Self {
        Self { version: None, start: i64::MIN, tightness: Tightness::default() }
    }
}

/// What a search has learnt: the node's earliest start, true while the profile has this version, and a lower
/// bound ever after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memo {
    pub(crate) version: Option<u32>,
    /// `i64::MAX` where it never fits.
    pub(crate) start: i64,
    /// What is free at that start.
    pub(crate) tightness: Tightness,
}

/// How much a node has free at a start; smaller fits better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Tightness {
    /// A fraction would open an accelerator that is wholly free.
    pub(crate) opens_a_whole: bool,
    /// Hundredths of accelerators.
    pub(crate) blocks_free: u64,
    pub(crate) cpus_free_milli: u32,
}

/// One shape.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) need: Need,
    /// How many nodes start together.
    pub(crate) nodes: usize,
    pub(crate) fits: Vec<FitNode>,
    pub(crate) pools: Vec<PoolFit>,
    pub(crate) units: Vec<UnitFit>,
    pub(crate) offers: Vec<OfferFit>,
    /// The rates that occur in `fits`, ascending.
    pub(crate) rates: Vec<i64>,
    /// Which of `memos` is for runs of this length in milliseconds.
    lengths: BTreeMap<i64, usize>,
    /// Each parallel to `fits`.
    pub(crate) memos: Vec<Vec<Memo>>,
    /// For each pool and each offer that is barred the words for why, once they were asked for.
    pub(crate) pool_words: Vec<Option<String>>,
    pub(crate) offer_words: Vec<Option<String>>,
    /// For each pool the words for what is free now, and how many starts they are true for.
    pub(crate) free_words: Vec<Option<(usize, String)>>,
}

impl Shape {
    pub(crate) fn of(world: &World<'_>, job: &QueuedJob) -> Self {
        let terms = Terms::of(job);
        let nodes = usize::try_from(job.nodes.max(1)).unwrap_or(usize::MAX);
        let mut shape = Self {
            need: terms.need,
            nodes,
            fits: Vec::new(),
            pools: Vec::with_capacity(world.pools.len()),
            units: Vec::with_capacity(world.units.len()),
            offers: Vec::with_capacity(world.snapshot.offers.len()),
            rates: Vec::new(),
            lengths: BTreeMap::new(),
            memos: Vec::new(),
            pool_words: vec![None; world.pools.len()],
            offer_words: vec![None; world.snapshot.offers.len()],
            free_words: vec![None; world.pools.len()],
        };
        for unit in &world.units {
            let preferred = preference(job, unit.site);
            shape.units.push(UnitFit { fits: 0..0, preferred, open: 0, closed: 0, dear: 0 });
        }
        for pool in 0..world.pools.len() {
            shape.add_pool(world, &terms, pool);
        }
        shape.bar_small_units(world, job.placement.max_price);
        for (offer, layout) in world.snapshot.offers.iter().zip(&world.offer_layouts) {
            let judged = terms.offer(offer, layout);
            let preferred = preference(job, &offer.site);
            shape.offers.push(OfferFit { bar: judged.bar, rate: judged.rate.0, preferred });
        }
        shape.rates = shape.fits.iter().map(|fit| fit.rate).collect();
        shape.rates.sort_unstable();
        shape.rates.dedup();
        shape
    }

    fn add_pool(&mut self, world: &World<'_>, terms: &Terms<'_>, at: usize) {
        let pool = &world.pools[at];
        let first = self.fits.len();
        let mut nearest = Bar::Site;
        let (mut cheapest, mut cheapest_barred) = (i64::MAX, i64::MAX);
        let unit = &mut self.units[pool.unit];
        for node in &pool.nodes {
            let layout = &world.layouts[*node];
            let judged = terms.node(&world.snapshot.nodes[*node], layout);
            match judged.bar {
                None => {
                    let wastes_gpus = terms.job.resources.gpus.is_none() && layout.has_gpus();
                    let rate = judged.rate.0;
                    self.fits.push(FitNode { node: *node, mask: judged.mask, rate, wastes_gpus });
                    unit.open += 1;
                    cheapest = cheapest.min(rate);
                }
                Some(bar) => {
                    nearest = nearest.max(bar);
                    unit.closed += usize::from(bar == Bar::Closed);
                    unit.dear += usize::from(bar == Bar::MaxPrice);
                    if matches!(bar, Bar::Closed | Bar::MaxPrice) {
                        cheapest_barred = cheapest_barred.min(judged.rate.0);
                    }
                }
            }
        }
        if unit.fits.is_empty() {
            unit.fits.start = first;
        }
        unit.fits.end = self.fits.len();
        let bar = (self.fits.len() == first).then_some(nearest);
        let rate = if bar.is_none() { cheapest } else { cheapest_barred };
        self.pools.push(PoolFit { fits: first..self.fits.len(), bar, rate });
    }

    /// Takes out the sites that cannot hold all nodes of a gang, or not at the job's price.
    fn bar_small_units(&mut self, world: &World<'_>, max_price: Option<HourlyRate>) {
        for (at, unit) in self.units.iter_mut().enumerate() {
            let mut rates: Vec<i64> = self.fits[unit.fits.clone()].iter().map(|fit| fit.rate).collect();
            rates.sort_unstable();
            let least: i128 = rates.iter().take(self.nodes).map(|rate| i128::from(*rate)).sum();
            let bar = if unit.open + unit.closed + unit.dear < self.nodes {
                Bar::Nodes
            } else if unit.open + unit.closed < self.nodes {
                Bar::MaxPrice
            } else if unit.open < self.nodes {
                Bar::Closed
            } else if max_price.is_some_and(|most| least > i128::from(most.0)) {
                Bar::MaxPrice
            } else {
                continue;
            };
            unit.fits = 0..0;
            for (_, fit) in world.pools.iter().zip(&mut self.pools).filter(|(pool, _)| pool.unit == at) {
                if fit.bar.is_none_or(|own| own >= Bar::MaxPrice) {
                    fit.bar = Some(bar);
                }
            }
        }
    }

    /// Which of `memos` is for runs of this length. A new one gets lower bounds from the next shorter length:
    /// what fits for long fits for a shorter time at least as early.
    pub(crate) fn memos_for(&mut self, span_ms: i64) -> usize {
        if let Some(known) = self.lengths.get(&span_ms) {
            return *known;
        }
        let fresh = match self.lengths.range(..span_ms).next_back() {
            Some((_, shorter)) => {
                self.memos[*shorter].iter().map(|memo| Memo { version: None, ..*memo }).collect()
            }
            None => vec![Memo::default(); self.fits.len()],
        };
        self.memos.push(fresh);
        self.lengths.insert(span_ms, self.memos.len() - 1);
        self.memos.len() - 1
    }
}

fn preference(job: &QueuedJob, site: &SiteName) -> usize {
    job.placement.prefer.iter().position(|wanted| wanted == site).unwrap_or(job.placement.prefer.len())
}
