//! The accelerator share that cannot be given out when requests, fractions among them, fill a cluster one by one.
//!
//! With `--traces` the recorded requests come in their order and, once all came, again by lot; then shuffled with
//! several seeds. Without, a population of the same kind is made up. Nothing ends. Two peers see the same requests
//! in the same run: best-fit by CPU and accelerator share left (the one of the FGD paper) and by accelerator share
//! alone. The share is taken when requests, refused ones included, add up to the capacity, and again when 100
//! requests for accelerators in a row found no place. How long a decision takes is measured along the way.

mod best_fit;
pub(crate) mod population;

use anyhow::{Result, ensure};
use spillway_policies::{Ask, Packer};
use xtask::wait::Stopwatch;

use crate::Settings;
use crate::clock::median;
use crate::report::{Measurement, Peer};

use best_fit::{BestFit, Measure};
use population::{Lot, Population};

/// So many refusals in a row, and the cluster counts as full.
const REFUSED_IN_A_ROW: u32 = 100;
/// Ten times what fills any of these clusters: a loop that does not end is a mistake.
const MOST_REQUESTS: usize = 200_000;

/// Percent of all accelerators that nobody has.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Idle {
    when_asked_for_all: f64,
    when_full: f64,
}

/// How requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AsRecorded,
    Shuffled,
}

/// Whatever gives places.
trait Place {
    fn place(&mut self, ask: &Ask) -> bool;
    fn free_blocks(&self) -> u64;
}

impl Place for Packer {
    fn place(&mut self, ask: &Ask) -> bool {
        Self::place(self, ask).is_some()
    }

    fn free_blocks(&self) -> u64 {
        Self::free_blocks(self)
    }
}

/// Measures the product's rule and both peers.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let population = match &settings.traces {
        Some(folder) => Population::recorded(folder)?,
        None => {
            xtask::step::say(
                "    no --traces DIR: the requests are made up; openb_pod_list_default.csv and \
                 openb_node_list_gpu_node.csv of Alibaba's cluster-trace-gpu-v2023 are the recorded ones",
            );
            Population::made_up()
        }
    };
    let mut times = Vec::new();
    let seeds: u64 = if settings.quick { 3 } else { 9 };
    let mut measurements = compare(&population, &mut times, Order::AsRecorded, 1..=1)?;
    measurements.extend(compare(&population, &mut times, Order::Shuffled, 1..=seeds)?);
    let p50 = median(&mut times);
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or(p50);
    for (metric, value) in [("one decision, p50", p50), ("one decision, p99", p99)] {
        measurements.push(Measurement { metric: metric.into(), value, unit: "us", peer: None });
    }
    Ok(measurements)
}

/// The medians over all seeds, against both peers.
fn compare(
    population: &Population,
    times: &mut Vec<f64>,
    order: Order,
    seeds: std::ops::RangeInclusive<u64>,
) -> Result<Vec<Measurement>> {
    let (mut ours, mut by_both, mut by_share) = (Vec::new(), Vec::new(), Vec::new());
    for seed in seeds {
        let mut packer = Packer::new(&population.nodes);
        ours.push(fill(&mut packer, population, (order, seed), |micros| times.push(micros))?);
        for (measure, results) in [(Measure::CpuAndShare, &mut by_both), (Measure::Share, &mut by_share)] {
            let mut peer = BestFit::new(&population.nodes, measure);
            results.push(fill(&mut peer, population, (order, seed), |_| ())?);
        }
    }
    let (asked, full) = match order {
        Order::AsRecorded => ("idle share, requests add up to capacity", "idle share, full"),
        Order::Shuffled => {
            ("idle share, requests add up to capacity, shuffled", "idle share, full, shuffled")
        }
    };
    let mut measurements = Vec::new();
    for (metric, of) in
        [(asked, (|idle| idle.when_asked_for_all) as fn(&Idle) -> f64), (full, |idle| idle.when_full)]
    {
        let middle = |results: &[Idle]| median(&mut results.iter().map(of).collect::<Vec<_>>());
        for (name, results) in [
            ("best-fit by CPU and accelerator share", &by_both),
            ("best-fit by accelerator share", &by_share),
        ] {
            let peer = Some(Peer { name: name.to_owned(), value: middle(results) });
            measurements.push(Measurement {
                metric: metric.into(),
                value: middle(&ours),
                unit: "% of capacity",
                peer,
            });
        }
    }
    Ok(measurements)
}

/// Fills the nodes, and tells of each decision how many microseconds it took.
fn fill(
    place: &mut impl Place,
    population: &Population,
    (order, seed): (Order, u64),
    mut took: impl FnMut(f64),
) -> Result<Idle> {
    let capacity = place.free_blocks();
    let percent = |free: u64| 100.0 * blocks(free) / blocks(capacity);
    let mut lot = Lot::new(seed);
    let mut asks = population.asks.clone();
    if order == Order::Shuffled {
        lot.shuffle(&mut asks);
    }
    let (mut asked, mut refused, mut all_asked, mut full) = (0, 0, None, None);
    for at in 0..MOST_REQUESTS {
        let ask = asks.get(at).unwrap_or_else(|| &asks[lot.below(asks.len())]);
        if asked + ask.blocks() > capacity {
            all_asked = all_asked.or(Some(percent(place.free_blocks())));
        }
        asked += ask.blocks();
        let watch = Stopwatch::start();
        let placed = place.place(ask);
        took(watch.elapsed().as_secs_f64() * 1e6);
        match (placed, ask.blocks()) {
            (_, 0) => {}
            (true, _) => refused = 0,
            (false, _) => refused += 1,
        }
        if refused == REFUSED_IN_A_ROW {
            full = full.or(Some(percent(place.free_blocks())));
        }
        if let (Some(when_asked_for_all), Some(when_full)) = (all_asked, full) {
            return Ok(Idle { when_asked_for_all, when_full });
        }
    }
    ensure!(
        false,
        "{MOST_REQUESTS} requests did not fill the nodes: they have no accelerators, or nobody asks"
    );
    Ok(Idle { when_asked_for_all: 0.0, when_full: 0.0 })
}

/// Blocks as a number to divide.
fn blocks(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_s_rule_leaves_less_idle_than_its_peers() {
        let population = Population::made_up().scaled_down(10);
        let measurements = compare(&population, &mut Vec::new(), Order::Shuffled, 1..=3).unwrap();
        assert_eq!(measurements.len(), 4);
        for measurement in measurements {
            let peer = measurement.peer.expect("both are compared");
            assert!(measurement.value > 0.0, "such requests leave something");
            assert!(measurement.value < peer.value, "{}: {} > {}", peer.name, measurement.value, peer.value);
        }
    }

    #[test]
    fn nodes_that_never_fill_are_an_error() {
        let mut population = Population::made_up().scaled_down(100);
        population.asks.retain(|ask| ask.gpus.is_none());
        let mut packer = Packer::new(&population.nodes);
        assert!(fill(&mut packer, &population, (Order::AsRecorded, 1), |_| ()).is_err());
    }
}
