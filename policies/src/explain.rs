//! What is said of a job: every pool and every offer with a word, a sentence, a price and a wait, best first.
//!
//! Made on demand from the layout, after the plan: the waits at places where the job does not go are those that it
//! would have behind everything that is planned.

use std::collections::{BTreeMap, BTreeSet};

use spillway_types::{DurationMs, HourlyRate, JobId, Market, PoolName, Reason, SiteName, UnixMs};

use crate::item::{Item, whole};
use crate::judge::Bar;
use crate::lay::{Ground, Here, Spot};
use crate::moving::Moving;
use crate::planner::Planner;
use crate::shape::{Shape, Tier, span_at};
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
        Verdict::Deadline => 6,
        Verdict::NoCapacity => 7,
        Verdict::Closed => 8,
        Verdict::NoContainer => 9,
        Verdict::NoFractions => 10,
        Verdict::OtherGroups => 11,
        Verdict::NotAllowed => 12,
        Verdict::TooSmall => 13,
    }
}

/// The kinds of one pool.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) tier: Tier,
    pub(crate) site: &'a SiteName,
    pub(crate) pool: &'a PoolName,
    /// Those that have nodes now.
    pub(crate) kinds: Vec<usize>,
}

/// What is said of one place.
struct Said {
    verdict: Verdict,
    detail: String,
    rate: Option<i64>,
    cost_micros: Option<i64>,
    total: Option<f64>,
    wait_ms: Option<i64>,
    moving: Moving,
    risk: f64,
}

impl Said {
    const fn barred(bar: Bar, detail: String) -> Self {
        Self {
            verdict: bar.verdict(),
            detail,
            rate: None,
            cost_micros: None,
            total: None,
            wait_ms: None,
            moving: Moving { bytes: 0, egress_micros: 0, held_micros: 0, ms: 0 },
            risk: 0.0,
        }
    }
}

/// What became of a job's tasks in the layout.
#[derive(Debug, Default)]
pub(crate) struct Fate<'a> {
    /// How many tasks start now on which nodes.
    now: Vec<&'a Here>,
    launched: BTreeMap<usize, u64>,
    /// The first start that is still to come.
    planned: Option<&'a Here>,
    pub(crate) reason: Option<Reason>,
}

impl Planner {
    /// Everything that was seen for each job that was looked at, and position and reason for the rest.
    #[must_use]
    pub fn explanations(&self) -> BTreeMap<JobId, Explanation> {
        self.explanations_while(&mut || true)
    }

    /// The same while `go_on` says so, from the front of the queue; for jobs after that all but the candidates.
    #[must_use]
    pub fn explanations_while(&self, go_on: &mut dyn FnMut() -> bool) -> BTreeMap<JobId, Explanation> {
        let mut in_full = true;
        let mut fates: BTreeMap<usize, Fate<'_>> = BTreeMap::new();
        let mut positions: Vec<usize> = Vec::new();
        for (at, slot) in self.layout.sequence.iter().enumerate() {
            let fate = fates.entry(*slot).or_insert_with(|| {
                positions.push(*slot);
                Fate::default()
            });
            fate.add(self, at);
        }
        let rest = self.lines.slots().filter(|slot| !fates.contains_key(slot));
        let rest: Vec<usize> = rest.collect();
        let mut explanations = BTreeMap::new();
        for (at, slot) in positions.into_iter().chain(rest).enumerate() {
            let Some(item) = self.item(slot) else { continue };
            let position = u32::try_from(at + 1).unwrap_or(u32::MAX);
            in_full = in_full && go_on();
            let explanation = match fates.remove(&slot) {
                Some(fate) if in_full => self.explain(item, &fate, position),
                Some(fate) => self.summary(item, &fate, position),
                None => brief(Some(Reason::Priority), position),
            };
            explanations.insert(item.job.job, explanation);
        }
        explanations
    }

