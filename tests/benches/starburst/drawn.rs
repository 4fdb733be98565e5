//! Jobs drawn anew many times: a comparison that the luck of one trace does not decide.

use std::path::Path;

use anyhow::Result;
use spillway_policies::Sharing;
use spillway_sim::TraceJob;
use spillway_sim::contender::Contender;
use spillway_sim::generate::{Arrivals, blur_estimates, bootstrap, poisson};

use super::matched::Matched;
use super::{Row, STARBURST, SYNTHETIC, baseline, crew, figures, published};

const LOADS: [f64; 3] = [1.0, 0.75, 1.5];
const SIGMAS: [f64; 3] = [0.0, 0.3, 1.0];
const JOBS: usize = 1000;
const NODES: u32 = 4;
/// Draws have the seeds from 1 on.
const DRAWS: u64 = 60;
const QUICK_DRAWS: u64 = 12;
/// A price is good enough where the wait is at most this part below the target.
const CLOSE: f64 = 0.015;
const MOST_STEPS: usize = 12;
/// Bounds of the price of waiting, in micros per hour.
const PRICES: (u64, u64) = (100_000, 4_000_000_000);

/// What all draws gave on average.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mean {
    cloud: f64,
    wait: f64,
    longest: f64,
}

/// Every load and quality of estimates under every contender.
pub(super) fn rows(folder: Option<&Path>, quick: bool) -> Result<Vec<Row>> {
    let source = match folder {
        Some(folder) => published::jobs(folder, "synth500_s1.0")?,
        None => poisson(1, 500, Arrivals::synthetic(1.0, 8 * NODES)),
    };
    let draws = if quick { QUICK_DRAWS } else { DRAWS };
    xtask::step::say(&format!("    {draws} draws of {JOBS} jobs: seeds 1 to {draws}"));
    let mut rows = Vec::new();
    for load in LOADS {
        for sigma in SIGMAS {
            rows.extend(case(&source, (load, sigma), draws)?);
        }
    }
    Ok(rows)
}

fn case(source: &[TraceJob], (load, sigma): (f64, f64), draws: u64) -> Result<Vec<Row>> {
    let draw = |seed| {
        let mut jobs = bootstrap(seed, source, JOBS, Arrivals::synthetic(load, 8 * NODES));
        blur_estimates(seed, &mut jobs, sigma);
        jobs
    };
    let draws: Vec<Vec<TraceJob>> = (1..=draws).map(draw).collect();
    let starburst = mean(&draws, &baseline(STARBURST, SYNTHETIC))?;
    let row = |who: &str, mean: Mean, price| Row {
        case: format!("drawn, load {load}, sigma {sigma}"),
        who: who.to_owned(),
        cloud_gpu_hours: mean.cloud,
        wait_hours: mean.wait,
        longest_wait_hours: mean.longest,
        price,
        published: None,
        starburst: starburst.cloud,
    };
    let mut rows = vec![row(STARBURST, starburst, None)];
    for who in [Matched::OnArrival, Matched::Planner(Sharing::Efficient)] {
        let (price, found) = matched(starburst.wait, &mut |price| mean(&draws, &who.at(price, SYNTHETIC)?))?;
        rows.push(row(who.name(), found, who.shown(price)));
    }
    Ok(rows)
}

fn mean(draws: &[Vec<TraceJob>], contender: &Contender) -> Result<Mean> {
    let all = crew::each(draws, |jobs| figures(jobs, contender, NODES, 0))?;
    let count = f64::from(u32::try_from(all.len()).unwrap_or(u32::MAX)).max(1.0);
    Ok(Mean {
        cloud: all.iter().map(|one| one.cloud_gpu_hours).sum::<f64>() / count,
        wait: all.iter().map(|one| one.avg_wait_hours).sum::<f64>() / count,
        longest: all.iter().map(|one| one.max_wait_hours).fold(0.0, f64::max),
    })
}

/// The lowest price that was found at which the wait is at most `target`. The wait falls about as one over the price,
/// so each step goes where the target should be, and into the bracket where that does not help.
fn matched(target: f64, run: &mut dyn FnMut(u64) -> Result<Mean>) -> Result<(u64, Mean)> {
    let (mut low, mut high) = PRICES;
    let mut best = None;
    let mut price = 15_000_000;
    for step in 0..MOST_STEPS {
        let found = run(price)?;
        let keeps = found.wait <= target;
        if keeps {
            high = price;
            best = Some((price, found));
            if found.wait >= target * (1.0 - CLOSE) {
                break;
            }
        } else {
            low = price;
        }
        // Aimed a little below the target, so that the next one is likely to keep it.
        let aimed = whole(real(price) * found.wait / (target * (1.0 - CLOSE / 2.0)));
        let middle = (low * high).isqrt();
        let tried = low > PRICES.0 && high < PRICES.1;
        price = match keeps {
            _ if step % 3 < 2 && low < aimed && aimed < high => aimed,
            _ if tried => middle,
            // Not far at once: a bound was never tried.
            true => middle.max(price * 10 / 12),
            false => middle.min(price * 12 / 10),
        };
    }
    match best {
        Some(best) => Ok(best),
        None => Ok((high, run(high)?)),
    }
}

/// As a number to scale; prices here are below 2^32.
fn real(price: u64) -> f64 {
    f64::from(u32::try_from(price).unwrap_or(u32::MAX))
}

/// The nearest whole price below.
fn whole(price: f64) -> u64 {
    std::time::Duration::try_from_secs_f64(price / 1e6)
        .map_or(u64::MAX, |price| u64::try_from(price.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_found_that_keeps_the_wait_and_hardly_more() {
        for (scale, power) in [(1e6, 1.0), (1e7, 0.6), (3e5, 1.7)] {
            let wait = |price: u64| (scale / real(price)).powf(power);
            let found = matched(0.05, &mut |price| Ok(Mean { wait: wait(price), ..Mean::default() }));
            let (price, mean) = found.unwrap();
            assert!(mean.wait <= 0.05 && mean.wait > 0.045, "{scale} {power}: {price} {mean:?}");
        }
    }

    #[test]
    fn the_planner_leaves_less_to_the_cloud_than_starburst_at_its_wait() {
        let source = poisson(1, 500, Arrivals::synthetic(1.0, 8 * NODES));
        let rows = case(&source, (1.0, 0.0), 1).unwrap();
        let [starburst, on_arrival, planner] = rows.as_slice() else { panic!("{rows:?}") };
        assert!(planner.wait_hours <= starburst.wait_hours);
        assert!(planner.cloud_gpu_hours < 0.8 * starburst.cloud_gpu_hours);
        assert!(planner.cloud_gpu_hours < on_arrival.cloud_gpu_hours);
    }
}
