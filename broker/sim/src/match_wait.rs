//! The price of waiting at which a policy's average wait is what is asked: bisection, then a look around.
//!
//! A higher price means less waiting and more spending, on the whole: a single trace is noisy, and its wait goes up
//! and down in steps. So bisection only brings the search to the right place; neighbours are tried as well, and the
//! cheapest run that keeps the wait is taken. A short trace is the noisiest and the quickest: all around the best price
//! is tried there. Pure and deterministic: the same runs give the same answer.

/// Runs for one policy on a long trace. Eight find a bracket, eight halve it to a percent, and eight look around; a run
/// of a large trace takes up to a minute, so that more would cost more than they find.
const FEW_RUNS: usize = 24;
/// Runs for one policy on a short trace, each of some hundredths of a second.
const MANY_RUNS: usize = 144;
/// A trace of at most so many jobs is short.
const SHORT: usize = 2000;

/// What a search begins with, in micros per hour of wait: 6.5 GPU-hours of 2.50, where the traces in use end up.
const FIRST: u64 = 16_250_000;
/// The lowest price that is tried, in micros: a cent for a day.
const LOWEST: u64 = 400;
/// The highest price that is tried, in micros: ten million an hour; nothing waits at that.
const HIGHEST: u64 = 10_000_000_000_000;
/// By what the price is multiplied or divided until the target is between two runs.
const STRIDE: u64 = 8;
/// Runs that may be spent on finding a bracket.
const BRACKET_RUNS: usize = 9;
/// Runs that may be spent in all before neighbours are tried.
const BISECTION_RUNS: usize = 16;
/// How far around the best price all is tried on a short trace, in thousandths of it.
const AROUND: (u64, u64) = (800, 1160);
/// Two prices closer than one part in this are one price.
const RESOLUTION: u64 = 200;
/// Runs in a row that must be equal before it is believed that the price changes nothing.
const FLAT: usize = 4;

/// What one run gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The average wait in hours.
    pub wait_hours: f64,
    /// What is to be small among runs that keep the wait: cloud GPU-hours, or money.
    pub cost: f64,
}

/// One price that was tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tried {
    /// The price of waiting in micros per hour of a job's wait.
    pub price: u64,
    /// What the run gave.
    pub measured: Measured,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The cheapest run that keeps the wait; where none does, the one that waits least.
    pub best: Tried,
    /// Whether its average wait is at most the target.
    pub reached: Reached,
    /// Every price that was tried, in the order of trying.
    pub tried: Vec<Tried>,
}

/// Whether the target was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The average wait is at most the target.
    Yes,
    /// No price that was tried brings the wait down to it.
    No,
}

/// How many runs of a trace of so many jobs are worth their time.
#[must_use]
pub const fn runs_for(jobs: usize) -> usize {
    if jobs > SHORT { FEW_RUNS } else { MANY_RUNS }
}

/// Finds the price of waiting at which the average wait is at most `target_hours`, at the least cost, in at most
/// `runs` runs. No price is run twice.
///
/// # Errors
/// What `run` gives; the search ends there.
pub fn match_wait<E>(
    target_hours: f64,
    runs: usize,
    run: &mut dyn FnMut(u64) -> Result<Measured, E>,
) -> Result<Match, E> {
    let first = Tried { price: FIRST, measured: run(FIRST)? };
    let mut search = Search { target: target_hours, runs: runs.min(FEW_RUNS), tried: vec![first] };
    search.bracket(run)?;
    search.bisect(run)?;
    search.look_around(run)?;
    search.runs = runs;
    search.survey(run)?;
    Ok(search.found())
}

struct Search {
    target: f64,
    /// Most runs for now.
    runs: usize,
    tried: Vec<Tried>,
}

impl Search {
    fn keeps(&self, tried: &Tried) -> bool {
        tried.measured.wait_hours <= self.target
    }

    /// The run to take: among those that keep the wait the cheapest, then the one nearest to the target, then the
    /// one of the lowest price; without any, the one that waits least.
    fn best(&self) -> Tried {
        let order = |a: &Tried, b: &Tried| match (self.keeps(a), self.keeps(b)) {
            (true, true) => {
                let cost = a.measured.cost.total_cmp(&b.measured.cost);
                cost.then(b.measured.wait_hours.total_cmp(&a.measured.wait_hours)).then(a.price.cmp(&b.price))
            }
            (false, false) => {
                let wait = a.measured.wait_hours.total_cmp(&b.measured.wait_hours);
                wait.then(a.measured.cost.total_cmp(&b.measured.cost)).then(a.price.cmp(&b.price))
            }
            (first, second) => second.cmp(&first),
        };
        let best = self.tried.iter().copied().min_by(order);
        best.expect("a search begins with a run")
    }