    /// Everything that was seen for one job of the queue.
    #[must_use]
    pub fn explanation(&self, job: JobId) -> Option<Explanation> {
        let slot = self.slot_of(job)?;
        let item = self.item(slot)?;
        let mut fate = Fate::default();
        let mut seen = BTreeSet::new();
        let mut position = None;
        for (at, other) in self.layout.sequence.iter().enumerate() {
            seen.insert(*other);
            if *other == slot {
                position.get_or_insert(seen.len());
                fate.add(self, at);
            }
        }
        let known = position.is_some();
        let position = u32::try_from(position.unwrap_or(seen.len() + 1)).unwrap_or(u32::MAX);
        Some(if known {
            self.explain(item, &fate, position)
        } else {
            brief(Some(Reason::Priority), position)
        })
    }

    pub(crate) fn ground(&self) -> Ground<'_> {
        Ground {
            now: self.now,
            fleet: &self.fleet,
            shapes: &self.shapes,
            mix: &self.mix,
            offers: &self.offers,
            occupancies: &self.occupancies,
            courses: &self.courses,
        }
    }

    fn explain(&self, item: &Item, fate: &Fate<'_>, position: u32) -> Explanation {
        let mut candidates: Vec<Candidate> = Vec::new();
        for place in self.places() {
            let said = self.say_place(item, fate, &place);
            candidates.push(candidate(place.site.clone(), place.pool.to_string(), said));
        }
        for at in 0..self.offers.len() {
            let view = &self.offers[at].view;
            let said = self.say_offer(item, fate, at);
            candidates.push(candidate(view.site.clone(), view.instance_type.to_string(), said));
        }
        candidates.sort_by(|a, b| {
            let key =
                |c: &Candidate| (standing(c.verdict), c.wait.unwrap_or(DurationMs(u64::MAX)), c.cost_micros);
            key(a).cmp(&key(b)).then_with(|| (&a.site, &a.what).cmp(&(&b.site, &b.what)))
        });
        Explanation { candidates, ..self.summary(item, fate, position) }
    }

    /// What became of a job, without the places that were considered.
    fn summary(&self, item: &Item, fate: &Fate<'_>, position: u32) -> Explanation {
        let started = fate.now.len() as u64 + fate.launched.values().sum::<u64>();
        let waits = started < item.job.tasks.len();
        // Promised is only what the plan has left for it.
        let purse = self.board.purses[item.group];
        let leaves = item.launches.iter().any(|launch| {
            self.board.offers_left[launch.offer] >= item.job.nodes.max(1) && launch.hold_micros <= purse
        });
        Explanation {
            reason: if waits { Some(fate.reason.unwrap_or(Reason::Priority)) } else { None },
            planned_start: fate.planned.filter(|_| waits).map(|here| UnixMs(here.start)),
            bound: (waits && leaves).then_some(UnixMs(item.bound)),
            delay: item.delay.filter(|_| waits),
            position,
            candidates: Vec::new(),
        }
    }

    /// What the job's group may still hold before this plan, in micros.
    fn budget_of(&self, item: &Item) -> i64 {
        let view = self.groups.get(&item.job.group);
        view.and_then(|view| view.budget_left).unwrap_or(i64::MAX)
    }

    /// The pools that have nodes: owned ones first, then by site and name.
    pub(crate) fn places(&self) -> Vec<Place<'_>> {
        let mut places: BTreeMap<(Tier, &SiteName, &PoolName), Vec<usize>> = BTreeMap::new();
        for (at, kind) in self.fleet.kinds.iter().enumerate().filter(|(_, kind)| !kind.nodes.is_empty()) {
            places.entry((Tier::of(kind), &kind.sample.site, &kind.sample.pool)).or_default().push(at);
        }
        let place = |((tier, site, pool), kinds)| Place { tier, site, pool, kinds };
        places.into_iter().map(place).collect()
    }

    fn say_place(&self, item: &Item, fate: &Fate<'_>, place: &Place<'_>) -> Said {
        let shape = &self.shapes[item.shape];
        let fits = || place.kinds.iter().filter_map(|kind| shape.kinds.get(*kind));
        if let Some(bar) = self.place_bar(item, place) {
            return Said::barred(bar, barred::place_words(self, item, place, bar));
        }
        let parts = i64::from(item.job.nodes.max(1));
        let open = || fits().filter(|fit| fit.bar.is_none());
        let Some(cheapest) = open().min_by_key(|fit| fit.rate) else {
            return Said::barred(Bar::Nodes, String::new());
        };
        let cost = HourlyRate(cheapest.rate).cost_micros(parts.unsigned_abs(), 1, 0, item.job.estimate.0);
        let total = |wait: i64| {
            let marginal = cheapest.marginal.saturating_mul(parts);
            self.ground().cost_here(item, self.now.saturating_add(wait), cheapest, marginal)
        };
        let rate = cheapest.rate.saturating_mul(parts);
        let data = words::brought(&cheapest.moving, item.readers);
        let priced = |verdict, detail: String, wait_ms: Option<i64>| Said {
            verdict,
            detail: detail + &data,
            rate: Some(rate),
            cost_micros: Some(cost),
            total: wait_ms.map(total),
            wait_ms,
            moving: cheapest.moving,
            risk: 0.0,
        };
        let inside = |here: &&&Here| here.nodes.iter().any(|node| self.is_in(*node, place));
        let now: Vec<&Here> = fate.now.iter().filter(inside).copied().collect();
        if !now.is_empty() {
            return priced(Verdict::Chosen, self.chosen_words(&now, place), Some(0));
        }
        if let Some(here) = fate.planned.filter(|here| here.nodes.iter().any(|node| self.is_in(*node, place)))
        {
            let wait = here.start.saturating_sub(self.now);
            return priced(Verdict::Planned, self.free_words(item, place, here.start), Some(wait));
        }
        let purse = self.board.purses[item.group];
        let hold = i128::from(item.part_hold(cheapest)) * i128::from(parts);
        if fate.reason.is_some() && hold > i128::from(purse) {
            let hold = words::amount(i64::try_from(hold).unwrap_or(i64::MAX));
            let detail = format!("would hold {hold}, the budget has {} left", words::amount(purse));
            return priced(Verdict::Budget, detail, None);
        }
        let start = self.start_in(item, place);
        let wait = (start != i64::MAX).then(|| start.saturating_sub(self.now));
        if start <= self.now {
            let all = words::amount(whole(total(start.saturating_sub(self.now))));
            let detail = format!("free now, but another place is better: it costs {all} in all here");
            return priced(Verdict::Dearer, detail, wait);
        }
        let late = words::late(&item.job, start);
        if !late.is_empty() {
            return priced(Verdict::Deadline, self.free_words(item, place, start) + &late, wait);
        }
        let planned_start = fate.planned.map_or(i64::MIN, |here| here.start);
        let verdict = if start <= planned_start { Verdict::Dearer } else { Verdict::Full };
        priced(verdict, self.free_words(item, place, start), wait)
    }

    pub(crate) fn is_in(&self, node: usize, place: &Place<'_>) -> bool {
        self.fleet.machine(node).is_some_and(|machine| place.kinds.contains(&machine.kind))
    }

    /// What stands in the way at a place; none where only time or money may.
    fn place_bar(&self, item: &Item, place: &Place<'_>) -> Option<Bar> {
        let shape = &self.shapes[item.shape];
        let bars = place.kinds.iter().filter_map(|kind| Some(shape.kinds.get(*kind)?.bar));
        let nearest = bars.max_by_key(|bar| bar.unwrap_or(Bar::Closed));
        let open = place.kinds.iter().any(|kind| shape.kinds.get(*kind).is_some_and(|fit| fit.bar.is_none()));
        let own = if open { None } else { nearest.flatten() };
        if shape.nodes == 1 || own.is_some_and(|bar| bar < Bar::MaxPrice) {
            return own;
        }
        self.ground().count_in_site(shape, place.tier, place.site).bar(shape.nodes).or(own).or_else(|| {
            let least = least_rate(self, shape, place);
            let most = item.job.placement.max_price.map_or(i128::MAX, |most| i128::from(most.0));
            (least > most).then_some(Bar::MaxPrice)
        })
    }

    /// When the next task could start at a place, behind all that is planned; `i64::MAX` for never.
    fn start_in(&self, item: &Item, place: &Place<'_>) -> i64 {
        let shape = &self.shapes[item.shape];
        let mut starts: Vec<i64> = Vec::new();
        let wider = self.fleet.kinds.iter().enumerate().filter(|(_, kind)| {
            kind.sample.site == *place.site && (shape.nodes > 1 || kind.sample.pool == *place.pool)
        });
        for (at, kind) in wider {
            let fit = shape.kinds[at];
            if fit.bar.is_some() || Tier::of(kind) != place.tier {
                continue;
            }
            let span = span_at(item.job.estimate.0, fit.speed_milli);
            starts.extend(kind.nodes.iter().filter_map(|node| {
                self.board.profiles[*node].earliest((self.now, i64::MAX), span, &shape.need, fit.mask)
            }));
        }
        starts.sort_unstable();
        starts.get(shape.nodes - 1).copied().unwrap_or(i64::MAX)
    }

    /// `3 tasks start now on dgx-1, dgx-2`.
    fn chosen_words(&self, starts: &[&Here], place: &Place<'_>) -> String {
        const NAMED: usize = 3;
        let nodes = starts.iter().flat_map(|here| &here.nodes).filter(|node| self.is_in(**node, place));
        let nodes: BTreeSet<usize> = nodes.copied().collect();
        let host = |node: &usize| self.fleet.machine(*node).map_or("", |machine| &machine.view.hostname);
        let mut hosts = nodes.iter().take(NAMED).map(host).collect::<Vec<_>>().join(", ");
        if nodes.len() > NAMED {
            hosts.push_str(&format!(" and {} more", nodes.len() - NAMED));
        }
        match starts.len() {
            1 => format!("starts now on {hosts}"),
            tasks => format!("{tasks} tasks start now on {hosts}"),
        }
    }

    /// `8 H100 wanted, 3 free, free at 12:04:10 in 4m 10s`.
    fn free_words(&self, item: &Item, place: &Place<'_>, start: i64) -> String {
        let now = self.free_now(item, place);
        if start == i64::MAX {
            return format!("{now}, and no end of what runs there is known");
        }
        let wait = words::span(start.saturating_sub(self.now));
        format!("{now}, free at {} in {wait}", words::clock(start))
    }

    fn free_now(&self, item: &Item, place: &Place<'_>) -> String {
        let shape = &self.shapes[item.shape];
        let request = item.job.resources.gpus.as_ref();
        let nodes = place.kinds.iter().flat_map(|kind| {
            let mask = shape.kinds[*kind].mask;
            self.fleet.kinds[*kind].nodes.iter().map(move |node| (*node, mask))
        });
        let levels: Vec<_> =
            nodes.map(|(node, mask)| (self.board.profiles[node].at(self.now), mask)).collect();
        if shape.nodes > 1 {
            let free = levels.iter().filter(|(level, mask)| shape.need.fits(level, *mask)).count();
            return format!(
                "{} nodes with {} wanted, {free} free",
                shape.nodes,
                words::asked(request, &shape.need)
            );
        }
        let richest = levels.iter().max_by_key(|(level, mask)| words::richness(&shape.need, level, *mask));
        richest
            .and_then(|(level, mask)| words::shortfall(request, &shape.need, level, *mask, "free"))
            .unwrap_or_else(|| "free now, but kept for jobs before it".to_owned())
    }

    fn say_offer(&self, item: &Item, fate: &Fate<'_>, at: usize) -> Said {
        let shape = &self.shapes[item.shape];
        let offer = &self.offers[at].view;
        let fit = &shape.offers[at];
        if let Some(bar) = fit.bar {
            return Said::barred(bar, barred::offer_words(self, item, at, bar));
        }
        let Some(launch) = item.launches.iter().find(|launch| launch.offer == at) else {
            return Said::barred(Bar::Site, "the policy launches nothing in clouds".to_owned());
        };
        let wanted = item.job.nodes.max(1);
        let (cost, hold) = (words::amount(launch.run_micros), words::amount(launch.hold_micros));
        let purse = self.board.purses[item.group];
        let waiting = fate.reason.is_some();
        let (verdict, detail) = if let Some(tasks) = fate.launched.get(&at) {
            let what = if *tasks == 1 {
                "launches now".to_owned()
            } else {
                format!("launches for {tasks} tasks now")
            };
            (Verdict::Chosen, format!("{what}, ready in {}, {cost} for a run", offer.boot))
        } else if self.board.offers_left[at] < wanted {
            (
                Verdict::NoCapacity,
                format!("{wanted} wanted, {} to be had just now", self.board.offers_left[at]),
            )
        } else if launch.hold_micros > self.budget_of(item) || (waiting && launch.hold_micros > purse) {
            let left = if waiting { purse } else { self.budget_of(item) };
            (Verdict::Budget, format!("would hold {hold}, the budget has {} left", words::amount(left)))
        } else if offer.terms.market == Market::Spot && self.ground().is_safe_or_ahead(item).0 {
            (Verdict::Deadline, "its deadline leaves no time for an interruption".to_owned())
        } else {
            (
                Verdict::Dearer,
                format!("{cost} for a run, ready in {}; {}", offer.boot, self.better(item, fate)),
            )
        };
        let more = words::risk(launch.risk_micros) + &words::brought(&fit.moving, item.readers);
        Said {
            verdict,
            detail: detail + &more,
            rate: Some(fit.rate.saturating_mul(i64::from(wanted))),
            cost_micros: Some(launch.run_micros),
            total: Some(launch.cost),
            wait_ms: Some(crate::item::signed(offer.boot)),
            moving: fit.moving,
            risk: launch.risk_micros,
        }
    }

    /// Why no instance is launched for the next task.
    fn better(&self, item: &Item, fate: &Fate<'_>) -> String {
        if self.ground().is_safe_or_ahead(item).1 {
            return "it is ahead of its deadline, and waits for spot capacity".to_owned();
        }
        match fate.planned {
            Some(here) => {
                let wait = here.start.saturating_sub(self.now);
                let span = words::span(wait);
                match item.job.placement.max_wait {
                    Some(own) => {
                        format!("waiting {span} for nodes here is within the job's max_wait of {own}")
                    }
                    None => format!("waiting {span} for nodes here is worth {}", self.wait_worth(item, wait)),
                }
            }
            None if !fate.now.is_empty() => "it starts on nodes here".to_owned(),
            None => "another place is better".to_owned(),
        }
    }
}

