//! What was used, as the entries of the ledger say it.
//!
//! What a part has its share of is noted when it gets its lease, so that use which is reported when the node or the
//! instance is gone is charged with the same details.

use std::collections::BTreeMap;

use spillway_ledger::limits::Weights;
use spillway_ledger::{PricedIn, Slice, Usage};
use spillway_types::{
    Allocation, AttemptId, CloudName, DatasetName, DurationMs, GpuModel, GroupName, HourlyRate, NodeCapacity,
    SiteName, UnixMs, instance_share,
};

use crate::State;
use crate::entity::{Instance, Machine, Part, PriceStep};

/// What all slices of a part have in common.
pub(crate) struct PartUsage {
    machine: Option<Machine>,
    repriced: Vec<PriceStep>,
    cloud: Option<(CloudName, SiteName)>,
    above: Vec<GroupName>,
    datasets: Vec<DatasetName>,
    /// Those of its class.
    weights: Weights,
}

impl PartUsage {
    /// What a slice of the part is of, where the part began at `began`, and what it was priced in where that is not the
    /// currency of the books.
    pub(crate) fn of_slice(&self, began: UnixMs, slice: &Slice, priced: Option<PricedIn>) -> Usage {
        let (machine, from) = (self.machine.as_ref(), began.plus(DurationMs(slice.from_ms)));
        let class = machine.and_then(|it| it.model.as_ref());
        let until = |ms: u64| {
            let weighed =
                self.weights.normalised_ms(class, slice.gpu_blocks, began, began.plus(DurationMs(ms)));
            u64::try_from(weighed).unwrap_or(0)
        };
        let normalised_ms =
            (slice.gpu_blocks > 0).then(|| until(slice.to_ms).saturating_sub(until(slice.from_ms)));
        let (cloud, region) = self.cloud.clone().unzip();
        Usage {
            pool: machine.map(|it| it.pool.clone()),
            class: machine.and_then(|it| it.model.clone()),
            resource: machine.map(|it| it.resource.clone()),
            cloud,
            region,
            instance_type: machine.and_then(|it| it.instance_type.clone()),
            market: machine.and_then(|it| it.market),
            from,
            to: began.plus(DurationMs(slice.to_ms)),
            offset_ms: slice.from_ms,
            blocks: slice.gpu_blocks,
            rate: slice.rate,
            list_rate: self.list_rate_at(from).unwrap_or(slice.rate),
            normalised_ms,
            on_prem_rate: machine.and_then(|it| it.on_prem_rate),
            above: self.above.clone(),
            datasets: self.datasets.clone(),
            priced,
        }
    }
}

impl PartUsage {
    /// What an hour costs on demand at an instant, where that is known to be another price.
    fn list_rate_at(&self, at: UnixMs) -> Option<HourlyRate> {
        match self.repriced.iter().rev().find(|step| step.from <= at) {
            Some(step) => step.list_rate,
            None => self.machine.as_ref()?.list_rate,
        }
    }
}

impl State {
    /// What each part of the attempt has its share of; none for one whose node is not known.
    pub(crate) fn machines_of(&self, id: AttemptId, at: UnixMs) -> Vec<Option<Machine>> {
        let parts = self.attempts.get(&id).map(|attempt| attempt.parts.as_slice()).unwrap_or_default();
        parts.iter().map(|part| self.machine_of(part, at)).collect()
    }

    fn machine_of(&self, part: &Part, at: UnixMs) -> Option<Machine> {
        let node = self.nodes.get(&part.node?)?;
        let instance = node.instance.and_then(|instance| self.instances.get(&instance));
        let on_demand = instance.filter(|instance| instance.on_demand_price_now().is_some());
        let list =
            |instance: &Instance| instance_share(instance.list_price(), &instance.capacity, &part.allocation);
        let model = node.inventory.as_ref().and_then(|it| class_of(&it.capacity, &part.allocation));
        let compared = model.as_ref().filter(|_| instance.is_some());
        Some(Machine {
            pool: node.pool.clone(),
            on_prem_rate: compared.and_then(|class| self.on_prem_rate(class, &part.allocation, at)),
            model,
            resource: instance.map_or_else(|| node.hostname.clone(), Instance::resource),
            instance_type: instance.map(|instance| instance.instance_type.clone()),
            market: instance.map(|instance| instance.market),
            list_rate: on_demand.map(list),
        })
    }

