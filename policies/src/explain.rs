//! What is said of a job: every pool and every offer with a word, a sentence, a price and a wait, best first.
//!
//! Words that are the same for all jobs of a shape are made once; a plan of thousands of jobs says much.

use spillway_types::{DurationMs, HourlyRate, UnixMs};

use crate::judge::Bar;
use crate::look::part_hold;
use crate::planner::{Planner, Progress};
use crate::search::{earliest_in, earliest_in_unit};
use crate::shape::OfferFit;
use crate::{Candidate, Explanation, Verdict, barred, words};

/// Verdicts from best to worst, for the order of candidates.
const fn standing(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Chosen => 0,
        Verdict::Planned => 1,
        Verdict::Dearer => 2,
        Verdict::Full => 3,
        Verdict::Budget => 4,
        Verdict::MaxPrice => 5,
        Verdict::NoCapacity => 6,
        Verdict::Closed => 7,
        Verdict::NoContainer => 8,
        Verdict::NoFractions => 9,
        Verdict::OtherGroups => 10,
        Verdict::NotAllowed => 11,
        Verdict::TooSmall => 12,
    }
}

/// What is said of one place.
struct Said {
    verdict: Verdict,
    detail: String,
    rate: Option<i64>,
    cost_micros: Option<i64>,
    wait_ms: Option<i64>,
}

impl Said {
    const fn barred(bar: Bar, detail: String) -> Self {
        Self { verdict: bar.verdict(), detail, rate: None, cost_micros: None, wait_ms: None }
    }
}

impl<'a> Planner<'a> {
    /// Everything that was seen for the job.
    pub(crate) fn explain(&mut self, progress: &Progress<'a>) -> Explanation {
        let starts = self.pool_starts(progress);
        let mut candidates = Vec::with_capacity(starts.len() + self.offers_left.len());
        for (pool, start) in starts.into_iter().enumerate() {
            let said = self.say_pool(progress, pool, start);
            let pool = &self.world.pools[pool];
            candidates.push(candidate(pool.site.clone(), pool.pool.to_string(), said));
        }
        for (at, offer) in self.world.snapshot.offers.iter().enumerate() {
            let said = self.say_offer(progress, at);
            candidates.push(candidate(offer.site.clone(), offer.instance_type.to_string(), said));
        }
        candidates.sort_by(|a, b| {
            let key =
                |c: &Candidate| (standing(c.verdict), c.wait.unwrap_or(DurationMs(u64::MAX)), c.cost_micros);
            key(a).cmp(&key(b)).then_with(|| (&a.site, &a.what).cmp(&(&b.site, &b.what)))
        });
        let waits = progress.waiting > 0;
        let planned = progress.planned.as_ref().filter(|_| waits);
        Explanation {
            reason: progress.reason.filter(|_| waits),
            planned_start: planned.map(|found| UnixMs(found.start)),
            position: progress.position,
            candidates,
        }
    }

    /// When the next task could start in each pool that is not barred; `i64::MAX` for never, or not at a price
    /// that the group can pay. A gang may be spread over the pools of a site, so these share its start.
    fn pool_starts(&mut self, progress: &Progress<'a>) -> Vec<i64> {
        let query = self.query(progress);
        let shape = &mut self.shapes[progress.shape];
        let mut starts = vec![i64::MAX; self.world.pools.len()];
        for (at, start) in starts.iter_mut().enumerate() {
            if shape.pools[at].bar.is_some() {
                continue;
            }
            if shape.nodes == 1 {
                let range = shape.pools[at].fits.clone();
                let found = earliest_in(shape, &self.timelines, range, query);
                *start = found.map_or(i64::MAX, |(start, _)| start);
            } else {
                let unit = self.world.pools[at].unit;
                let found = earliest_in_unit(shape, &self.timelines, unit, query);
                *start = found.map_or(i64::MAX, |found| found.start);
            }
        }
        starts
    }

