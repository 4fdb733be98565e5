//! Arguments resolved once to what is to be done. All that can be wrong is found here.

use std::path::Path;

use anyhow::anyhow;
use spillway_policies::{NAMED, Policy, named};
use spillway_sim::baselines::{BASELINES, BaselineParameters, ComputeWait};
use spillway_sim::contender::Contender;
use spillway_sim::generate::{Arrivals, blur_estimates, bootstrap, mean_gpu_hours, poisson};
use spillway_sim::report::Setting;
use spillway_sim::trace::{DecimalError, MAX_JOBS, Trace, billionths, hours};
use spillway_sim::{Description, TraceJob, federation};

use super::files::read;
use super::kept::digest;
use super::{FederationGpus, Generate, SimulateArgs};
use crate::failure::Failure;

/// Jobs that are made up where nobody says how many.
const JOBS: usize = 500;
/// GPUs of a node where nobody says how many.
const GPUS_PER_NODE: u32 = 8;
/// A lognormal factor of more is no estimate.
const MAX_SIGMA: f64 = 5.0;
/// Far over any queue that empties.
const MAX_LOAD: f64 = 100.0;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub jobs: Vec<TraceJob>,
    /// At least one.
    pub places: Vec<Place>,
    /// Every policy in every place.
    pub entries: Vec<Entry>,
    pub seed: u64,
    pub warmup: usize,
    pub match_wait: Option<f64>,
    pub title: String,
    pub left_out: Option<String>,
    /// What the person should know before it begins.
    pub said: Vec<String>,
    /// Of everything but the places and the policies.
    pub digest: String,
}

/// A federation.
#[derive(Debug)]
pub(super) struct Place {
    pub name: String,
    pub description: Description,
    pub setting: Setting,
}

/// One policy in one place.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub name: String,
    pub contender: Contender,
    /// The index of the place.
    pub place: usize,
    /// Of the place, the policy and its settings.
    pub digest: String,
}

/// Where the jobs come from, and what was left out.
struct Source {
    jobs: Vec<TraceJob>,
    what: String,
    left_out: Option<String>,
}

impl Plan {
    /// GPUs of the first place's nodes.
    pub(super) fn gpus(&self) -> u32 {
        self.places.first().map_or(0, |place| place.setting.gpus)
    }

    /// The places by name.
    pub(super) fn federations(&self) -> Vec<FederationGpus> {
        let named = |place: &Place| FederationGpus { name: place.name.clone(), gpus: place.setting.gpus };
        self.places.iter().map(named).collect()
    }

    /// Resolves the arguments.
    pub(super) fn resolve(args: &SimulateArgs) -> Result<Self, Failure> {
        let mut described = descriptions(args)?;
        let gpus = described.first().map_or(0, |(_, description)| federation::gpus(description));
        let Source { mut jobs, what, left_out } = source(args, gpus)?;
        if let Some(sigma) = args.noise {
            within("--noise", sigma, 0.0, MAX_SIGMA)?;
            blur_estimates(args.seed, &mut jobs, sigma);
        }
        if args.warmup > 0 && args.warmup * 2 >= jobs.len() {
            let problem = format!("it leaves nothing: there are {} jobs", jobs.len());
            return Err(Failure::usage("--warmup", &args.warmup.to_string(), problem));
        }
        if let Some(wait) = args.match_wait {
            within("--match-wait", wait, 0.0, 87_840.0)?;
        }
        let mut new = 0;
        for (_, description) in &mut described {
            fits(description, &jobs)?;
            new = new.max(federation::admit_groups(description, &jobs));
        }
        let places: Vec<Place> = described
            .into_iter()
            .map(|(name, description)| {
                let setting = Setting::of(&description, args.warmup);
                Place { name, description, setting }
            })
            .collect();
        let entries = everywhere(&entries(args)?, &places);
        let mut said: Vec<String> = left_out.iter().map(|words| format!("note: {words}")).collect();
        if new > 0 && !args.federation.is_empty() {
            said.push(format!(
                "note: groups of the trace that the federation file does not have: {new}, added with weight 1"
            ));
        }
        if args.match_wait.is_some()
            && entries.iter().all(|entry| matches!(entry.contender, Contender::Baseline { .. }))
        {
            said.push("note: --match-wait sets the price of waiting of policy files; named schedulers run as they are".to_owned());
        }
        let described = format!("{jobs:?}");
        let seed = args.seed.to_string();
        let digest = digest(&[env!("CARGO_PKG_VERSION"), &described, &seed, &args.warmup.to_string()]);
        let title = if places.len() > 1 { what } else { format!("{what} on {gpus} GPUs") };
        Ok(Self {
            jobs,
            places,
            entries,
            seed: args.seed,
            warmup: args.warmup,
            match_wait: args.match_wait,
            title,
            left_out,
            said,
            digest,
        })
    }
}

