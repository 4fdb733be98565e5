//! What a private Slurm with accounting is told and says: accounts, jobs and usage.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

use super::Slurm;

/// A user of the machine, and what sbatch is told to submit as that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// Whether it is not who runs the tests.
    pub other: bool,
}

/// What an account used, in seconds of one GPU and of one processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Used {
    /// GPU-seconds.
    pub gpu_s: u64,
    /// CPU-seconds.
    pub cpu_s: u64,
}

/// Where an account stands, in whole GPU-minutes, rounded down as Slurm does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Minutes {
    /// What its jobs that ended have used.
    pub used: u64,
    /// What its jobs that run may still use.
    pub held: u64,
}

/// A job as `sacct` dumps it. Times in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Slurm's number.
    pub id: String,
    /// The account.
    pub account: String,
    /// Who submitted it.
    pub user: String,
    /// When it was submitted.
    pub submit: u64,
    /// When it began to run; none where it never did.
    pub start: Option<u64>,
    /// When it ended; none where it has not.
    pub end: Option<u64>,
    /// How long it ran, in seconds.
    pub elapsed_s: u64,
    /// How many of each resource it was given: `cpu`, `gres/gpu`.
    pub given: BTreeMap<String, u64>,
    /// `COMPLETED`, `CANCELLED by 0`, ...
    pub state: String,
    /// Exit code of the script.
    pub code: i32,
}

impl JobRow {
    /// How much it was given of a resource.
    #[must_use]
    pub fn given(&self, resource: &str) -> u64 {
        self.given.get(resource).copied().unwrap_or(0)
    }
}

/// Columns of the dump. What Spillway reads of a trace, and what else is needed to run the jobs again.
const COLUMNS: &str =
    "--format=JobID,Account,Submit,Start,End,ElapsedRaw,AllocTRES,State,TimelimitRaw,User,ExitCode";

impl Slurm {
    /// Makes an account below another one.
    ///
    /// # Errors
    /// Slurm refuses.
    pub fn add_account(&self, name: &str, parent: &str) -> Result<()> {
        self.run("sacctmgr", &["-i", "add", "account", name, &format!("parent={parent}")]).map(drop)
    }

    /// Lets users submit for accounts.
    ///
    /// # Errors
    /// Slurm refuses.
    pub fn add_users(&self, names: &[&str], accounts: &[&str]) -> Result<()> {
        let accounts = format!("account={}", accounts.join(","));
        self.run("sacctmgr", &["-i", "add", "user", &names.join(","), &accounts]).map(drop)
    }

    /// Limits an account and all below it to so many GPU-minutes.
    ///
    /// # Errors
    /// Slurm refuses.
    pub fn limit_gpu_minutes(&self, account: &str, minutes: u64) -> Result<()> {
        let limit = format!("GrpTRESMins=gres/gpu={minutes}");
        self.run("sacctmgr", &["-i", "modify", "account", account, "set", &limit]).map(drop)
    }

    /// Submits a shell script; gives the job's number. `arguments` are those of `sbatch`.
    ///
    /// # Errors
    /// Slurm refuses.
    pub fn submit(&self, user: &User, arguments: &[&str], script: &str) -> Result<String> {
        let mut command = self.client("sbatch");
        if user.other {
            command.arg(format!("--uid={}", user.name));
        }
        let jobs = self.folder().join("jobs");
        command
            .args(["--parsable", "-o", "/dev/null", "-D"])
            .arg(jobs)
            .args(arguments)
            .args(["--wrap", script]);
        Ok(super::output_of(&mut command)?.trim().to_owned())
    }

