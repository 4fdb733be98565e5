//! From the call of the command line to the start of the job's process on an idle node, in milliseconds, by the
//! machine's own clock: the job's process says when it began. Peer: `sbatch` of a private Slurm.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use spillway_tests::binaries;
use spillway_tests::wait::wait_for;

use crate::Settings;
use crate::clock::median;
use crate::report::{Measurement, Peer};
use crate::slurm::Slurm;
use crate::world::World;

const SOON: Duration = Duration::from_secs(30);

/// Measures Spillway and, where it is installed, Slurm.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Measurement>> {
    let rounds = if settings.quick { 11 } else { 51 };
    let peer = match Slurm::start()? {
        None => None,
        Some(slurm) => {
            let folder = tempfile::tempdir()?;
            let mut times =
                measure(rounds.min(11), folder.path(), |started| slurm.run_script(&script(started)))?;
            Some(Peer { name: format!("{}, sbatch", slurm.version()), value: median(&mut times) })
        }
    };
    let mut world = World::start(None)?;
    world.join(4)?;
    let mut times = measure(rounds, world.folder(), |started| {
        let mut command = Command::new(binaries::spillway());
        command
            .args(["--server", &format!("http://{}", world.address), "--token-file"])
            .arg(world.token_file());
        command.args(["run", "--group", "bench", "--time-limit", "1m", "--", "sh", "-c", &script(started)]);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    })?;
    let p50 = median(&mut times);
    let p95 = times.get(times.len() * 95 / 100).copied().unwrap_or(p50);
    Ok(vec![
        Measurement {
            metric: "command line to process start, idle node, p50".into(),
            value: p50,
            unit: "ms",
            peer,
        },
        Measurement {
            metric: "command line to process start, idle node, p95".into(),
            value: p95,
            unit: "ms",
            peer: None,
        },
    ])
}

fn script(started: &Path) -> String {
    format!("date +%s%N > {0}.new && mv {0}.new {0}", started.display())
}

/// The times from before each call to the moment that the job's process wrote.
fn measure(rounds: usize, folder: &Path, mut call: impl FnMut(&Path) -> Result<()>) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let file = folder.join(format!("started-{round}"));
        let called = unix_nanos()?;
        call(&file)?;
        let text = wait_for("the job to start", SOON, || {
            fs::read_to_string(&file).map_err(|error| error.to_string())
        });
        let started: u128 = text.trim().parse().context("the job wrote no time")?;
        times.push(
            Duration::from_nanos(u64::try_from(started.saturating_sub(called))?).as_secs_f64() * 1000.0,
        );
        // The next call must find the node idle again.
        std::thread::park_timeout(Duration::from_millis(50));
    }
    Ok(times)
}

#[expect(clippy::disallowed_methods, reason = "two processes are compared by the machine's own clock")]
fn unix_nanos() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}
