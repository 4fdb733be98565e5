//! Looking for a better order: which jobs leave is decided over the whole queue, not one by one as they come.
//!
//! A job that has just come and does not start now is tried at every place of its line. Then small changes are tried,
//! drawn from a fixed pseudo-random sequence: bring a leaver back, send one away, move one, swap two. What costs less
//! in all is kept; the number of tries is bounded. Arrays stay where they are.

use crate::item::Item;
use crate::lay::{Ground, Spot};
use crate::order::LineKey;
use crate::planner::Planner;

/// A gain below this, in micros, is noise of the arithmetic.
const LEAST_GAIN: f64 = 1.0;
/// Of a hundred tries, how many bring a leaver back, send one away, move one; the others swap two.
const BRING: usize = 50;
const SEND: usize = 15;
const MOVE: usize = 20;
/// A queue longer than this is laid but not searched: one try costs as much as the queue is long.
pub(crate) const MOST_SEARCHED: usize = 512;

/// The sequence of splitmix64 (Steele, Lea and Flood, OOPSLA 2014): the same for the same moment and queue.
#[derive(Debug)]
struct Draws(u64);

impl Draws {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `n`, which is over 0 and below 2^32.
    fn below(&mut self, n: usize) -> usize {
        let scaled = (u128::from(self.next() >> 32) * n as u128) >> 32;
        usize::try_from(scaled).unwrap_or(0)
    }
}

/// One change of the order.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A leaver comes back to a place of its line.
    Bring {
        away: usize,
        to: usize,
    },
    /// A job leaves.
    Send {
        key: LineKey,
        from: usize,
    },
    /// A leaver takes the place of a job of its line, which leaves.
    Replace {
        away: usize,
        at: usize,
    },
    Move {
        key: LineKey,
        from: usize,
        to: usize,
    },
    Swap {
        key: LineKey,
        one: usize,
        other: usize,
    },
}

/// What is known while one search goes on.
struct Search {
    /// Generalised cost of the best order so far, leavers included.
    best: f64,
    /// For each slot no order can cost less for this job.
    least: Vec<f64>,
    /// The best order itself, without leavers.
    order: Vec<usize>,
    tries: u32,
    draws: Draws,
}

impl Planner {
    /// Searches while tries are left and `go_on` says so. What leaves is in `away` afterwards.
    pub(crate) fn search(&mut self, tries: u32, go_on: &mut dyn FnMut() -> bool) {
        if tries == 0 || self.layout.sequence.len() > MOST_SEARCHED {
            return;
        }
        let mut search = self.begin_search(tries);
        for slot in self.fresh.clone() {
            if self.is_single(slot) && !self.starts_now(slot) {
                self.try_everywhere(slot, &mut search, go_on);
            }
        }
        while search.tries > 0 && go_on() {
            search.tries -= 1;
            match self.draw(&mut search) {
                Some(step) => self.attempt(step, &mut search),
                None if search.order.is_empty() => break,
                None => {}
            }
        }
        let sequence = self.sequence();
        self.lay_to(&sequence, &[], f64::INFINITY);
    }

    fn begin_search(&mut self, tries: u32) -> Search {
        let mut least = vec![0.0; self.items.len()];
        self.note_occupancy(i64::MIN, self.now);
        self.unlay(0);
        self.board.refresh(&self.fleet, self.now);
        let ground = self.ground();
        for slot in self.lines.slots() {
            if let Some(item) = self.items[slot].as_ref() {
                least[slot] = ground.least_cost(&self.board, item);
            }
        }
        let sequence = self.sequence();
        self.lay_to(&sequence, &[], f64::INFINITY);
        self.part_leavers();
        let seed = self.now.unsigned_abs() ^ (sequence.len() as u64) << 48;
        Search { best: self.cost_of_all(), least, order: self.sequence(), tries, draws: Draws(seed) }
    }

    /// Takes the jobs that the layout sends away out of their lines: they hold nothing here.
    fn part_leavers(&mut self) {
        let leaves = |at: &usize| matches!(self.layout.laid[*at].spot, Spot::Launch(_));
        let first =
            (0..self.layout.laid.len()).find(|at| leaves(at) && self.is_single(self.layout.sequence[*at]));
        let Some(first) = first else { return };
        let leavers: Vec<usize> = (first..self.layout.laid.len())
            .filter(leaves)
            .map(|at| self.layout.sequence[at])
            .filter(|slot| self.is_single(*slot))
            .collect();
        for slot in &leavers {
            if let Some(key) = self.key_of(*slot) {
                self.lines.remove(key, *slot);
            }
        }
        self.away.extend(leavers);
        let sequence = self.sequence();
        self.lay_to(&sequence, &[], f64::INFINITY);
    }

    fn away_cost(&self) -> f64 {
        let costs = self.away.iter().filter_map(|slot| self.item(*slot)?.launches.first());
        costs.map(|launch| launch.cost).sum()
    }

    fn cost_of_all(&self) -> f64 {
        self.layout.laid.iter().map(|laid| laid.cost).sum::<f64>() + self.away_cost()
    }

    /// Whether the search may move the job: it has one task, and nobody put it on top.
    fn is_single(&self, slot: usize) -> bool {
        self.item(slot).is_some_and(|item| item.job.tasks.len() == 1 && item.job.standing.is_plain())
    }

    fn key_of(&self, slot: usize) -> Option<LineKey> {
        self.item(slot).map(|item| self.line_of(item))
    }

    fn starts_now(&self, slot: usize) -> bool {
        let at = self.layout.sequence.iter().position(|other| *other == slot);
        at.is_some_and(|at| matches!(&self.layout.laid[at].spot, Spot::Here(here) if here.start <= self.now))
    }

