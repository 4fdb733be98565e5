//! Staying with a job: waiting for its end, following what it writes, and its exit code as ours.
//!
//! A connection that breaks off is taken up where it was; only an answer of the broker, or many failures in a
//! row, end the wait.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use spillway_api::v1::{JobState, JobView, LogQuery, TasksQuery};
use spillway_api::{Client, ClientError};
use spillway_types::{DurationMs, FailureReason, JobId, TaskState, UnixMs};

use crate::clock;
use crate::failure::{ERROR, Failure};
use crate::output::Output;
use crate::render;

/// One long poll. It ends at once when the job does; between, changes of its state are said this late.
const POLL: Duration = Duration::from_secs(5);
/// How often the broker may fail to answer in a row: with the pause, longer than a restart takes.
const FAILURES: u32 = 30;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// The exit code of a job that its time limit ended, as of `timeout(1)`.
const TIME_LIMIT_CODE: u8 = 124;

/// How long to stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    limit: Option<DurationMs>,
    until: Option<UnixMs>,
}

impl Wait {
    /// From now on, for at most `limit`.
    pub(super) fn new(limit: Option<DurationMs>) -> Self {
        Self { limit, until: limit.map(|limit| clock::now().plus(limit)) }
    }

    /// What is left, at most `most`; none where it is over.
    fn left(self, most: Duration) -> Option<Duration> {
        match self.until {
            None => Some(most),
            Some(until) => Some(until.since(clock::now()).to_std())
                .filter(|left| !left.is_zero())
                .map(|left| left.min(most)),
        }
    }

    fn over(self, id: JobId) -> Failure {
        let limit = self.limit.unwrap_or_default();
        Failure::Timeout(format!(
            "{id} has not ended within {limit}; it goes on, and `spillway cancel {id}` ends it"
        ))
    }
}

/// Waits for a job's end, says each change of its state, and returns its exit code.
pub(super) async fn wait(client: &Client, id: JobId, wait: Wait, output: &mut Output) -> Result<u8, Failure> {
    let mut said = String::new();
    let mut failures = 0;
    loop {
        let Some(left) = wait.left(POLL) else { return Err(wait.over(id)) };
        // The state is said as it changes, so the polls before the end are short at first.
        let left = if said.is_empty() { Duration::ZERO } else { left };
        match client.wait_for_job(id, left).await {
            Ok(view) if view.summary.state.is_final() => {
                let (code, words) = end_of(&view);
                output.talk(&words);
                return Ok(code);
            }
            Ok(view) => {
                failures = 0;
                let words = progress(&view);
                if words != said {
                    output.talk(&words);
                    said = words;
                }
            }
            Err(error) => again(error, &mut failures, output).await?,
        }
    }
}

/// Follows what a job writes until it has ended, and returns its exit code.
pub(super) async fn logs(
    client: &Client,
    id: JobId,
    mut query: LogQuery,
    stay: Wait,
    output: &mut Output,
) -> Result<u8, Failure> {
    let mut failures = 0;
    loop {
        let Some(left) = stay.left(Duration::from_secs(u64::from(u32::MAX))) else {
            return Err(stay.over(id));
        };
        let mut printed = 0;
        let followed = tokio::time::timeout(left, stream(client, id, query, &mut printed, output)).await;
        query.offset = Some(query.offset.unwrap_or(0) + printed);
        match followed {
            Err(_) => return Err(stay.over(id)),
            Ok(Ok(())) if output.reader_gone() => return Ok(0),
            Ok(Ok(())) => match query.task {
                Some(task) => return wait_for_task(client, id, task, stay, output).await,
                None => return wait(client, id, stay, output).await,
            },
            Ok(Err(error)) => {
                failures = if printed > 0 { 0 } else { failures };
                again(error, &mut failures, output).await?;
            }
        }
    }
}

/// Waits for the end of one task of an array, and returns its exit code.
async fn wait_for_task(
    client: &Client,
    id: JobId,
    task: u32,
    stay: Wait,
    output: &mut Output,
) -> Result<u8, Failure> {
    let query = TasksQuery { limit: Some(1), after: task.checked_sub(1) };
    let mut failures = 0;
    loop {
        if stay.left(PAUSE).is_none() {
            return Err(stay.over(id));
        }
        match client.tasks(id, &query).await {
            Ok(page) => match page
                .items
                .iter()
                .find(|view| view.index == task)
                .and_then(|view| end_of_task(&view.state))
            {
                Some((code, words)) => {
                    output.talk(&format!("task {task} of {id} {words}"));
                    return Ok(code);
                }
                None => tokio::time::sleep(PAUSE).await,
            },
            Err(error) => again(error, &mut failures, output).await?,
        }
    }
}

