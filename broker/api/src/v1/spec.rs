//! From what a user wrote to a job that is right.

use std::str::FromStr;

use spillway_types::resources::parse_memory_mib;
use spillway_types::{
    ArrayRange, Checkpoint, ClassName, DatasetName, Deadline, DurationMs, GpuQuantity, GpuRequest,
    GpuSelector, GroupName, HourlyRate, Interconnect, JobSpec, Placement, Resources, RetryPolicy, SiteName,
    Spot,
};

use super::job_file::{CheckpointFile, ResourcesFile, RetryFile, WhereFile};
use super::{JobFile, JobFileError, Run, Scalar};
use crate::parse::nearest;

/// The time limit where a job names none.
const DEFAULT_TIME_LIMIT: DurationMs = DurationMs::from_secs(3600);
/// CPUs, in thousandths, and memory, in MiB, where a job names none and asks no accelerator.
const DEFAULT_CPUS_MILLI: u32 = 1000;
const DEFAULT_MEMORY_MIB: u64 = 1024;
/// The same for each accelerator: small enough that every accelerator of a workstation or of a DGX can be
/// used at the same time.
const CPUS_MILLI_PER_GPU: u64 = 2000;
const MEMORY_MIB_PER_GPU: u64 = 8 * 1024;
/// A MIG slice is at most this part, in hundredths, of an accelerator when defaults are counted.
const BLOCKS_PER_MIG_SLICE: u64 = 25;
/// Most CPUs that can be asked of one node: more than any machine has.
const MAX_CPUS: u32 = 4096;
/// Most characters of a residency rule.
const MAX_JURISDICTION: usize = 63;

/// What fills in for absent fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobDefaults {
    /// The user's group, where there is only one.
    pub group: Option<GroupName>,
}

impl JobFile {
    /// Fills in the defaults and checks everything.
    ///
    /// Where `resources` is silent, a job gets 1 CPU and 1 GB; with accelerators it gets 2 CPUs and 8 GB for
    /// each (for a part of one, that part, and never below 1 CPU and 1 GB).
    ///
    /// # Errors
    /// [`JobFileError`] names the first field that is wrong, its value and the way out.
    pub fn into_spec(self, defaults: &JobDefaults) -> Result<JobSpec, JobFileError> {
        let run = self.run.ok_or_else(|| {
            JobFileError::new("a job needs a program")
                .field("run")
                .hint("write `run: python train.py`, or a list of a program and its arguments")
        })?;
        let retry = self.retry.unwrap_or_default();
        let spec = JobSpec {
            name: self.name.unwrap_or_else(|| default_name(&run)),
            group: group(self.group.as_deref(), defaults)?,
            command: command(run)?,
            env: self.env,
            image: image(self.image)?,
            resources: resources(&self.resources.unwrap_or_default())?,
            nodes: self.nodes.unwrap_or(1),
            array: self.array.as_ref().map(array).transpose()?,
            time_limit: duration("time_limit", self.time_limit.as_ref())?.unwrap_or(DEFAULT_TIME_LIMIT),
            expected: duration("expected", self.expected.as_ref())?,
            deadline: self.deadline.map(|text| parsed::<Deadline>("deadline", text.as_str())).transpose()?,
            class: self.class.map(|text| parsed::<ClassName>("class", &text)).transpose()?,
            inputs: self
                .inputs
                .iter()
                .map(|name| parsed::<DatasetName>("inputs", name))
                .collect::<Result<_, _>>()?,
            placement: placement(self.placement.unwrap_or_default())?,
            checkpoint: checkpoint(&self.checkpoint.unwrap_or_default())?,
            retry: retry_policy(retry),
            lease: duration("lease", self.lease.as_ref())?.unwrap_or(spillway_types::lease::DEFAULT_LEASE),
        };
        spec.checked().map_err(|error| {
            JobFileError::new(format!("{} {}", error.value, error.rule))
                .field(error.field)
                .value(&error.value)
        })
    }
}

/// Parses one value of a field with the type's own error as the message.
fn parsed<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, JobFileError> {
    text.trim().parse().map_err(|error: T::Err| JobFileError::new(error.to_string()).field(field).value(text))
}