/// Every policy in every place. With several places an entry's name has both.
fn everywhere(entries: &[Entry], places: &[Place]) -> Vec<Entry> {
    let several = places.len() > 1;
    let at = |(number, place): (usize, &Place)| {
        let here = format!("{:?}", place.description);
        let (own, several) = (place.name.clone(), several);
        entries.iter().map(move |entry| Entry {
            name: if several { format!("{} @ {own}", entry.name) } else { entry.name.clone() },
            place: number,
            digest: digest(&[&here, &entry.digest]),
            contender: entry.contender.clone(),
        })
    };
    places.iter().enumerate().flat_map(at).collect()
}

/// Refuses jobs that are wider than all there is.
fn fits(description: &Description, jobs: &[TraceJob]) -> Result<(), Failure> {
    let Some(job) = federation::too_wide(description, jobs) else { return Ok(()) };
    let (id, gpus) = (&job.id, job.gpus);
    let problem = format!("job {id} asks for {gpus} GPUs, and nothing has so many: add nodes or a cloud");
    Err(Failure::usage("--federation", &federation::gpus(description).to_string(), problem))
}

fn within(flag: &str, value: f64, from: f64, to: f64) -> Result<(), Failure> {
    if value.is_finite() && (from..=to).contains(&value) {
        return Ok(());
    }
    Err(Failure::usage(flag, &value.to_string(), format!("it must be a number from {from} to {to}")))
}

/// The federations with their names.
fn descriptions(args: &SimulateArgs) -> Result<Vec<(String, Description)>, Failure> {
    if let Some(nodes) = args.nodes {
        let gpus = args.gpus_per_node.unwrap_or(GPUS_PER_NODE);
        let uniform = federation::uniform(nodes, gpus).map_err(|error| {
            let value = if error.path == "nodes" { nodes } else { gpus };
            Failure::usage(&format!("--{}", error.path), &value.to_string(), error.problem)
        })?;
        return Ok(vec![("uniform".to_owned(), uniform)]);
    }
    if args.federation.is_empty() {
        let problem = "say where it runs: give --federation FILE or --nodes N";
        return Err(Failure::usage("--federation", "nothing", problem));
    }
    let mut described: Vec<(String, Description)> = vec![];
    for (at, path) in args.federation.iter().enumerate() {
        let whole = path.display().to_string();
        if args.federation.iter().take(at).any(|before| before == path) {
            return Err(Failure::usage("--federation", &whole, "it is given twice"));
        }
        let stem = path.file_stem().map_or_else(|| whole.clone(), |stem| stem.to_string_lossy().into_owned());
        let taken = |name: &String| described.iter().any(|(other, _)| other == name);
        let name = if taken(&stem) { whole } else { stem };
        described.push((name, described_in(path)?));
    }
    Ok(described)
}

fn described_in(path: &Path) -> Result<Description, Failure> {
    let text = read("federation file", path)?;
    let beside = |name: &str| {
        let path = path.with_file_name(name);
        std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {}", path.display(), error.kind()))
    };
    federation::from_toml_and(&text, &beside).map_err(|error| wrong("--federation", path, &error))
}

fn wrong(flag: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(flag, &path.display().to_string(), error.to_string())
}

