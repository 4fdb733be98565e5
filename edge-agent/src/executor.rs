//! The executor: makes the folders of parts, starts their supervisors, and hears how they end.
//!
//! Everything that takes time is done away from the caller, and its outcome comes as [`News`]. The executor
//! decides nothing: what to do is [`crate::reconcile`]'s.
//!
//! - A folder is durable before anything of it starts: a batch of orders costs one sync of `runs/`. So a part
//!   of which anything may have run is known after a crash of the machine, and not started again.
//! - A supervisor that this process started is heard through its standard output, one that was taken up from
//!   an earlier process through its pidfd. Nothing is polled.
//! - A supervisor that went without a record is followed by killing what carries the attempt's name in its
//!   environment, and the part is recorded as vanished.

mod folder;
mod spec;
mod wait;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};
use spillway_tunnel::protocol::PartEnd;
use spillway_types::{Allocation, DurationMs};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::clock::boot_id;
use crate::part::{
    Claim, EXIT, ExitRecord, LEASE, LeaseFile, PartKey, SPEC, STOP, SUPERVISOR, Spec, to_json,
    write_atomically, write_once,
};
use crate::supervisor::Nursery;
pub(crate) use spec::bare_spec;
pub use spec::spec_of;
use wait::{Adopted, Conclusion};

/// Something to be done in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Make the folder.
    Prepare(Box<Spec>),
    /// Make the folder and start the part with this deadline, in milliseconds of CLOCK_BOOTTIME.
    Run(Box<Spec>, u64),
    /// Start a part whose folder was made.
    Start(PartKey, u64),
    /// Make the folder of a part that ended before it began.
    Refuse(Box<Spec>, PartEnd),
}

impl Order {
    /// The part it is about.
    #[must_use]
    pub fn part(&self) -> PartKey {
        match self {
            Self::Prepare(spec) | Self::Run(spec, _) | Self::Refuse(spec, _) => spec.key(),
            Self::Start(part, _) => *part,
        }
    }
}

/// What happened to parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The folder is made.
    Prepared(PartKey),
    /// The supervisor is started, with this deadline in milliseconds of CLOCK_BOOTTIME.
    Launched(PartKey, u64),
    /// The program runs since then, in milliseconds of CLOCK_BOOTTIME.
    Started(PartKey, u64),
    /// The part ended.
    Ended(PartKey, ExitRecord),
    /// Every order of a batch was carried out.
    BatchDone,
}

/// A part that an earlier agent left on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How far it is.
    pub state: FoundState,
    /// What it was given; nothing where its description cannot be read.
    pub allocation: Allocation,
    /// How long each renewal lets it run; zero where its description cannot be read.
    pub ttl: DurationMs,
    /// Where the datasets are that it reads.
    pub inputs: Vec<PathBuf>,
}

/// How far a part is that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundState {
    /// Its folder is made.
    Prepared,
    /// Its supervisor lives and was taken up.
    Running {
        /// Until when it may run, in milliseconds of CLOCK_BOOTTIME.
        deadline_ms: u64,
        /// Whether it was asked to stop.
        stopping: bool,
    },
    /// It ended.
    Ended(ExitRecord),
}

/// Why the executor cannot work at all.
#[derive(Debug, thiserror::Error)]
#[error("the folder of running parts {path} cannot be used")]
pub struct ExecutorError {
    /// The folder.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    exe: PathBuf,
    runs: PathBuf,
    boot: String,
    news: mpsc::UnboundedSender<News>,
    runtime: Handle,
    nursery: Mutex<Option<Nursery>>,
}

impl Executor {
    /// Opens `STATE/runs`, finds what an earlier agent left there, and takes up what lives. `exe` is the
    /// binary that runs supervisors.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[expect(clippy::type_complexity, reason = "three results of one step, taken apart at once")]
    pub fn open(
        exe: PathBuf,
        state: &Path,
    ) -> Result<(Self, mpsc::UnboundedReceiver<News>, BTreeMap<PartKey, Found>), ExecutorError> {
        let runs = state.join("runs");
        let refused = |source| ExecutorError { path: runs.clone(), source };
        fs::create_dir_all(&runs).map_err(refused)?;
        let (news, receiver) = mpsc::unbounded_channel();
        let boot = boot_id().map_err(refused)?;
        let shared = Shared {
            exe,
            runs: runs.clone(),
            boot,
            news,
            runtime: Handle::current(),
            nursery: Mutex::default(),
        };
        let executor = Self { shared: Arc::new(shared) };
        let found = executor.scan().map_err(refused)?;
        Ok((executor, receiver, found))
    }

