//! Measuring a piece of work in real time, several times, and taking the median.

use anyhow::Result;
use xtask::wait::Stopwatch;

/// The median of `runs` rates, each the units of work a second that one call of `work` reports to have done.
///
/// # Errors
/// The first that `work` gives.
pub(crate) fn median_rate(runs: usize, mut work: impl FnMut() -> Result<u32>) -> Result<f64> {
    let mut rates = Vec::with_capacity(runs);
    for _ in 0..runs {
        let watch = Stopwatch::start();
        let units = work()?;
        rates.push(f64::from(units) / watch.elapsed().as_secs_f64());
    }
    Ok(median(&mut rates))
}

/// The middle value, of an even number the upper of the two in the middle. Zero for none.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        for (values, expected) in
            [(vec![3.0, 1.0, 2.0], 2.0), (vec![5.0], 5.0), (vec![1.0, 4.0], 4.0), (vec![], 0.0)]
        {
            assert!((median(&mut values.clone()) - expected).abs() < f64::EPSILON, "{values:?}");
        }
    }
}
