//! From a lease to what a supervisor runs: the program's variables, and whether the node has what was given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use spillway_tunnel::protocol::Lease;
use spillway_types::resources::BLOCKS_PER_GPU;
use spillway_types::{Accelerator, Allocation, DatasetName};

use crate::part::Spec;

/// What to run for a lease on a node with these accelerators, in this boot, with its inputs where they are. The variables that Spillway sets
/// win over the job's own.
///
/// # Errors
/// Why the node cannot give what the lease says it was given, for people.
pub fn spec_of(
    lease: &Lease,
    accelerators: &[Accelerator],
    boot: &str,
    inputs: BTreeMap<DatasetName, PathBuf>,
) -> Result<Spec, String> {
    let devices = devices(&lease.allocation, accelerators)?;
    let mut env = variables(lease, &devices);
    env.extend(inputs.iter().map(|(dataset, path)| (dataset.variable(), path.display().to_string())));
    Ok(Spec { env, inputs, ..bare_spec(lease, boot) })
}

/// The same without any check, for a part that is only to be recorded as refused.
pub(crate) fn bare_spec(lease: &Lease, boot: &str) -> Spec {
    Spec {
        attempt: lease.attempt,
        rank: lease.rank,
        number: lease.number,
        job: lease.job,
        task: lease.task,
        boot: boot.to_owned(),
        command: lease.command.clone(),
        env: BTreeMap::new(),
        time_limit: lease.time_limit,
        checkpoint: lease.checkpoint,
        ttl: lease.ttl,
        allocation: lease.allocation.clone(),
        inputs: BTreeMap::new(),
    }
}

/// UUIDs of the devices that an allocation names.
fn devices(allocation: &Allocation, accelerators: &[Accelerator]) -> Result<Vec<String>, String> {
    let mut devices = Vec::new();
    for share in &allocation.shares {
        let device = accelerators.iter().find(|accelerator| accelerator.index == share.index);
        let device = device.ok_or_else(|| format!("this node has no accelerator {}", share.index))?;
        if share.blocks != BLOCKS_PER_GPU {
            let problem = "this agent gives out whole accelerators and MIG slices only";
            return Err(format!("{}/100 of accelerator {} was given: {problem}", share.blocks, share.index));
        }
        if !device.mig.is_empty() {
            return Err(format!("accelerator {} is split into MIG slices: give those", share.index));
        }
        devices.push(device.uuid.clone());
    }
    for slice in &allocation.mig {
        if !accelerators.iter().flat_map(|accelerator| &accelerator.mig).any(|have| &have.uuid == slice) {
            return Err(format!("this node has no MIG slice {slice}"));
        }
        devices.push(slice.clone());
    }
    Ok(devices)
}

fn variables(lease: &Lease, devices: &[String]) -> BTreeMap<String, String> {
    let own = [
        ("CUDA_VISIBLE_DEVICES", devices.join(",")),
        ("SPILLWAY_JOB_ID", lease.job.to_string()),
        ("SPILLWAY_TASK_INDEX", lease.task.to_string()),
        ("SPILLWAY_ATTEMPT_ID", lease.attempt.to_string()),
        ("SPILLWAY_ATTEMPT", lease.number.to_string()),
        ("SPILLWAY_NODE_RANK", lease.rank.to_string()),
        ("SPILLWAY_NODE_COUNT", lease.hosts.len().max(1).to_string()),
        ("SPILLWAY_HOSTS", lease.hosts.join(",")),
        ("SPILLWAY_GPUS", devices.len().to_string()),
    ];
    let mut variables = lease.env.clone();
    variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::tests::lease;
    use spillway_types::AcceleratorShare;
    use spillway_types::resources::MigSlice;

    fn accelerators() -> Vec<Accelerator> {
        (0..3)
            .map(|index| Accelerator {
                index,
                uuid: format!("GPU-{index}"),
                model: "H100".parse().unwrap(),
                memory_mib: 80 * 1024,
                mig: if index == 2 {
                    vec![MigSlice { uuid: "MIG-a".into(), profile: "1g.10gb".into() }]
                } else {
                    vec![]
                },
                domain: None,
            })
            .collect()
    }

    fn inputs() -> BTreeMap<DatasetName, PathBuf> {
        BTreeMap::from([("image-net.v2".parse().unwrap(), PathBuf::from("/data/it"))])
    }

    fn given(shares: &[(u32, u32)], mig: &[&str]) -> Result<Spec, String> {
        let mut lease = lease(1);
        lease.env = BTreeMap::from([
            ("MINE".to_owned(), "1".to_owned()),
            ("CUDA_VISIBLE_DEVICES".to_owned(), "stolen".to_owned()),
        ]);
        lease.allocation.shares =
            shares.iter().map(|&(index, blocks)| AcceleratorShare { index, blocks }).collect();
        lease.allocation.mig = mig.iter().map(|&slice| slice.to_owned()).collect();
        lease.hosts = vec!["a".into(), "b".into()];
        spec_of(&lease, &accelerators(), "boot", inputs())
    }

    #[test]
    fn the_program_sees_what_it_was_given() {
        let env = given(&[(0, 100), (1, 100)], &["MIG-a"]).unwrap().env;
        let expected = [
            ("CUDA_VISIBLE_DEVICES", "GPU-0,GPU-1,MIG-a"),
            ("SPILLWAY_GPUS", "3"),
            ("SPILLWAY_HOSTS", "a,b"),
            ("SPILLWAY_NODE_COUNT", "2"),
            ("SPILLWAY_NODE_RANK", "0"),
            ("SPILLWAY_ATTEMPT", "1"),
            ("MINE", "1"),
            ("SPILLWAY_INPUT_IMAGE_NET_V2", "/data/it"),
        ];
        for (name, value) in expected {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(given(&[], &[]).unwrap().env["CUDA_VISIBLE_DEVICES"], "", "no device is visible");
    }

    #[test]
    fn what_the_node_does_not_have_is_refused() {
        for (shares, mig, problem) in [
            (&[(7, 100)][..], &[][..], "no accelerator 7"),
            (&[(0, 50)], &[], "50/100 of accelerator 0"),
            (&[(2, 100)], &[], "accelerator 2 is split"),
            (&[], &["MIG-b"], "no MIG slice MIG-b"),
        ] {
            let refused = given(shares, mig).unwrap_err();
            assert!(refused.contains(problem), "{refused}");
        }
    }
}