    /// The id of this boot.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.shared.boot
    }

    /// The folder of a part.
    #[must_use]
    pub fn folder(&self, part: PartKey) -> PathBuf {
        self.shared.folder(part)
    }

    /// Carries out a batch after `before`, in the background; each part's outcome comes as [`News`], and
    /// [`News::BatchDone`] at the end. Where `before` fails, nothing is done and every part ends as not
    /// started.
    pub fn carry_out<F>(&self, orders: Vec<Order>, before: F)
    where
        F: FnOnce() -> io::Result<()> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        drop(self.shared.runtime.spawn_blocking(move || {
            let permitted = before();
            shared.carry_out(orders, permitted);
            shared.tell(News::BatchDone);
        }));
    }

    /// Lets a running part run until then.
    ///
    /// # Errors
    /// The disk refused: the part ends at its old deadline.
    pub fn extend(&self, part: PartKey, deadline_ms: u64) -> io::Result<()> {
        self.shared.write_lease(part, deadline_ms)
    }

    /// Asks a part to stop, or ends it where it has not begun. Its end comes as [`News::Ended`].
    ///
    /// # Errors
    /// The disk refused: ask again.
    pub fn stop(&self, part: PartKey, grace: Option<DurationMs>) -> io::Result<()> {
        let folder = self.folder(part);
        let fence = to_json(&Claim::Agent { boot: self.shared.boot.clone() });
        if write_once(&folder.join(SUPERVISOR), &fence)? {
            let record = ExitRecord::never_started(PartEnd::Stopped);
            write_atomically(&folder.join(EXIT), &to_json(&record))?;
            self.shared.tell(News::Ended(part, record));
            return Ok(());
        }
        let grace = grace.map(|grace| grace.0.to_string()).unwrap_or_default();
        write_atomically(&folder.join(STOP), grace.as_bytes())?;
        folder::poke(&folder);
        Ok(())
    }

    /// Removes the folder of a part that ended, in the background; its trace is kept in `STATE/trace.log`.
    pub fn forget(&self, part: PartKey) {
        let shared = Arc::clone(&self.shared);
        drop(self.shared.runtime.spawn_blocking(move || {
            if let Err(error) = folder::remove(&shared.runs, part) {
                tracing::warn!(%part, %error, "the folder of a part that is over cannot be removed");
            }
        }));
    }
}

impl Shared {
    fn folder(&self, part: PartKey) -> PathBuf {
        self.runs.join(part.to_string())
    }

    fn tell(&self, news: News) {
        // Nobody listens only while the agent ends; the folders tell the next one.
        self.news.send(news).ok();
    }

    fn write_lease(&self, part: PartKey, deadline_ms: u64) -> io::Result<()> {
        let lease = LeaseFile { boot: self.boot.clone(), deadline_ms };
        write_atomically(&self.folder(part).join(LEASE), &to_json(&lease))
    }

    fn carry_out(self: &Arc<Self>, orders: Vec<Order>, permitted: io::Result<()>) {
        let made: Vec<(Order, io::Result<()>)> = match permitted {
            Ok(()) => orders.into_iter().map(|order| self.make(order)).collect(),
            Err(error) => {
                let refused = |order| (order, Err(io::Error::other(error.to_string())));
                orders.into_iter().map(refused).collect()
            }
        };
        // One sync makes every new folder durable before anything in it runs.
        let durable = File::open(&self.runs).and_then(|runs| runs.sync_all());
        for (order, outcome) in made {
            let part = order.part();
            let durable = durable.as_ref().map(|_| ()).map_err(|error| io::Error::other(error.to_string()));
            let outcome = outcome.and(durable).and_then(|()| self.begin(order));
            if let Err(error) = outcome {
                tracing::error!(%part, %error, "a part cannot be started");
                let message = format!("the node cannot start it: {error}");
                self.end_unbegun(part, PartEnd::NotStarted { message });
            }
        }
    }

    fn make(&self, order: Order) -> (Order, io::Result<()>) {
        let outcome = match &order {
            Order::Prepare(spec) | Order::Run(spec, _) | Order::Refuse(spec, _) => {
                folder::make(&self.folder(spec.key()), spec)
            }
            Order::Start(..) => Ok(()),
        };
        (order, outcome)
    }

