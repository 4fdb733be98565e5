//! Gangs: tasks that start on several nodes at one instant or not at all.

use std::collections::{BTreeSet, BinaryHeap};

use spillway_types::Interconnect;

use crate::board::Board;
use crate::index::column_of;
use crate::item::{Item, signed, whole};
use crate::lay::{Best, Ground, MOST_COMPARED, Rank};

impl Ground<'_> {
    /// The best start of a gang: on distinct nodes of one site, at one instant. Where the best nodes cost too much
    /// together, the dearest are left out and the search goes on.
    pub(crate) fn best_gang(&self, board: &Board, item: &Item, latest: i64) -> Option<Best> {
        let purse = i128::from(board.purses[item.group]);
        let mut best: Option<Best> = None;
        for (kinds, domain) in self.neighbourhoods(item) {
            let mut rate_cap = i64::MAX;
            let worth = best.as_ref().map_or(i64::MAX, |best| self.latest_worth(item, best.cost));
            let latest = worth.min(latest);
            while let Some(found) = self.gang_in(board, item, (kinds, domain), (latest, rate_cap)) {
                let fits = || found.nodes.iter().filter_map(|node| self.fit_of(item, *node));
                let rates = || fits().map(|fit| fit.rate);
                let rate: i128 = rates().map(i128::from).sum();
                let hold: i128 = fits().map(|fit| i128::from(item.part_hold(&fit))).sum();
                let too_dear = item.job.placement.max_price.is_some_and(|most| rate > i128::from(most.0));
                if hold > purse || too_dear {
                    rate_cap = rates().max().unwrap_or(0) - 1;
                    continue;
                }
                if best.as_ref().is_none_or(|best| found.beats(best)) {
                    best = Some(found);
                }
                break;
            }
        }
        best
    }

    /// No start after this costs at most `cost`: its wait alone costs more, even if the run took no time.
    fn latest_worth(&self, item: &Item, cost: f64) -> i64 {
        if item.wait_price <= 0.0 {
            return i64::MAX;
        }
        let waits = whole(cost / item.wait_price).saturating_add(signed(item.job.estimate));
        self.now.saturating_add(waits).saturating_add(1)
    }

    /// What a gang may be spread over: the nodes of one site, or those of one interconnect domain where it asks for
    /// that.
    pub(crate) fn neighbourhoods(&self, item: &Item) -> Vec<(&[usize], Option<&str>)> {
        let mut all = Vec::new();
        for kinds in self.shapes[item.shape].units.values() {
            match item.job.placement.interconnect {
                Interconnect::Any => all.push((kinds.as_slice(), None)),
                Interconnect::SameDomain => {
                    let nodes = kinds.iter().flat_map(|kind| &self.fleet.kinds[*kind].nodes);
                    let domains: BTreeSet<&str> = nodes.filter_map(|node| self.fleet.domain(*node)).collect();
                    all.extend(domains.into_iter().map(|domain| (kinds.as_slice(), Some(domain))));
                }
            }
        }
        all
    }

    fn gang_in(
        &self,
        board: &Board,
        item: &Item,
        (kinds, domain): (&[usize], Option<&str>),
        (latest, cap): (i64, i64),
    ) -> Option<Best> {
        let shape = &self.shapes[item.shape];
        let payable = kinds.iter().copied().filter(|kind| shape.kinds[*kind].rate <= cap);
        let payable: Vec<usize> = payable.collect();
        let slowest = payable.iter().map(|kind| &shape.kinds[*kind]).max_by_key(|fit| fit.span(item))?;
        let span = slowest.span(item);
        let indexed = payable.iter().any(|kind| board.index.has(*kind));
        let (start, together) = match column_of(&shape.need, span).filter(|_| indexed && domain.is_none()) {
            Some(column) => self.indexed_start(board, item, &payable, (latest, span, column))?,
            None => self.scanned_start(board, item, (&payable, domain), (latest, span))?,
        };
        let mut ranked: Vec<(Rank, f64, usize)> = together
            .into_iter()
            .filter_map(|node| {
                let fit = self.fit_of(item, node)?;
                let loss = self.loss(board, item, node, &fit, start);
                Some(((fit.wastes_gpus, fit.rate, fit.preferred), loss, node))
            })
            .collect();
        ranked.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)).then_with(|| a.2.cmp(&b.2)));
        ranked.truncate(shape.nodes);
        let fits = || ranked.iter().filter_map(|(_, _, node)| self.fit_of(item, *node));
        let worst = ranked.iter().map(|(rank, ..)| *rank).max()?;
        let marginal = fits().map(|fit| fit.marginal).fold(0, i64::saturating_add);
        let kinds = ranked.iter().filter_map(|(_, _, node)| Some(self.fleet.machine(*node)?.kind));
        let taken = kinds.map(|kind| self.taken_ms(item, kind, start, span)).fold(0.0, f64::max);
        let holding = item.holding(taken, marginal);
        Some(Best {
            start,
            cost: self.cost_here(item, start, slowest, marginal) + holding,
            holding,
            rank: (worst.0, fits().map(|fit| fit.rate).fold(0, i64::saturating_add), worst.2),
            loss: ranked.iter().map(|(_, loss, _)| loss).sum(),
            hold_micros: fits().map(|fit| item.part_hold(&fit)).fold(0, i64::saturating_add),
            nodes: ranked.into_iter().map(|(_, _, node)| node).collect(),
        })
    }

    /// The first common start and the nodes that can all start then, by looking at every node.
    fn scanned_start(
        &self,
        board: &Board,
        item: &Item,
        (payable, domain): (&[usize], Option<&str>),
        (latest, span): (i64, i64),
    ) -> Option<(i64, Vec<usize>)> {
        let shape = &self.shapes[item.shape];
        let mut starts: Vec<(i64, usize)> = Vec::new();
        for kind in payable {
            let fit = &shape.kinds[*kind];
            for node in &self.fleet.kinds[*kind].nodes {
                if domain.is_some() && self.fleet.domain(*node) != domain {
                    continue;
                }
                let profile = &board.profiles[*node];
                if profile.soonest(&shape.need) <= latest
                    && let Some(start) = profile.earliest((self.now, latest), span, &shape.need, fit.mask)
                {
                    starts.push((start, *node));
                }
            }
        }
        let start = self.common_start(board, item, &mut starts, (latest, span))?;
        let together = starts.iter().filter(|(at, _)| *at == start).map(|(_, node)| *node);
        Some((start, together.collect()))
    }

    /// The same through the index: of nodes of a kind that can all start then, as many as are worth comparing.
    fn indexed_start(
        &self,
        board: &Board,
        item: &Item,
        payable: &[usize],
        (latest, span, column): (i64, i64, usize),
    ) -> Option<(i64, Vec<usize>)> {
        let shape = &self.shapes[item.shape];
        let mut from = self.now;
        // No instant before the k-th earliest start has k nodes that can start; so going there skips nothing.
        loop {
            let mut earliest: BinaryHeap<i64> = BinaryHeap::with_capacity(shape.nodes + 1);
            let mut until = latest;
            for kind in payable {
                let mask = shape.kinds[*kind].mask;
                let (search, all) = ((*kind, Some(column), shape.nodes), &self.fleet.kinds[*kind].nodes);
                board.index.search(search, all, until, &mut |node, bound| {
                    let profile = &board.profiles[node];
                    let start = profile.earliest((bound.max(from), until), span, &shape.need, mask);
                    if let Some(start) = start.filter(|start| *start <= until) {
                        earliest.push(start);
                        if earliest.len() > shape.nodes {
                            earliest.pop();
                        }
                        if earliest.len() == shape.nodes {
                            let last = earliest.peek().copied().unwrap_or(from);
                            until = if last > from { last - 1 } else { i64::MIN };
                        }
                    }
                    until
                });
            }
            let last = earliest.peek().copied().filter(|_| earliest.len() == shape.nodes)?;
            if last == from {
                break;
            }
            from = last;
        }
        let mut together = Vec::new();
        for kind in payable {
            let (mask, most) = (shape.kinds[*kind].mask, together.len() + MOST_COMPARED.max(shape.nodes));
            let (search, all) = ((*kind, Some(column), shape.nodes), &self.fleet.kinds[*kind].nodes);
            board.index.search(search, all, from, &mut |node, _| {
                let start = board.profiles[node].earliest((from, from), span, &shape.need, mask);
                if start == Some(from) {
                    together.push(node);
                }
                if together.len() < most { from } else { i64::MIN }
            });
        }
        (from <= latest).then_some((from, together))
    }

    /// The first instant at which as many nodes as the gang wants can start. `starts` are the nodes' earliest
    /// starts; they are moved on to the nodes' earliest starts from that instant on.
    fn common_start(
        &self,
        board: &Board,
        item: &Item,
        starts: &mut Vec<(i64, usize)>,
        (latest, span): (i64, i64),
    ) -> Option<i64> {
        let shape = &self.shapes[item.shape];
        loop {
            // No instant before the k-th smallest has k nodes that can start; so going there skips nothing.
            starts.sort_unstable();
            let at = starts.get(shape.nodes - 1)?.0;
            let mut moved = false;
            for entry in starts.iter_mut().filter(|(start, _)| *start < at) {
                let mask = self.fit_of(item, entry.1).map_or(0, |fit| fit.mask);
                let later = board.profiles[entry.1].earliest((at, latest), span, &shape.need, mask);
                entry.0 = later.unwrap_or(i64::MAX);
                moved = true;
            }
            starts.retain(|(start, _)| *start != i64::MAX);
            if !moved || starts.iter().filter(|(start, _)| *start == at).count() >= shape.nodes {
                return (at <= latest).then_some(at);
            }
        }
    }
}
