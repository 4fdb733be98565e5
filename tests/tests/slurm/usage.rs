//! Usage: short jobs run on a real Slurm; the broker's core runs the same jobs at the instants that Slurm recorded,
//! and its ledger and Slurm's roll-up say the same of every account and every user, to the second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spillway_core::Command;
use spillway_sim::Program;
use spillway_sim::trace::{Skipped, Trace};
use spillway_tests::slurm::{JobRow, Slurm, Used};
use spillway_tests::wait_for;
use spillway_types::{DurationMs, HourlyRate, JobId, PartEnd, Tariff};

use crate::broker::{Broker, spec};
use crate::{name, slurm, users};

/// Accounts with the one above each, in the order in which they are made. Slurm has `root` from the start.
const ACCOUNTS: [(&str, &str); 5] =
    [("lab", "root"), ("vision", "lab"), ("deep", "vision"), ("audio", "lab"), ("plant", "root")];

/// Slurm looks at time limits every half minute, and ends a job up to that much after its minute.
const ALL_ENDED: Duration = Duration::from_secs(180);

/// One unit of money for a GPU-second and its millionth for a CPU-second: one sum tells both.
const GPU_SECOND: i64 = 1_000_000;
const TARIFF: Tariff = Tariff { per_gpu: HourlyRate(3600 * GPU_SECOND), per_cpu: HourlyRate(3600) };

/// What a test does with a job beside submitting it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It ends by itself.
    Ends,
    /// It is cancelled while it runs.
    Cancelled,
    /// It is cancelled before it runs: it wants every GPU, and the first job has one for more than a minute.
    NeverRuns,
}

/// Account, number of the user, GPUs, processors, script, fate. Together they want more GPUs than there are.
type Asked = (&'static str, usize, u32, u32, &'static str, Fate);
const JOBS: [Asked; 12] = [
    ("audio", 0, 1, 1, "exec sleep 600", Fate::Ends),
    ("vision", 0, 3, 2, "exec sleep 4", Fate::Ends),
    ("deep", 1, 2, 1, "sleep 2; exit 3", Fate::Ends),
    ("deep", 0, 8, 1, "exec sleep 3", Fate::Ends),
    ("audio", 2, 1, 4, "exec sleep 6", Fate::Ends),
    ("vision", 1, 4, 1, "exec sleep 600", Fate::Cancelled),
    ("plant", 2, 5, 3, "exec sleep 5", Fate::Ends),
    ("plant", 0, 8, 1, "exec sleep 2", Fate::Ends),
    ("lab", 0, 7, 1, "sleep 3; exit 1", Fate::Ends),
    ("deep", 2, 16, 1, "exec sleep 1", Fate::NeverRuns),
    ("audio", 1, 0, 3, "exec sleep 3", Fate::Ends),
    ("vision", 2, 16, 16, "exec sleep 2", Fate::Ends),
];

#[test]
fn the_ledger_and_slurms_roll_up_agree_to_the_second() {
    let Some(slurm) = slurm() else { return };
    run_jobs(&slurm);
    let jobs = slurm.jobs().expect("sacct answers");
    // Slurm notes a start also for a job that is cancelled before: the same second as its end.
    let ran: Vec<&JobRow> = jobs.iter().filter(|job| job.elapsed_s > 0).collect();
    assert_eq!((jobs.len(), ran.len()), (JOBS.len(), JOBS.len() - 1), "{jobs:#?}");
    let states: BTreeSet<&str> = ran.iter().filter_map(|job| job.state.split(' ').next()).collect();
    assert_eq!(states, BTreeSet::from(["CANCELLED", "COMPLETED", "FAILED", "TIMEOUT"]));
    let from = ran.iter().filter_map(|job| job.start).min().expect("jobs ran");
    let to = ran.iter().filter_map(|job| job.end).max().expect("jobs ended");
    let rolled_up = slurm.usage(from, to).expect("sreport answers");

    let ours = in_the_ledger(&ran);
    assert_eq!(ours, rolled_up, "{jobs:#?}");
    let all = rolled_up[&("root".to_owned(), String::new())];
    assert!(all.gpu_s >= 60 && all.cpu_s >= 60, "there was something to compare: {all:?}");

    let trace = Trace::read(&slurm.dump().expect("sacct answers")).expect("the dump is a trace");
    assert_eq!(trace.skipped, BTreeMap::from([(Skipped::NeverRan, 1), (Skipped::NoGpu, 1)]));
    let gpu_ms = trace.jobs.iter().map(|job| u64::from(job.gpus) * job.runtime.0);
    assert_eq!(
        gpu_ms.sum::<u64>(),
        all.gpu_s * 1000,
        "what the simulator reads of the dump is what was used"
    );
    for (account, _) in ACCOUNTS {
        let own = trace.jobs.iter().filter(|job| job.group == name(account));
        let own: u64 = own.map(|job| u64::from(job.gpus) * job.runtime.0 / 1000).sum();
        let theirs = rolled_up.iter().filter(|((rolled, user), _)| rolled == account && !user.is_empty());
        assert_eq!(own, theirs.map(|(_, used)| used.gpu_s).sum::<u64>(), "{account}");
    }
}