fn duration(field: &str, text: Option<&Scalar>) -> Result<Option<DurationMs>, JobFileError> {
    text.map(|text| parsed(field, text.as_str())).transpose()
}

fn group(text: Option<&str>, defaults: &JobDefaults) -> Result<GroupName, JobFileError> {
    match text {
        Some(text) => parsed("group", text),
        None => defaults.group.clone().ok_or_else(|| {
            JobFileError::new("a job needs a group that pays for it")
                .field("group")
                .hint("write `group: NAME`; `spillway groups` lists them")
        }),
    }
}

/// The program's name without its folder, cut to what a job's name may be.
fn default_name(run: &Run) -> String {
    let first = match run {
        Run::Shell(line) => line.split_whitespace().next(),
        Run::Program(words) => words.first().map(String::as_str),
    };
    let name = first.and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let name: String =
        name.chars().filter(|c| !c.is_control()).take(spillway_types::job::MAX_JOB_NAME).collect();
    if name.is_empty() { "job".to_owned() } else { name }
}

fn command(run: Run) -> Result<Vec<String>, JobFileError> {
    match run {
        Run::Shell(line) if line.trim().is_empty() => Err(JobFileError::new("the command is empty")
            .field("run")
            .value(&line)
            .hint("write `run: python train.py`")),
        Run::Shell(line) => Ok(vec!["sh".to_owned(), "-c".to_owned(), line]),
        Run::Program(words) => Ok(words),
    }
}

fn image(text: Option<String>) -> Result<Option<String>, JobFileError> {
    let odd = |text: &String| {
        text.is_empty()
            || text.len() > 512
            || text.starts_with('-')
            || text.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    match text {
        Some(text) if odd(&text) => Err(JobFileError::new("it is not an image's name")
            .field("image")
            .value(&text)
            .hint("write it like `nvcr.io/nvidia/pytorch:25.01-py3`")),
        other => Ok(other),
    }
}

fn resources(file: &ResourcesFile) -> Result<Resources, JobFileError> {
    let gpus: Option<GpuRequest> =
        file.gpus.as_ref().map(|text| parsed("resources.gpus", text.as_str())).transpose()?;
    let blocks = gpus.as_ref().map_or(0, |gpus| match (&gpus.selector, gpus.quantity) {
        (GpuSelector::Mig { .. }, GpuQuantity::Whole(slices)) => u64::from(slices) * BLOCKS_PER_MIG_SLICE,
        _ => gpus.blocks(),
    });
    let default_cpus = u32::try_from((blocks * CPUS_MILLI_PER_GPU).div_ceil(100)).unwrap_or(u32::MAX);
    let cpus_milli = match &file.cpus {
        Some(text) => cpus_milli(text.as_str())?,
        None => default_cpus.max(DEFAULT_CPUS_MILLI),
    };
    let memory_mib = match &file.memory {
        Some(text) => parse_memory_mib(text.as_str().trim()).map_err(|error| {
            JobFileError::new(error.to_string()).field("resources.memory").value(text.as_str())
        })?,
        None => (blocks * MEMORY_MIB_PER_GPU).div_ceil(100).max(DEFAULT_MEMORY_MIB),
    };
    Ok(Resources { gpus, cpus_milli, memory_mib })
}

/// Parses `4` or `0.5` to thousandths of a CPU.
fn cpus_milli(text: &str) -> Result<u32, JobFileError> {
    let refused = |problem: &str| {
        JobFileError::new(format!("`{}` is not a number of CPUs: {problem}", crate::error::cut(text)))
            .field("resources.cpus")
            .value(text)
            .hint("write a whole or decimal number, for example `4` or `0.5`")
    };
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(refused("it does not parse"));
    }
    if fraction.len() > 3 {
        return Err(refused("thousandths are the smallest part"));
    }
    let whole: u32 =
        whole.parse().ok().filter(|whole| *whole < MAX_CPUS).ok_or_else(|| refused("it is 4096 or more"))?;
    let thousandths: u32 = format!("{fraction:0<3}").parse().map_err(|_| refused("it does not parse"))?;
    match whole * 1000 + thousandths {
        0 => Err(refused("it must be over 0")),
        milli => Ok(milli),
    }
}

