//! Bringing all that a part reads, in a task of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::Client;
use spillway_tunnel::protocol::Input;
use spillway_types::{DataSource, DatasetName};
use tokio::sync::{Mutex as Turns, OwnedMutexGuard, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::content::{Content, hash};
use super::fetch::{Fetch, Trouble, client};
use super::moves::{Move, of_earlier};
use super::room::{self, Room};
use crate::part::PartKey;

/// Longest wait for a shared file system to say whether a path is there.
const LOOK: Duration = Duration::from_secs(30);

/// What happened to what a part reads. Of each part that is begun, one of the last three comes, as the last.
#[derive(Debug)]
pub(crate) enum Brought {
    /// Bytes begin to come for a part.
    Moving(Arc<Move>),
    /// All is there.
    Ready(PartKey, BTreeMap<DatasetName, PathBuf>),
    /// Something will not come, for this reason.
    Failed(PartKey, String),
    /// It was told to stop, and has.
    Left(PartKey),
}

/// What a part reads, with how far it has got it before: the newest pass, and the byte behind the last that came.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The dataset.
    pub(crate) input: Input,
    /// How far it is.
    pub(crate) last: Option<(u32, u64)>,
}

/// The cache, and what is being brought into it.
#[derive(Debug)]
pub(crate) struct Datasets {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    end: CancellationToken,
    /// Nothing goes on without it.
    _end: DropGuard,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    boot: String,
    limit: u64,
    client: OnceLock<Result<Client, String>>,
    news: mpsc::UnboundedSender<Brought>,
    /// Whose turn it is with each content, by its folder.
    turns: Mutex<BTreeMap<PathBuf, Arc<Turns<()>>>>,
    /// The contents that living parts read.
    read: Mutex<BTreeMap<PartKey, BTreeSet<PathBuf>>>,
}

