//! Output: from the file, waited for, from a byte on, and what is said while it is at a node that is away.

use std::time::Duration;

use futures_util::StreamExt;
use spillway_api::v1::LogQuery;
use spillway_api::{Client, ErrorCode};
use spillway_core::command::PartNews;
use spillway_types::{AttemptId, JobId};

use super::world::{World, refused, submit};
use crate::outputs::Chunk;

async fn text(client: &Client, job: JobId, query: &LogQuery) -> String {
    let mut pieces = Box::pin(client.logs(job, query).await.unwrap());
    let mut text = vec![];
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(text).unwrap()
}

fn store(world: &World, attempt: AttemptId, text: &str) {
    world.app.outputs.store(&[Chunk { attempt, rank: 0, offset: 0, data: text.into() }]).unwrap();
}

#[tokio::test]
async fn stored_output_is_sent_from_any_byte_and_of_any_attempt() {
    let mut world = World::start().await;
    let ada = world.client("ada");
    let job = submit(&ada, "{run: x, retry: {on_failure: true, max_attempts: 2}}", "k").await.id;
    assert_eq!(text(&ada, job, &LogQuery::default()).await, "", "nothing ran yet");
    for (code, output) in [(1, "first"), (0, "second")] {
        world.place().await;
        let attempt = world.attempts().await[0];
        store(&world, attempt, output);
        world.run_to_end(attempt, code).await;
    }
    for (query, wanted) in [
        (LogQuery::default(), "second"),
        (LogQuery { offset: Some(3), ..LogQuery::default() }, "ond"),
        (LogQuery { offset: Some(99), ..LogQuery::default() }, ""),
        (LogQuery { attempt: Some(1), ..LogQuery::default() }, "first"),
        (LogQuery { attempt: Some(3), ..LogQuery::default() }, ""),
        (LogQuery { task: Some(0), rank: Some(0), attempt: Some(2), ..LogQuery::default() }, "second"),
        (LogQuery { follow: true, ..LogQuery::default() }, "second"),
    ] {
        assert_eq!(text(&ada, job, &query).await, wanted, "{query:?}");
    }
    for (query, field) in [
        (LogQuery { task: Some(1), ..LogQuery::default() }, "task"),
        (LogQuery { rank: Some(1), ..LogQuery::default() }, "rank"),
        (LogQuery { attempt: Some(0), ..LogQuery::default() }, "attempt"),
    ] {
        assert_eq!(refused(ada.logs(job, &query).await.map(drop)).field.as_deref(), Some(field));
    }
}

#[tokio::test]
async fn following_waits_for_the_start_and_ends_with_the_attempt() {
    let mut world = World::start().await;
    let ada = world.client("ada");
    let job = submit(&ada, "run: x", "k").await.id;
    let query = LogQuery { follow: true, offset: Some(2), ..LogQuery::default() };
    let follower = world.client("ada");
    let mut following = tokio::spawn(async move { text(&follower, job, &query).await });
    world.place().await;
    let attempt = world.attempts().await[0];
    world.report(attempt, PartNews::Started).await;
    let early = tokio::time::timeout(Duration::from_millis(200), &mut following).await;
    assert!(early.is_err(), "the node is not connected, and may come back");
    let away = refused(ada.logs(job, &LogQuery::default()).await.map(drop));
    assert_eq!(away.code, ErrorCode::Unavailable);
    assert!(away.message.contains(&world.node.to_string()), "{}", away.message);
    store(&world, attempt, "0123456789");
    world.run_to_end(attempt, 0).await;
    let text = tokio::time::timeout(Duration::from_secs(5), following).await.expect("it ends").unwrap();
    assert_eq!(text, "23456789");
}

#[tokio::test]
async fn following_a_job_that_is_cancelled_before_it_starts_ends() {
    let world = World::start().await;
    let ada = world.client("ada");
    let job = submit(&ada, "run: x", "k").await.id;
    let follower = world.client("ada");
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let following = tokio::spawn(async move { text(&follower, job, &query).await });
    ada.cancel(job).await.unwrap();
    let text = tokio::time::timeout(Duration::from_secs(5), following).await.expect("it ends").unwrap();
    assert_eq!(text, "");
}
