//! The earliest start of one task on nodes that are here, and the best of the nodes that allow it.
//!
//! Best means, in this order: the earliest start; no accelerators wasted on a job without any; the lower price;
//! a preferred site; no whole accelerator opened for a fraction; the fewest accelerators, then CPUs, left free;
//! the first node id. A gang starts on distinct nodes of one site at one instant.

use std::ops::Range;

use crate::layout::{LevelView, Need, blocks_free};
use crate::shape::{FitNode, Memo, Shape, Tightness};
use crate::timeline::Timeline;
use crate::world::{Tier, World};

/// Where and when one task could start.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) start: i64,
    pub(crate) unit: usize,
    /// Indexes into `Shape::fits`, one for each rank.
    pub(crate) fits: Vec<usize>,
}

/// What is asked of a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) now: i64,
    pub(crate) span_ms: i64,
    /// Nodes whose rate is above this are left out.
    pub(crate) rate_cap: i64,
}

/// How good a node is among those that allow the same start; smaller is better.
type NodeRank = (bool, i64, Tightness, usize);

/// How good a site is; smaller is better: the ranks of its nodes added up.
type UnitRank = (i64, usize, i128, usize, usize, u128, u64, usize);

/// The best start on the nodes of `tier`.
pub(crate) fn earliest_in_tier(
    shape: &mut Shape,
    world: &World<'_>,
    timelines: &[Timeline],
    tier: Tier,
    query: Query,
) -> Option<Found> {
    let mut best: Option<(UnitRank, Found)> = None;
    for unit in (0..world.units.len()).filter(|unit| world.units[*unit].tier == tier) {
        let Some(found) = earliest_in_unit(shape, timelines, unit, query) else { continue };
        let rank = unit_rank(shape, timelines, &found);
        if best.as_ref().is_none_or(|(other, _)| rank < *other) {
            best = Some((rank, found));
        }
    }
    best.map(|(_, found)| found)
}

/// The best start on the nodes of one site and tier.
pub(crate) fn earliest_in_unit(
    shape: &mut Shape,
    timelines: &[Timeline],
    unit: usize,
    query: Query,
) -> Option<Found> {
    let range = shape.units[unit].fits.clone();
    if range.len() < shape.nodes {
        return None;
    }
    if shape.nodes == 1 {
        let (start, at) = earliest_in(shape, timelines, range, query)?;
        return Some(Found { start, unit, fits: vec![at] });
    }
    let table = shape.memos_for(query.span_ms);
    for (fit, memo) in shape.fits[range.clone()].iter().zip(&mut shape.memos[table][range.clone()]) {
        refresh(&shape.need, fit, memo, &timelines[fit.node], query);
    }
    let payable = |fit: &FitNode| fit.rate <= query.rate_cap;
    let memos = &shape.memos[table][range.clone()];
    let fits = shape.fits[range.clone()].iter();
    let start_of = |(fit, memo): (&FitNode, &Memo)| if payable(fit) { memo.start } else { i64::MAX };
    let mut starts: Vec<i64> = fits.zip(memos).map(start_of).collect();
    let start = common_start(shape, timelines, range.start, &mut starts, query.span_ms)?;
    let together = starts.iter().enumerate().filter(|(_, at)| **at == start).map(|(at, _)| range.start + at);
    let mut ranked: Vec<_> =
        together.map(|at| (node_rank(shape, &shape.fits[at], timelines, start), at)).collect();
    ranked.sort_unstable();
    let fits = ranked.into_iter().take(shape.nodes).map(|(_, at)| at).collect();
    Some(Found { start, unit, fits })
}

