//! What happens from outside, checked by hand: machines that are taken back, prices that change, nodes and links that
//! fail, data that is moved, and what of lost work checkpoints keep.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use spillway_policies::Policy;
use spillway_sim::baselines::{BaselineParameters, baseline};
use spillway_sim::federation::from_toml;
use spillway_sim::trace::Trace;
use spillway_sim::{
    Description, Place, PlannerScheduler, Replay, ReplayError, Scheduler, Seen, TraceJob, World, replay,
};
use spillway_types::{DurationMs, UnixMs};

const MINUTE: u64 = 60_000;

fn jobs(csv: &str) -> Vec<TraceJob> {
    Trace::read(csv).expect("a trace").jobs
}

fn no_wait() -> Box<dyn Scheduler> {
    baseline("no-wait", BaselineParameters::default()).expect("it is known")
}

fn planner(policy: &str) -> Box<dyn Scheduler> {
    Box::new(PlannerScheduler::new(Policy::from_toml(policy).expect("a policy")))
}

fn described(federation: &str, jobs: &[TraceJob]) -> Description {
    let mut description = from_toml(federation).expect("a federation");
    spillway_sim::federation::admit_groups(&mut description, jobs);
    description
}

fn try_run(
    federation: &str,
    jobs: &[TraceJob],
    scheduler: Box<dyn Scheduler>,
    seed: u64,
) -> Result<Replay, ReplayError> {
    replay(described(federation, jobs), jobs, scheduler, seed, &mut |_| ControlFlow::Continue(()))
}

fn run(federation: &str, trace: &str, scheduler: Box<dyn Scheduler>) -> Replay {
    let replayed = try_run(federation, &jobs(trace), scheduler, 1).expect("it comes to its end");
    assert_eq!(replayed.violations, Vec::<String>::new());
    let last = replayed.samples.last().expect("a sample");
    assert_eq!((last.gpus_busy_local, last.gpus_busy_cloud, last.queued_jobs), (0, 0, 0));
    replayed
}