/// A task's exit code, and what to say about its end; none while it has not ended.
fn end_of_task(state: &TaskState) -> Option<(u8, String)> {
    match state {
        TaskState::Succeeded => Some((0, "succeeded".to_owned())),
        TaskState::Failed { failure } => {
            Some((exit_code(failure), format!("failed: {}", render::job::failure(failure))))
        }
        TaskState::Cancelled => Some((ERROR, "was cancelled".to_owned())),
        TaskState::Queued { .. }
        | TaskState::Placing { .. }
        | TaskState::Provisioning { .. }
        | TaskState::Staging { .. }
        | TaskState::Running { .. }
        | TaskState::Finishing { .. } => None,
    }
}

/// Prints what a job has written so far.
pub(super) async fn print(
    client: &Client,
    id: JobId,
    query: LogQuery,
    output: &mut Output,
) -> Result<(), Failure> {
    Ok(stream(client, id, query, &mut 0, output).await?)
}

async fn stream(
    client: &Client,
    id: JobId,
    query: LogQuery,
    printed: &mut u64,
    output: &mut Output,
) -> Result<(), ClientError> {
    let mut pieces = pin!(client.logs(id, &query).await?);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        output.bytes(&piece);
        *printed += piece.len() as u64;
        if output.reader_gone() {
            break;
        }
    }
    Ok(())
}

/// Pauses after a failure that may pass; any other, or too many in a row, is the end.
async fn again(error: ClientError, failures: &mut u32, output: &mut Output) -> Result<(), Failure> {
    let passes = match &error {
        ClientError::Unreachable { .. } | ClientError::Timeout { .. } | ClientError::Answer { .. } => true,
        ClientError::Api(api) => api.code == spillway_api::ErrorCode::Unavailable,
        ClientError::Url { .. } | ClientError::Setup(_) => false,
    };
    if !passes || *failures >= FAILURES {
        return Err(error.into());
    }
    if *failures == 0 {
        output.talk(&format!("{error}; trying again"));
    }
    *failures += 1;
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// What a job is doing, in one line.
fn progress(view: &JobView) -> String {
    let job = &view.summary;
    let why = job.reason.map(|reason| format!(": {reason:?}, {}", reason.way_out())).unwrap_or_default();
    let place =
        if job.sites.is_empty() { String::new() } else { format!(" at {}", render::value::list(&job.sites)) };
    let done = if job.tasks.total() > 1 {
        format!(" ({}/{} done)", job.tasks.ended(), job.tasks.total())
    } else {
        String::new()
    };
    format!("{}{}{done}", job.state.as_str(), if job.state == JobState::Queued { why } else { place })
}

/// A job's own exit code, and what to say about its end.
fn end_of(view: &JobView) -> (u8, String) {
    let said = |words: &str| {
        format!("{} {words}; cost {}", view.summary.id, render::value::amount(view.summary.cost))
    };
    match (view.summary.state, &view.failure) {
        (JobState::Succeeded, _) => (0, said("succeeded")),
        (JobState::Cancelled, _) => (ERROR, said("was cancelled")),
        (_, None) => (ERROR, said("failed")),
        (_, Some(failure)) => {
            (exit_code(failure), said(&format!("failed: {}", render::job::failure(failure))))
        }
    }
}

/// The exit code of a failure: the program's own where it had one, as a shell says it.
fn exit_code(failure: &FailureReason) -> u8 {
    match failure {
        FailureReason::ExitCode { code } => {
            u8::try_from(*code).ok().filter(|code| *code != 0).unwrap_or(ERROR)
        }
        FailureReason::Signal { signal } => u8::try_from(128 + signal).unwrap_or(ERROR),
        FailureReason::TimeLimit => TIME_LIMIT_CODE,
        FailureReason::Lost | FailureReason::Preempted | FailureReason::Start { .. } => ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_jobs_own() {
        for (failure, code) in [
            (FailureReason::ExitCode { code: 7 }, 7),
            (FailureReason::ExitCode { code: 256 }, 1),
            (FailureReason::ExitCode { code: -1 }, 1),
            (FailureReason::Signal { signal: 9 }, 137),
            (FailureReason::TimeLimit, 124),
            (FailureReason::Lost, 1),
        ] {
            assert_eq!(exit_code(&failure), code, "{failure:?}");
        }
    }

    #[test]
    fn a_wait_is_over_when_its_time_is() {
        assert_eq!(Wait::new(None).left(POLL), Some(POLL));
        assert_eq!(Wait::new(Some(DurationMs(0))).left(POLL), None);
        let left = Wait::new(Some(DurationMs(1_000_000))).left(POLL);
        assert_eq!(left, Some(POLL));
    }
}
