//! From a laid queue to what starts now: which accelerators, at what rate, and why there.

use std::collections::BTreeMap;

use spillway_types::{FreeResources, HourlyRate, Reason};

use crate::item::Item;
use crate::lay::{Here, Launched, Spot};
use crate::planner::Planner;
use crate::{Decision, PartPlacement, Target, words};

/// A task whose job is being carried through the layout: where its next index is.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    range: usize,
    offset: u32,
}

impl Cursor {
    /// The next index of the job's waiting tasks.
    fn next(&mut self, item: &Item) -> Option<u32> {
        let (first, last) = item.job.tasks.ranges().get(self.range).copied()?;
        let index = first + self.offset;
        *self = if index >= last {
            Self { range: self.range + 1, offset: 0 }
        } else {
            Self { offset: self.offset + 1, ..*self }
        };
        Some(index)
    }
}

impl Planner {
    /// What starts now of the layout from `first` on, in order, at most as much as the policy allows at once. Notes in
    /// the layout where that was reached, and what a node's own arithmetic refuses.
    pub(crate) fn decide(&mut self, first: usize) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let mut refused = Vec::new();
        self.layout.looked_at = self.layout.laid.len();
        let mut free = std::mem::take(&mut self.given);
        if first == 0 {
            free.clear();
        }
        let mut cursors: BTreeMap<usize, Cursor> = BTreeMap::new();
        let laid = self.layout.sequence.iter().zip(&self.layout.laid).enumerate();
        for (at, (slot, laid)) in laid.skip(first) {
            if decisions.len() == self.policy.max_starts {
                self.layout.looked_at = at;
                break;
            }
            let Some(item) = self.item(*slot) else { continue };
            // The bytes are the core's to add, at the price that it agrees on.
            let (target, hold_micros) = match &laid.spot {
                Spot::Here(here) if here.start <= self.now => {
                    let hours = here.hold_micros - self.bytes_here(item, here);
                    (self.parts_now(item, here, &mut free), hours)
                }
                Spot::Launch(launched) => {
                    let bytes = item.bytes(&self.shapes[item.shape].offers[launched.offer].moving);
                    (self.launch_target(item, launched), launched.hold_micros - bytes)
                }
                Spot::Here(_) | Spot::Blocked(_) => continue,
            };
            let (Some(target), Some(task)) = (target, cursors.entry(*slot).or_default().next(item)) else {
                refused.push(at);
                continue;
            };
            let because = self.because(item, &laid.spot);
            decisions.push(Decision { job: item.job.job, task, target, hold_micros, because });
        }
        self.given = free;
        for at in refused {
            self.layout.laid[at].spot = Spot::Blocked(Reason::Resources);
        }
        decisions
    }

    /// What of a hold is for bytes that are brought.
    fn bytes_here(&self, item: &Item, here: &Here) -> i64 {
        let ground = self.ground();
        let fits = here.nodes.iter().filter_map(|node| ground.fit_of(item, *node));
        fits.map(|fit| fit.moving.held_micros).fold(0, i64::saturating_add)
    }

    /// Accelerators for every part, or none where a node's own arithmetic refuses: the profile and the node disagree
    /// then, and the node's word counts.
    fn parts_now(
        &self,
        item: &Item,
        here: &Here,
        free: &mut BTreeMap<usize, FreeResources>,
    ) -> Option<Target> {
        let mut parts = Vec::with_capacity(here.nodes.len());
        for number in &here.nodes {
            let machine = self.fleet.machine(*number)?;
            let left = free.entry(*number).or_insert_with(|| machine.view.free.clone());
            let allocation = left.find(&machine.view.capacity, &item.job.resources).ok()?;
            let rate = HourlyRate(self.shapes[item.shape].kinds.get(machine.kind)?.rate);
            parts.push(PartPlacement { node: machine.view.node, allocation, rate });
        }
        for (number, part) in here.nodes.iter().zip(&parts) {
            free.get_mut(number)?.take(&part.allocation).ok()?;
        }
        Some(Target::Nodes { parts })
    }

    fn launch_target(&self, item: &Item, launched: &Launched) -> Option<Target> {
        let offer = &self.offers[launched.offer].view;
        let allocation =
            FreeResources::all_of(&offer.capacity).find(&offer.capacity, &item.job.resources).ok()?;
        Some(Target::Launch {
            cloud: offer.cloud.clone(),
            site: offer.site.clone(),
            instance_type: offer.instance_type.clone(),
            price: offer.price,
            market: offer.terms.market,
            allocation,
            rate: HourlyRate(self.shapes[item.shape].offers[launched.offer].rate),
        })
    }

    fn because(&self, item: &Item, spot: &Spot) -> String {
        match spot {
            Spot::Here(here) => self.why_here(item, here),
            Spot::Launch(launched) => self.why_launched(item, launched),
            Spot::Blocked(_) => String::new(),
        }
    }

    fn why_here(&self, item: &Item, here: &Here) -> String {
        let shape = &self.shapes[item.shape];
        let asked = words::asked(item.job.resources.gpus.as_ref(), &shape.need);
        let machines = here.nodes.iter().filter_map(|number| self.fleet.machine(*number));
        let rates = machines.clone().map(|machine| shape.kinds[machine.kind].rate);
        let price = HourlyRate(rates.fold(0, i64::saturating_add));
        let hold = words::amount(here.hold_micros);
        let Some(first) = machines.clone().next() else { return String::new() };
        let (host, site, pool) = (&first.view.hostname, &first.view.site, &first.view.pool);
        match here.nodes.as_slice() {
            [_] => {
                format!("{asked} free now on {host} ({site}/{pool}) at {price}; it can cost {hold} at most")
            }
            several => format!(
                "{asked} free now on each of {} nodes of {site} at {price} together; it can cost {hold} at most",
                several.len()
            ),
        }
    }

    fn why_launched(&self, item: &Item, launched: &Launched) -> String {
        let offer = &self.offers[launched.offer].view;
        let here = match launched.here {
            None => self.why_not_here(item),
            Some(start) if start <= self.now => "nodes here are free now, but cost more in all".to_owned(),
            Some(start) => {
                let wait = start.saturating_sub(self.now);
                let (when, span) = (words::clock(start), words::span(wait));
                let late = words::late(&item.job, start);
                let worth = self.wait_worth(item, wait);
                format!("the nodes here are free at {when} in {span}, a wait worth {worth}{late}")
            }
        };
        let risk = item.launches.iter().find(|launch| launch.offer == launched.offer);
        let moving = &self.shapes[item.shape].offers[launched.offer].moving;
        let more = words::risk(risk.map_or(0.0, |launch| launch.risk_micros))
            + &words::brought(moving, item.readers);
        format!(
            "{here}; {} x {} at {} is ready in {} and costs {} for the run, the least of what can be launched{more}",
            item.job.nodes,
            offer.instance_type,
            offer.site,
            offer.boot,
            words::amount(launched.run_micros),
        )
    }

    /// Why no start here was found in time.
    fn why_not_here(&self, item: &Item) -> String {
        let shape = &self.shapes[item.shape];
        let mut could = shape.kinds.iter().zip(&self.fleet.kinds);
        if !could.any(|(fit, kind)| fit.bar.is_none() && !kind.nodes.is_empty()) {
            return "no node here can run it".to_owned();
        }
        match item.job.placement.max_wait {
            Some(own) => format!("no node here is free within its max_wait of {own}"),
            None => "no node here is free as long as waiting is worth it".to_owned(),
        }
    }

    /// What a wait is worth, as an amount of money.
    pub(crate) fn wait_worth(&self, item: &Item, wait_ms: i64) -> String {
        words::amount(crate::item::whole(item.wait_price * crate::item::real(wait_ms.max(0))))
    }
}