/// Runs the jobs and waits until accounting knows the end of each.
fn run_jobs(slurm: &Slurm) {
    let users = users();
    for (account, parent) in ACCOUNTS {
        slurm.add_account(account, parent).expect("an account");
    }
    let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    slurm.add_users(&names, &ACCOUNTS.map(|(account, _)| account)).expect("users");
    let mut cancelled = vec![];
    for (account, user, gpus, cpus, script, fate) in JOBS {
        let user = &users[user % users.len()];
        let (gres, tasks) = (format!("--gres=gpu:{gpus}"), cpus.to_string());
        let mut arguments = vec!["-A", account, "-n", &tasks, "-t", "1"];
        if gpus > 0 {
            arguments.push(&gres);
        }
        let id = slurm.submit(user, &arguments, script).expect("Slurm takes the job");
        match fate {
            Fate::Ends => {}
            Fate::Cancelled => cancelled.push(id),
            Fate::NeverRuns => drop(slurm.run("scancel", &[&id]).expect("Slurm cancels")),
        }
    }
    for id in cancelled {
        wait_for("the job to run for two seconds", ALL_ENDED, || {
            let jobs = slurm.jobs().map_err(|error| format!("{error:#}"))?;
            let job = jobs.into_iter().find(|job| job.id == id).ok_or("it is not known yet")?;
            if job.start.is_some() && job.elapsed_s >= 2 { Ok(()) } else { Err(format!("{job:?}")) }
        });
        slurm.run("scancel", &[&id]).expect("Slurm cancels");
    }
    wait_for("all jobs to end", ALL_ENDED, || {
        let jobs = slurm.jobs().map_err(|error| format!("{error:#}"))?;
        let left: Vec<String> = jobs
            .iter()
            .filter(|job| job.end.is_none())
            .map(|job| format!("{} {}", job.id, job.state))
            .collect();
        if left.is_empty() && jobs.len() == JOBS.len() { Ok(()) } else { Err(left.join(", ")) }
    });
}

/// Runs what Slurm ran through the broker's core, second by second as Slurm recorded it, and gives what the ledger
/// says of each group with all below it, and of each group and user.
fn in_the_ledger(ran: &[&JobRow]) -> BTreeMap<(String, String), Used> {
    let mut rerun = Rerun::new(ran);
    let starts = ran.iter().filter_map(|job| job.start);
    let instants: BTreeSet<u64> = starts.chain(ran.iter().filter_map(|job| job.end)).collect();
    for instant in instants {
        rerun.broker.pass_to(instant);
        for job in ran.iter().filter(|job| job.end == Some(instant) && job.state.starts_with("CANCELLED")) {
            rerun.cancel(job);
        }
        rerun.broker.contact();
        for job in ran.iter().filter(|job| job.start == Some(instant)) {
            rerun.start(job);
        }
        rerun.broker.contact();
    }
    rerun.used()
}

/// The core with the accounts as groups, and jobs of Slurm's.
struct Rerun {
    broker: Broker,
    ids: BTreeMap<String, JobId>,
}

impl Rerun {
    fn new(ran: &[&JobRow]) -> Self {
        let users: BTreeSet<&str> = ran.iter().map(|job| job.user.as_str()).collect();
        let begin = ran.iter().filter_map(|job| job.start).min().expect("jobs ran");
        Self { broker: Broker::new(begin, TARIFF, &ACCOUNTS, &users), ids: BTreeMap::new() }
    }

    /// Submits the job and starts it at once, to run as long as Slurm let it.
    fn start(&mut self, job: &JobRow) {
        let runs = DurationMs::from_secs(job.elapsed_s);
        let end = match job.state.as_str() {
            "TIMEOUT" => PartEnd::TimeLimit,
            _ => PartEnd::Exited { code: job.code },
        };
        let limit = DurationMs::from_secs(job.elapsed_s.max(60));
        let spec = spec(&job.account, job.given("gres/gpu"), job.given("cpu"), limit);
        let id = self.broker.submit(spec, &job.user);
        if !job.state.starts_with("CANCELLED") {
            self.broker.world.set_program(id, Program { runs, end });
        }
        self.ids.insert(job.id.clone(), id);
        let placed = self.broker.world.place().expect("the core takes the plan");
        assert_eq!(placed, 1, "what Slurm started fits here too: {job:?}");
    }

    fn cancel(&mut self, job: &JobRow) {
        self.broker.must(Command::Cancel { job: self.ids[&job.id], user: name(&job.user) });
    }

    fn used(&self) -> BTreeMap<(String, String), Used> {
        let world = &self.broker.world;
        let state = world.state();
        assert!(state.jobs.is_empty() && state.attempts.is_empty(), "every job ended: {:?}", state.jobs);
        let mut used: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
        for entry in &world.records().entries {
            let subject = entry.subject();
            let (gpu_ms, micros) = (entry.signed_gpu_ms(), entry.spend_micros());
            let own = (subject.group.to_string(), subject.user.to_string());
            let above = state.book.ancestors(&subject.group).map(|group| (group.to_string(), String::new()));
            for row in above.chain([own]) {
                let row = used.entry(row).or_default();
                *row = (row.0 + gpu_ms, row.1 + micros);
            }
        }
        for ((group, _), (_, micros)) in used.iter().filter(|((_, user), _)| user.is_empty()) {
            assert_eq!(
                state.book.spent(&name(group)),
                *micros,
                "the book of {group} is the sum of its entries"
            );
        }
        used.into_iter().map(|(row, (gpu_ms, micros))| (row, seconds(gpu_ms, micros))).collect()
    }
}

/// What the ledger says in time and in money, as seconds; both say the same.
fn seconds(gpu_ms: i64, micros: i64) -> Used {
    let (gpu_s, cpu_s) = (micros / GPU_SECOND, micros % GPU_SECOND);
    assert_eq!(gpu_s * 1000, gpu_ms, "time and money say the same");
    let whole = |seconds: i64| u64::try_from(seconds).expect("nothing was taken back");
    Used { gpu_s: whole(gpu_s), cpu_s: whole(cpu_s) }
}