    fn say_pool(&mut self, progress: &Progress<'a>, pool: usize, start: i64) -> Said {
        let job = progress.job;
        let fit = self.shapes[progress.shape].pools[pool].clone();
        if let Some(bar) = fit.bar {
            let known = self.shapes[progress.shape].pool_words[pool].clone();
            let detail = known.unwrap_or_else(|| {
                let words = barred::pool_words(&self.world, &self.shapes[progress.shape], job, pool, bar);
                self.shapes[progress.shape].pool_words[pool].insert(words).clone()
            });
            return Said::barred(bar, detail);
        }
        let parts = u64::from(job.nodes.max(1));
        let rate = fit.rate.saturating_mul(i64::from(job.nodes.max(1)));
        let priced = |verdict, detail, wait_ms: Option<i64>| {
            let cost = HourlyRate(fit.rate).cost_micros(parts, 1, 0, job.estimate.0);
            Said { verdict, detail, rate: Some(rate), cost_micros: Some(cost), wait_ms }
        };
        if let Some((tasks, nodes)) = progress.chosen_pools.get(&pool) {
            return priced(Verdict::Chosen, self.chosen_words(*tasks, nodes), Some(0));
        }
        let planned =
            progress.planned.as_ref().filter(|found| found.fits.iter().any(|at| fit.fits.contains(at)));
        if let Some(found) = planned {
            let wait = found.start.saturating_sub(self.now());
            return priced(Verdict::Planned, self.free_words(progress, pool, found.start), Some(wait));
        }
        let hold = i128::from(part_hold(job, fit.rate)) * i128::from(parts);
        let purse = self.purse(job);
        if progress.waiting > 0 && hold > i128::from(purse) {
            let hold = i64::try_from(hold).unwrap_or(i64::MAX);
            let (hold, left) = (words::amount(hold), words::amount(purse));
            return priced(Verdict::Budget, format!("would hold {hold}, the budget has {left} left"), None);
        }
        let wait = (start != i64::MAX).then(|| start.saturating_sub(self.now()));
        if start <= self.now() {
            return priced(Verdict::Dearer, "free now, but another place is better".to_owned(), wait);
        }
        let planned_start = progress.planned.as_ref().map_or(i64::MAX, |found| found.start);
        let verdict = if start <= planned_start && start != i64::MAX && progress.planned.is_some() {
            Verdict::Dearer
        } else {
            Verdict::Full
        };
        priced(verdict, self.free_words(progress, pool, start), wait)
    }

    /// `3 tasks start now on dgx-1, dgx-2`.
    fn chosen_words(&self, tasks: u64, nodes: &std::collections::BTreeSet<usize>) -> String {
        const NAMED: usize = 3;
        let host = |node: &usize| self.world.snapshot.nodes[*node].hostname.as_str();
        let mut hosts = nodes.iter().take(NAMED).map(host).collect::<Vec<_>>().join(", ");
        if nodes.len() > NAMED {
            hosts.push_str(&format!(" and {} more", nodes.len() - NAMED));
        }
        if tasks == 1 {
            format!("starts now on {hosts}")
        } else {
            format!("{tasks} tasks start now on {hosts}")
        }
    }

    /// `8 H100 wanted, 3 free, free at 12:04:10 in 4m 10s`.
    fn free_words(&mut self, progress: &Progress<'a>, pool: usize, start: i64) -> String {
        let stamp = self.decisions.len();
        let known = self.shapes[progress.shape].free_words[pool].as_ref().filter(|(at, _)| *at == stamp);
        let now = match known {
            Some((_, words)) => words.clone(),
            None => self.free_now(progress, pool),
        };
        let words = if start == i64::MAX {
            format!("{now}, and no end of what runs there is known")
        } else {
            let wait = words::span(start.saturating_sub(self.now()));
            format!("{now}, free at {} in {wait}", words::clock(start))
        };
        self.shapes[progress.shape].free_words[pool] = Some((stamp, now));
        words
    }

