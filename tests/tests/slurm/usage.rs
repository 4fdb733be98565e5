//! Usage: short jobs run on a real Slurm; the broker's core runs the same jobs at the instants that Slurm recorded,
//! and its ledger and Slurm's roll-up say the same of every account and every user, to the second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spillway_core::entity::{Group, Pool, Site};
use spillway_core::{Command, Reply};
use spillway_policies::Policy;
use spillway_sim::trace::{Skipped, Trace};
use spillway_sim::{Program, World};
use spillway_tests::slurm::{JobRow, Slurm, Used};
use spillway_tests::wait_for;
use spillway_types::{
    Accelerator, Capabilities, Checkpoint, DurationMs, HourlyRate, Inventory, InventorySource, JobId,
    JobSpec, NodeCapacity, PartEnd, Placement, Resources, RetryPolicy, Role, SiteKind, Tariff, UnixMs,
};

use crate::{CPUS, GPUS, name, slurm, users};

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
    let mut broker = Broker::new(ran);
    let starts = ran.iter().filter_map(|job| job.start);
    let instants: BTreeSet<u64> = starts.chain(ran.iter().filter_map(|job| job.end)).collect();
    for instant in instants {
        broker.pass_to(instant);
        for job in ran.iter().filter(|job| job.end == Some(instant) && job.state.starts_with("CANCELLED")) {
            broker.cancel(job);
        }
        broker.contact();
        for job in ran.iter().filter(|job| job.start == Some(instant)) {
            broker.start(job);
        }
        broker.contact();
    }
    broker.used()
}

/// The broker's core with one node, moved by hand.
struct Broker {
    world: World,
    ids: BTreeMap<String, JobId>,
}

impl Broker {
    /// With the accounts as groups and who ran jobs as users, at the second in which the first job began.
    fn new(ran: &[&JobRow]) -> Self {
        let mut broker = Self { world: World::new(1, Policy::default()), ids: BTreeMap::new() };
        broker.pass_to(ran.iter().filter_map(|job| job.start).min().expect("jobs ran"));
        let (site, pool) = ("home", "main");
        let kind = SiteKind::OnPrem;
        broker.must(Command::DeclareSite(Site { name: name(site), kind, jurisdiction: None, cloud: None }));
        broker.must(Command::DeclarePool(Pool {
            name: name(pool),
            site: name(site),
            tariff: TARIFF,
            groups: None,
            labels: [].into(),
        }));
        let accounts = ACCOUNTS.map(|(account, parent)| (account, Some(parent)));
        for (account, parent) in std::iter::once(("root", None)).chain(accounts) {
            let (name, parent) = (name(account), parent.map(name));
            let group = Group { name, parent, weight: 1, priority: 0, budget_micros: None };
            broker.must(Command::DeclareGroup(group));
        }
        let groups: BTreeSet<_> = ACCOUNTS.map(|(account, _)| name(account)).into();
        for user in ran.iter().map(|job| job.user.as_str()).collect::<BTreeSet<_>>() {
            let user = Command::DeclareUser { user: name(user), role: Role::Member, groups: groups.clone() };
            broker.must(user);
        }
        broker.must(Command::DeclareUser { user: name("admin"), role: Role::Admin, groups: [].into() });
        let node = broker.world.join(&name(pool), &name("admin"), inventory()).expect("a node may join");
        broker.world.connect(node).expect("a node may connect");
        broker
    }

    fn must(&mut self, command: Command) -> Reply {
        self.world.command(command).expect("the core takes the command")
    }

    fn pass_to(&mut self, second: u64) {
        let instant = UnixMs(i64::try_from(second * 1000).expect("an instant of these years"));
        self.world.pass(instant.since(self.world.now()));
    }

    /// The node hears what it should do, does it, and reports.
    fn contact(&mut self) {
        for _ in 0..4 {
            self.world.contact_all().expect("the core takes what nodes say");
        }
    }

    /// Submits the job and starts it at once, to run as long as Slurm let it.
    fn start(&mut self, job: &JobRow) {
        let runs = DurationMs::from_secs(job.elapsed_s);
        let end = match job.state.as_str() {
            "TIMEOUT" => PartEnd::TimeLimit,
            _ => PartEnd::Exited { code: job.code },
        };
        let (spec, user) = (Box::new(spec(job)), name(&job.user));
        let Reply::Job(id) = self.must(Command::Submit { spec, user, key: None }) else {
            panic!("a submission gives a job")
        };
        if !job.state.starts_with("CANCELLED") {
            self.world.set_program(id, Program { runs, end });
        }
        self.ids.insert(job.id.clone(), id);
        let placed = self.world.place().expect("the core takes the plan");
        assert_eq!(placed, 1, "what Slurm started fits here too: {job:?}");
    }

    fn cancel(&mut self, job: &JobRow) {
        let cancel = Command::Cancel { job: self.ids[&job.id], user: name(&job.user) };
        self.must(cancel);
    }

    fn used(&self) -> BTreeMap<(String, String), Used> {
        let state = self.world.state();
        assert!(state.jobs.is_empty() && state.attempts.is_empty(), "every job ended: {:?}", state.jobs);
        let mut used: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
        for entry in &self.world.records().entries {
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

fn inventory() -> Inventory {
    let gpu = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: name("H100"),
        memory_mib: 81_559,
        mig: vec![],
        domain: None,
    };
    Inventory {
        hostname: "localhost".to_owned(),
        capacity: NodeCapacity {
            accelerators: (0..GPUS).map(gpu).collect(),
            cpus_milli: CPUS * 1000,
            memory_mib: 65_536,
        },
        capabilities: Capabilities { process: true, container: false, fractions: false },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    }
}

fn spec(job: &JobRow) -> JobSpec {
    let gpus = job.given("gres/gpu");
    JobSpec {
        name: format!("slurm-{}", job.id),
        group: name(&job.account),
        command: vec!["sleep".to_owned()],
        env: BTreeMap::new(),
        image: None,
        resources: Resources {
            gpus: (gpus > 0).then(|| name(&format!("H100:{gpus}"))),
            cpus_milli: u32::try_from(job.given("cpu") * 1000).expect("a few processors"),
            memory_mib: 1,
        },
        nodes: 1,
        array: None,
        time_limit: DurationMs::from_secs(job.elapsed_s.max(60)),
        expected: None,
        deadline: None,
        class: None,
        inputs: vec![],
        placement: Placement::default(),
        checkpoint: Checkpoint::default(),
        retry: RetryPolicy { max_attempts: 1, on_loss: false, on_failure: false },
        lease: DurationMs::from_secs(60),
    }
}
