//! How long it takes from a submission's acknowledgement to the program's start on an idle node, measured one
//! job after the other. The program itself says when it runs, and both times are of one clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use spillway_api::Client;
use spillway_api::v1::{JobState, JobView, LogQuery};

use super::load::probe;

/// Odd, so that the median is a measurement.
pub(super) const PROBES: usize = 9;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the probes; gives microseconds, in the order in which they ran.
///
/// # Errors
/// A job does not succeed in time.
pub(super) async fn measure(client: &Client, key: &str) -> anyhow::Result<Vec<u64>> {
    let mut measured = Vec::with_capacity(PROBES);
    for index in 1..=PROBES {
        let job = client.submit(&probe(index), &format!("{key}-probe-{index}")).await?;
        let acknowledged = now_us();
        let view = client.wait_for_job(job.id, PATIENCE).await?;
        if view.summary.state != JobState::Succeeded {
            bail!("{} is {}: {}", view.summary.name, view.summary.state.as_str(), end_of(&view));
        }
        let said = output(client, &view).await?;
        let started = parse_start_us(&said).or_else(|| started_us(&view));
        let started = started.with_context(|| format!("{} did not say when it began", view.summary.name))?;
        // It may have begun before the acknowledgement was read.
        measured.push(started.saturating_sub(acknowledged));
    }
    Ok(measured)
}

fn end_of(view: &JobView) -> String {
    let newest = view.attempts.first();
    newest.and_then(|attempt| attempt.end.clone()).unwrap_or_else(|| "it has not ended".to_owned())
}

async fn output(client: &Client, view: &JobView) -> anyhow::Result<String> {
    let mut pieces = Box::pin(client.logs(view.summary.id, &LogQuery::default()).await?);
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Nanoseconds as `date +%s%N` prints them, to microseconds. None where `date` knows no nanoseconds.
fn parse_start_us(said: &str) -> Option<u64> {
    let nanoseconds: u64 = said.trim().parse().ok()?;
    // Seconds alone would be a thousand million times smaller.
    (nanoseconds > 1_000_000_000_000_000).then_some(nanoseconds / 1000)
}

/// When the node says that the program ran.
fn started_us(view: &JobView) -> Option<u64> {
    u64::try_from(view.attempts.first()?.started?.0).ok()?.checked_mul(1000)
}

#[expect(clippy::disallowed_methods, reason = "a job's program says when it began by the same clock")]
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_date_prints_is_read() {
        assert_eq!(parse_start_us("1790000000123456789\n"), Some(1_790_000_000_123_456));
        for said in ["1790000000\n", "1790000000N\n", "", "soon"] {
            assert_eq!(parse_start_us(said), None, "{said:?}");
        }
    }
}
