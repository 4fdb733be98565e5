//! Whether the provider and the database tell the same of machines, and whether anything is left that runs.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::State;
use spillway_types::InstanceId;

use super::Scene;

pub(super) fn check(scene: &Scene, replayed: &State, findings: &mut Vec<String>) {
    for process in &scene.processes {
        findings.push(format!("process {} is left: {}", process.pid, process.command));
    }
    for instance in replayed.instances.values() {
        findings.push(format!("{} is {} in the database", instance.id, instance.state.as_str()));
    }
    let ended = &replayed.changes.ended_instances;
    let intents: BTreeSet<InstanceId> =
        ended.iter().map(|instance| instance.id).chain(replayed.instances.keys().copied()).collect();
    let mut machines: BTreeMap<InstanceId, u32> = BTreeMap::new();
    for machine in &scene.machines {
        *machines.entry(machine.intent).or_default() += 1;
        if !machine.ended {
            findings.push(format!("machine {} lives at the provider", machine.provider_id));
        }
        if !intents.contains(&machine.intent) {
            findings.push(format!(
                "machine {} was launched for {}, which nobody intended",
                machine.provider_id, machine.intent
            ));
        }
    }
    for (intent, count) in machines.iter().filter(|(_, count)| **count > 1) {
        findings.push(format!("{intent} has {count} machines"));
    }
    for instance in ended.iter().filter(|instance| instance.launched.or(instance.ready).is_some()) {
        if !machines.contains_key(&instance.id) {
            findings.push(format!(
                "{} was launched by the database, and the provider has no machine for it",
                instance.id
            ));
        }
    }
}
