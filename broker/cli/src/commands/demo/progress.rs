//! What the person sees while it runs: bars on a terminal, plain lines elsewhere. All of it goes to standard
//! error.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use spillway_api::v1::{CloudView, JobSummary, SiteView};
use spillway_types::{InstanceState, SiteKind};
use tokio::time::Instant;

use crate::output::{Output, harmless};

/// How often the spinner turns by itself.
const TURN_EVERY: Duration = Duration::from_millis(120);
/// Accelerators in hundredths.
const BLOCKS_PER_GPU: u64 = 100;

/// What is known at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Moment {
    pub jobs: Vec<JobSummary>,
    pub sites: Vec<SiteView>,
    pub clouds: Vec<CloudView>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    step: &'static str,
    bars: Option<Bars>,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    head: ProgressBar,
    places: BTreeMap<String, ProgressBar>,
}

impl Progress {
    /// Begins; bars where standard error is a terminal.
    pub(super) fn begin() -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let head = all.add(ProgressBar::new_spinner());
            head.enable_steady_tick(TURN_EVERY);
            Bars { all, head, places: BTreeMap::new() }
        });
        Self { began: Instant::now(), step: "setting the stage", bars }
    }

    /// Says what begins now.
    pub(super) fn step(&mut self, output: &mut Output, step: &'static str) {
        self.step = step;
        match &self.bars {
            Some(bars) => bars.head.set_message(step),
            None => self.say(output, step),
        }
    }

    /// What began last.
    pub(super) const fn current_step(&self) -> &'static str {
        self.step
    }

    /// How long it has been going on.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Says that something happened.
    pub(super) fn say(&self, output: &mut Output, what: &str) {
        let line = format!("{:5.1}s  {what}", self.elapsed().as_secs_f64());
        match &self.bars {
            // Nobody is left to be told that the terminal went away.
            Some(bars) => drop(bars.all.println(harmless(&line))),
            None => output.talk(&line),
        }
    }

    /// Shows how things stand.
    pub(super) fn show(&mut self, moment: &Moment) {
        let Some(bars) = &mut self.bars else { return };
        let counts = Counts::of(&moment.jobs);
        bars.head.set_message(format!(
            "{} jobs: {} ended, {} at work, {} wait",
            moment.jobs.len(),
            counts.ended,
            counts.at_work,
            counts.waiting
        ));
        for site in &moment.sites {
            bars.show_place(site, &moment.clouds);
        }
    }

    /// Takes the bars away; lines stay.
    pub(super) fn end(&mut self) {
        if let Some(bars) = self.bars.take() {
            bars.places.values().for_each(ProgressBar::finish_and_clear);
            bars.head.finish_and_clear();
        }
    }
}

impl Bars {
    fn show_place(&mut self, site: &SiteView, clouds: &[CloudView]) {
        let name = site.name.to_string();
        let bar = self.places.entry(name.clone()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(0));
            let style = ProgressStyle::with_template("  {prefix:16} [{bar:16}] {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("##-"));
            bar.set_prefix(harmless(&name));
            bar
        });
        let (total, free) = (site.blocks / BLOCKS_PER_GPU, site.blocks_free / BLOCKS_PER_GPU);
        bar.set_length(total);
        bar.set_position(total.saturating_sub(free));
        let gpus = format!("{}/{total} GPUs", total.saturating_sub(free));
        bar.set_message(match site.kind {
            SiteKind::OnPrem | SiteKind::Personal => gpus,
            SiteKind::Cloud => format!("{gpus}, {}", instances(site, clouds)),
        });
    }
}

/// `2 instances boot, 1 ready`.
fn instances(site: &SiteView, clouds: &[CloudView]) -> String {
    let here = clouds.iter().flat_map(|cloud| &cloud.instances).filter(|instance| instance.site == site.name);
    let (mut coming, mut ready, mut going) = (0, 0, 0);
    for instance in here {
        match instance.state {
            InstanceState::Intended
            | InstanceState::Launching
            | InstanceState::Booting
            | InstanceState::Unknown => coming += 1,
            InstanceState::Ready => ready += 1,
            InstanceState::Draining | InstanceState::Terminating => going += 1,
            InstanceState::Gone => {}
        }
    }
    let words = [(coming, "starting"), (ready, "ready"), (going, "ending")];
    let words: Vec<String> =
        words.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if words.is_empty() { "no instances".to_owned() } else { format!("instances: {}", words.join(", ")) }
}

/// How many jobs are where on their way.
#[derive(Debug, PartialEq, Eq, Default)]
struct Counts {
    waiting: usize,
    at_work: usize,
    ended: usize,
}

impl Counts {
    fn of(jobs: &[JobSummary]) -> Self {
        use spillway_api::v1::JobState as State;
        let mut counts = Self::default();
        for job in jobs {
            match job.state {
                State::Queued => counts.waiting += 1,
                State::Placing | State::Provisioning | State::Staging | State::Running | State::Finishing => {
                    counts.at_work += 1;
                }
                State::Succeeded | State::Failed | State::Cancelled => counts.ended += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use spillway_api::v1::JobState;

    #[test]
    fn jobs_are_counted_by_how_far_they_are() {
        let jobs: Vec<JobSummary> = JobState::ALL.map(|state| samples::summary("j", state)).into();
        assert_eq!(Counts::of(&jobs), Counts { waiting: 1, at_work: 5, ended: 3 });
    }

    #[test]
    fn instances_of_a_region_are_told_in_words() {
        let site = samples::site("cloud-a");
        let cloud = |states: &[(&str, InstanceState)]| samples::cloud(states);
        let at = |states: &[(&str, InstanceState)]| instances(&site, &[cloud(states)]);
        assert_eq!(at(&[("cloud-b", InstanceState::Ready)]), "no instances");
        assert_eq!(
            at(&[
                ("cloud-a", InstanceState::Ready),
                ("cloud-a", InstanceState::Booting),
                ("cloud-a", InstanceState::Launching),
                ("cloud-a", InstanceState::Gone),
            ]),
            "instances: 2 starting, 1 ready"
        );
    }
}