    fn begin(self: &Arc<Self>, order: Order) -> io::Result<()> {
        match order {
            Order::Prepare(spec) => self.tell(News::Prepared(spec.key())),
            Order::Run(spec, deadline) => self.spawn(spec.key(), deadline)?,
            Order::Start(part, deadline) => self.spawn(part, deadline)?,
            Order::Refuse(spec, end) => self.end_unbegun(spec.key(), end),
        }
        Ok(())
    }

    /// Ends a part that no supervisor has claimed; leaves it alone otherwise.
    fn end_unbegun(&self, part: PartKey, end: PartEnd) {
        let folder = self.folder(part);
        let fence = to_json(&Claim::Agent { boot: self.boot.clone() });
        if !write_once(&folder.join(SUPERVISOR), &fence).unwrap_or(true) {
            return;
        }
        let record = ExitRecord::never_started(end);
        // Where the disk refuses even this, the spool alone remembers the end.
        write_atomically(&folder.join(EXIT), &to_json(&record)).ok();
        self.tell(News::Ended(part, record));
    }

    fn spawn(self: &Arc<Self>, part: PartKey, deadline_ms: u64) -> io::Result<()> {
        self.write_lease(part, deadline_ms)?;
        let (output, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        self.supervise(part, theirs.as_fd())?;
        drop(theirs);
        self.tell(News::Launched(part, deadline_ms));
        drop(self.runtime.spawn(wait::until_output_ends(Arc::clone(self), part, output)));
        Ok(())
    }

    /// Hands the part to the nursery; to a new one where the old one is gone.
    fn supervise(&self, part: PartKey, output: BorrowedFd<'_>) -> io::Result<()> {
        let folder = self.folder(part);
        let mut nursery = self.nursery.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(living) = nursery.as_ref() {
            match living.supervise(&folder, output) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "the process that supervisors come from is gone; another is started")
                }
            }
        }
        // The old one is waited for before the new one starts.
        *nursery = None;
        nursery.insert(Nursery::start(&self.exe)?).supervise(&folder, output)
    }
}

impl Executor {
    fn scan(&self) -> io::Result<BTreeMap<PartKey, Found>> {
        let mut found = BTreeMap::new();
        let mut adopted = Vec::new();
        for entry in fs::read_dir(&self.shared.runs)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Ok(part) = name.to_string_lossy().parse::<PartKey>() {
                found.insert(part, self.found(part, &mut adopted));
            } else if folder::is_leftover(&name) {
                folder::finish_removal(&entry.path())?;
            }
        }
        if !adopted.is_empty() {
            let shared = Arc::clone(&self.shared);
            // Not a task: it may outlive the runtime, and must not hold it up.
            drop(std::thread::Builder::new().spawn(move || wait::until_adopted_end(&shared, adopted))?);
        }
        Ok(found)
    }

    fn found(&self, part: PartKey, adopted: &mut Vec<Adopted>) -> Found {
        let folder = self.folder(part);
        let spec: Option<Spec> = folder::read_or_none(&folder.join(SPEC));
        let allocation = spec.as_ref().map(|spec| spec.allocation.clone()).unwrap_or_default();
        let ttl = spec.as_ref().map_or(DurationMs(0), |spec| spec.ttl);
        let inputs = spec.iter().flat_map(|spec| spec.inputs.values().cloned()).collect();
        let same_boot = spec.is_some_and(|spec| spec.boot == self.shared.boot);
        let state = found_state(part, &folder, same_boot, adopted);
        if let FoundState::Running { .. } = state
            && let Some(Adopted { started_ms: Some(started_ms), .. }) = adopted.last()
        {
            self.shared.tell(News::Started(part, *started_ms));
        }
        Found { state, allocation, ttl, inputs }
    }
}

/// How far the part in `folder` is. One whose supervisor lives is added to `adopted`.
fn found_state(part: PartKey, folder: &Path, same_boot: bool, adopted: &mut Vec<Adopted>) -> FoundState {
    let lease: Option<LeaseFile> = folder::read_or_none(&folder.join(LEASE));
    if same_boot && lease.is_none() && !folder.join(SUPERVISOR).exists() && !folder.join(EXIT).exists() {
        return FoundState::Prepared;
    }
    // A lease is written just before a supervisor is started. One that has not claimed the part by now must
    // not do so later.
    match wait::conclusion(folder, part, None) {
        Conclusion::Over(record) => FoundState::Ended(record),
        Conclusion::Runs { supervisor, started_ms } => {
            adopted.push(Adopted { part, supervisor, started_ms });
            let deadline_ms = lease.map_or(0, |lease| lease.deadline_ms);
            FoundState::Running { deadline_ms, stopping: folder.join(STOP).exists() }
        }
    }
}
