//! Carrying a decision out inside the plan: resources and money that it takes are gone for later jobs.

use std::collections::BTreeSet;

use spillway_types::{Allocation, FreeResources, HourlyRate, Shortfall};

use crate::look::part_hold;
use crate::planner::{Planner, Progress, span_ms};
use crate::search::Found;
use crate::{Decision, PartPlacement, Target, words};

impl<'a> Planner<'a> {
    /// Starts the next task on nodes that are here: all parts or none.
    ///
    /// # Errors
    /// [`Shortfall`] where a node's own arithmetic refuses; nothing has changed then.
    pub(crate) fn start(&mut self, progress: &mut Progress<'a>, found: &Found) -> Result<(), Shortfall> {
        let job = progress.job;
        let nodes = &self.world.snapshot.nodes;
        let shape = &self.shapes[progress.shape];
        let mut given: Vec<(usize, Allocation)> = Vec::with_capacity(found.fits.len());
        for at in &found.fits {
            let node = shape.fits[*at].node;
            given.push((*at, self.free[node].find(&nodes[node].capacity, &job.resources)?));
        }
        let (parts, hold_micros) = self.give(progress, found.start, given);
        let because = self.why_here(progress, found, hold_micros);
        self.decide(progress, Target::Nodes { parts }, hold_micros, because);
        Ok(())
    }

    /// Gives what was found free a moment ago on nodes that are all different.
    fn give(
        &mut self,
        progress: &mut Progress<'a>,
        start: i64,
        given: Vec<(usize, Allocation)>,
    ) -> (Vec<PartPlacement>, i64) {
        let shape = &self.shapes[progress.shape];
        let until = start.saturating_add(span_ms(progress.job));
        let mut parts = Vec::with_capacity(given.len());
        let mut hold_micros = 0_i64;
        let mut pools = BTreeSet::new();
        for (at, allocation) in given {
            let fit = shape.fits[at];
            self.free[fit.node].take(&allocation).expect("nothing was given since it was found free");
            self.timelines[fit.node].reserve(start, until, &shape.need, fit.mask);
            self.timelines[fit.node].set_now(&self.world.layouts[fit.node], &self.free[fit.node]);
            hold_micros = hold_micros.saturating_add(part_hold(progress.job, fit.rate));
            let node = self.world.snapshot.nodes[fit.node].node;
            parts.push(PartPlacement { node, allocation, rate: HourlyRate(fit.rate) });
            let pool = shape.pools.iter().position(|pool| pool.fits.contains(&at)).unwrap_or(0);
            progress.chosen_pools.entry(pool).or_default().1.insert(fit.node);
            pools.insert(pool);
        }
        for pool in pools {
            progress.chosen_pools.entry(pool).or_default().0 += 1;
        }
        (parts, hold_micros)
    }

    /// Launches as many instances of an offer as the next task wants nodes.
    ///
    /// # Errors
    /// [`Shortfall`] where the task does not fit into what the offer promises; nothing has changed then.
    pub(crate) fn launch(
        &mut self,
        progress: &mut Progress<'a>,
        at: usize,
        local: Option<i64>,
    ) -> Result<(), Shortfall> {
        let job = progress.job;
        let offer = &self.world.snapshot.offers[at];
        let allocation = FreeResources::all_of(&offer.capacity).find(&offer.capacity, &job.resources)?;
        let launch = self.launch_terms(job, at);
        let target = Target::Launch {
            cloud: offer.cloud.clone(),
            site: offer.site.clone(),
            instance_type: offer.instance_type.clone(),
            price: offer.price,
            allocation,
            rate: HourlyRate(self.shapes[progress.shape].offers[at].rate),
        };
        let here = match local {
            None => "no node here can run it".to_owned(),
            Some(start) => format!(
                "the nodes here are free at {} in {}, past the waiting budget that ends at {}",
                words::clock(start),
                words::span(start.saturating_sub(self.now())),
                words::clock(progress.due.0),
            ),
        };
        let because = format!(
            "{here}; {} x {} at {} is ready in {} and costs {} for the run, the least of what can be launched",
            job.nodes,
            offer.instance_type,
            offer.site,
            offer.boot,
            words::amount(launch.cost_micros),
        );
        self.offers_left[at] = self.offers_left[at].saturating_sub(job.nodes.max(1));
        *progress.chosen_offers.entry(at).or_default() += 1;
        self.decide(progress, target, launch.hold_micros, because);
        Ok(())
    }

    fn decide(&mut self, progress: &mut Progress<'a>, target: Target, hold_micros: i64, because: String) {
        if let Some(purse) = self.purses.get_mut(&progress.job.group) {
            *purse = purse.saturating_sub(hold_micros);
        }
        let task = progress.take_index();
        self.decisions.push(Decision { job: progress.job.job, task, target, hold_micros, because });
    }

    fn why_here(&self, progress: &Progress<'a>, found: &Found, hold_micros: i64) -> String {
        let shape = &self.shapes[progress.shape];
        let asked = words::asked(progress.job.resources.gpus.as_ref(), &shape.need);
        let site = self.world.units[found.unit].site;
        let rate: i64 = found.fits.iter().map(|at| shape.fits[*at].rate).fold(0, i64::saturating_add);
        let price = HourlyRate(rate);
        let hold = words::amount(hold_micros);
        match found.fits.as_slice() {
            [only] => {
                let node = &self.world.snapshot.nodes[shape.fits[*only].node];
                let (host, pool) = (&node.hostname, &node.pool);
                format!("{asked} free now on {host} ({site}/{pool}) at {price}; it can cost {hold} at most")
            }
            several => format!(
                "{asked} free now on each of {} nodes of {site} at {price} together; it can cost {hold} at most",
                several.len()
            ),
        }
    }
}
