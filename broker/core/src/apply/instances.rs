//! Instances: from the intent to the last charge.

use std::collections::BTreeSet;

use spillway_ledger::overhead_entry;
use spillway_ledger::rates::IdleMeter;
use spillway_types::{
    AttemptId, HourlyRate, InstanceId, InstanceState, InstanceStep, UnixMs, instance_share,
};

use super::ApplyError;
use crate::entity::{GoneReason, Instance, Part, PriceStep};
use crate::event::Intended;
use crate::{Event, Key, State};

impl State {
    pub(super) fn apply_to_instance(&mut self, at: UnixMs, event: &Event) -> Result<(), ApplyError> {
        if let Event::InstanceIntended(intended) = event {
            self.touch(Key::Instance(intended.instance));
            self.instances.insert(intended.instance, new_instance(intended, self.journal, at));
            Ok(())
        } else if let Event::InstanceStepped { instance, step, observed } = event {
            let entry = self.instance_mut(*instance)?;
            entry.state = entry.state.after(*step)?;
            if let Some((provider_id, launched)) = observed {
                entry.provider_id = Some(provider_id.clone());
                entry.launched.get_or_insert(*launched);
            }
            Ok(())
        } else if let Event::InstanceRepriced { instance, price, on_demand_price } = event {
            self.reprice(*instance, PriceStep { from: at, rate: *price, list_rate: *on_demand_price })
        } else if let Event::InstanceGone { instance, why } = event {
            self.end_instance(*instance, why, at)
        } else {
            Ok(())
        }
    }

    /// What runs there, or waits for it, costs its share of the new price from then on.
    fn reprice(&mut self, id: InstanceId, step: PriceStep) -> Result<(), ApplyError> {
        let instance = self.instance_mut(id)?;
        instance.reprice(step);
        let (node, first, capacity) = (instance.node, instance.attempt, instance.capacity.clone());
        let share = |rate: HourlyRate, part: &Part| instance_share(rate, &capacity, &part.allocation);
        let there = node.and_then(|node| self.nodes.get(&node));
        let mut attempts: BTreeSet<AttemptId> =
            there.into_iter().flat_map(|node| node.parts.keys().copied()).collect();
        attempts.extend(self.attempts.contains_key(&first).then_some(first));
        for attempt in attempts {
            let has = |part: &&mut Part| part.instance == Some(id) || (node.is_some() && part.node == node);
            for part in self.attempt_mut(attempt)?.parts.iter_mut().filter(has) {
                let (rate, list_rate) =
                    (share(step.rate, part), step.list_rate.map(|list| share(list, part)));
                part.repriced.push(PriceStep { from: step.from, rate, list_rate });
            }
        }
        Ok(())
    }

    fn end_instance(&mut self, id: InstanceId, why: &GoneReason, at: UnixMs) -> Result<(), ApplyError> {
        let entry = self.instance_mut(id)?;
        entry.state = entry.state.after(InstanceStep::Vanish)?;
        entry.gone = Some((at, why.clone()));
        if let Some(gone) = self.instances.remove(&id) {
            let payee = gone.payee();
            for (subject, micros) in gone.overheads(at) {
                if let Some(entry) = overhead_entry(&subject, &payee, micros) {
                    let usage = self.overhead_usage(&gone, &subject.group, at);
                    self.post(entry.using(usage), at);
                }
            }
            self.changes.ended_instances.push(gone);
        }
        Ok(())
    }

    pub(super) fn instance_mut(&mut self, id: InstanceId) -> Result<&mut Instance, ApplyError> {
        self.changes.touched.insert(Key::Instance(id));
        self.instances.get_mut(&id).ok_or_else(|| ApplyError::missing(id))
    }
}

fn new_instance(intended: &Intended, journal: u64, at: UnixMs) -> Instance {
    Instance {
        id: intended.instance,
        state: InstanceState::Intended,
        cloud: intended.cloud.clone(),
        site: intended.site.clone(),
        instance_type: intended.instance_type.clone(),
        capacity: intended.capacity.clone(),
        price: intended.price,
        market: intended.market,
        on_demand_price: intended.on_demand_price,
        repriced: vec![],
        billing: intended.billing,
        job: intended.job,
        attempt: intended.attempt,
        group: intended.group.clone(),
        user: intended.user.clone(),
        broker_addr: intended.broker_addr.clone(),
        ca_fingerprint: intended.ca_fingerprint.clone(),
        journal,
        created: at,
        provider_id: None,
        launched: None,
        ready: None,
        idle_since: None,
        gone: None,
        node: None,
        charged_micros: 0,
        idle: IdleMeter::default(),
    }
}