impl<'a> Fate<'a> {
    /// Counts the task at this place of the layout.
    fn add(&mut self, planner: &'a Planner, at: usize) {
        if at >= planner.layout.looked_at {
            self.reason.get_or_insert(Reason::Priority);
            return;
        }
        match &planner.layout.laid[at].spot {
            Spot::Here(here) if here.start <= planner.now => self.now.push(here),
            Spot::Here(here) => {
                self.planned.get_or_insert(here);
                self.reason.get_or_insert(Reason::Resources);
            }
            Spot::Launch(launched) => *self.launched.entry(launched.offer).or_default() += 1,
            Spot::Blocked(reason) => {
                self.reason.get_or_insert(*reason);
            }
        }
    }
}

/// The least that the nodes of a gang cost per hour at a site.
pub(crate) fn least_rate(planner: &Planner, shape: &Shape, place: &Place<'_>) -> i128 {
    let mut rates: Vec<i64> = Vec::new();
    for (kind, fit) in planner.fleet.kinds.iter().zip(&shape.kinds) {
        if kind.sample.site == *place.site && Tier::of(kind) == place.tier && fit.bar.is_none() {
            rates.extend(kind.nodes.iter().map(|_| fit.rate));
        }
    }
    rates.sort_unstable();
    rates.iter().take(shape.nodes).map(|rate| i128::from(*rate)).sum()
}

const fn brief(reason: Option<Reason>, position: u32) -> Explanation {
    Explanation { reason, planned_start: None, bound: None, delay: None, position, candidates: Vec::new() }
}

fn candidate(site: SiteName, what: String, said: Said) -> Candidate {
    Candidate {
        site,
        what,
        verdict: said.verdict,
        detail: said.detail,
        rate: said.rate.map(HourlyRate),
        cost_micros: said.cost_micros,
        total_micros: said.total.map(whole),
        wait: said.wait_ms.map(|ms| DurationMs(ms.max(0).unsigned_abs())),
        move_bytes: said.moving.bytes,
        move_micros: said.moving.egress_micros,
        move_time: DurationMs(said.moving.ms.max(0).unsigned_abs()),
        risk_micros: whole(said.risk),
    }
}
