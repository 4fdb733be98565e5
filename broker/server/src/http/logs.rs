//! What a job wrote: from the file here once a part has ended, from its node while it runs.
//!
//! A node sends the last output of a part before the part's end, so that after the end the file is whole.
//! While a part runs, output is followed at its node; where the node goes away, following goes on at the byte
//! reached, at the node when it is back or in the file when the part is over. It ends with the attempt.

use std::io::{ErrorKind, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use spillway_api::v1::LogQuery;
use spillway_api::{ApiError, ErrorCode};
use spillway_core::entity::{Attempt, Job, PartState};
use spillway_types::{AttemptId, JobId, NodeId};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::OwnedSemaphorePermit;

use super::auth::Caller;
use super::failure::Failure;
use super::input::{Params, Segment};
use super::{Shared, jobs};
use crate::sessions::{Follow, OutputReader};

/// How much is read from a file at once.
const PIECE: usize = 64 << 10;
/// How long a node may take to begin to send.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait at most before a node is asked again that could not be heard, or that said its part is at
/// its end before that was reported.
const ASK_AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn read(
    State(api): State<Shared>,
    Caller(who): Caller,
    Segment(id): Segment<JobId>,
    Params(query): Params<LogQuery>,
) -> Result<Response, Failure> {
    let job = jobs::find(&api, &who, id).await?;
    let part = wanted(&job, &query)?;
    let busy = || {
        let error = ApiError::new(ErrorCode::RateLimited, "too many outputs are being sent");
        Failure(error.hint("try again in a few seconds"))
    };
    let permit = Arc::clone(&api.waiting).try_acquire_owned().map_err(|_| busy())?;
    let follow = if query.follow { Follow::UntilEnd } else { Follow::No };
    let mut tail = Tail {
        api,
        part,
        attempt: None,
        offset: query.offset.unwrap_or(0),
        follow,
        source: Source::Seek,
        stalled: false,
        _permit: permit,
    };
    if follow == Follow::No {
        tail.source = tail.seek().await?;
    }
    let pieces = futures_util::stream::unfold(tail, |mut tail| async move {
        let piece = tail.next().await?;
        Some((piece, tail))
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(pieces)).into_response())
}

/// Which part's output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    job: JobId,
    task: u32,
    rank: u32,
    /// The newest where absent.
    number: Option<u32>,
}

fn wanted(job: &Job, query: &LogQuery) -> Result<Wanted, Failure> {
    let tasks = job.spec.task_indexes();
    let task = query.task.unwrap_or_else(|| tasks.first().unwrap_or(0));
    if !tasks.contains(task) {
        return Err(Failure(ApiError::not_found("task", &task).field("task").value(task)));
    }
    let rank = query.rank.unwrap_or(0);
    if rank >= job.spec.nodes {
        let hint = format!("ranks of this job are 0 to {}", job.spec.nodes.saturating_sub(1));
        return Err(Failure(ApiError::not_found("rank", &rank).field("rank").value(rank).hint(hint)));
    }
    if query.attempt.is_some_and(|number| number == 0) {
        return Err(Failure(ApiError::invalid("attempts are counted from 1").field("attempt").value(0)));
    }
    Ok(Wanted { job: job.id, task, rank, number: query.attempt })
}

/// Where a part's output is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// There is no such attempt yet, or it waits for its node.
    NotYet,
    /// There is none and will be none.
    Never,
    /// At its node.
    Node(AttemptId, NodeId),
    /// Here: the part is over.
    Here(AttemptId),
}

/// Where the next bytes come from.
#[derive(Debug)]
enum Source {
    Seek,
    Node(OutputReader),
    File(File),
    End,
}

/// The rest of one part's output.
#[derive(Debug)]
struct Tail {
    api: Shared,
    part: Wanted,
    /// The attempt that was chosen: it stays this one.
    attempt: Option<AttemptId>,
    offset: u64,
    follow: Follow,
    source: Source,
    /// The node was asked and had nothing more: it is asked again only after a pause.
    stalled: bool,
    _permit: OwnedSemaphorePermit,
}