impl Datasets {
    /// Opens the cache in `STATE/datasets`, which keeps at most `limit` bytes, with what earlier agents moved.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(crate) fn open(
        state: &Path,
        boot: &str,
        limit: u64,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Brought>, Vec<Arc<Move>>)> {
        let folder = state.join("datasets");
        let moves = of_earlier(&folder)?.into_iter().map(Arc::new).collect();
        let (news, receiver) = mpsc::unbounded_channel();
        let shared = Shared {
            folder,
            boot: boot.to_owned(),
            limit,
            client: OnceLock::new(),
            news,
            turns: Mutex::default(),
            read: Mutex::default(),
        };
        let end = CancellationToken::new();
        let (tasks, guard) = (TaskTracker::new(), end.clone().drop_guard());
        Ok((Self { shared: Arc::new(shared), tasks, end, _end: guard }, receiver, moves))
    }

    /// Notes what a part that runs already reads, by paths of files.
    pub(crate) fn adopt(&self, part: PartKey, files: impl Iterator<Item = PathBuf>) {
        let folders = files.filter_map(|file| file.parent().map(Path::to_path_buf)).collect();
        lock(&self.shared.read).insert(part, folders);
    }

    /// A part does not read any more.
    pub(crate) fn release(&self, part: &PartKey) {
        lock(&self.shared.read).remove(part);
    }

    /// Brings what a part reads, until it is there or the token is cancelled.
    pub(crate) fn bring(&self, part: PartKey, wanted: Vec<Wanted>) -> CancellationToken {
        let (shared, cancel) = (Arc::clone(&self.shared), self.end.child_token());
        let stop = cancel.clone();
        drop(self.tasks.spawn(async move {
            let news = match shared.bring_all(part, wanted, &stop).await {
                Ok(paths) => Brought::Ready(part, paths),
                Err(Trouble::Failed(problem)) => Brought::Failed(part, problem),
                Err(Trouble::Cancelled) => Brought::Left(part),
            };
            // Nobody listens only while the agent ends.
            shared.news.send(news).ok();
        }));
        cancel
    }

    /// Stops everything that is being brought and waits until it has stopped.
    pub(crate) async fn leave(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Shared {
    /// One dataset after the other, so that no two of a job share the link.
    async fn bring_all(
        &self,
        part: PartKey,
        wanted: Vec<Wanted>,
        cancel: &CancellationToken,
    ) -> Result<BTreeMap<DatasetName, PathBuf>, Trouble> {
        let mut paths = BTreeMap::new();
        for one in wanted {
            let name = one.input.dataset.clone();
            let path = self.bring_one(part, &one, cancel).await.map_err(|trouble| match trouble {
                Trouble::Failed(problem) => Trouble::Failed(format!("dataset {name}: {problem}")),
                Trouble::Cancelled => Trouble::Cancelled,
            })?;
            paths.insert(name, path);
        }
        Ok(paths)
    }

    async fn bring_one(
        &self,
        part: PartKey,
        wanted: &Wanted,
        cancel: &CancellationToken,
    ) -> Result<PathBuf, Trouble> {
        let input = &wanted.input;
        let Some(source) = &input.source else {
            let problem = "the broker's settings do not say any more where it is read";
            return Err(Trouble::Failed(problem.to_owned()));
        };
        if !source.is_url() {
            return in_place(source, input.bytes).await;
        }
        let content = Content::of(&self.folder, input, &self.boot);
        lock(&self.read).entry(part).or_default().insert(content.folder().to_path_buf());
        let _turn = tokio::select! {
            () = cancel.cancelled() => return Err(Trouble::Cancelled),
            turn = self.turn(content.folder()).lock_owned() => turn,
        };
        if content.whole().exists() {
            content.touch()?;
            return Ok(content.whole());
        }
        let client = self.client.get_or_init(|| client().map_err(|error| error.to_string()));
        let client = client
            .as_ref()
            .map_err(|error| Trouble::Failed(format!("this node cannot download: {error}")))?;
        self.make_room(&content, input.bytes).await?;
        let tell = |begun| drop(self.news.send(Brought::Moving(begun)));
        let cache = &self.folder;
        let last = wanted.last;
        let mut fetch =
            Fetch { client, cache, content: &content, input, source, part, cancel, last, tell: &tell };
        fetch.run().await?;
        self.seal(content, input, cancel).await
    }

    fn turn(&self, folder: &Path) -> Arc<Turns<()>> {
        Arc::clone(lock(&self.turns).entry(folder.to_path_buf()).or_default())
    }

    /// Makes room for what is missing of a content.
    async fn make_room(&self, content: &Content, bytes: u64) -> Result<(), Trouble> {
        content.prepare()?;
        let (cache, limit, content) = (self.folder.clone(), self.limit, content.clone());
        let needed: BTreeSet<PathBuf> = lock(&self.read).values().flatten().cloned().collect();
        let looked = blocking(move || {
            let more = bytes.saturating_sub(super::content::length(&content.partial()));
            let room = Room { free: room::free(&cache)?, limit };
            Ok(room::evict(&room::kept(&cache)?, &needed, more, room))
        });
        for folder in looked.await?.map_err(Trouble::Failed)? {
            self.remove(folder).await?;
        }
        Ok(())
    }

    /// Removes a content, unless a part has come to read it meanwhile.
    async fn remove(&self, folder: PathBuf) -> Result<(), Trouble> {
        let Ok(turn) = self.turn(&folder).try_lock_owned() else { return Ok(()) };
        if lock(&self.read).values().any(|read| read.contains(&folder)) {
            return Ok(());
        }
        tracing::info!(folder = %folder.display(), "a dataset is removed: nothing here reads it, and another needs its room");
        let removed = move |_turn: OwnedMutexGuard<()>| fs::remove_dir_all(&folder);
        blocking(move || removed(turn)).await
    }

    /// Holds what came against its hash and makes it the file that programs read.
    async fn seal(
        &self,
        content: Content,
        input: &Input,
        cancel: &CancellationToken,
    ) -> Result<PathBuf, Trouble> {
        if let Some(expected) = &input.sha256 {
            let (partial, stop) = (content.partial(), cancel.clone());
            let is = blocking(move || hash(&partial, &stop)).await?.ok_or(Trouble::Cancelled)?;
            if is != expected.as_str() {
                fs::remove_file(content.partial())?;
                let from = input.source.as_ref().map(DataSource::to_string).unwrap_or_default();
                return Err(Trouble::Failed(format!("{from} has the SHA-256 {is}, and not {expected}")));
            }
        }
        let whole = content.whole();
        blocking(move || content.seal()).await?;
        Ok(whole)
    }
}

/// A path is used where it lies. A file must have its size; a folder is taken as it is.
async fn in_place(source: &DataSource, bytes: u64) -> Result<PathBuf, Trouble> {
    let path = PathBuf::from(source.expose());
    let looked = tokio::time::timeout(LOOK, tokio::fs::metadata(&path)).await;
    let problem = match looked {
        Ok(Ok(found)) if found.is_file() && found.len() != bytes => {
            let is = found.len();
            format!(
                "{source} has {is} bytes, and not {bytes}: if that is right, write size = \"{is}B\" in the broker's settings"
            )
        }
        Ok(Ok(_)) => return Ok(path),
        Ok(Err(error)) => format!("{source} cannot be read on this node: {error}"),
        Err(_) => format!("{source} cannot be read on this node: its file system does not answer"),
    };
    Err(Trouble::Failed(problem))
}

/// Runs what takes the disk's time elsewhere.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(io::Error::other)??)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
