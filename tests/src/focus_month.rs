//! Months of charges from the simulator, booked as a store books them, and exported as FOCUS.
//!
//! Jobs run through the real core and ledger; what is posted goes into a journal whose months are closed on the way,
//! so that use which is reported late is a correction.

use std::fs::{self, File};
use std::io::BufWriter;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use spillway_focus::{Exporter, FromLedger, Manifest, Scope, Status, Version};
use spillway_ledger::Entry;
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::{Fact, Journal, Record};
use spillway_ledger::rates::{Card, Unused};
use spillway_sim::{
    Asks, Description, PlannerScheduler, Random, TraceJob, World, federation, replay_posting,
};
use spillway_types::{Currency, DurationMs, GroupName, HourlyRate, Spot, UnixMs};

/// The place of the made-up weeks: two sites of our own and a cloud that sells on demand and spot, whose prices change.
const SITES: &str = r#"
warm = "10m"

[[sites]]
name = "seoul"
[[sites.pools]]
name = "dgx"
per_gpu = "2.10"
per_cpu = "0.01"
nodes = [{ count = 4, model = "H100", gpus = 8 }]

[[sites]]
name = "daejeon"
[[sites.pools]]
name = "older"
per_gpu = "0.90"
nodes = [{ count = 3, model = "A100", gpus = 8 }]

[[clouds]]
name = "aws"
site = "us-east-1"
[[clouds.offers]]
instance_type = "p5.48xlarge"
model = "H100"
gpus = 8
price = "98.32"
boot = "4m"
prices = [{ at = "20d", price = "55.04" }]
[[clouds.offers]]
instance_type = "p5.48xlarge"
model = "H100"
gpus = 8
price = "21.400001"
boot = "4m"
minimum = "1m"
market = "spot"
mean_life = "11h"
available = 12
prices = [{ at = "3d", price = "19.77" }, { at = "17d", price = "24.123457" }, { at = "31d", price = "20.5" }]

[[datasets]]
name = "imagenet"
size = "150GB"
at = ["seoul"]
[[datasets]]
name = "web.2026"
size = "40GB"
at = ["seoul", "us-east-1"]
"#;

/// Jobs of the made-up weeks.
const JOBS: u64 = 520;
/// How long jobs come in: from the middle of one month to the begin of the next but one.
const WEEKS: u64 = 62 * 24 * HOUR_MS;
const HOUR_MS: u64 = 3_600_000;

/// An entry of the ledger with the moment at which it was posted.
pub type Posted = (UnixMs, Entry);

/// The names of the groups: an organisation, two departments, and teams below them.
fn groups() -> Result<Vec<(GroupName, Option<GroupName>)>> {
    let mut groups = vec![("org".parse()?, None)];
    for (department, teams) in [("science", 7), ("products", 5)] {
        groups.push((department.parse()?, Some("org".parse()?)));
        for team in 1..=teams {
            groups.push((format!("{department}-{team}").parse()?, Some(department.parse()?)));
        }
    }
    Ok(groups)
}

/// Where the made-up weeks take place.
///
/// # Errors
/// The description does not hold together.
pub fn description() -> Result<Description> {
    let mut description = federation::from_toml(SITES)?;
    for (name, parent) in groups()? {
        let group = spillway_core::entity::Group {
            name,
            parent,
            weight: 1,
            priority: 0,
            budget_micros: None,
            budget_stated: None,
        };
        description.groups.push(group);
    }
    // The price of the pool changes in the middle of a day, while jobs run.
    let card = |micros| -> Result<Card> {
        Ok(Card::Flat {
            per_gpu: [("H100".parse()?, HourlyRate(micros))].into(),
            lending: None,
            currency: Currency::USD,
            unused: Unused::Idle,
        })
    };
    let changed = World::BEGIN.plus(DurationMs(30 * 24 * HOUR_MS + HOUR_MS / 2));
    description.cards =
        vec![("dgx".parse()?, World::BEGIN, card(2_100_000)?), ("dgx".parse()?, changed, card(2_333_333)?)];
    Ok(description)
}

