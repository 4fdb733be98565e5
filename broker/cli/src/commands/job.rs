//! Jobs: run, submit, plan, list, show, cancel, hold, release, top.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use spillway_api::v1::{
    JobDefaults, JobFile, JobFileError, JobState, JobSummary, JobsQuery, LogQuery, MAX_JOB_FILE, MAX_PAGE,
};
use spillway_api::{ApiError, Client, ClientError};
use spillway_types::{GroupName, JobId};

use super::follow::{self, Wait};
use crate::args::{FileArgs, JobIdArgs, JobsArgs, LogsArgs, RunArgs, SubmitArgs, WaitArgs};
use crate::failure::Failure;
use crate::output::Output;
use crate::render::job as render;

/// How often a submission is tried where the broker does not answer; its key makes that safe.
const SUBMISSIONS: u32 = 3;

pub(super) async fn run(client: &Client, args: RunArgs, output: &mut Output) -> Result<u8, Failure> {
    let job = args.job.into_job_file()?;
    check(&job).map_err(|error| Failure::from(ApiError::from(error)))?;
    hand_in(client, &job, &args.wait, output).await
}

pub(super) async fn submit(client: &Client, args: SubmitArgs, output: &mut Output) -> Result<u8, Failure> {
    let job = read_job_file(&args.file.file)?;
    hand_in(client, &job, &args.wait, output).await
}

pub(super) async fn plan(client: &Client, args: &FileArgs, output: &mut Output) -> Result<u8, Failure> {
    let job = read_job_file(&args.file)?;
    output.show(&client.plan(&job).await?, render::plan);
    Ok(0)
}

/// Submits, says the id, and stays where that was asked.
async fn hand_in(
    client: &Client,
    job: &JobFile,
    wait: &WaitArgs,
    output: &mut Output,
) -> Result<u8, Failure> {
    let summary = submit_surely(client, job).await?;
    let stay = Wait::new(wait.wait_timeout);
    if wait.follow {
        // Standard output belongs to the job then.
        output.talk(&format!("submitted {}", summary.id));
        let query = LogQuery { follow: true, ..LogQuery::default() };
        return follow::logs(client, summary.id, query, stay, output).await;
    }
    output.show(&summary, |_, summary: &JobSummary| format!("{}\n", summary.id));
    if wait.wait {
        return follow::wait(client, summary.id, stay, output).await;
    }
    Ok(0)
}

