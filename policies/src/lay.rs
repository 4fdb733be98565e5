//! Where one task goes, given what tasks before it in the order have taken: on nodes that are here, now or at a
//! planned start; to a cloud; or nowhere, with the one word for why.
//!
//! The candidates are compared by one generalised cost: the money that the run costs more, the price of the wait,
//! and the price of holding GPUs that others may want soon. What fits now and costs no more than the cloud runs now.

use std::cmp::Ordering;

use spillway_types::{Interconnect, Market, Reason};

use crate::board::Board;
use crate::courses::Courses;
use crate::fleet::Fleet;
use crate::fragmentation::{NodeRoom, TaskMix, fragmentation, rise};
use crate::index::{Ask, column_of};
use crate::item::{Item, Launch, Weighs, part_hold, real, whole};
use crate::judge::Bar;
use crate::layout::{ClassMask, Level, Want};
use crate::occupancy::Occupancy;
use crate::offer::Offer;
use crate::shape::{KindFit, PLAIN_SPEED, Shape, Tier, span_at};

/// Where a task goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Spot {
    /// Onto nodes that are here.
    Here(Here),
    /// Into a cloud, now.
    Launch(Launched),
    /// Nowhere for now.
    Blocked(Reason),
}

/// A start on nodes that are here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Here {
    /// Milliseconds since the Unix epoch.
    pub(crate) start: i64,
    /// The numbers of the nodes, one for each rank.
    pub(crate) nodes: Vec<usize>,
    /// What is held, in micros.
    pub(crate) hold_micros: i64,
}

/// A launch of new instances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Launched {
    pub(crate) offer: usize,
    pub(crate) run_micros: i64,
    pub(crate) hold_micros: i64,
    /// The best start here, had it waited.
    pub(crate) here: Option<i64>,
}

/// Where a task goes, and its generalised cost in micros.
#[derive(Debug, Clone)]
pub(crate) struct Laid {
    pub(crate) spot: Spot,
    pub(crate) cost: f64,
}

/// What does not change while a plan is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) now: i64,
    pub(crate) fleet: &'a Fleet,
    pub(crate) shapes: &'a [Shape],
    pub(crate) mix: &'a TaskMix,
    pub(crate) offers: &'a [Offer],
    /// Parallel to the fleet's kinds, as far as it goes.
    pub(crate) occupancies: &'a [Occupancy],
    /// The same, roughly.
    pub(crate) courses: &'a Courses,
}

/// How good a place is among those that cost the same; smaller is better.
pub(crate) type Rank = (bool, i64, usize);

/// The best place for one task so far.
#[derive(Debug, Clone)]
pub(crate) struct Best {
    pub(crate) start: i64,
    /// Generalised, in micros, the price of holding included.
    pub(crate) cost: f64,
    pub(crate) holding: f64,
    pub(crate) rank: Rank,
    pub(crate) loss: f64,
    pub(crate) nodes: Vec<usize>,
    pub(crate) hold_micros: i64,
}

/// Of nodes of a kind that could all start a task at the same instant, so many are compared; then any earlier start is
/// looked for, no more equal ones. Kube-scheduler stops in the same way (`percentageOfNodesToScore`, at least 100).
pub(crate) const MOST_COMPARED: usize = 128;

impl Best {
    pub(crate) fn beats(&self, other: &Self) -> bool {
        self.against(other).is_lt()
    }

    /// Less is better.
    fn against(&self, other: &Self) -> Ordering {
        let by_cost = self.cost.total_cmp(&other.cost).then_with(|| self.rank.cmp(&other.rank));
        by_cost.then_with(|| self.loss.total_cmp(&other.loss))
    }
}