/// Jobs of all groups, of some minutes to several days.
///
/// # Errors
/// Never, with the names that are written here.
pub fn jobs(seed: u64) -> Result<Vec<TraceJob>> {
    let mut random = Random::new(seed);
    let groups = groups()?;
    let mut jobs = Vec::new();
    for number in 0..JOBS {
        let group = &groups[usize::try_from(random.below(groups.len() as u64))?].0;
        let longest = if random.below(4) == 0 { 90 } else { 20 };
        let runtime = DurationMs(60_000 + random.below(longest * HOUR_MS));
        let inputs = match random.below(4) {
            0 => vec!["imagenet".parse()?],
            1 => vec!["web.2026".parse()?, "imagenet".parse()?],
            _ => vec![],
        };
        let gpus = [1, 2, 4, 8, 8, 16][usize::try_from(random.below(6))?];
        let asks = Asks {
            inputs,
            checkpoint: Some(DurationMs(HOUR_MS)),
            spot: if random.below(5) == 0 { Spot::Never } else { Spot::Allow },
            ..Asks::default()
        };
        jobs.push(TraceJob {
            id: number.to_string(),
            group: group.clone(),
            arrival: DurationMs(random.below(WEEKS)),
            runtime,
            estimate: runtime,
            gpus,
            asks,
        });
    }
    Ok(jobs)
}

/// Runs the jobs, and gives what was posted, in order.
///
/// # Errors
/// A job cannot run there.
pub fn simulate(description: Description, jobs: &[TraceJob], seed: u64) -> Result<Vec<Posted>> {
    let mut posted = Vec::new();
    let scheduler = Box::new(PlannerScheduler::new(description.policy.clone()));
    let mut watch = |_| ControlFlow::Continue(());
    let replayed = replay_posting(description, jobs, scheduler, seed, &mut watch, &mut |at, entry| {
        posted.push((at, entry.clone()));
    })?;
    ensure!(replayed.violations.is_empty(), "invariants are broken: {:?}", replayed.violations);
    Ok(posted)
}

/// Books what was posted, in months of the zone; each month of `closes` is closed when its time has come.
///
/// # Errors
/// A month cannot be closed, or two entries have one key.
pub fn book(posted: &[Posted], zone: &Zone, closes: &[(Period, UnixMs)]) -> Result<Journal> {
    let mut journal = Journal::new(zone.clone());
    let mut closes = closes.iter().peekable();
    for (at, entry) in posted {
        while let Some((period, when)) = closes.next_if(|(_, when)| when <= at) {
            journal.close(*period, *when)?;
        }
        let effective = entry.effective_at().unwrap_or(*at);
        journal.post(&Fact::Entry(entry.clone()), effective, *at)?;
    }
    Ok(journal)
}

/// The records that are booked into a month.
pub fn booked(journal: &Journal, month: Period) -> impl Iterator<Item = &Record> {
    journal.records().iter().filter(move |record| record.booked == month)
}

/// The files of an export.
#[derive(Debug)]
pub struct Files {
    /// The CSV file.
    pub csv: PathBuf,
    /// The Parquet file.
    pub parquet: PathBuf,
    /// Their manifest.
    pub manifest: Manifest,
}

/// Exports a month of a journal into a folder, as CSV and as Parquet.
///
/// # Errors
/// A record is no charge that FOCUS could hold, or a file cannot be written.
pub fn export(journal: &Journal, month: Period, version: Version, folder: &Path) -> Result<Files> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let periods = journal.periods();
    let closed = periods.closed().contains_key(&month);
    let status = if closed { Status::Closed } else { Status::Provisional };
    let mut charges = FromLedger::new(month, periods.zone().clone(), Currency::USD)?;
    let scope = Scope { version, period: charges.billing(), status, currency: Currency::USD };
    let name = |ending: &str| format!("focus-{version}-{month}.{ending}");
    let (csv, parquet) = (folder.join(name("csv")), folder.join(name("parquet")));
    let create = |path: &Path| -> Result<BufWriter<File>> {
        Ok(BufWriter::new(File::create(path).with_context(|| format!("cannot create {}", path.display()))?))
    };
    let mut exporter = Exporter::new(scope, &name("csv"), create(&csv)?)?
        .with_parquet(&name("parquet"), create(&parquet)?)?;
    for record in booked(journal, month) {
        for charge in charges.record(record)? {
            exporter.push(&charge)?;
        }
    }
    if let Some(charge) = charges.finish() {
        exporter.push(&charge)?;
    }
    Ok(Files { csv, parquet, manifest: exporter.finish()? })
}
