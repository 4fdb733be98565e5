//! A budget of 60 GPU-minutes: a real Slurm, the broker's limits and its core are told the same, and start and hold
//! back the same jobs, for the same reason, with the same minutes left.
//!
//! Slurm counts in whole minutes rounded down, so what it says is compared after rounding; the steps are chosen such
//! that less than a minute decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spillway_core::Command;
use spillway_core::limited::Standing as Waiting;
use spillway_ledger::calendar::Zone;
use spillway_ledger::limits::{
    Action, Charge, Demand, HoldError, HoldStep, LeaseTerms, Limit, LimitId, LimitRefusalKind, Limits,
    LimitsChange, Metric, Place, Scope, Share,
};
use spillway_ledger::window::Window;
use spillway_tests::slurm::{JobRow, Minutes, Slurm, User};
use spillway_tests::wait_for;
use spillway_types::{AttemptId, DurationMs, HourlyRate, JobId, SequentialIds, SiteKind, Tariff, UnixMs};

use crate::broker::{Broker, instant, spec};
use crate::{name, slurm, users};

const MINUTE: u64 = 60_000;
const BUDGET_MINUTES: u64 = 60;
const ACCOUNT: &str = "small";
/// Why a job waits, in Slurm's words.
const HELD_BACK: &str = "AssocGrpGRESMinutes";
/// Scheduling takes a second, the end of a job a few.
const SOON: Duration = Duration::from_secs(60);

/// What an account's jobs do, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Standing {
    runs: BTreeSet<&'static str>,
    held_back: BTreeSet<&'static str>,
    minutes: Minutes,
}