    /// What the slices of a part are of.
    pub(crate) fn part_usage(&self, id: AttemptId, rank: usize) -> Option<PartUsage> {
        let attempt = self.attempts.get(&id)?;
        let part = attempt.parts.get(rank)?;
        // A part that got its lease from an earlier version has none noted.
        let machine = part.machine.as_deref().cloned().or_else(|| self.machine_of(part, attempt.began(rank)));
        let datasets = self.jobs.get(&attempt.job).map(|job| job.spec.inputs.clone()).unwrap_or_default();
        let repriced = part.repriced.clone();
        let weights = self.limits.weights().of(machine.as_ref().and_then(|it| it.model.as_ref()));
        let (above, cloud) = (self.above(&attempt.group), attempt.payee.cloud());
        Some(PartUsage { machine, repriced, cloud, above, datasets, weights })
    }

    /// What an instance's overhead is of: all of it, from when it ran until it was gone, and nobody's accelerators.
    pub(crate) fn overhead_usage(&self, instance: &Instance, payer: &GroupName, at: UnixMs) -> Usage {
        let until = instance.gone.as_ref().map_or(at, |(gone, _)| *gone);
        let since = instance.runs_since().unwrap_or(until);
        Usage {
            pool: instance.pool(),
            class: instance.capacity.accelerators.first().map(|it| it.model.clone()),
            resource: Some(instance.resource()),
            cloud: Some(instance.cloud.clone()),
            region: Some(instance.site.clone()),
            instance_type: Some(instance.instance_type.clone()),
            market: Some(instance.market),
            from: since.min(until),
            to: until,
            offset_ms: 0,
            blocks: 0,
            rate: instance.price_now(),
            list_rate: instance.list_price(),
            normalised_ms: None,
            on_prem_rate: None,
            above: self.above(payer),
            datasets: vec![],
            priced: None,
        }
    }

    /// The groups above one, from the root on.
    pub(crate) fn above(&self, group: &GroupName) -> Vec<GroupName> {
        let parent_of = |group: &GroupName| self.groups.get(group).and_then(|group| group.parent.clone());
        // A tree is never deeper than it has groups: a bound, should a cycle ever get in.
        let up = std::iter::successors(parent_of(group), parent_of).take(self.groups.len());
        let mut above: Vec<GroupName> = up.collect();
        above.reverse();
        above
    }
}

/// The model of which the allocation has most; the first by name where two have as much.
fn class_of(capacity: &NodeCapacity, allocation: &Allocation) -> Option<GpuModel> {
    let mut blocks: BTreeMap<&GpuModel, u64> = BTreeMap::new();
    for accelerator in &capacity.accelerators {
        let shares = allocation.shares.iter().filter(|share| share.index == accelerator.index);
        let shared: u64 = shares.map(|share| u64::from(share.blocks)).sum();
        let slices = accelerator.mig.iter().filter(|slice| allocation.mig.contains(&slice.uuid)).count();
        let mig = 100 * u64::try_from(slices).unwrap_or(u64::MAX / 100);
        *blocks.entry(&accelerator.model).or_default() += shared + mig;
    }
    let most = blocks.values().max().copied().filter(|most| *most > 0)?;
    blocks.into_iter().find(|(_, of)| *of == most).map(|(model, _)| model.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::{Accelerator, AcceleratorShare};

    #[test]
    fn the_class_is_the_one_of_which_it_has_most() {
        let accelerator = |(index, model): (u32, &str)| Accelerator {
            index,
            uuid: format!("GPU-{index}"),
            model: model.parse().unwrap(),
            memory_mib: 1,
            mig: vec![],
            domain: None,
        };
        let accelerators = [(0, "L4"), (1, "H100"), (2, "H100")].map(accelerator).to_vec();
        let capacity = NodeCapacity { accelerators, cpus_milli: 1, memory_mib: 1 };
        for (shares, expected) in [
            (vec![(0, 100), (1, 50)], Some("L4")),
            (vec![(0, 100), (1, 100)], Some("H100")),
            (vec![(0, 100), (1, 70), (2, 60)], Some("H100")),
            (vec![(9, 100)], None),
            (vec![], None),
        ] {
            let share = |(index, blocks): &(u32, u32)| AcceleratorShare { index: *index, blocks: *blocks };
            let shares: Vec<AcceleratorShare> = shares.iter().map(share).collect();
            let allocation = Allocation { shares, ..Allocation::default() };
            assert_eq!(class_of(&capacity, &allocation).map(|it| it.to_string()).as_deref(), expected);
        }
    }
}