fn array(text: &Scalar) -> Result<ArrayRange, JobFileError> {
    let bounds = text.as_str().trim().split_once('-');
    let bounds =
        bounds.and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    match bounds {
        Some((first, last)) => Ok(ArrayRange { first, last }),
        None => Err(JobFileError::new("it is not a range of task indexes")
            .field("array")
            .value(text.as_str())
            .hint("write FIRST-LAST, for example `1-10000`")),
    }
}

fn placement(file: WhereFile) -> Result<Placement, JobFileError> {
    let sites = |field: &str, names: &[String]| -> Result<Vec<SiteName>, JobFileError> {
        names.iter().map(|name| parsed(field, name)).collect()
    };
    let odd = |text: &&String| {
        text.is_empty() || text.chars().count() > MAX_JURISDICTION || text.contains(char::is_control)
    };
    if let Some(text) = file.residency.iter().find(odd) {
        let refused = JobFileError::new("it is not a jurisdiction").field("where.residency").value(text);
        return Err(refused.hint("write what the sites say, for example `eu`; see `spillway sites`"));
    }
    let spot = match file.spot.as_deref() {
        None | Some("never") => Spot::Never,
        Some("allow") => Spot::Allow,
        Some(other) => {
            let refused =
                JobFileError::new("it is not a rule for spot capacity").field("where.spot").value(other);
            return Err(refused.hint("write `never` or `allow`"));
        }
    };
    let interconnect = match file.interconnect.as_deref() {
        None | Some("any") => Interconnect::Any,
        Some("same-domain") => Interconnect::SameDomain,
        Some(other) => {
            let refused = JobFileError::new("it is not a rule for the interconnect")
                .field("where.interconnect")
                .value(other);
            return Err(refused.hint("write `any` or `same-domain`"));
        }
    };
    Ok(Placement {
        allow: sites("where.allow", &file.allow)?,
        prefer: sites("where.prefer", &file.prefer)?,
        residency: file.residency,
        max_price: file
            .max_price
            .map(|text| parsed::<HourlyRate>("where.max_price", text.as_str()))
            .transpose()?,
        max_wait: duration("where.max_wait", file.max_wait.as_ref())?,
        spot,
        interconnect,
    })
}

/// Signals that a program can catch, by name, as Linux numbers them on every architecture Spillway runs on.
const SIGNALS: [(&str, i32); 13] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("TSTP", 20),
    ("WINCH", 28),
];

fn checkpoint(file: &CheckpointFile) -> Result<Checkpoint, JobFileError> {
    let plain = Checkpoint::default();
    let signal = match &file.signal {
        Some(text) => signal(text.as_str().trim())?,
        None => plain.signal,
    };
    Ok(Checkpoint {
        signal,
        grace: duration("checkpoint.grace", file.grace.as_ref())?.unwrap_or(plain.grace),
        every: duration("checkpoint.every", file.every.as_ref())?,
    })
}

fn signal(text: &str) -> Result<i32, JobFileError> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let capitals = text.to_ascii_uppercase();
    let name = capitals.strip_prefix("SIG").unwrap_or(&capitals);
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number).ok_or_else(|| {
        let hint = nearest(name, SIGNALS.iter().map(|(name, _)| *name)).map_or_else(
            || "write a number from 1 to 31, or a name like `SIGUSR1`".to_owned(),
            |near| format!("did you mean `SIG{near}`?"),
        );
        JobFileError::new("it is not a signal").field("checkpoint.signal").value(text).hint(hint)
    })
}

fn retry_policy(file: RetryFile) -> RetryPolicy {
    let plain = RetryPolicy::default();
    RetryPolicy {
        max_attempts: file.max_attempts.unwrap_or(plain.max_attempts),
        on_loss: file.on_loss.unwrap_or(plain.on_loss),
        on_failure: file.on_failure.unwrap_or(plain.on_failure),
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