impl Ground<'_> {
    /// Decides for one task and takes what it needs off the board.
    pub(crate) fn lay(&self, board: &mut Board, item: &Item) -> Laid {
        board.refresh(self.fleet, self.now);
        let launch = self.cheapest_launch(board, item);
        let latest = self.latest_start(item, launch);
        match (self.best_here(board, item, latest), launch) {
            (Some(best), None) => self.take_here(board, item, best),
            (Some(best), Some(launch)) if self.stays(item, &best, launch) => {
                self.take_here(board, item, best)
            }
            (late, Some(launch)) => take_launch(board, item, launch, late.map(|best| best.start)),
            (None, None) => {
                let reason = self.what_blocks(board, item);
                Laid {
                    spot: Spot::Blocked(reason),
                    cost: item.wait_price * real(item.bound - item.job.since.0),
                }
            }
        }
    }

    /// Sends one task to a cloud, or decides anew where none takes it.
    pub(crate) fn leave(&self, board: &mut Board, item: &Item) -> Laid {
        match self.cheapest_launch(board, item) {
            Some(launch) => {
                board.refresh(self.fleet, self.now);
                let late = self.best_here(board, item, i64::MAX).map(|best| best.start);
                take_launch(board, item, launch, late)
            }
            None => self.lay(board, item),
        }
    }

    /// What the job costs at the best start on nodes that are here, where one is worth it.
    /// The board's index must be up to date.
    pub(crate) fn cost_alone(&self, board: &Board, item: &Item) -> Option<f64> {
        let latest = self.latest_start(item, item.launches.first().copied());
        self.best_here(board, item, latest).map(|best| best.cost)
    }

    /// The cheapest launch that can be had and paid.
    fn cheapest_launch(&self, board: &Board, item: &Item) -> Option<Launch> {
        let purse = board.purses[item.group];
        let wanted = item.job.nodes.max(1);
        let market = |launch: &Launch| self.offers[launch.offer].view.terms.market;
        let (safe, ahead) = self.is_safe_or_ahead(item);
        let can = |launch: &&Launch| {
            board.offers_left[launch.offer] >= wanted
                && launch.hold_micros <= purse
                && match market(launch) {
                    Market::Spot => !safe,
                    Market::OnDemand => !ahead,
                }
        };
        item.launches.iter().find(can).copied()
    }

    /// Whoever has a deadline risks nothing once it is near, and waits for spot capacity while ahead.
    pub(crate) fn is_safe_or_ahead(&self, item: &Item) -> (bool, bool) {
        if item.job.deadline.is_none() {
            return (false, false);
        }
        let Some(progress) = item.progress(self.offers) else { return (false, false) };
        let spot = |launch: &Launch| self.offers[launch.offer].view.terms.market == Market::Spot;
        let ahead = self.now < progress.ahead_until && item.launches.iter().any(spot);
        (self.now >= progress.safe_from, ahead)
    }

    /// After this a start here is not worth waiting for.
    fn latest_start(&self, item: &Item, launch: Option<Launch>) -> i64 {
        let Some(launch) = launch else {
            let ahead = item.progress(self.offers).filter(|_| self.is_safe_or_ahead(item).1);
            return ahead.map_or(i64::MAX, |progress| progress.ahead_until);
        };
        let patient = item.patient_until.max(self.now);
        match item.weighs {
            Weighs::OwnWord => patient,
            Weighs::Cost if item.wait_price > 0.0 => {
                let worth = self.now.saturating_add(whole(launch.cost / item.wait_price));
                worth.min(item.bound).max(patient)
            }
            Weighs::Cost => item.bound.max(patient),
        }
    }

    /// Whether a start here is better than leaving.
    fn stays(&self, item: &Item, best: &Best, launch: Launch) -> bool {
        match item.weighs {
            Weighs::OwnWord => true,
            Weighs::Cost if best.start <= self.now.max(item.patient_until) => {
                best.cost - best.holding <= launch.cost
            }
            Weighs::Cost => best.cost <= launch.cost,
        }
    }

    fn end_of(&self, item: &Item, best: &Best) -> i64 {
        let slowest = best.nodes.iter().map(|node| self.span_on(item, *node)).max();
        best.start.saturating_add(slowest.unwrap_or(1))
    }

    pub(crate) fn fit_of(&self, item: &Item, node: usize) -> Option<KindFit> {
        let kind = self.fleet.machine(node)?.kind;
        self.shapes[item.shape].kinds.get(kind).copied()
    }

    /// How long the task is thought to run on a node.
    pub(crate) fn span_on(&self, item: &Item, node: usize) -> i64 {
        self.fit_of(item, node).map_or(1, |fit| fit.span(item))
    }

    fn take_here(&self, board: &mut Board, item: &Item, best: Best) -> Laid {
        let need = &self.shapes[item.shape].need;
        let end = self.end_of(item, &best);
        for node in &best.nodes {
            let mask = self.fit_of(item, *node).map_or(0, |fit| fit.mask);
            board.reserve(*node, (best.start, end), need, mask);
        }
        board.spend(item.group, best.hold_micros);
        let Best { start, nodes, hold_micros, cost, .. } = best;
        Laid { spot: Spot::Here(Here { start, nodes, hold_micros }), cost }
    }

    /// The best start on nodes that are here, until `latest`.
    pub(crate) fn best_here(&self, board: &Board, item: &Item, latest: i64) -> Option<Best> {
        let shape = &self.shapes[item.shape];
        if shape.nodes > 1 {
            return self.best_gang(board, item, latest);
        }
        let purse = board.purses[item.group];
        let mut best: Option<(Best, usize)> = None;
        let mut hold: Option<(i64, i64)> = None;
        // The kind that was best last may be so again, and then spares a look at most others.
        let first = shape.favourite.get().filter(|at| shape.kinds[*at].bar.is_none());
        let others = shape.open.iter().copied().filter(|at| Some(*at) != first);
        for at in first.into_iter().chain(others) {
            let fit = &shape.kinds[at];
            let known = hold.filter(|(known, _)| *known == fit.rate);
            let (_, hours) = known.unwrap_or_else(|| (fit.rate, part_hold(&item.job, fit.rate)));
            hold = Some((fit.rate, hours));
            let held = hours.saturating_add(fit.moving.held_micros);
            if held > purse {
                continue;
            }
            let most = best.as_ref().map_or(f64::INFINITY, |(best, _)| best.cost);
            let found = self.best_of_kind(board, item, at, (latest, most));
            if let Some(found) = found
                && best.as_ref().is_none_or(|(best, kind)| found.against(best).then(at.cmp(kind)).is_lt())
            {
                best = Some((Best { hold_micros: held, ..found }, at));
            }
        }
        shape.favourite.set(best.as_ref().map(|(_, at)| *at).or(first));
        best.map(|(best, _)| best)
    }

    /// No start after this costs at most `cost`; none where no start does.
    fn latest_for(&self, item: &Item, cost: f64, fit: &KindFit) -> Option<i64> {
        let left = cost - self.cost_here(item, self.now, fit, fit.marginal);
        let waits = if item.wait_price > 0.0 { whole(left / item.wait_price) } else { i64::MAX / 4 };
        // One more, because the division may have rounded down.
        (left >= 0.0).then(|| self.now.saturating_add(waits).saturating_add(1))
    }

    /// Whether no start on a kind's nodes from `soonest` on costs as little as `cost`, as far as that is quickly found.
    /// Where others take the nodes less later on, holding them later costs less; but where an hour's wait costs more
    /// than that can save, the soonest start costs least.
    fn costs_more(&self, item: &Item, (kind, fit): (usize, &KindFit), soonest: i64, cost: f64) -> bool {
        const BEYOND_ROUNDING: f64 = 1.0 + 1e-9;
        if !cost.is_finite() {
            return false;
        }
        let most = self.courses.most(kind).or_else(|| Some(self.occupancies.get(kind)?.most));
        if most.is_none_or(|most| item.holding(most, fit.marginal) > item.wait_price) {
            return false;
        }
        let (start, span) = (soonest.max(self.now), fit.span(item));
        let window = (start, start.saturating_add(span));
        let left = cost * BEYOND_ROUNDING - self.cost_here(item, start, fit, fit.marginal);
        let least = self.courses.taken_at_least(kind, window) - self.own_ms(item, kind, window);
        left < 0.0
            || item.holding(least, fit.marginal) > left
            || item.holding(self.taken_ms(item, kind, start, span), fit.marginal) > left
    }

    /// The best of the nodes of one kind: the earliest start, then the least loss. None also where it costs more than
    /// `most`.
    fn best_of_kind(
        &self,
        board: &Board,
        item: &Item,
        at: usize,
        (latest, most): (i64, f64),
    ) -> Option<Best> {
        let shape = &self.shapes[item.shape];
        let (need, fit) = (&shape.need, &shape.kinds[at]);
        let span = fit.span(item);
        let latest = if most.is_finite() { self.latest_for(item, most, fit)?.min(latest) } else { latest };
        let column = column_of(need, span);
        let ask = Ask { need: *need, mask: fit.mask, span_ms: span };
        let soonest = column.and_then(|column| board.index.soonest(at, column, &ask));
        if let Some(soonest) = soonest
            && (soonest > latest || self.costs_more(item, (at, fit), soonest, most))
        {
            return None;
        }
        let loss_on = |node: usize, start: i64| self.loss(board, item, node, fit, start);
        let from = soonest.map_or(self.now, |soonest| soonest.max(self.now));
        // What a node's room is worth is asked only where several could start it at one instant.
        let mut found: Option<(i64, Option<f64>, usize)> = None;
        let (mut until, mut compared) = (latest, 0);
        let mut look = |node: usize, bound: i64| {
            let profile = &board.profiles[node];
            if profile.soonest(need) > until {
                return until;
            }
            let start = profile.earliest((bound.max(from), until), span, need, fit.mask);
            let Some(start) = start.filter(|start| *start <= until) else { return until };
            match &mut found {
                Some((other, known_loss, known)) if *other == start => {
                    compared += 1;
                    let least = *known_loss.get_or_insert_with(|| loss_on(*known, start));
                    let loss = loss_on(node, start);
                    if loss.total_cmp(&least).then(node.cmp(known)).is_lt() {
                        (*known_loss, *known) = (Some(loss), node);
                    }
                }
                _ => (found, compared) = (Some((start, None, node)), 1),
            }
            until = if compared < MOST_COMPARED { start } else { before(start, self.now) };
            until
        };
        board.index.search((at, column, 1), &self.fleet.kinds[at].nodes, latest, &mut look);
        if let Some(column) = column {
            let soonest = found.map_or(latest.saturating_add(1), |(start, ..)| start);
            board.index.learn(at, column, ask, soonest);
        }
        let (start, loss, node) = found?;
        let plain = self.cost_here(item, start, fit, fit.marginal);
        if plain > most {
            return None;
        }
        let holding = item.holding(self.taken_ms(item, at, start, span), fit.marginal);
        let cost = plain + holding;
        if cost > most {
            return None;
        }
        let rank = (fit.wastes_gpus, fit.rate, fit.preferred);
        let loss = loss.unwrap_or_else(|| loss_on(node, start));
        Some(Best { start, cost, holding, rank, loss, nodes: vec![node], hold_micros: 0 })
    }

    /// How long of a run on nodes of a kind others take these too.
    pub(crate) fn taken_ms(&self, item: &Item, kind: usize, start: i64, span: i64) -> f64 {
        let Some(occupancy) = self.occupancies.get(kind) else { return 0.0 };
        let window = (start, start.saturating_add(span));
        (occupancy.taken(window.0, window.1) - self.own_ms(item, kind, window)).max(0.0)
    }

    /// How much of that is what the task itself was planned to take.
    fn own_ms(&self, item: &Item, kind: usize, window: (i64, i64)) -> f64 {
        let mine = item.counted.iter().filter(|own| own.kind == kind);
        mine.map(|own| own.taken(window, self.fleet.kinds[kind].whole_of_all())).sum()
    }

    /// Cost of a run, its data and its wait here, in micros. `marginal` is per hour, for all parts.
    pub(crate) fn cost_here(&self, item: &Item, start: i64, fit: &KindFit, marginal: i64) -> f64 {
        let span = fit.span(item);
        let run = real(marginal) * (real(span) / 3_600_000.0);
        let later = real(start.saturating_sub(self.now)) + real(span)
            - real(span_at(item.job.estimate.0, PLAIN_SPEED));
        run + item.share_of(&fit.moving) + item.wait_price * later
    }

    /// What is lost for others where a task takes a node at `start`; smaller is better.
    pub(crate) fn loss(&self, board: &Board, item: &Item, node: usize, fit: &KindFit, start: i64) -> f64 {
        const OPENED: f64 = 1e6;
        const FINE: f64 = 1e-9;
        let need = &self.shapes[item.shape].need;
        let profile = &board.profiles[node];
        match need.want {
            Want::Whole(count) => {
                let span = fit.span(item);
                profile.hole_loss(start, span, count, fit.mask)
            }
            Want::Blocks(blocks) => {
                let level = profile.at(start);
                let opened = if need.opens_a_whole(level, fit.mask) { OPENED } else { 0.0 };
                let tight = opened + real(i64::try_from(level.blocks_free()).unwrap_or(i64::MAX));
                self.fragments(item, node, (level, fit.mask), blocks) + tight * FINE
            }
            Want::Nothing => f64::from(profile.at(start).cpus_milli),
        }
    }

    /// By how much the share that typical requests cannot use rises where a fraction goes onto a node, in hundredths of
    /// an accelerator. It goes onto the fullest accelerator that has room.
    fn fragments(&self, item: &Item, node: usize, (level, mask): (&Level, ClassMask), blocks: u32) -> f64 {
        let shape = &self.shapes[item.shape];
        let Some(ask) = shape.ask.filter(|_| self.mix.total_weight() > 0) else { return 0.0 };
        let each = level.blocks_each(mask);
        let first = self.fleet.machine(node).and_then(|machine| machine.view.capacity.accelerators.first());
        let model = first.and_then(|accelerator| self.fleet.model(&accelerator.model)).unwrap_or(0);
        let (cpus_milli, memory_mib) = (level.cpus_milli, u64::from(level.memory_mib));
        let room = NodeRoom { cpus_milli, memory_mib, blocks: &each, model };
        let Some(at) = each.iter().position(|free| *free >= blocks) else { return 0.0 };
        let rises = rise(room, self.mix, &ask, Some(at), fragmentation(room, self.mix));
        real(rises) / real(i64::try_from(self.mix.total_weight()).unwrap_or(i64::MAX))
    }

    /// The one word for why nothing can be planned: the bar that is nearest to falling.
    fn what_blocks(&self, board: &Board, item: &Item) -> Reason {
        let shape = &self.shapes[item.shape];
        let purse = i128::from(board.purses[item.group]);
        let parts = i128::from(item.job.nodes.max(1));
        let peopled = shape.kinds.iter().zip(&self.fleet.kinds).filter(|(_, kind)| !kind.nodes.is_empty());
        let here = peopled.map(|(fit, _)| match fit.bar {
            None if i128::from(item.part_hold(fit)) * parts > purse => Reason::Budget,
            None | Some(Bar::MaxPrice | Bar::Closed) if shape.nodes > 1 => self.gang_bar(item),
            None => Reason::Resources,
            Some(bar) => reason_of(bar),
        });
        if self.is_safe_or_ahead(item).1 {
            return Reason::Unavailable;
        }
        let offers = shape.offers.iter().enumerate().map(|(at, offer)| match offer.bar {
            None if board.offers_left[at] < item.job.nodes.max(1) => Reason::Unavailable,
            None => Reason::Budget,
            Some(bar) => reason_of(bar),
        });
        let seen: Vec<Reason> = here.chain(offers).collect();
        let nearest = [Reason::Resources, Reason::Budget, Reason::Unavailable, Reason::MaxPrice];
        nearest.into_iter().find(|reason| seen.contains(reason)).unwrap_or(Reason::Unsatisfiable)
    }

    /// Why no site gives a gang all its nodes, where single nodes would do.
    fn gang_bar(&self, item: &Item) -> Reason {
        let shape = &self.shapes[item.shape];
        let mut nearest = Reason::Unsatisfiable;
        if item.job.placement.interconnect == Interconnect::SameDomain {
            return nearest;
        }
        for tier in [Tier::Owned, Tier::Rented] {
            for site in self.fleet.sites() {
                match self.count_in_site(shape, tier, site).bar(shape.nodes) {
                    None => return Reason::MaxPrice,
                    Some(Bar::Closed) => return Reason::Unavailable,
                    Some(Bar::MaxPrice) => nearest = Reason::MaxPrice,
                    Some(_) => {}
                }
            }
        }
        nearest
    }
}

/// The last instant that is before `start` and not before `now`; before all where there is none.
const fn before(start: i64, now: i64) -> i64 {
    if start > now { start - 1 } else { i64::MIN }
}

fn take_launch(board: &mut Board, item: &Item, launch: Launch, here: Option<i64>) -> Laid {
    board.spend(item.group, launch.hold_micros);
    board.launch(launch.offer, item.job.nodes.max(1));
    let Launch { offer, run_micros, hold_micros, cost, .. } = launch;
    Laid { spot: Spot::Launch(Launched { offer, run_micros, hold_micros, here }), cost }
}

pub(crate) const fn reason_of(bar: Bar) -> Reason {
    match bar {
        Bar::Site
        | Bar::Jurisdiction
        | Bar::Group
        | Bar::Size
        | Bar::Access
        | Bar::Container
        | Bar::OnlyContainers
        | Bar::Fractions
        | Bar::Spot
        | Bar::Nodes => Reason::Unsatisfiable,
        Bar::MaxPrice => Reason::MaxPrice,
        Bar::Closed => Reason::Unavailable,
    }
}
