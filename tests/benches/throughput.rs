//! Tasks a second: an array of `true` through one agent, from the submission to the end of the last task, each
//! task under a supervisor of its own, its start, usage and end durable at the broker. Peer: an array of a
//! private Slurm, of fewer tasks, since it takes more than a second for each.

use std::time::Duration;

use anyhow::Result;
use spillway_api::v1::JobFile;

use crate::Settings;
use crate::clock::median_rate;
use crate::report::{Measurement, Peer};
use crate::slurm::Slurm;
use crate::world::World;

/// CPUs that the machine declares: so many tasks run at the same time.
const CPUS: u32 = 16;
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures Spillway and, where it is installed, Slurm.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let tasks: u32 = if settings.quick { 2_000 } else { 10_000 };
    let peer = match Slurm::start()? {
        None => None,
        Some(slurm) => {
            let value = median_rate(1, || slurm.run_array(if settings.quick { 20 } else { 40 }, PATIENCE))?;
            Some(Peer { name: format!("{}, sbatch --array", slurm.version()), value })
        }
    };
    let mut world = World::start(None)?;
    world.join(CPUS)?;
    let text = format!(
        "name: throughput\ngroup: bench\nrun: [\"true\"]\narray: 1-{tasks}\nresources: {{ cpus: 1, memory: 64MB }}\ntime_limit: 1m\n"
    );
    let file = JobFile::parse_yaml(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
    let value = median_rate(if settings.quick { 1 } else { 3 }, || {
        world.run(&file, PATIENCE)?;
        Ok(tasks)
    })?;
    Ok(vec![Measurement {
        metric: "tasks of an array of `true`, one agent".into(),
        value,
        unit: "tasks/s",
        peer,
    }])
}