    fn found(self) -> Match {
        let best = self.best();
        let reached = if self.keeps(&best) { Reached::Yes } else { Reached::No };
        Match { best, reached, tried: self.tried }
    }

    /// Runs a price, unless it was run already or runs are used up. Gives whether it was run.
    fn probe<E>(&mut self, price: u64, run: &mut dyn FnMut(u64) -> Result<Measured, E>) -> Result<bool, E> {
        if self.tried.len() >= self.runs || self.tried.iter().any(|tried| tried.price == price) {
            return Ok(false);
        }
        let measured = run(price)?;
        self.tried.push(Tried { price, measured });
        Ok(true)
    }

    /// The highest price that is too cheap to keep the wait, below the lowest one from there on that keeps it.
    fn bounds(&self) -> (Option<u64>, Option<u64>) {
        let low = self.tried.iter().filter(|tried| !self.keeps(tried)).map(|tried| tried.price).max();
        let kept = self.tried.iter().filter(|tried| self.keeps(tried)).map(|tried| tried.price);
        let high = kept.filter(|price| low.is_none_or(|low| *price > low)).min();
        (low, high)
    }

    fn is_flat(&self) -> bool {
        let mut newest = self.tried.iter().rev().take(FLAT).map(|tried| tried.measured);
        let first = newest.next();
        self.tried.len() >= FLAT && newest.all(|measured| Some(measured) == first)
    }

