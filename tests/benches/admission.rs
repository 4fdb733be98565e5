//! How long it takes to ask every limit of a group and of the seven above it for an attempt, and to hold what it asks
//! for, in microseconds, as groups and attempts grow.

use anyhow::{Context as _, Result};
use spillway_ledger::calendar::Zone;
use spillway_ledger::limits::{Action, Demand, HoldStep, LeaseTerms, Limit, LimitId, Limits, Place, Share};
use spillway_ledger::window::Window;
use spillway_types::{AttemptId, DurationMs, GroupName, HourlyRate, SiteKind, UnixMs};
use uuid::Uuid;
use xtask::wait::Stopwatch;

use crate::Settings;
use crate::clock::median;
use crate::report::Measurement;

/// Levels of the tree: a group and the seven above it are asked.
const DEPTH: usize = 8;
/// Limits of each group.
const LIMITS: [(&str, &str); 4] = [
    ("concurrent-gpus", "everywhere"),
    ("gpu-time:H100", "everywhere"),
    ("money", "everywhere"),
    ("money", "cloud"),
];
/// 2026-11-01 UTC.
const NOW: UnixMs = UnixMs(1_793_491_200_000);
/// More than all that is held.
const ROOM: i64 = 1_000_000_000_000_000;

/// Measures trees of 8, 200 and 2,000 groups with up to 20,000 attempts at once.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let sizes: &[(usize, usize)] = if settings.quick {
        &[(8, 100), (200, 1_000)]
    } else {
        &[(8, 1_000), (200, 10_000), (2_000, 20_000)]
    };
    let mut measurements = vec![];
    for (groups, attempts) in sizes {
        let [p50, p99, longest] = measure(*groups, *attempts)?;
        for (what, value) in [("p50", p50), ("p99", p99), ("longest", longest)] {
            let metric = format!(
                "one admission, {DEPTH} levels deep, {groups} groups, {attempts} attempts held, {what}"
            );
            measurements.push(Measurement { metric: metric.into(), value, unit: "us", peer: None });
        }
    }
    Ok(measurements)
}

/// The microseconds of an admission while so many attempts hold something: p50, p99 and the longest.
fn measure(groups: usize, attempts: usize) -> Result<[f64; 3]> {
    let (mut limits, leaves) = tree(groups)?;
    let mut times = vec![];
    for number in 0..attempts * 2 {
        let leaf = leaves.get(number * 7919 % leaves.len()).context("a tree has leaves")?;
        let demand = demand(leaf, number);
        let watch = Stopwatch::start();
        limits.check(&demand, NOW)?;
        limits.hold(attempt(number), demand, NOW)?;
        times.push(watch.elapsed().as_secs_f64() * 1e6);
        // From here on as many end as begin.
        if let Some(old) = number.checked_sub(attempts) {
            limits.step(attempt(old), HoldStep::Release)?;
            limits.forget(attempt(old));
        }
    }
    let p50 = median(&mut times);
    let at = |permille: usize| times.get(times.len() * permille / 1000).copied().unwrap_or(p50);
    Ok([p50, at(990), times.last().copied().unwrap_or(p50)])
}

/// Chains of groups of the full depth, which share the upper half of it, and the lowest group of each.
fn tree(groups: usize) -> Result<(Limits, Vec<GroupName>)> {
    let mut limits = Limits::new();
    let (mut leaves, mut made) = (vec![], 0);
    let shared = DEPTH / 2;
    let mut parent: Option<GroupName> = None;
    for level in 0..shared {
        parent = Some(group(&mut limits, &format!("top{level}"), parent)?);
        made += 1;
    }
    while made < groups {
        let mut below = parent.clone();
        for level in shared..DEPTH {
            below = Some(group(&mut limits, &format!("g{made}-{level}"), below)?);
            made += 1;
        }
        leaves.extend(below);
    }
    Ok((limits, leaves))
}

fn group(limits: &mut Limits, name: &str, parent: Option<GroupName>) -> Result<GroupName> {
    let name: GroupName = name.parse()?;
    limits.set_group(name.clone(), parent, Zone::utc(), NOW)?;
    for (metric, scope) in LIMITS {
        let window = if metric == "concurrent-gpus" { Window::Instant } else { Window::Month };
        let id = LimitId { group: name.clone(), metric: metric.parse()?, scope: scope.parse()?, window };
        let (borrow, lend, thresholds) = (None, None, vec![50, 80, 100]);
        let limit = Limit {
            id,
            nominal: ROOM,
            borrow,
            lend,
            action: Action::Drain,
            thresholds,
            priority: 0,
            stated: None,
        };
        limits.set_limit(limit, NOW)?;
    }
    Ok(name)
}

/// One to eight GPUs for two hours, every second one in a cloud.
fn demand(group: &GroupName, number: usize) -> Demand {
    let kind = if number.is_multiple_of(2) { SiteKind::OnPrem } else { SiteKind::Cloud };
    let blocks = (number as u64 % 8 + 1) * 100;
    let cap = HourlyRate(i64::try_from(blocks).unwrap_or(0) * 25_000);
    Demand {
        group: group.clone(),
        place: Place { site: "dgx".parse().expect("a name"), kind },
        shares: vec![Share { class: Some("H100".parse().expect("a model")), blocks, cap }],
        terms: LeaseTerms {
            lease: DurationMs::from_secs(7200),
            grace: DurationMs::from_secs(30),
            minimum: DurationMs::from_secs(60),
            increment: DurationMs::from_secs(1),
        },
        egress_micros: 0,
    }
}

fn attempt(number: usize) -> AttemptId {
    AttemptId::from_uuid(Uuid::from_u128(number as u128))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_admission_asks_eight_groups() {
        let (limits, leaves) = tree(8).unwrap();
        assert_eq!(limits.rows_above(&leaves[0]).len(), DEPTH);
        let [p50, p99, longest] = measure(20, 50).unwrap();
        assert!(0.0 < p50 && p50 <= p99 && p99 <= longest);
    }
}