/// The earliest start on one node of a part of `Shape::fits`, and the best node for it.
pub(crate) fn earliest_in(
    shape: &mut Shape,
    timelines: &[Timeline],
    range: Range<usize>,
    query: Query,
) -> Option<(i64, usize)> {
    let table = shape.memos_for(query.span_ms);
    let memos = shape.memos[table][range.clone()].iter_mut();
    let mut best: Option<(i64, NodeRank, usize)> = None;
    for ((fit, memo), at) in shape.fits[range.clone()].iter().zip(memos).zip(range) {
        refresh(&shape.need, fit, memo, &timelines[fit.node], query);
        if memo.start == i64::MAX || fit.rate > query.rate_cap {
            continue;
        }
        let found = (memo.start, rank(fit, memo.tightness), at);
        if best.is_none_or(|best| found < best) {
            best = Some(found);
        }
    }
    best.map(|(start, _, at)| (start, at))
}

/// Brings the memo of one node up to its profile's version.
fn refresh(need: &Need, fit: &FitNode, memo: &mut Memo, timeline: &Timeline, query: Query) {
    if memo.version == Some(timeline.version()) || memo.start == i64::MAX {
        return;
    }
    let from = memo.start.max(query.now);
    let start = timeline.earliest(from, query.span_ms, need, fit.mask).unwrap_or(i64::MAX);
    let tightness =
        if start == i64::MAX { Tightness::default() } else { tightness(need, timeline.at(start), fit) };
    *memo = Memo { version: Some(timeline.version()), start, tightness };
}

/// The first instant at which as many nodes as the shape wants can start. `starts` holds each node's earliest
/// start; it is moved on to the nodes' earliest starts from that instant on.
fn common_start(
    shape: &Shape,
    timelines: &[Timeline],
    first: usize,
    starts: &mut [i64],
    span_ms: i64,
) -> Option<i64> {
    loop {
        // No instant before the k-th smallest has k nodes that can start; so going there skips nothing.
        let at = kth_smallest(starts, shape.nodes)?;
        let mut moved = false;
        for (start, fit) in starts.iter_mut().zip(&shape.fits[first..]).filter(|(start, _)| **start < at) {
            let later = timelines[fit.node].earliest(at, span_ms, &shape.need, fit.mask);
            *start = later.unwrap_or(i64::MAX);
            moved = true;
        }
        if !moved || starts.iter().filter(|start| **start == at).count() >= shape.nodes {
            return Some(at);
        }
    }
}

fn kth_smallest(starts: &[i64], k: usize) -> Option<i64> {
    let at = if k == 1 {
        starts.iter().copied().min()
    } else {
        let mut sorted = starts.to_vec();
        sorted.sort_unstable();
        sorted.get(k - 1).copied()
    };
    at.filter(|start| *start != i64::MAX)
}

fn rank(fit: &FitNode, tightness: Tightness) -> NodeRank {
    (fit.wastes_gpus, fit.rate, tightness, fit.node)
}

fn node_rank(shape: &Shape, fit: &FitNode, timelines: &[Timeline], start: i64) -> NodeRank {
    rank(fit, tightness(&shape.need, timelines[fit.node].at(start), fit))
}

fn tightness(need: &Need, level: LevelView<'_>, fit: &FitNode) -> Tightness {
    Tightness {
        opens_a_whole: need.opens_a_whole(level.rooms, fit.mask),
        blocks_free: blocks_free(level.rooms),
        cpus_free_milli: level.cpus_milli,
    }
}

fn unit_rank(shape: &Shape, timelines: &[Timeline], found: &Found) -> UnitRank {
    let mut sum = (found.start, 0, 0_i128, shape.units[found.unit].preferred, 0, 0_u128, 0_u64, usize::MAX);
    for at in &found.fits {
        let (wastes, rate, tightness, node) = node_rank(shape, &shape.fits[*at], timelines, found.start);
        sum.1 += usize::from(wastes);
        sum.2 += i128::from(rate);
        sum.4 += usize::from(tightness.opens_a_whole);
        sum.5 += u128::from(tightness.blocks_free);
        sum.6 += u64::from(tightness.cpus_free_milli);
        sum.7 = sum.7.min(node);
    }
    sum
}