impl Tail {
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        let shutdown = self.api.shutdown.clone();
        if matches!(self.source, Source::End) {
            return None;
        }
        tokio::select! {
            piece = self.advance() => piece,
            // Broken off, not ended: whoever follows asks again, at the byte reached.
            () = shutdown.cancelled() => self.broken(std::io::Error::other("the broker is stopping")),
        }
    }

    async fn advance(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        loop {
            let read = match &mut self.source {
                Source::End => return None,
                Source::Seek => match self.seek().await {
                    Ok(source) => {
                        self.source = source;
                        continue;
                    }
                    Err(Failure(error)) => return self.broken(std::io::Error::other(error)),
                },
                Source::File(file) => read_piece(file).await,
                Source::Node(reader) => reader.next().await.map_err(std::io::Error::other),
            };
            match (read, self.follow, &self.source) {
                (Ok(Some(piece)), _, _) => {
                    self.offset = self.offset.saturating_add(piece.len() as u64);
                    return Some(Ok(piece));
                }
                // The node may be ahead of what it has reported, or its tunnel is down.
                (Ok(None) | Err(_), Follow::UntilEnd, Source::Node(_)) => {
                    self.source = Source::Seek;
                    self.stalled = true;
                }
                (Ok(None), _, _) => self.source = Source::End,
                (Err(error), _, _) => return self.broken(error),
            }
        }
    }

    /// The answer breaks off: its reader sees that it is not whole.
    fn broken(&mut self, error: std::io::Error) -> Option<Result<Bytes, std::io::Error>> {
        self.source = Source::End;
        Some(Err(error))
    }

    /// Finds the source of the next bytes; where following, waits until there is one.
    async fn seek(&mut self) -> Result<Source, Failure> {
        let mut revision = self.api.app.engine.revision();
        loop {
            revision.borrow_and_update();
            match self.place().await? {
                Place::Never => return Ok(Source::End),
                Place::Here(attempt) => return self.open_file(attempt).await,
                Place::Node(..) if self.stalled => {
                    self.stalled = false;
                    tokio::time::timeout(ASK_AGAIN, jobs::next_change(&mut revision))
                        .await
                        .unwrap_or(Ok(()))?;
                }
                Place::Node(attempt, node) => match (self.open_at(attempt, node).await, self.follow) {
                    (Ok(reader), _) => return Ok(Source::Node(reader)),
                    (Err(problem), Follow::No) => return Err(node_away(node, &problem)),
                    (Err(_), Follow::UntilEnd) => self.stalled = true,
                },
                Place::NotYet if self.follow == Follow::No => return Ok(Source::End),
                Place::NotYet => jobs::next_change(&mut revision).await?,
            }
        }
    }

    async fn open_at(&self, attempt: AttemptId, node: NodeId) -> Result<OutputReader, String> {
        let part = (attempt, self.part.rank);
        let opening = self.api.app.sessions.open_output(node, part, self.offset, self.follow);
        tokio::time::timeout(OPEN_LIMIT, opening)
            .await
            .unwrap_or_else(|_| Err(format!("{node} does not answer")))
    }

    /// A part without a file wrote nothing.
    async fn open_file(&self, attempt: AttemptId) -> Result<Source, Failure> {
        let path = self.api.app.outputs.path(attempt, self.part.rank);
        let opened = async {
            let mut file = File::open(&path).await?;
            file.seek(SeekFrom::Start(self.offset)).await?;
            Ok::<File, std::io::Error>(file)
        };
        match opened.await {
            Ok(file) => Ok(Source::File(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Source::End),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "stored output cannot be read");
                Err(Failure(ApiError::new(
                    ErrorCode::Unavailable,
                    "the stored output cannot be read just now",
                )))
            }
        }
    }

    async fn place(&mut self) -> Result<Place, Failure> {
        let (part, chosen) = (self.part, self.attempt);
        let read = move |view: &crate::View<'_>| {
            let state = view.federation.state();
            let task = state.jobs.get(&part.job).and_then(|job| job.task(part.task));
            let may_come = task.as_ref().is_some_and(|task| !task.is_final());
            let newest = chosen.or_else(|| task?.attempt()).and_then(|id| state.attempts.get(&id));
            let meant = newest.filter(|newest| {
                chosen.is_some() || part.number.is_none_or(|number| number == newest.number)
            });
            (meant.map(|attempt| (attempt.id, place_of(attempt, part.rank))), may_come)
        };
        let (found, may_come) = self.api.app.engine.read(read).await?;
        if let Some((attempt, place)) = found {
            self.attempt = Some(attempt);
            return Ok(place);
        }
        // Whoever follows a task that is to be tried again waits for the new attempt.
        if may_come && chosen.is_none() && part.number.is_none() && self.follow == Follow::UntilEnd {
            return Ok(Place::NotYet);
        }
        match self.stored().await? {
            Some(attempt) => {
                self.attempt = Some(attempt.id);
                Ok(place_of(&attempt, part.rank))
            }
            None if may_come => Ok(Place::NotYet),
            None => Ok(Place::Never),
        }
    }

    /// An attempt that is not the newest of an active task.
    async fn stored(&self) -> Result<Option<Attempt>, Failure> {
        let store = self.api.app.engine.store();
        if let Some(chosen) = self.attempt {
            return Ok(store.attempt(chosen).await?);
        }
        let meant = |attempt: &&Attempt| {
            attempt.task == self.part.task && self.part.number.is_none_or(|number| number == attempt.number)
        };
        let mut before = None;
        loop {
            let attempts = store.attempts_before(self.part.job, before, spillway_store::MAX_PAGE).await?;
            if let Some(found) = attempts.iter().find(meant) {
                return Ok(Some(found.clone()));
            }
            match attempts.last() {
                Some(oldest) => before = Some(oldest.id),
                None => return Ok(None),
            }
        }
    }
}

fn place_of(attempt: &Attempt, rank: u32) -> Place {
    let part = usize::try_from(rank).ok().and_then(|rank| attempt.parts.get(rank));
    let Some(part) = part else { return Place::Never };
    if part.state.is_over() || attempt.ended.is_some() {
        return Place::Here(attempt.id);
    }
    match (&part.state, part.node) {
        (PartState::Running, Some(node)) => Place::Node(attempt.id, node),
        (_, _) => Place::NotYet,
    }
}

async fn read_piece(file: &mut File) -> std::io::Result<Option<Bytes>> {
    let mut piece = BytesMut::with_capacity(PIECE);
    file.read_buf(&mut piece).await?;
    Ok(if piece.is_empty() { None } else { Some(piece.freeze()) })
}

fn node_away(node: NodeId, problem: &str) -> Failure {
    let message = format!("the output is still at its node, which cannot be heard: {problem}");
    let hint = "it comes here when the node is back and the part has ended; `follow=true` waits for it";
    Failure(ApiError::new(ErrorCode::Unavailable, message).value(node).hint(hint))
}