    /// Tries a job at every place of its line, at most half of the tries, and leaves it at the best.
    fn try_everywhere(&mut self, slot: usize, search: &mut Search, go_on: &mut dyn FnMut() -> bool) {
        let Some(key) = self.key_of(slot) else { return };
        let home = self.lines.line(key).iter().position(|other| *other == slot);
        match home {
            Some(home) => self.lines.take(key, home),
            None => self.away.retain(|other| *other != slot),
        }
        let floor = self.lines.floor(key, slot, &self.items);
        let places = self.lines.line(key).len() + 1;
        let most = places.min((search.tries / 2 + 1) as usize);
        let mut found = None;
        for at in 0..most {
            if search.tries == 0 || !go_on() {
                break;
            }
            let to = places - 1 - at * places / most;
            if to < floor {
                break;
            }
            search.tries -= 1;
            self.lines.put(key, to, slot);
            if let Some(cost) = self.evaluate(search) {
                search.best = cost;
                found = Some(to);
            }
            self.lines.take(key, to);
        }
        match (found, home) {
            (Some(to), _) => {
                self.lines.put(key, to, slot);
                let sequence = self.sequence();
                self.lay_to(&sequence, &[], f64::INFINITY);
                self.part_leavers();
            }
            (None, Some(home)) => self.lines.put(key, home, slot),
            (None, None) => self.away.push(slot),
        }
        search.order = self.sequence();
    }

    /// The cost of the lines as they are now, where it is below the best.
    fn evaluate(&mut self, search: &Search) -> Option<f64> {
        let sequence = self.sequence();
        let most = search.best - self.away_cost() - LEAST_GAIN;
        let cost = self.lay_to(&sequence, &search.least, most);
        (cost < most).then(|| cost + self.away_cost())
    }

    /// A change to try; none where the one that was drawn makes no sense.
    fn draw(&self, search: &mut Search) -> Option<Step> {
        let Search { order, draws, .. } = search;
        let kind = if self.away.is_empty() { BRING + draws.below(100 - BRING) } else { draws.below(100) };
        if kind < BRING {
            let away = draws.below(self.away.len());
            let slot = self.away[away];
            let key = self.key_of(slot)?;
            let to = draws.below(self.lines.line(key).len() + 1);
            return (to >= self.lines.floor(key, slot, &self.items)).then_some(Step::Bring { away, to });
        }
        if order.is_empty() {
            return None;
        }
        let slot = order[draws.below(order.len())];
        let key = self.key_of(slot).filter(|_| self.is_single(slot))?;
        let line = self.lines.line(key);
        let from = line.iter().position(|other| *other == slot)?;
        if kind < BRING + SEND {
            let in_place = !self.away.is_empty() && draws.below(2) == 0;
            let away = if in_place { draws.below(self.away.len()) } else { 0 };
            let replaces = in_place && self.key_of(self.away[away]) == Some(key);
            // A job that says itself how long it waits is not sent away before.
            self.item(slot)?.launches.first().filter(|_| self.item(slot).is_some_and(Item::weighs_cost))?;
            return Some(if replaces { Step::Replace { away, at: from } } else { Step::Send { key, from } });
        }
        if line.len() < 2 {
            return None;
        }
        let other = draws.below(line.len() - 1);
        let other = if other >= from { other + 1 } else { other };
        let front = from.min(other);
        let allowed = |slot: usize| self.is_single(slot) && front >= self.lines.floor(key, slot, &self.items);
        if !allowed(slot) || !allowed(line[other]) {
            return None;
        }
        Some(if kind < BRING + SEND + MOVE {
            Step::Move { key, from, to: other }
        } else {
            Step::Swap { key, one: from, other }
        })
    }

    /// Makes a change and takes it back unless it costs less.
    fn attempt(&mut self, step: Step, search: &mut Search) {
        match step {
            Step::Bring { away, to } => {
                let slot = self.away.swap_remove(away);
                let Some(key) = self.key_of(slot) else { return };
                self.lines.put(key, to, slot);
                if !self.keep(search) {
                    self.lines.take(key, to);
                    self.away.push(slot);
                }
            }
            Step::Send { key, from } => {
                let slot = self.lines.line(key)[from];
                self.lines.take(key, from);
                self.away.push(slot);
                if !self.keep(search) {
                    self.away.pop();
                    self.lines.put(key, from, slot);
                }
            }
            Step::Replace { away, at } => {
                let comes = self.away[away];
                let Some(key) = self.key_of(comes) else { return };
                let goes = self.lines.replace(key, at, comes);
                self.away[away] = goes;
                if !self.keep(search) {
                    self.away[away] = comes;
                    self.lines.replace(key, at, goes);
                }
            }
            Step::Move { key, from, to } => {
                self.lines.shift(key, from, to);
                if !self.keep(search) {
                    self.lines.shift(key, to, from);
                }
            }
            Step::Swap { key, one, other } => {
                self.lines.swap(key, one, other);
                if !self.keep(search) {
                    self.lines.swap(key, one, other);
                }
            }
        }
    }

    /// Whether the lines as they are now cost less than the best; then they are the best.
    fn keep(&mut self, search: &mut Search) -> bool {
        let Some(cost) = self.evaluate(search) else { return false };
        search.best = cost;
        self.part_leavers();
        search.order = self.sequence();
        true
    }
}

impl Ground<'_> {
    /// What the job costs at least: on an empty board, or in the cloud.
    fn least_cost(&self, board: &crate::board::Board, item: &Item) -> f64 {
        let here = self.cost_alone(board, item).unwrap_or(f64::INFINITY);
        let cloud = item.launches.first().map_or(f64::INFINITY, |launch| launch.cost);
        let least = here.min(cloud);
        if least.is_finite() { least } else { 0.0 }
    }
}