/// `BEGAN/START-END:PLACE xTRIES` for each job, in minutes.
fn words(replayed: &Replay) -> String {
    let minutes =
        |ms: u64| if ms.is_multiple_of(MINUTE) { format!("{}", ms / MINUTE) } else { format!("{ms}ms") };
    let word = |placed: &spillway_sim::Placed| {
        let place = match &placed.place {
            Place::Local(parts) => {
                let parts: Vec<String> = parts.iter().map(|(node, gpus)| format!("{node}/{gpus}")).collect();
                parts.join("+")
            }
            Place::Cloud { site } => site.to_string(),
        };
        let [began, start, end] = [placed.began.0, placed.start.0, placed.end.0].map(minutes);
        format!("{began}/{start}-{end}:{place} x{}", placed.tries)
    };
    replayed.placements.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn spent(replayed: &Replay, site: &str) -> i64 {
    let own = replayed.spend.iter().filter(|((at, _), _)| at.as_str() == site);
    own.map(|(_, micros)| micros).sum()
}

const SPOT: &str = r#"
warm = "0s"
[[clouds]]
name = "aws"
site = "east"
[[clouds.offers]]
instance_type = "p5-spot"
model = "H100"
gpus = 8
price = "6.00"
market = "spot"
available = 1
[[clouds.offers.availability]]
from = "50m"
available = 0
[[clouds.offers.availability]]
from = "2h"
available = 1
"#;

#[test]
fn what_a_provider_takes_back_goes_on_from_its_newest_checkpoint() {
    let trace = "job_id,group,arrival_hr,runtime_hr,gpus,checkpoint_hr\na,g,0,1,8,0.333333333333\n";
    let replayed = run(SPOT, trace, no_wait());
    // 40 of the 50 minutes are kept; the other 20 run when there is a machine again.
    assert_eq!(words(&replayed), "0/120-140:east x2");
    let trouble = &replayed.trouble;
    assert_eq!((trouble.interruptions, trouble.retries), (1, 1));
    assert_eq!(trouble.lost_gpu_ms, 10 * MINUTE * 8);
    assert_eq!((spent(&replayed, "east"), trouble.spot_micros), (7_000_000, 7_000_000));
    assert_eq!((trouble.failed.len(), trouble.broken_bounds), (0, 0));
    // Without checkpoints all of it runs again.
    let plain = "job_id,group,arrival_hr,runtime_hr,gpus\na,g,0,1,8\n";
    let replayed = run(SPOT, plain, no_wait());
    assert_eq!(words(&replayed), "0/120-180:east x2");
    assert_eq!(replayed.trouble.lost_gpu_ms, 50 * MINUTE * 8);
    assert_eq!(replayed.placements[0].cloud_ran.0, 110 * MINUTE);
}

#[test]
fn the_newest_are_taken_back_where_fewer_are_left_than_live() {
    let federation = SPOT.replacen("available = 1\n", "available = 3\n", 1);
    let federation = federation.replacen("available = 0", "available = 2", 1);
    let federation = federation.replacen("available = 1", "available = 3", 1);
    let trace = "job_id,group,arrival_hr,runtime_hr,gpus\na,g,0,1,8\nb,g,0.1,1,8\nc,g,0.2,1,8\nd,g,0.3,1,8\n";
    let replayed = run(&federation, trace, no_wait());
    // Three live; the fourth waits for room. The newest of the three is taken back.
    let taken = &replayed.placements[2];
    assert_eq!((taken.tries, replayed.trouble.interruptions), (2, 1));
    assert!(replayed.placements.iter().filter(|placed| placed.tries == 1).count() == 3);
    assert!(
        taken.start.0 >= 60 * MINUTE && replayed.placements[3].began.0 >= 60 * MINUTE,
        "{}",
        words(&replayed)
    );
}

#[test]
fn a_price_holds_from_then_on_for_what_runs_too() {
    let federation = r#"
warm = "0s"
[[clouds]]
name = "aws"
site = "east"
[[clouds.offers]]
instance_type = "p5"
model = "H100"
gpus = 8
price = "6.00"
[[clouds.offers.prices]]
at = "30m"
price = "12.00"
"#;
    let trace = "job_id,group,arrival_hr,runtime_hr,gpus\na,g,0,1,8\nb,g,0.5,1,8\nc,g,0.6,1,8\n";
    let replayed = run(federation, trace, no_wait());
    // `a` runs for half an hour at each price.
    assert_eq!(spent(&replayed, "east"), (3 + 6 + 12 + 12) * 1_000_000);
    assert_eq!(replayed.trouble.spot_micros, 0);
}

const TWO_NODES: &str = r#"
warm = "0s"
[[sites]]
name = "home"
[[sites.pools]]
name = "dgx"
per_gpu = "1.00"
[[sites.pools.nodes]]
count = 2
model = "H100"
gpus = 8
"#;

#[test]
fn a_lost_node_comes_back_and_what_ran_there_runs_again() {
    let fault = "[[faults]]\nat = \"30m\"\nnode = \"dgx-0\"\nfor = \"10m\"\n";
    let trace = "job_id,group,arrival_hr,runtime_hr,gpus,checkpoint_hr\n\
                 a,g,0,1,8,0.25\nb,g,0,2,8,\nc,g,0,0.5,8,\n";
    let replayed = run(&format!("{TWO_NODES}{fault}"), trace, planner("search = 0"));
    // `c` waits for a node. `a` is lost after 30 minutes with 30 kept; it is placed again when its node is back.
    let [a, b, c] = &replayed.placements[..] else { panic!("{}", words(&replayed)) };
    assert_eq!((a.tries, a.end.0 - a.start.0), (2, 30 * MINUTE), "{}", words(&replayed));
    assert_eq!((b.tries, b.end.0), (1, 120 * MINUTE));
    assert_eq!((c.tries, c.end.0 - c.start.0), (1, 30 * MINUTE));
    assert!(a.start.0.min(c.start.0) == 40 * MINUTE, "{}", words(&replayed));
    assert_eq!((replayed.trouble.lost_gpu_ms, replayed.trouble.interruptions), (0, 0));
    // What ran is charged, also what ran before the node was lost: 1 + 2 + 0.5 hours of 8.
    assert_eq!(spent(&replayed, "home"), 28_000_000);
}

#[test]
fn a_short_cut_is_not_noticed_by_programs_and_a_long_one_costs_them_their_lease() {
    let trace = "job_id,group,arrival_hr,runtime_hr,gpus\na,g,0,1,8\nb,g,0,1,8\n";
    let cut = |lasts: &str, what: &str| {
        let fault = format!("[[faults]]\nat = \"30m\"\ncut = \"{what}\"\nfor = \"{lasts}\"\n");
        run(&format!("{TWO_NODES}{fault}"), trace, no_wait())
    };
    for what in ["home", "dgx"] {
        assert_eq!(words(&cut("50s", what)), "0/0-60:0/8 x1 0/0-60:1/8 x1");
        let long = cut("10m", what);
        assert_eq!(words(&long), "0/40-100:0/8 x2 0/40-100:1/8 x2");
        // They ran on for a minute, until their leases were over.
        assert_eq!(long.trouble.lost_gpu_ms, 2 * 31 * MINUTE * 8);
    }
    // Their end is heard when the link is there again, unless they were given up meanwhile.
    let fault = "[[faults]]\nat = \"59m 30s\"\ncut = \"home\"\nfor = \"1m\"\n";
    let replayed = run(&format!("{TWO_NODES}{fault}"), trace, no_wait());
    assert_eq!(replayed.placements.iter().map(|placed| placed.tries).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(spent(&replayed, "home"), 16_000_000);
}

#[test]
fn machines_behind_a_cut_link_dial_in_when_it_is_there_again() {
    let federation = r#"
warm = "0s"
[[clouds]]
name = "aws"
site = "east"
[[clouds.offers]]
instance_type = "p5"
model = "H100"
gpus = 8
price = "6.00"
boot = "4m"
[[faults]]
at = "2m"
cut = "east"
for = "10m"
"#;
    let replayed = run(federation, "job_id,group,arrival_hr,runtime_hr,gpus\na,g,0,1,8\n", no_wait());
    assert_eq!(words(&replayed), "0/12-72:east x1".replace("0/12", "12/12"));
    assert_eq!(spent(&replayed, "east"), 7_200_000);
}

#[test]
fn inputs_take_their_time_and_their_egress_is_a_figure_of_its_own() {
    let data = r#"
[[clouds]]
name = "aws"
site = "east"
[[clouds.offers]]
instance_type = "p5"
model = "H100"
gpus = 8
price = "6.00"
[[datasets]]
name = "images"
size = "450GB"
at = ["home"]
[[datasets]]
name = "words"
size = "90GB"
at = ["home", "east"]
[[links]]
from = "home"
to = "east"
bandwidth = "1Gbit/s"
egress = "0.02"
"#;
    let trace = "job_id,group,arrival_hr,runtime_hr,gpus,inputs\na,g,0,1,8,images;words\nb,g,0,1,8,\nc,g,0,1,8,images;words\n";
    let replayed = run(&format!("{TWO_NODES}{data}"), trace, no_wait());
    // 450 GB over a gigabit a second are an hour.
    assert_eq!(words(&replayed), "0/0-60:0/8 x1 0/0-60:1/8 x1 0/0-120:east x1");
    assert_eq!((replayed.trouble.egress_micros, spent(&replayed, "east")), (9_000_000, 12_000_000));
    let unknown = jobs("job_id,group,arrival_hr,runtime_hr,gpus,inputs\na,g,0,1,8,sounds\n");
    let error = try_run(&format!("{TWO_NODES}{data}"), &unknown, no_wait(), 1).expect_err("no such dataset");
    let ReplayError::Job { job, source } = error else { panic!("{error}") };
    assert!(
        job == "a" && source.to_string().contains("sounds") && source.to_string().contains("images, words")
    );
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_and_the_rest_goes_on() {
    let trace =
        "job_id,group,arrival_hr,runtime_hr,gpus,deadline_hr,class\na,g,0,1,8,0.5,urgent\nb,g,0,1,8,3,\n";
    let replayed = run(TWO_NODES, trace, planner(""));
    assert_eq!(replayed.placements.iter().map(|placed| placed.job).collect::<Vec<_>>(), [1]);
    let [(0, reason)] = &replayed.trouble.refused[..] else { panic!("{:?}", replayed.trouble.refused) };
    assert!(reason.contains("deadline: 30m") && reason.contains("give it more time"), "{reason}");
}

/// Promises an hour, and does nothing for an hour and a half.
#[derive(Debug)]
struct Liar {
    planner: Box<dyn Scheduler>,
    touched: BTreeSet<spillway_core::Key>,
    woken: bool,
}

impl Scheduler for Liar {
    fn decide(&mut self, seen: &Seen<'_>) -> Vec<spillway_policies::Decision> {
        self.touched.extend(seen.touched.iter().cloned());
        self.woken = seen.now.since(World::BEGIN).0 >= 90 * MINUTE;
        if !self.woken {
            return vec![];
        }
        let touched = std::mem::take(&mut self.touched);
        self.planner.decide(&Seen { touched: &touched, ..*seen })
    }

    fn wake_at(&self) -> Option<UnixMs> {
        (!self.woken).then_some(World::BEGIN.plus(DurationMs(90 * MINUTE)))
    }

    fn bound(&self, _: &spillway_core::State, job: &spillway_core::entity::Job) -> Option<UnixMs> {
        Some(job.since.plus(DurationMs(60 * MINUTE)))
    }
}

#[test]
fn who_waits_past_the_bound_is_counted_where_a_cloud_could_have_taken_it() {
    let cloud = "[[clouds]]\nname = \"aws\"\nsite = \"east\"\n[[clouds.offers]]\ninstance_type = \"p5\"\n\
                 model = \"H100\"\ngpus = 8\nprice = \"6.00\"\n";
    let trace = "job_id,group,arrival_hr,runtime_hr,gpus\na,g,0,1,8\nb,g,0.2,1,8\n";
    let lie = || Box::new(Liar { planner: planner(""), touched: BTreeSet::new(), woken: false });
    let caught = run(&format!("{TWO_NODES}{cloud}"), trace, lie());
    assert_eq!((caught.trouble.broken_bounds, caught.trouble.longest_past_bound.0), (2, 30 * MINUTE));
    // Where no cloud could take it nobody has promised anything.
    assert_eq!(run(TWO_NODES, trace, lie()).trouble.broken_bounds, 0);
    assert_eq!(run(&format!("{TWO_NODES}{cloud}available = 0\n"), trace, lie()).trouble.broken_bounds, 0);
}

/// Two nodes at home, spot machines that live for two hours, a price that rises, a fault and a cut.
const EVERYTHING: &str = r#"
warm = "2m"
[[sites]]
name = "home"
[[sites.pools]]
name = "dgx"
per_gpu = "1.00"
[[sites.pools.nodes]]
count = 2
model = "H100"
gpus = 8
[[clouds]]
name = "aws"
site = "east"
[[clouds.offers]]
instance_type = "p5-spot"
model = "H100"
gpus = 8
price = "9.00"
boot = "3m"
market = "spot"
mean_life = "2h"
available = 6
[[clouds.offers.availability]]
from = "6h"
available = 1
[[clouds.offers.availability]]
from = "9h"
available = 5
[[clouds.offers.prices]]
at = "4h"
price = "14.00"
[[clouds.offers]]
instance_type = "p5"
model = "H100"
gpus = 8
price = "24.00"
boot = "3m"
[[datasets]]
name = "images"
size = "100GB"
at = ["home"]
[[links]]
from = "home"
to = "east"
egress = "0.05"
[[faults]]
at = "5h"
node = "dgx-1"
for = "90m"
[[faults]]
at = "7h"
cut = "east"
for = "5m"
[[faults]]
at = "8h"
cut = "home"
for = "40s"
"#;

fn busy() -> Vec<TraceJob> {
    let mut jobs =
        spillway_sim::generate::poisson(3, 150, spillway_sim::generate::Arrivals::synthetic(2.5, 16));
    for (number, job) in (0..).zip(&mut jobs) {
        job.asks.checkpoint = (number % 3 == 0).then_some(DurationMs(20 * MINUTE));
        if number % 4 == 0 {
            job.asks.inputs = vec!["images".parse().expect("it is a name")];
        }
    }
    jobs
}

#[test]
fn all_of_it_together_ends_balanced_and_the_same_from_the_same_seed() {
    let jobs = busy();
    let schedulers: [fn() -> Box<dyn Scheduler>; 3] = [
        no_wait,
        || baseline("plan-on-arrival", BaselineParameters::default()).expect("it is known"),
        || planner("search = 10\nwait_hour_price = \"60.00\""),
    ];
    for (number, scheduler) in (0..).zip(schedulers) {
        let again = |seed| try_run(EVERYTHING, &jobs, scheduler(), seed).expect("it comes to its end");
        let replayed = again(1);
        assert_eq!(replayed.violations, Vec::<String>::new(), "{number}");
        assert_eq!(replayed, again(1), "{number}");
        let trouble = &replayed.trouble;
        assert!(trouble.interruptions > 0 && trouble.retries > 0, "{number}: {trouble:?}");
        assert!(trouble.lost_gpu_ms > 0 && trouble.egress_micros > 0, "{number}: {trouble:?}");
        assert!((1..=spent(&replayed, "east")).contains(&trouble.spot_micros), "{number}: {trouble:?}");
        assert_eq!((trouble.broken_bounds, trouble.refused.len()), (0, 0), "{number}: {trouble:?}");
        assert_eq!(replayed.placements.len(), jobs.len(), "{number}");
        let last = replayed.samples.last().expect("a sample");
        assert_eq!((last.gpus_busy_local, last.gpus_busy_cloud, last.queued_jobs), (0, 0, 0), "{number}");
        assert_eq!(last.cloud_micros, spent(&replayed, "east"), "{number}");
        let other = again(2);
        assert_ne!(
            (&replayed.placements, &replayed.trouble),
            (&other.placements, &other.trouble),
            "{number}"
        );
    }
}