    fn bracket<E>(&mut self, run: &mut dyn FnMut(u64) -> Result<Measured, E>) -> Result<(), E> {
        while self.tried.len() < BRACKET_RUNS && !self.is_flat() {
            let next = match self.bounds() {
                (None, Some(high)) => (high / STRIDE).max(LOWEST),
                (Some(low), None) => (low * STRIDE).min(HIGHEST),
                (Some(_), Some(_)) | (None, None) => return Ok(()),
            };
            if !self.probe(next, run)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn bisect<E>(&mut self, run: &mut dyn FnMut(u64) -> Result<Measured, E>) -> Result<(), E> {
        while let (Some(low), Some(high)) = self.bounds()
            && self.tried.len() < BISECTION_RUNS
            && high - low > low / RESOLUTION
        {
            // The geometric mean: prices matter by their ratio.
            let middle = (u128::from(low) * u128::from(high)).isqrt();
            let middle = u64::try_from(middle).unwrap_or(high);
            if !self.probe(middle, run)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tries prices beside the best one, the nearest first, and goes on from a better one: below it, where it is
    /// cheaper as a rule, more often than above.
    fn look_around<E>(&mut self, run: &mut dyn FnMut(u64) -> Result<Measured, E>) -> Result<(), E> {
        // Nothing to find where the price changes nothing, or where no price at all keeps the wait.
        if self.is_flat() || !self.keeps(&self.best()) {
            return Ok(());
        }
        // In thousandths of the best price.
        let steps = [990, 980, 1010, 960, 1025, 930, 1050, 890, 1090, 840];
        loop {
            let best = self.best();
            let mut better = false;
            for step in steps {
                let price = u128::from(best.price) * step / 1000;
                let price = u64::try_from(price).unwrap_or(HIGHEST).clamp(LOWEST, HIGHEST);
                better = self.probe(price, run)? && self.best().price != best.price;
                if better {
                    break;
                }
            }
            if !better || self.tried.len() >= self.runs {
                return Ok(());
            }
        }
    }

    /// Spends the runs that are left on prices at equal distances around the best one, the nearest first.
    fn survey<E>(&mut self, run: &mut dyn FnMut(u64) -> Result<Measured, E>) -> Result<(), E> {
        let left = (self.runs - self.runs.min(self.tried.len())) as u64;
        let best = self.best();
        if left == 0 || self.is_flat() || !self.keeps(&best) {
            return Ok(());
        }
        let (lowest, highest) = AROUND;
        let scaled = |at: u64| u128::from(best.price) * u128::from(lowest * left + (highest - lowest) * at);
        let price = |at: u64| u64::try_from(scaled(at) / u128::from(1000 * left)).unwrap_or(HIGHEST);
        let mut prices: Vec<u64> = (0..left).map(|at| price(at).clamp(LOWEST, HIGHEST)).collect();
        prices.sort_by_key(|price| price.abs_diff(best.price));
        prices.into_iter().try_for_each(|price| self.probe(price, run).map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(target: f64, mut wait_and_cost: impl FnMut(f64) -> (f64, f64)) -> Match {
        let mut seen = std::collections::BTreeSet::new();
        let found = match_wait(target, MANY_RUNS, &mut |price| {
            assert!(seen.insert(price), "{price} was run twice");
            let (wait_hours, cost) = wait_and_cost(price as f64 / 1e6);
            Ok::<_, ()>(Measured { wait_hours, cost })
        });
        let found = found.unwrap();
        assert!(found.tried.len() <= MANY_RUNS);
        let kept = found.tried.iter().filter(|tried| tried.measured.wait_hours <= target);
        let cheapest = kept.map(|tried| tried.measured.cost).min_by(f64::total_cmp);
        match (found.reached, cheapest) {
            (Reached::Yes, Some(cheapest)) => assert!(found.best.measured.cost <= cheapest),
            (Reached::No, None) => {}
            (reached, cheapest) => panic!("{reached:?} {cheapest:?}"),
        }
        found
    }

    #[test]
    fn a_smooth_wait_is_met_closely() {
        for (target, scale) in [(0.05, 1.0), (0.2, 1.0), (0.05, 0.001), (3.0, 5000.0), (0.0001, 1.0)] {
            let found = search(target, |price| (scale / price, 200.0 + price / scale));
            assert_eq!(found.reached, Reached::Yes);
            let wait = found.best.measured.wait_hours;
            assert!(wait <= target && wait > 0.98 * target, "{target}: {found:?}");
        }
    }

    #[test]
    fn a_wait_in_steps_is_met_at_the_right_step() {
        let steps = |price: f64| ((10.0 / price * 7.0).floor() / 7.0, 100.0 + price.floor());
        let found = search(0.5, steps);
        assert_eq!(found.reached, Reached::Yes);
        // Below 0.5 the highest step is 3/7, which prices over 17.5 give.
        assert!(found.best.measured.wait_hours > 0.42 && found.best.price < 18_500_000, "{found:?}");
    }

    #[test]
    fn a_noisy_wait_is_met_by_the_cheapest_run_that_was_seen() {
        let noise = |price: f64| crate::Random::new((price * 1e6).abs().to_bits()).unit() - 0.5;
        let found = search(0.05, |price| {
            (0.5 / price * (1.0 + 0.2 * noise(price)), 150.0 + 10.0 * noise(price + 1.0))
        });
        assert_eq!(found.reached, Reached::Yes);
        assert!(found.tried.len() > 12, "{found:?}");
    }

    #[test]
    fn a_short_trace_is_looked_at_all_around_and_a_long_one_is_not() {
        for (jobs, most, least) in [(500, MANY_RUNS, 60), (20_000, FEW_RUNS, 20)] {
            let runs = runs_for(jobs);
            assert_eq!(runs, most);
            let mut prices = vec![];
            let found = match_wait(0.05, runs, &mut |price| {
                prices.push(price);
                Ok::<_, ()>(Measured { wait_hours: 1e6 / price as f64, cost: price as f64 })
            });
            let best = found.unwrap().best.price;
            assert!((least..=most).contains(&prices.len()), "{}", prices.len());
            let above = prices.iter().filter(|price| **price > best && **price < best * 12 / 10);
            assert!(most == FEW_RUNS || above.count() > 30);
        }
    }

    #[test]
    fn where_the_price_changes_nothing_the_search_ends_soon() {
        for (wait, reached) in [(0.0, Reached::Yes), (0.04, Reached::Yes), (0.2, Reached::No)] {
            let found = search(0.05, |_| (wait, 7.0));
            assert_eq!((found.reached, found.tried.len()), (reached, FLAT), "{wait}");
        }
    }

    #[test]
    fn a_wait_that_cannot_be_met_gives_the_least_one() {
        let found = search(0.05, |price| (0.1 + 1.0 / price, price));
        assert_eq!(found.reached, Reached::No);
        assert_eq!(found.best.price, found.tried.iter().map(|tried| tried.price).max().unwrap());
    }

    #[test]
    fn an_error_ends_the_search() {
        let mut runs = 0;
        let found = match_wait(0.05, FEW_RUNS, &mut |price| {
            runs += 1;
            if runs == 3 {
                Err("stopped")
            } else {
                Ok(Measured { wait_hours: 1e6 / price as f64, cost: 0.0 })
            }
        });
        assert_eq!((found, runs), (Err("stopped"), 3));
    }
}
