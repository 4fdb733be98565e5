//! Replays a trace under a baseline and writes the placements as CSV to the standard output; the time that it took
//! goes to the standard error.
//!
//! `baselines TRACE.csv NODES NAME C_BILLIONTHS WAIT_MS MAX_QUEUE|- first|best [UNITS]`, with the columns
//! `job_id,group,arrival_hr,runtime_hr,gpus`. An hour of the trace is UNITS milliseconds of the replay: 3,600,000,
//! or 1,000,000 for a trace whose hours have six decimals, which are whole milliseconds then: what happens at one
//! moment does so still.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::ControlFlow;

use spillway_core::command::TickLimits;
use spillway_core::entity::{Group, Pool, Site};
use spillway_policies::CloudOffer;
use spillway_sim::baselines::{BaselineParameters, ComputeWait, Fit, baseline};
use spillway_sim::{Description, Place, PlannerScheduler, Scheduler, TraceJob, replay};
use spillway_types::{
    Accelerator, Capabilities, DurationMs, HourlyRate, Inventory, InventorySource, NodeCapacity, SiteKind,
    Tariff,
};

type Problem = Box<dyn std::error::Error>;

fn capacity(gpus: u32) -> Result<NodeCapacity, Problem> {
    let model: spillway_types::GpuModel = "V100".parse()?;
    let gpu = |index| Accelerator {
        index,
        uuid: format!("GPU-{index}"),
        model: model.clone(),
        memory_mib: 32_768,
        mig: vec![],
        domain: None,
    };
    Ok(NodeCapacity { accelerators: (0..gpus).map(gpu).collect(), cpus_milli: 96_000, memory_mib: 1 << 19 })
}

fn describe(nodes: usize, jobs: &[TraceJob]) -> Result<Description, Problem> {
    let site = |name: &str, kind, cloud: Option<&str>| -> Result<Site, Problem> {
        let cloud = cloud.map(str::parse).transpose()?;
        Ok(Site { name: name.parse()?, kind, jurisdiction: None, cloud })
    };
    let pool = |name: &str, per_gpu| -> Result<Pool, Problem> {
        let tariff = Tariff { per_gpu: HourlyRate(per_gpu), per_cpu: HourlyRate(0) };
        Ok(Pool { name: name.parse()?, site: name.parse()?, tariff, groups: None, labels: [].into() })
    };
    let mut names: Vec<_> = jobs.iter().map(|job| job.group.clone()).collect();
    names.sort();
    names.dedup();
    let group = |name| Group { name, parent: None, weight: 1, priority: 0, budget_micros: None };
    let node = Inventory {
        hostname: "node".to_owned(),
        capacity: capacity(8)?,
        capabilities: Capabilities { process: true, container: true, fractions: false },
        source: InventorySource::Declared,
        labels: BTreeMap::new(),
    };
    let home: spillway_types::PoolName = "home".parse()?;
    let offer = |gpus: u32| -> Result<CloudOffer, Problem> {
        Ok(CloudOffer {
            cloud: "mock".parse()?,
            site: "cloud".parse()?,
            jurisdiction: None,
            instance_type: format!("gpu{gpus}").parse()?,
            capacity: capacity(gpus)?,
            price: HourlyRate(2_500_000 * i64::from(gpus)),
            boot: DurationMs(0),
            available: u32::MAX,
            terms: spillway_types::OfferTerms::default(),
        })
    };
    Ok(Description {
        sites: vec![site("home", SiteKind::OnPrem, None)?, site("cloud", SiteKind::Cloud, Some("mock"))?],
        pools: vec![pool("home", 500_000)?, pool("cloud", 0)?],
        groups: names.into_iter().map(group).collect(),
        nodes: vec![(home, node); nodes],
        offers: (1..=8).map(offer).collect::<Result<_, _>>()?,
        limits: TickLimits { warm: DurationMs(0), ..TickLimits::default() },
        ..Description::default()
    })
}

/// Hours to milliseconds, rounded up.
fn milliseconds(hours: &str, units: u64) -> Result<DurationMs, Problem> {
    let (whole, fraction) = hours.split_once('.').unwrap_or((hours, ""));
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(18).collect();
    let whole = whole.parse::<u128>()? * 10_u128.pow(18) + fraction.parse::<u128>()?;
    Ok(DurationMs(u64::try_from((whole * u128::from(units)).div_ceil(10_u128.pow(18)))?))
}

fn read(path: &str, units: u64) -> Result<Vec<TraceJob>, Problem> {
    let text = std::fs::read_to_string(path)?;
    let job = |line: &str| -> Result<TraceJob, Problem> {
        let fields: Vec<&str> = line.trim().split(',').collect();
        let [id, group, arrival, runtime, gpus] = fields[..] else { return Err(line.into()) };
        let runtime = milliseconds(runtime, units)?;
        Ok(TraceJob {
            id: id.to_owned(),
            group: group.parse()?,
            arrival: milliseconds(arrival, units)?,
            runtime,
            estimate: runtime,
            gpus: gpus.parse()?,
            asks: spillway_sim::Asks::default(),
        })
    };
    text.lines().skip(1).map(job).collect()
}

#[expect(clippy::disallowed_methods, reason = "it measures how long a replay takes")]
fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trace, nodes, name, c, wait, max_queue, fit, rest @ ..] = &arguments[..] else {
        return Err(
            "usage: baselines TRACE.csv NODES NAME C_BILLIONTHS WAIT_MS MAX_QUEUE|- first|best [UNITS]"
                .into(),
        );
    };
    let units: u64 = match rest {
        [] => 3_600_000,
        [units, ..] => units.parse()?,
    };
    let began = std::time::Instant::now();
    let jobs = read(trace, units)?;
    let parameters = BaselineParameters {
        compute_wait: ComputeWait { billionths: c.parse()? },
        constant_wait: DurationMs(wait.parse()?),
        max_queue: max_queue.parse().ok(),
        fit: if fit == "best" { Fit::Best } else { Fit::First },
    };
    let description = describe(nodes.parse()?, &jobs)?;
    let scheduler: Box<dyn Scheduler> = if name == "snapshot" {
        Box::new(PlannerScheduler::new(description.policy.clone()))
    } else {
        baseline(name, parameters)?
    };
    let read = began.elapsed();
    let result = replay(description, &jobs, scheduler, 1, &mut |_| ControlFlow::Continue(()))?;
    let replayed = began.elapsed();
    let units_per_hour = f64::from(u32::try_from(units)?);
    let mut text = "job_id,place,start_hr,nodes\n".to_owned();
    for placed in &result.placements {
        let hours = std::time::Duration::from_millis(placed.start.0).as_secs_f64() * 1000.0 / units_per_hour;
        let (place, nodes) = match &placed.place {
            Place::Local(parts) => {
                let parts: Vec<String> = parts.iter().map(|(node, gpus)| format!("{node}:{gpus}")).collect();
                ("local", parts.join(";"))
            }
            Place::Cloud { .. } => ("cloud", String::new()),
        };
        writeln!(text, "{},{place},{hours:.9},{nodes}", jobs[placed.job].id)?;
    }
    std::io::stdout().write_all(text.as_bytes())?;
    let spent: i64 = result.spend.values().sum();
    writeln!(
        std::io::stderr(),
        "read {read:?}, replay {:?}, {} samples, {spent} micros, violations {:?}",
        replayed - read,
        result.samples.len(),
        result.violations
    )?;
    Ok(())
}