    fn free_now(&self, progress: &Progress<'a>, pool: usize) -> String {
        let shape = &self.shapes[progress.shape];
        let request = progress.job.resources.gpus.as_ref();
        let fits = &shape.fits[shape.pools[pool].fits.clone()];
        let level = |fit: &crate::shape::FitNode| self.timelines[fit.node].at(self.now());
        if shape.nodes > 1 {
            let free = fits.iter().filter(|fit| shape.need.fits(level(fit), fit.mask)).count();
            let asked = words::asked(request, &shape.need);
            return format!("{} nodes with {asked} wanted, {free} free", shape.nodes);
        }
        let richest = fits.iter().max_by_key(|fit| words::richness(&shape.need, level(fit), fit.mask));
        richest
            .and_then(|fit| words::shortfall(request, &shape.need, level(fit), fit.mask, "free"))
            .unwrap_or_else(|| "free now, but kept for jobs before it".to_owned())
    }

    fn say_offer(&mut self, progress: &Progress<'a>, at: usize) -> Said {
        let job = progress.job;
        let offer = &self.world.snapshot.offers[at];
        let OfferFit { bar, rate, .. } = self.shapes[progress.shape].offers[at];
        let rate = rate.saturating_mul(i64::from(job.nodes.max(1)));
        if let Some(bar) = bar {
            let known = self.shapes[progress.shape].offer_words[at].clone();
            let detail = known.unwrap_or_else(|| {
                let words = barred::offer_words(&self.world, &self.shapes[progress.shape], job, at, bar);
                self.shapes[progress.shape].offer_words[at].insert(words).clone()
            });
            return Said::barred(bar, detail);
        }
        let launch = self.launch_terms(job, at);
        let (cost, hold) = (words::amount(launch.cost_micros), words::amount(launch.hold_micros));
        let boot_ms = i64::try_from(offer.boot.0).unwrap_or(i64::MAX);
        let purse = self.purse(job);
        let (verdict, detail) = if let Some(tasks) = progress.chosen_offers.get(&at) {
            let what = if *tasks == 1 {
                "launches now".to_owned()
            } else {
                format!("launches for {tasks} tasks now")
            };
            (Verdict::Chosen, format!("{what}, ready in {}, {cost} for a run", offer.boot))
        } else if !self.has_capacity(job, at) {
            (
                Verdict::NoCapacity,
                format!("{} wanted, {} to be had just now", job.nodes, self.offers_left[at]),
            )
        } else if progress.waiting > 0 && launch.hold_micros > purse {
            let left = words::amount(purse);
            (Verdict::Budget, format!("would hold {hold}, the budget has {left} left"))
        } else {
            (Verdict::Dearer, format!("{cost} for a run, ready in {}; {}", offer.boot, self.better(progress)))
        };
        Said {
            verdict,
            detail,
            rate: Some(rate),
            cost_micros: Some(launch.cost_micros),
            wait_ms: Some(boot_ms),
        }
    }

    /// Why no instance is launched for the next task.
    fn better(&self, progress: &Progress<'a>) -> String {
        match &progress.planned {
            Some(found) => {
                let wait = words::span(found.start.saturating_sub(self.now()));
                let due = words::clock(progress.due.0);
                if found.start <= progress.due.0 {
                    format!("waiting {wait} for nodes here is within the budget that ends at {due}")
                } else {
                    format!("nodes here are free in {wait}, as soon")
                }
            }
            None if !progress.chosen_pools.is_empty() => "it starts on nodes here".to_owned(),
            None => "another place is better".to_owned(),
        }
    }
}

fn candidate(site: spillway_types::SiteName, what: String, said: Said) -> Candidate {
    Candidate {
        site,
        what,
        verdict: said.verdict,
        detail: said.detail,
        rate: said.rate.map(HourlyRate),
        cost_micros: said.cost_micros,
        wait: said.wait_ms.map(|ms| DurationMs(ms.max(0).unsigned_abs())),
    }
}
