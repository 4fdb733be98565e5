//! `spillway demo`: a whole federation on this machine for half a minute, of real processes of this program.
//!
//! A broker on SQLite, three machines with agents, and a cloud of two regions whose instances are processes too.
//! Three groups submit a mixed load; it fills the machines and spills into the cloud. Everything is asked for
//! through the public API, and what is shown at the end comes from it alone.
//!
//! However it ends (by itself, with Ctrl-C at any moment, or because something failed), no process and no
//! folder is left. Left out on purpose: GPUs. The machines declare theirs, and no program uses one.

mod federation;
mod load;
mod probe;
mod processes;
mod progress;
#[cfg(test)]
mod samples;
mod show;
mod stage;
mod summary;
mod watch;

use std::path::PathBuf;
use std::pin::pin;

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::processes::Crew;
use self::progress::Progress;
use self::stage::Stage;
use self::summary::Summary;
use self::watch::Watch;
use crate::failure::{ERROR, Failure};
use crate::output::Output;

/// The exit code after Ctrl-C: 128 and the number of SIGINT, as a shell has it.
const INTERRUPTED: u8 = 130;

/// The flags of `spillway demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End when everything has run, instead of serving on
    #[arg(long)]
    pub exit: bool,
    /// Keep settings, database and logs in this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// How the play ended.
#[derive(Debug)]
enum Ending {
    Played { summary: Box<Summary>, http: String },
    Interrupted,
    Failed(anyhow::Error),
}

/// Plays the demo.
///
/// # Errors
/// Something failed; everything was ended all the same.
pub(super) fn run(args: &DemoArgs, output: &mut Output) -> Result<u8, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    Ok(runtime.block_on(perform(args, output))?)
}

async fn perform(args: &DemoArgs, output: &mut Output) -> anyhow::Result<u8> {
    let mut stop = pin!(stop_signal()?);
    let mut progress = Progress::begin();
    let stage = Stage::set(args.keep.as_deref())?;
    let mut crew = Crew::new(stage.temporary_files())?;
    let mut ending = tokio::select! {
        biased;
        () = &mut stop => Ending::Interrupted,
        played = Box::pin(play(&stage, &mut crew, &mut progress, output)) => match played {
            Ok((summary, http)) => Ending::Played { summary: Box::new(summary), http },
            Err(error) => Ending::Failed(error.context(format!("the demo failed at: {}", progress.current_step()))),
        },
    };
    progress.end();
    if let (Ending::Played { summary, http }, false) = (&ending, args.exit) {
        output.show(summary.as_ref(), show::summary);
        output.talk(&show::next_steps(http, &stage.data()));
        stop.await;
        ending = Ending::Interrupted;
    }
    let log = crew.telling_log();
    let left = crew.end().await;
    let kept = stage.strike();
    let code = conclude(ending, left, log, output)?;
    if let Some(folder) = kept? {
        output.talk(&format!("settings, database and logs are in {}", folder.display()));
    }
    Ok(code)
}

/// Shows what is to be shown at the end, and gives the exit code.
fn conclude(
    ending: Ending,
    left: usize,
    log: Option<(String, String)>,
    output: &mut Output,
) -> anyhow::Result<u8> {
    match ending {
        Ending::Played { mut summary, .. } => {
            summary.note_processes_left(left);
            output.show(summary.as_ref(), show::summary);
            Ok(if summary.passed() { 0 } else { ERROR })
        }
        Ending::Interrupted => {
            output.talk("everything was ended");
            Ok(INTERRUPTED)
        }
        Ending::Failed(error) => {
            if let Some((name, log)) = log {
                output.talk(&format!("{name} said last:\n{log}\n"));
            }
            Err(error)
        }
    }
}

/// The play itself; gives the summary and where the broker serves.
async fn play(
    stage: &Stage,
    crew: &mut Crew,
    progress: &mut Progress,
    output: &mut Output,
) -> anyhow::Result<(Summary, String)> {
    let name = stage.folder().file_name().context("the folder has a name")?;
    let key = name.to_string_lossy().into_owned();
    progress.step(output, "starting a broker on SQLite");
    let mut federation = federation::start_broker(stage, crew).await?;
    progress.step(output, "making three groups with budgets");
    federation.admit_tenants().await?;
    progress.step(output, "joining two DGX nodes and a workstation");
    federation.join_machines(stage, crew).await?;
    progress.step(output, "measuring how fast an idle node starts a job");
    let prober = federation.tenants.get("vision").ok_or_else(|| anyhow!("the probes have a group"))?;
    let dispatch_us = probe::measure(prober, &key).await?;
    let load = load::load();
    progress.step(output, "submitting the load");
    let mut watch = Watch::submit(&federation, &load, &key).await?;
    progress.step(output, "running the load");
    watch.follow(crew, progress, output).await?;
    progress.step(output, "waiting for the cloud to be empty and the books to be closed");
    watch.settle(crew, progress).await?;
    progress.step(output, "adding up");
    let evidence = watch.gather(dispatch_us).await?;
    Ok((Summary::of(evidence, progress.elapsed()), federation.http))
}

/// Resolves when the demo is to end: Ctrl-C, SIGTERM, or a terminal that went away.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("the system refuses to tell of signals");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