fn trace(flag: &str, path: &Path) -> Result<Trace, Failure> {
    Trace::read(&read("trace", path)?).map_err(|error| wrong(flag, path, &error))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn source(args: &SimulateArgs, gpus: u32) -> Result<Source, Failure> {
    let only_made_up = [("--jobs", args.jobs.is_some()), ("--load", args.load.is_some())];
    match (&args.trace, args.generate) {
        (None, None) => Err(Failure::usage(
            "--trace",
            "nothing",
            "say what runs: give --trace FILE or --generate poisson",
        )),
        (Some(path), _) => {
            if let Some((flag, _)) = only_made_up.iter().find(|(_, given)| *given) {
                return Err(Failure::usage(flag, "given", "it goes with --generate, not with --trace"));
            }
            let read = trace("--trace", path)?;
            let what = format!("{} jobs of {}", read.jobs.len(), file_name(path));
            Ok(Source { what, left_out: read.said(), jobs: read.jobs })
        }
        (None, Some(how)) => made_up(args, how, gpus),
    }
}

fn made_up(args: &SimulateArgs, how: Generate, gpus: u32) -> Result<Source, Failure> {
    let (count, load) = (args.jobs.unwrap_or(JOBS), args.load.unwrap_or(1.0));
    within("--load", load, 0.001, MAX_LOAD)?;
    if !(1..=MAX_JOBS).contains(&count) {
        let problem = format!("it must be from 1 to {MAX_JOBS}");
        return Err(Failure::usage("--jobs", &count.to_string(), problem));
    }
    match (how, &args.bootstrap) {
        (Generate::Poisson, None) => {
            let jobs = poisson(args.seed, count, Arrivals::synthetic(load, gpus));
            Ok(Source { jobs, what: format!("{count} synthetic jobs at load {load}"), left_out: None })
        }
        (Generate::Poisson, Some(path)) => {
            let problem = "it goes with --generate bootstrap";
            Err(Failure::usage("--bootstrap", &path.display().to_string(), problem))
        }
        (Generate::Bootstrap, None) => {
            let problem = "it draws the jobs of a trace: name one with --bootstrap FILE";
            Err(Failure::usage("--generate", "bootstrap", problem))
        }
        (Generate::Bootstrap, Some(path)) => {
            let source = trace("--bootstrap", path)?;
            let arrivals = Arrivals::at_load(load, gpus, mean_gpu_hours(&source.jobs));
            let what = format!("{count} jobs drawn from {} at load {load}", file_name(path));
            let jobs = bootstrap(args.seed, &source.jobs, count, arrivals);
            Ok(Source { jobs, what, left_out: source.said() })
        }
    }
}

fn entries(args: &SimulateArgs) -> Result<Vec<Entry>, Failure> {
    let refused = |flag: &'static str, text: &str| {
        let text = text.to_owned();
        move |error: DecimalError| {
            Failure::usage(flag, &text, format!("it {error}: write hours, for example 0.25"))
        }
    };
    let compute_wait =
        billionths(&args.compute_wait).map_err(refused("--compute-wait", &args.compute_wait))?;
    let constant_wait =
        hours(&args.constant_wait).map_err(refused("--constant-wait", &args.constant_wait))?;
    let parameters = BaselineParameters {
        compute_wait: ComputeWait { billionths: compute_wait },
        constant_wait,
        max_queue: args.max_queue,
        fit: args.fit.into(),
    };
    if args.policy.is_empty() {
        let contender = Contender::Planner(Box::default());
        return Ok(vec![Entry { name: "default".to_owned(), place: 0, digest: key(&contender)?, contender }]);
    }
    let mut entries: Vec<Entry> = vec![];
    for word in &args.policy {
        let (name, contender) = contender(word, parameters)?;
        let taken = entries.iter().any(|entry| entry.name == name);
        let name = if taken { word.clone() } else { name };
        if entries.iter().any(|entry| entry.name == name) {
            return Err(Failure::usage("--policy", word, "it is given twice"));
        }
        entries.push(Entry { name, place: 0, digest: key(&contender)?, contender });
    }
    Ok(entries)
}

fn contender(word: &str, parameters: BaselineParameters) -> Result<(String, Contender), Failure> {
    if BASELINES.contains(&word) {
        return Ok((word.to_owned(), Contender::Baseline { name: word.to_owned(), parameters }));
    }
    let path = Path::new(word);
    let policy = match named(word) {
        Some(shipped) if !path.exists() => shipped.policy(),
        None if !path.exists() => {
            let shipped: Vec<&str> = NAMED.iter().map(|known| known.name).collect();
            let problem = format!(
                "there is no such file; the policies with names are {}, and the other schedulers {}",
                shipped.join(", "),
                BASELINES.join(", ")
            );
            return Err(Failure::usage("--policy", word, problem));
        }
        Some(_) | None => Policy::from_toml(&read("policy file", path)?),
    };
    let policy = policy.map_err(|error| wrong("--policy", path, &error))?;
    let name = path.file_stem().map_or_else(|| word.to_owned(), |stem| stem.to_string_lossy().into_owned());
    Ok((name, Contender::Planner(Box::new(policy))))
}

/// The digest of a policy: of what it says, not of how it is written.
fn key(contender: &Contender) -> Result<String, Failure> {
    Ok(match contender {
        Contender::Planner(policy) => {
            let text = serde_json::to_string(policy)
                .map_err(|error| anyhow!("a policy cannot be written: {error}"))?;
            digest(&["planner", &text])
        }
        Contender::Baseline { name, parameters } => digest(&[name, &format!("{parameters:?}")]),
    })
}