/// Submits under one idempotency key until the broker answers, a few times.
async fn submit_surely(client: &Client, job: &JobFile) -> Result<JobSummary, Failure> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    let key = hex::encode(random);
    let mut tries = 1;
    loop {
        match client.submit(job, &key).await {
            Ok(summary) => return Ok(summary),
            Err(ClientError::Timeout { .. } | ClientError::Answer { .. }) if tries < SUBMISSIONS => {
                tries += 1
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads a job file, `-` from standard input, and checks it before anybody is asked.
fn read_job_file(path: &Path) -> Result<JobFile, Failure> {
    let refused =
        |error: JobFileError| Failure::JobFile { path: path.display().to_string(), error: Box::new(error) };
    let unreadable = |source| Failure::file("job file", path, source);
    let limit = MAX_JOB_FILE as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        if size >= limit {
            return Err(refused(JobFileError::too_large(&size)));
        }
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() > MAX_JOB_FILE {
        return Err(refused(JobFileError::too_large(&format!("over {MAX_JOB_FILE}"))));
    }
    let not_text = |error| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
    let text = String::from_utf8(bytes).map_err(not_text)?;
    let job = JobFile::parse_yaml(&text).map_err(refused)?;
    check(&job).map_err(refused)?;
    Ok(job)
}

/// Checks a job as the broker will, save for the group, which the broker knows better.
fn check(job: &JobFile) -> Result<(), JobFileError> {
    let group: Option<GroupName> = "any".parse().ok();
    job.clone().into_spec(&JobDefaults { group }).map(drop)
}

pub(super) async fn list(client: &Client, args: JobsArgs, output: &mut Output) -> Result<u8, Failure> {
    let state = args.state.as_deref().map(parse_state).transpose()?;
    let mut query = JobsQuery { state, group: args.group, limit: None, after: None };
    query.limit = Some(args.limit.clamp(1, MAX_PAGE));
    let mut page = client.jobs(&query).await?;
    let wanted = usize::try_from(args.limit.max(1)).unwrap_or(usize::MAX);
    while let Some(after) = page.next.as_deref().filter(|_| page.items.len() < wanted) {
        query.after = Some(after.parse::<JobId>().map_err(anyhow::Error::from)?);
        let more = client.jobs(&query).await?;
        page.items.extend(more.items);
        page.next = more.next;
    }
    page.items.truncate(wanted);
    let more = page.next.is_some();
    output.show(&page, render::jobs);
    if more {
        output.talk("there are more: --limit shows them");
    }
    Ok(0)
}

fn parse_state(text: &str) -> Result<JobState, Failure> {
    let names = JobState::ALL.map(JobState::as_str);
    JobState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| Failure::usage("--state", text, format!("it is not a state: {}", names.join(", "))))
}

pub(super) async fn show(client: &Client, args: &JobIdArgs, output: &mut Output) -> Result<u8, Failure> {
    output.show(&client.job(args.id).await?, render::job);
    Ok(0)
}

pub(super) async fn cancel(client: &Client, args: &JobIdArgs, output: &mut Output) -> Result<u8, Failure> {
    let summary = client.cancel(args.id).await?;
    output.show(&summary, |_, summary: &JobSummary| format!("{} {}\n", summary.id, summary.state.as_str()));
    Ok(0)
}

pub(super) async fn hold(client: &Client, args: &JobIdArgs, output: &mut Output) -> Result<u8, Failure> {
    output.show(&client.hold(args.id).await?, render::arranged);
    Ok(0)
}

pub(super) async fn release(client: &Client, args: &JobIdArgs, output: &mut Output) -> Result<u8, Failure> {
    output.show(&client.release(args.id).await?, render::arranged);
    Ok(0)
}

pub(super) async fn top(client: &Client, args: &JobIdArgs, output: &mut Output) -> Result<u8, Failure> {
    output.show(&client.top(args.id).await?, render::arranged);
    Ok(0)
}

pub(super) async fn logs(client: &Client, args: &LogsArgs, output: &mut Output) -> Result<u8, Failure> {
    let query = LogQuery {
        task: args.task,
        rank: args.rank,
        attempt: args.attempt,
        offset: None,
        follow: args.follow,
    };
    if args.follow {
        return follow::logs(client, args.id, query, Wait::new(None), output).await;
    }
    follow::print(client, args.id, query, output).await?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_files_are_read_and_checked_before_the_broker_is_asked() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("job.yaml");
        let read = |text: &[u8]| {
            std::fs::write(&path, text).expect("a file");
            read_job_file(&path)
        };
        assert!(read(b"run: python train.py\n").is_ok());
        for (text, says) in [
            (b"run: a\nresources: {gpus: 0}\n".as_slice(), "resources.gpus"),
            (b"run: a\ntime_limit: -5m\n", "time_limit"),
            (b"run: a\nresources: {memory: lots}\n", "resources.memory"),
            (b"run: a\nbanana: 1\n", "line 2: unknown field `banana`"),
            (b"run: \xff\n", "UTF-8"),
            (&[b'#'; 10 << 20], "10485760 bytes"),
        ] {
            let failure = read(text).expect_err(says);
            assert!(failure.render().to_lowercase().contains(&says.to_lowercase()), "{}", failure.render());
            assert_eq!(failure.exit_code(), 1);
        }
        assert!(read_job_file(&dir.path().join("absent")).expect_err("absent").render().contains("absent"));
    }

    #[test]
    fn a_wrong_flag_is_wrong_usage() {
        let job = JobFile { time_limit: Some("-5m".into()), ..JobFile::parse_yaml("run: a").expect("a job") };
        let failure = check(&job).map_err(|error| Failure::from(ApiError::from(error))).expect_err("refused");
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.render().contains("field: time_limit"), "{}", failure.render());
        assert_eq!(parse_state("runing").expect_err("refused").exit_code(), 2);
    }
}