/// What is told to both.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A job is submitted: its name, its GPUs and its time limit in minutes.
    Submit(&'static str, u64, u64),
    /// A job is ended early, when it has run for so many seconds at least.
    EndEarly(&'static str, u64),
}

/// Under 60 GPU-minutes: the first holds 40, so the second of the same size waits; one of 20 takes all the rest, and
/// then even one of 1 waits. What the first gives back is enough for that one, and not for the second, as 20 and 1 are
/// held and over 1 was used; that starts when the third gives back.
const STEPS: [Step; 8] = [
    Step::Submit("first", 8, 5),
    Step::Submit("second", 8, 5),
    Step::Submit("third", 4, 5),
    Step::Submit("fourth", 1, 1),
    // 9 seconds of 8 GPUs are over one minute, which is what keeps the second waiting.
    Step::EndEarly("first", 9),
    Step::EndEarly("third", 1),
    Step::EndEarly("fourth", 1),
    Step::EndEarly("second", 1),
];

/// Anything that holds a budget before jobs start.
trait Holds {
    /// A job is submitted.
    fn submit(&mut self, job: &'static str, gpus: u64, minutes: u64, now: u64);
    /// A job that ran has ended, after so many seconds.
    fn end(&mut self, job: &'static str, ran_s: u64, now: u64);
    /// Where all stands.
    fn standing(&self, now: u64) -> Standing;
}

#[test]
fn the_limits_hold_back_the_same_jobs() {
    let Some(slurm) = slurm() else { return };
    assert_same(&slurm, [&mut InLimits::new(), &mut InCore::default()]);
}

/// Tells all the same, and compares after every step.
fn assert_same(slurm: &Slurm, mut ours: [&mut dyn Holds; 2]) {
    let user = users().remove(0);
    slurm.add_account(ACCOUNT, "root").expect("an account");
    slurm.limit_gpu_minutes(ACCOUNT, BUDGET_MINUTES).expect("a limit");
    slurm.add_users(&[&user.name], &[ACCOUNT]).expect("a user");
    let mut theirs = InSlurm { slurm, user, ids: BTreeMap::new() };
    for step in STEPS {
        let now = match step {
            Step::Submit(job, gpus, minutes) => {
                let now = theirs.submit(job, gpus, minutes);
                ours.iter_mut().for_each(|ours| ours.submit(job, gpus, minutes, now));
                now
            }
            Step::EndEarly(job, after_s) => {
                let row = theirs.end_early(job, after_s);
                let now = row.end.expect("it ended");
                ours.iter_mut().for_each(|ours| ours.end(job, row.elapsed_s, now));
                now
            }
        };
        let [expected, in_core] = ours.each_ref().map(|ours| ours.standing(now));
        assert_eq!(expected, in_core, "the limits and the core say the same after {step:?}");
        wait_for(&format!("Slurm to stand as here after {step:?}: {expected:?}"), SOON, || {
            theirs.is_at(&expected)
        });
        theirs.stays_at(&expected, step);
    }
    let rows = slurm.jobs().expect("sacct answers");
    let used: u64 = rows.iter().map(|row| row.given("gres/gpu") * row.elapsed_s).sum();
    let (from, to) = rows.iter().fold((u64::MAX, 0), |(from, to), row| {
        (from.min(row.start.expect("every job ran")), to.max(row.end.expect("every job ended")))
    });
    let rolled_up = slurm.usage(from, to).expect("sreport answers");
    assert_eq!(rolled_up[&(ACCOUNT.to_owned(), String::new())].gpu_s, used);
    for last in ours.each_ref().map(|ours| ours.standing(to)) {
        assert_eq!(last.minutes, Minutes { used: used / 60, held: 0 }, "what was used, and nothing is held");
    }
}

/// The same jobs in Slurm.
struct InSlurm<'a> {
    slurm: &'a Slurm,
    user: User,
    ids: BTreeMap<String, &'static str>,
}

impl InSlurm<'_> {
    fn submit(&mut self, job: &'static str, gpus: u64, minutes: u64) -> u64 {
        let (gres, limit) = (format!("--gres=gpu:{gpus}"), minutes.to_string());
        let arguments = ["-A", ACCOUNT, &gres, "-t", &limit];
        let id = self.slurm.submit(&self.user, &arguments, "exec sleep 600").expect("Slurm takes the job");
        self.ids.insert(id.clone(), job);
        self.row(&id, |_| true).submit
    }

    fn end_early(&self, job: &'static str, after_s: u64) -> JobRow {
        let id =
            self.ids.iter().find(|(_, known)| **known == job).map(|(id, _)| id).expect("it was submitted");
        self.row(id, |row| row.elapsed_s >= after_s);
        self.slurm.run("scancel", &[id]).expect("Slurm cancels");
        self.row(id, |row| row.end.is_some())
    }

    /// The job as accounting knows it, as soon as that is so.
    fn row(&self, id: &str, is_so: impl Fn(&JobRow) -> bool) -> JobRow {
        wait_for("accounting to know of the job", SOON, || {
            let jobs = self.slurm.jobs().map_err(|error| format!("{error:#}"))?;
            let row = jobs.into_iter().find(|row| row.id == id).ok_or("it does not know it")?;
            if is_so(&row) { Ok(row) } else { Err(format!("{row:?}")) }
        })
    }

    /// Where Slurm stands. A job that waits for another reason than the limit counts as neither.
    fn standing(&self) -> Result<Standing, String> {
        let said = |error: anyhow::Error| format!("{error:#}");
        let mut standing =
            Standing { minutes: self.slurm.standing(ACCOUNT).map_err(said)?, ..Standing::default() };
        for (id, (state, reason)) in self.slurm.queue().map_err(said)? {
            let job = self.ids.get(&id).copied().ok_or_else(|| format!("an unknown job {id}"))?;
            match (state.as_str(), reason.as_str()) {
                ("RUNNING", _) => drop(standing.runs.insert(job)),
                ("PENDING", HELD_BACK) => drop(standing.held_back.insert(job)),
                _ => {}
            }
        }
        Ok(standing)
    }

    fn is_at(&self, expected: &Standing) -> Result<(), String> {
        let standing = self.standing()?;
        if standing == *expected { Ok(()) } else { Err(format!("{standing:?}")) }
    }

    /// The scheduler has looked twice more, and nothing has changed.
    fn stays_at(&self, expected: &Standing, step: Step) {
        let before = self.slurm.scheduler_cycles().expect("sdiag answers");
        wait_for("the scheduler to look again", SOON, || {
            let now = self.slurm.scheduler_cycles().map_err(|error| format!("{error:#}"))?;
            if now >= before + 2 { Ok(()) } else { Err(format!("{} looks more", now - before)) }
        });
        assert_eq!(self.standing().as_ref(), Ok(expected), "after {step:?}");
    }
}

fn limit() -> Limit {
    let id = LimitId {
        group: name(ACCOUNT),
        metric: Metric::GpuTime(name("H100")),
        scope: Scope::Everywhere,
        window: Window::Grant { from: UnixMs(0), to: UnixMs(i64::MAX) },
    };
    let nominal = i64::try_from(BUDGET_MINUTES * MINUTE).expect("an hour");
    let (action, thresholds) = (Action::DenyNew, vec![]);
    Limit { id, nominal, borrow: None, lend: None, action, thresholds, priority: 0, stated: None }
}

/// What the one limit says, rounded as Slurm does.
fn minutes(limits: &Limits, now: u64) -> Minutes {
    let standings = limits.standings(&name(ACCOUNT), instant(now));
    let minutes = |gpu_ms: i64| u64::try_from(gpu_ms).expect("not below 0") / MINUTE;
    Minutes { used: minutes(standings[0].used), held: minutes(standings[0].held) }
}

/// The same jobs under the broker's limits: a queue in order, each started as soon as its hold fits.
struct InLimits {
    limits: Limits,
    ids: SequentialIds,
    waiting: Vec<(&'static str, AttemptId, Demand)>,
    running: BTreeMap<&'static str, (AttemptId, u64)>,
}

impl InLimits {
    fn new() -> Self {
        let mut limits = Limits::new();
        let now = UnixMs(0);
        limits.set_group(name(ACCOUNT), None, Zone::utc(), now).expect("a group");
        limits.set_limit(limit(), now).expect("a limit");
        Self { limits, ids: SequentialIds::new(1), waiting: vec![], running: BTreeMap::new() }
    }

    fn start_what_fits(&mut self, now: u64) {
        let now = instant(now);
        for (job, attempt, demand) in std::mem::take(&mut self.waiting) {
            match self.limits.hold(attempt, demand.clone(), now) {
                Ok(()) => {
                    self.limits.step(attempt, HoldStep::Activate).expect("it holds");
                    let gpus = demand.shares.iter().map(|share| share.blocks / 100).sum();
                    self.running.insert(job, (attempt, gpus));
                }
                Err(HoldError::Refused(why)) => {
                    assert_eq!(why.binding.group, name(ACCOUNT));
                    assert_eq!(why.kind, LimitRefusalKind::UnsafeWithRunning, "it waits for others: {why}");
                    self.waiting.push((job, attempt, demand));
                }
                Err(other) => panic!("{job}: {other}"),
            }
        }
    }
}

impl Holds for InLimits {
    fn submit(&mut self, job: &'static str, gpus: u64, minutes: u64, now: u64) {
        let nothing = DurationMs(0);
        let demand = Demand {
            group: name(ACCOUNT),
            place: Place { site: name("home"), kind: SiteKind::OnPrem },
            shares: vec![Share { class: Some(name("H100")), blocks: gpus * 100, cap: HourlyRate(0) }],
            terms: LeaseTerms {
                lease: DurationMs(minutes * MINUTE),
                grace: nothing,
                minimum: nothing,
                increment: nothing,
            },
            egress_micros: 0,
        };
        self.waiting.push((job, AttemptId::generate(&mut self.ids), demand));
        self.start_what_fits(now);
    }

    fn end(&mut self, job: &'static str, ran_s: u64, now: u64) {
        let (attempt, _) = self.running.remove(job).expect("it runs");
        let ran_ms = ran_s * 1000;
        let started = instant(now - ran_s);
        let charge = Charge { share: 0, started, from_ms: 0, to_ms: ran_ms, rate: HourlyRate(0) };
        let beyond = self.limits.charge(attempt, &charge).expect("it holds");
        assert_eq!(beyond.gpu_ms, 0, "it ran within its hold");
        for step in [HoldStep::Finish, HoldStep::Settle] {
            self.limits.step(attempt, step).expect("it ran");
        }
        self.start_what_fits(now);
    }

    fn standing(&self, now: u64) -> Standing {
        Standing {
            runs: self.running.keys().copied().collect(),
            held_back: self.waiting.iter().map(|(job, ..)| *job).collect(),
            minutes: minutes(&self.limits, now),
        }
    }
}

/// The same jobs in the broker's core, placed by its planner.
#[derive(Default)]
struct InCore {
    broker: Option<Broker>,
    ids: BTreeMap<&'static str, JobId>,
}

impl InCore {
    /// Plans until nothing more starts: what a limit refuses is known to the next plan only.
    fn place(broker: &mut Broker) {
        for _ in 0..STEPS.len() {
            broker.world.place().expect("the core takes the plan");
        }
    }

    fn attempt(broker: &Broker, id: JobId) -> Option<AttemptId> {
        broker.world.job(id).and_then(|job| job.task(0)?.attempt())
    }
}

impl Holds for InCore {
    fn submit(&mut self, job: &'static str, gpus: u64, minutes: u64, now: u64) {
        let broker = self.broker.get_or_insert_with(|| {
            let mut broker = Broker::new(now, Tariff::default(), &[(ACCOUNT, "root")], &["ada"].into());
            broker.must(Command::ChangeLimits(Box::new(LimitsChange::Set { limit: limit() })));
            broker
        });
        broker.pass_to(now);
        let spec = spec(ACCOUNT, gpus, 1, DurationMs(minutes * MINUTE));
        self.ids.insert(job, broker.submit(spec, "ada"));
        Self::place(broker);
    }

    fn end(&mut self, job: &'static str, ran_s: u64, now: u64) {
        let broker = self.broker.as_mut().expect("something was submitted");
        broker.pass_to(now);
        let attempt = Self::attempt(broker, self.ids[job]).expect("it runs");
        broker.says_ended(attempt, ran_s);
        Self::place(broker);
    }

    fn standing(&self, now: u64) -> Standing {
        let broker = self.broker.as_ref().expect("something was submitted");
        let state = broker.world.state();
        let mut standing = Standing { minutes: minutes(&state.limits, now), ..Standing::default() };
        for (name, id) in &self.ids {
            let Some(job) = state.jobs.get(id) else { continue };
            if Self::attempt(broker, *id).is_some() {
                standing.runs.insert(name);
                continue;
            }
            let waits = state.limits_leave(job, instant(now));
            let Waiting::Waits(why) = waits else { panic!("{name} waits, and for no limit: {waits:?}") };
            assert_eq!(why.kind, LimitRefusalKind::UnsafeWithRunning, "it waits for others: {why}");
            standing.held_back.insert(name);
        }
        standing
    }
}
