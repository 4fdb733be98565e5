//! How many submissions a second the store makes durable: commits of 1, 16 and 256 submissions, each with its
//! journal entry, its job and its idempotency key, one commit after the other. What is timed is the making of the
//! rows and the transaction, not the federation.
//!
//! `commit_rate URL [SECONDS]` on a database of its own; prints one JSON object a line.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use spillway_core::entity::Group;
use spillway_core::{Command, Federation};
use spillway_store::{Batch, JournalRow, Store};
use spillway_types::lease::DEFAULT_LEASE;
use spillway_types::{
    Checkpoint, DurationMs, JobSpec, Placement, Resources, RetryPolicy, Role, SequentialIds, UnixMs,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

fn spec(number: u64) -> Result<JobSpec, Error> {
    let spec = JobSpec {
        name: format!("train-{number}"),
        group: "vision".parse()?,
        command: ["python", "train.py", "--epochs", "90", "--seed", &number.to_string()]
            .map(str::to_owned)
            .to_vec(),
        env: BTreeMap::from([("WANDB_MODE".to_owned(), "offline".to_owned())]),
        image: None,
        resources: Resources { gpus: None, cpus_milli: 4000, memory_mib: 16_384 },
        nodes: 1,
        array: None,
        time_limit: DurationMs::from_secs(3600),
        expected: None,
        deadline: None,
        class: None,
        inputs: vec![],
        placement: Placement::default(),
        checkpoint: Checkpoint::default(),
        retry: RetryPolicy::default(),
        lease: DEFAULT_LEASE,
    };
    Ok(spec.checked()?)
}

struct Bench {
    store: Store,
    federation: Federation,
    ids: SequentialIds,
    rows: Vec<JournalRow>,
    number: u64,
}

impl Bench {
    fn run(&mut self, command: Command) -> Result<(), Error> {
        let now = UnixMs(1_769_903_940_000 + i64::try_from(self.number)?);
        let outcome = self.federation.handle(command, now, &mut self.ids)?;
        if !outcome.events.is_empty() {
            self.rows.push(JournalRow { seq: outcome.journal, at: now, events: outcome.events });
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<Duration, Error> {
        let changes = self.federation.take_changes();
        let batch =
            Batch { state: self.federation.state(), changes, journal: std::mem::take(&mut self.rows) };
        let start = clock();
        self.store.commit(batch).await?;
        Ok(start.elapsed())
    }

    async fn measure(&mut self, size: u64, time: Duration) -> Result<(), Error> {
        let (mut spent, mut commits, mut times) = (Duration::ZERO, 0_u32, vec![]);
        while spent < time {
            for _ in 0..size {
                self.number += 1;
                let key = Some((format!("key-{}", self.number), "0f".repeat(32)));
                self.run(Command::Submit { spec: Box::new(spec(self.number)?), user: "ann".parse()?, key })?;
            }
            let took = self.commit().await?;
            (spent, commits) = (spent + took, commits + 1);
            times.push(took);
        }
        times.sort();
        let at = |percent: usize| {
            times.get(times.len() * percent / 100).copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        let rate = f64::from(commits) * f64::from(u32::try_from(size)?) / spent.as_secs_f64();
        writeln!(
            std::io::stdout(),
            r#"{{"bench":"store-commit","metric":"submissions_per_s","batch":{size},"value":{rate:.0},"commits":{commits},"p50_ms":{:.2},"p99_ms":{:.2}}}"#,
            at(50),
            at(99)
        )?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: commit_rate URL [SECONDS]")?;
    let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
    let store = Store::open(&url).await?;
    let federation = Federation::new(store.load().await?);
    let mut bench = Bench { store, federation, ids: SequentialIds::new(1), rows: vec![], number: 0 };
    bench.run(Command::StartBroker { deployment: "bench".into() })?;
    let group = Group {
        name: "vision".parse()?,
        parent: None,
        weight: 1,
        priority: 0,
        budget_micros: None,
        budget_stated: None,
    };
    bench.run(Command::DeclareGroup(group))?;
    let groups = ["vision".parse()?].into();
    bench.run(Command::DeclareUser { user: "ann".parse()?, role: Role::Member, groups })?;
    bench.commit().await?;
    for size in [1, 16, 256] {
        bench.measure(size, Duration::from_secs(seconds)).await?;
    }
    Ok(bench.store.close().await?)
}