    /// Of each job that has not ended, its state and why it waits.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn queue(&self) -> Result<BTreeMap<String, (String, String)>> {
        let text = self.run("squeue", &["-h", "-o", "%i|%T|%r"])?;
        let row = |line: &str| -> Result<_> {
            let [id, state, reason] = fields(line)?;
            Ok((id.to_owned(), (state.to_owned(), reason.to_owned())))
        };
        text.lines().map(row).collect()
    }

    /// Every job that there ever was, as `sacct` dumps it, head and all.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub fn dump(&self) -> Result<String> {
        self.run("sacct", &["--allusers", "--parsable2", "--starttime=1970-01-02", COLUMNS])
    }

    /// The same, read.
    ///
    /// # Errors
    /// Slurm does not answer, or not in its own way.
    pub fn jobs(&self) -> Result<Vec<JobRow>> {
        let dump = self.dump()?;
        let rows =
            dump.lines().skip(1).filter(|line| !line.split('|').next().is_some_and(|id| id.contains('.')));
        rows.map(job_row).collect()
    }

    /// Rolls up what was used between two instants, in seconds since 1970, and gives it: by account (with all below
    /// it, under an empty user) and by account and user.
    ///
    /// # Errors
    /// Slurm does not answer, or not in its own way.
    pub fn usage(&self, from: u64, to: u64) -> Result<BTreeMap<(String, String), Used>> {
        // Slurm rolls up whole hours only.
        let (from, to) = (from / 3600 * 3600, to.div_ceil(3600) * 3600);
        self.run("sacctmgr", &["-i", "roll", &format!("uts{from}"), &format!("uts{to}")])?;
        let (start, end) = (format!("start=uts{from}"), format!("end=uts{to}"));
        let report =
            ["-n", "-P", "-t", "Seconds", "-T", "gres/gpu,cpu", "cluster", "AccountUtilizationByUser"];
        let format = "format=Account,Login,TRESname,Used";
        let text = self.run("sreport", &[&report[..], &[&start, &end, format]].concat())?;
        let mut used: BTreeMap<(String, String), Used> = BTreeMap::new();
        for line in text.lines() {
            let [account, user, resource, amount] = fields(line)?;
            let amount: u64 = amount.parse().with_context(|| format!("sreport: {line}"))?;
            let row = used.entry((account.to_owned(), user.to_owned())).or_default();
            match resource {
                "gres/gpu" => row.gpu_s = amount,
                "cpu" => row.cpu_s = amount,
                other => bail!("sreport speaks of `{other}`: {line}"),
            }
        }
        Ok(used)
    }

    /// Where the controller thinks an account stands.
    ///
    /// # Errors
    /// Slurm does not answer, or not in its own way.
    pub fn standing(&self, account: &str) -> Result<Minutes> {
        let text = self.run("sshare", &["-n", "-P", "-A", account, "-o", "User,GrpTRESRaw,TRESRunMins"])?;
        let line =
            text.lines().find(|line| line.starts_with('|')).context("sshare does not know the account")?;
        let [_, used, held] = fields(line)?;
        let gpus = |text: &str| resources(text).map(|all| all.get("gres/gpu").copied().unwrap_or(0));
        Ok(Minutes { used: gpus(used)?, held: gpus(held)? })
    }

    /// How often its scheduler has looked at the queue.
    ///
    /// # Errors
    /// Slurm does not answer, or not in its own way.
    pub fn scheduler_cycles(&self) -> Result<u64> {
        let text = self.run("sdiag", &[])?;
        let main =
            text.split("Main schedule statistics").nth(1).context("sdiag says nothing of its cycles")?;
        let line = main.lines().find_map(|line| line.trim().strip_prefix("Total cycles:"));
        line.context("sdiag does not count its cycles")?.trim().parse().context("sdiag: total cycles")
    }
}

fn fields<const N: usize>(line: &str) -> Result<[&str; N]> {
    let fields: Vec<&str> = line.trim().split('|').map(str::trim).collect();
    let count = fields.len();
    <[&str; N]>::try_from(fields).map_err(|_| anyhow::anyhow!("{count} fields instead of {N}: {line}"))
}

fn resources(text: &str) -> Result<BTreeMap<String, u64>> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let read = |part: &str| -> Result<_> {
        let (name, count) = part.split_once('=').with_context(|| format!("no count: {text}"))?;
        Ok((name.to_owned(), count.parse().with_context(|| format!("no number: {text}"))?))
    };
    parts.map(read).collect()
}

fn job_row(line: &str) -> Result<JobRow> {
    let [id, account, submit, start, end, elapsed, given, state, _limit, user, code] = fields(line)?;
    let instant = |text: &str| text.parse().ok();
    let submit = instant(submit).with_context(|| format!("no submission: {line}"))?;
    let (code, _signal) = code.split_once(':').with_context(|| format!("no exit code: {line}"))?;
    ensure!(!state.is_empty(), "no state: {line}");
    Ok(JobRow {
        id: id.to_owned(),
        account: account.to_owned(),
        user: user.to_owned(),
        submit,
        start: instant(start),
        end: instant(end),
        elapsed_s: elapsed.parse().with_context(|| format!("no runtime: {line}"))?,
        given: resources(given)?,
        state: state.to_owned(),
        code: code.parse().with_context(|| format!("no exit code: {line}"))?,
    })
}
