//! Jobs over the wire: once, only one's own, page by page, waited for, cancelled, planned.

use std::time::Duration;

use spillway_api::ErrorCode;
use spillway_api::v1::{JobState, JobsQuery, TasksQuery};
use spillway_types::{Reason, TaskState};

use super::world::{World, job, refused, submit};

#[tokio::test]
async fn a_job_is_submitted_shown_listed_and_cancelled() {
    let world = World::start().await;
    let ada = world.client("ada");
    let made = submit(&ada, "{name: train, run: x, resources: {gpus: A100:2}}", "k").await;
    assert_eq!((made.name.as_str(), made.group.as_str(), made.user.as_str()), ("train", "lab", "ada"));
    assert_eq!((made.state, made.reason, made.tasks.queued), (JobState::Queued, Some(Reason::Planning), 1));
    let shown = ada.job(made.id).await.unwrap();
    let after_ms = made.submitted.0 - shown.summary.submitted.0;
    assert!((0..1000).contains(&after_ms), "the id was made {after_ms} ms after the command was taken up");
    assert_eq!((shown.summary.state, &shown.spec.name), (JobState::Queued, &made.name));
    assert_eq!(ada.jobs(&JobsQuery::default()).await.unwrap().items, [shown.summary]);
    let cancelled = ada.cancel(made.id).await.unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    let again = refused(ada.cancel(made.id).await);
    assert_eq!(again.code, ErrorCode::Conflict);
    assert!(again.message.contains("ended already: cancelled"), "{}", again.message);
    assert_eq!(ada.job(made.id).await.unwrap().summary.state, JobState::Cancelled);
    let running = JobsQuery { state: Some(JobState::Running), ..JobsQuery::default() };
    assert!(ada.jobs(&running).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_key_makes_a_job_once() {
    let world = World::start().await;
    let ada = world.client("ada");
    let first = submit(&ada, "run: x", "key").await;
    while world.engine.clock().now() <= first.submitted {
        tokio::task::yield_now().await;
    }
    let second = submit(&ada, "run: x", "key").await;
    assert_eq!(second.id, first.id);
    ada.cancel(first.id).await.unwrap();
    assert_eq!(
        submit(&ada, "run: x", "key").await.state,
        JobState::Cancelled,
        "what it is now is the answer"
    );
    let other = refused(ada.submit(&job("run: other"), "key").await);
    assert_eq!((other.code, other.value.as_deref()), (ErrorCode::Conflict, Some("key")));
    assert!(other.message.contains(&first.id.to_string()), "{}", other.message);
    assert_ne!(
        submit(&world.client("root"), "run: other", "key").await.id,
        first.id,
        "keys are a user's own"
    );
    for (key, fine) in
        [("k".repeat(128), true), ("k".repeat(129), false), ("\u{e9}".into(), false), (String::new(), false)]
    {
        assert_eq!(ada.submit(&job("run: x"), &key).await.is_ok(), fine, "{key}");
    }
}

#[tokio::test]
async fn jobs_of_other_groups_do_not_exist() {
    let world = World::start().await;
    let (ada, eve) = (world.client("ada"), world.client("eve"));
    let own = submit(&ada, "{run: x, group: vision}", "k").await;
    let ended = submit(&ada, "run: x", "l").await;
    ada.cancel(ended.id).await.unwrap();
    for id in [own.id, ended.id] {
        for error in [
            refused(eve.job(id).await),
            refused(eve.cancel(id).await),
            refused(eve.tasks(id, &TasksQuery::default()).await),
            refused(eve.logs(id, &spillway_api::v1::LogQuery::default()).await.map(drop)),
        ] {
            assert_eq!((error.code, error.message), (ErrorCode::NotFound, format!("there is no job `{id}`")));
        }
    }
    assert!(eve.jobs(&JobsQuery::default()).await.unwrap().items.is_empty());
    let below = JobsQuery { group: Some("vision".parse().unwrap()), ..JobsQuery::default() };
    assert_eq!(ada.jobs(&below).await.unwrap().items.len(), 1);
    assert_eq!(world.client("root").jobs(&JobsQuery::default()).await.unwrap().items.len(), 2);
    assert_eq!(refused(eve.jobs(&below).await).code, ErrorCode::NotFound);
    assert_eq!(refused(eve.submit(&job("{run: x, group: lab}"), "k").await).field.as_deref(), Some("group"));
}

#[tokio::test]
async fn jobs_are_held_released_and_put_on_top() {
    let world = World::start().await;
    let (ada, eve, root) = (world.client("ada"), world.client("eve"), world.client("root"));
    let first =
        submit(&ada, "{run: x, deadline: 6h, class: urgent, resources: {gpus: A100:4}}", "a").await.id;
    let second = submit(&ada, "{run: x, expected: 5m, resources: {gpus: A100:4}}", "b").await.id;
    let repeated =
        submit(&ada, "{run: x, deadline: 6h, class: urgent, resources: {gpus: A100:4}}", "a").await;
    assert_eq!(repeated.id, first, "a length of time is the same when it is said again");
    world.place().await;
    let waiting =
        if ada.job(first).await.unwrap().summary.state == JobState::Queued { first } else { second };
    let running = if waiting == first { second } else { first };
    let held = ada.hold(waiting).await.unwrap();
    assert_eq!((held.state, held.reason, held.top), (JobState::Queued, Some(Reason::Held), None));
    let by = held.held.unwrap();
    assert_eq!((by.by.as_str(), by.role), ("ada", spillway_types::Role::Member));
    let shown = ada.job(waiting).await.unwrap();
    let explanation = shown.explanation.unwrap();
    assert_eq!((explanation.reason, explanation.planned_start), (Some(Reason::Held), None));
    assert!(explanation.way_out.unwrap().contains("spillway release"));
    assert_eq!(ada.top(waiting).await.unwrap().top, Some(spillway_types::TopScope::Group));
    assert_eq!(root.top(waiting).await.unwrap().top, Some(spillway_types::TopScope::All));
    assert_eq!(root.hold(waiting).await.unwrap().held.unwrap().by.as_str(), "root");
    let forbidden = refused(ada.release(waiting).await);
    assert_eq!(forbidden.code, ErrorCode::Forbidden);
    assert!(forbidden.message.contains("the admin root holds it"), "{}", forbidden.message);
    let released = root.release(waiting).await.unwrap();
    assert_eq!((released.held, released.reason == Some(Reason::Held)), (None, false));
    for error in [
        refused(ada.hold(running).await),
        refused(ada.release(running).await),
        refused(ada.top(running).await),
    ] {
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(error.message.contains("only a job with tasks that wait"), "{}", error.message);
        assert!(error.hint.is_some());
    }
    for error in [refused(eve.hold(waiting).await), refused(eve.top(waiting).await)] {
        assert_eq!(error.code, ErrorCode::NotFound);
    }
    ada.cancel(waiting).await.unwrap();
    assert!(refused(ada.top(waiting).await).message.contains("ended already: cancelled"));
}

#[tokio::test]
async fn an_estimate_says_where_it_comes_from_and_a_deadline_must_lie_ahead() {
    let world = World::start().await;
    let ada = world.client("ada");
    for (text, key, source) in [
        ("{run: x, expected: 5m}", "a", spillway_types::EstimateSource::Expected),
        ("run: x", "b", spillway_types::EstimateSource::Limit),
    ] {
        let id = submit(&ada, text, key).await.id;
        assert_eq!(ada.job(id).await.unwrap().estimate.unwrap().source, source);
        ada.cancel(id).await.unwrap();
        assert_eq!(ada.job(id).await.unwrap().estimate, None, "what is over is not estimated");
    }
    let late = refused(ada.submit(&job("{run: x, deadline: 2020-01-01T00:00:00Z}"), "c").await);
    assert_eq!((late.code, late.field.as_deref()), (ErrorCode::Invalid, Some("deadline")));
    assert!(late.message.contains("is over already"), "{}", late.message);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_way_out() {
    let world = World::start().await;
    let (ada, eve) = (world.client("ada"), world.client("eve"));
    let unknown = refused(ada.submit(&job("{run: x, resources: {gpus: RTX-9999:1}}"), "a").await);
    assert_eq!((unknown.code, unknown.field.as_deref()), (ErrorCode::UnknownModel, Some("resources.gpus")));
    assert_eq!(unknown.hint.as_deref(), Some("known models: A100"));
    let many = refused(ada.submit(&job("{run: x, resources: {gpus: A100:5}}"), "b").await);
    assert_eq!(many.code, ErrorCode::Unsatisfiable);
    let dear = refused(eve.submit(&job("{run: x, resources: {gpus: A100:1}}"), "c").await);
    assert_eq!((dear.code, dear.value.as_deref()), (ErrorCode::BudgetExceeded, Some("rivals")));
    assert!(dear.message.contains("limit 0.50"), "{}", dear.message);
    let site = refused(ada.submit(&job("{run: x, where: {allow: [mars]}}"), "d").await);
    assert_eq!((site.field.as_deref(), site.hint.as_deref()), (Some("where.allow"), Some("known sites: dc")));
    let token = "authorization: Bearer token-ada\r\n";
    let (status, body) = world.raw("POST", "/v1/jobs", token, br#"{"run":"x","resources":{"gpu":1}}"#).await;
    assert_eq!(status, 400);
    assert!(body.contains(r#""field":"resources.gpu""#) && body.contains("did you mean `gpus`?"), "{body}");
    assert!(ada.jobs(&JobsQuery::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn jobs_and_tasks_come_page_by_page() {
    let world = World::start().await;
    let ada = world.client("ada");
    let mut made = vec![];
    for n in 0..5 {
        made.push(submit(&ada, "run: x", &n.to_string()).await.id);
    }
    made.reverse();
    let mut seen = vec![];
    let mut query = JobsQuery { limit: Some(2), ..JobsQuery::default() };
    loop {
        let page = ada.jobs(&query).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.iter().map(|job| job.id));
        let Some(next) = page.next else { break };
        query.after = Some(next.parse().unwrap());
    }
    assert_eq!(seen, made);
    let array = submit(&ada, "{run: x, array: 3-7}", "array").await;
    assert_eq!(array.tasks.queued, 5);
    let mut indexes = vec![];
    let mut query = TasksQuery { limit: Some(2), after: None };
    loop {
        let page = ada.tasks(array.id, &query).await.unwrap();
        assert!(page.items.iter().all(|task| matches!(task.state, TaskState::Queued { .. })));
        indexes.extend(page.items.iter().map(|task| task.index));
        let Some(next) = page.next else { break };
        query.after = Some(next.parse().unwrap());
    }
    assert_eq!(indexes, [3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_long_poll_answers_when_the_job_ends() {
    let world = World::start().await;
    let ada = world.client("ada");
    let job = submit(&ada, "run: x", "k").await;
    let short = ada.wait_for_job(job.id, Duration::from_millis(50)).await.unwrap();
    assert_eq!(short.summary.state, JobState::Queued, "the time was over");
    let waiting = world.client("ada");
    let poll = tokio::spawn(async move { waiting.wait_for_job(job.id, Duration::from_secs(30)).await });
    submit(&ada, "run: unrelated", "l").await;
    assert!(!poll.is_finished());
    ada.cancel(job.id).await.unwrap();
    let view =
        tokio::time::timeout(Duration::from_secs(5), poll).await.expect("it answers").unwrap().unwrap();
    assert_eq!(view.summary.state, JobState::Cancelled);
}

#[tokio::test]
async fn a_job_that_runs_shows_its_attempt_and_what_the_planner_saw() {
    let mut world = World::start().await;
    let ada = world.client("ada");
    let first = submit(&ada, "{run: x, resources: {gpus: 4}}", "a").await;
    let second = submit(&ada, "{run: x, resources: {gpus: 1}}", "b").await;
    world.place().await;
    let view = ada.job(first.id).await.unwrap();
    assert_eq!((view.summary.state, view.summary.reason), (JobState::Staging, None));
    let attempt = &view.attempts[0];
    assert_eq!((attempt.number, attempt.nodes[0].hostname.as_str()), (1, "dgx1"));
    assert_eq!((attempt.site.as_str(), attempt.rate.0), ("dc", 8_000_000));
    assert!(view.explanation.is_some_and(|seen| seen.candidates[0].verdict == "Chosen"));
    let waits = ada.job(second.id).await.unwrap();
    let seen = waits.explanation.unwrap();
    assert_eq!((waits.summary.reason, seen.position), (Some(Reason::Resources), Some(2)));
    assert!(seen.way_out.is_some() && seen.planned_start.is_some());
    world.run_to_end(attempt.id, 3).await;
    let over = ada.job(first.id).await.unwrap();
    assert_eq!((over.summary.state, over.summary.sites.len()), (JobState::Failed, 1));
    assert_eq!(over.attempts[0].end.as_deref(), Some("exit code 3"));
    let listed =
        ada.jobs(&JobsQuery { state: Some(JobState::Failed), ..JobsQuery::default() }).await.unwrap();
    assert_eq!(listed.items, [over.summary]);
    let tasks = ada.tasks(first.id, &TasksQuery::default()).await.unwrap();
    assert_eq!((tasks.items[0].attempts, tasks.items[0].site.as_ref().unwrap().as_str()), (1, "dc"));
}

#[tokio::test]
async fn a_plan_says_what_would_be_and_changes_nothing() {
    let world = World::start().await;
    let ada = world.client("ada");
    let before = world.engine.read(|view| view.federation.state().clone()).await.unwrap();
    let plan = ada.plan(&job("{run: x, resources: {gpus: A100:2}, time_limit: 1h}")).await.unwrap();
    assert_eq!((plan.spec.group.as_str(), plan.explanation.reason), ("lab", None));
    assert_eq!(plan.explanation.candidates[0].verdict, "Chosen");
    assert!(plan.hold.is_some_and(|hold| hold.micros >= 4_000_000), "two GPUs for an hour: {:?}", plan.hold);
    let unknown = refused(ada.plan(&job("{run: x, resources: {gpus: B9:1}}")).await);
    assert_eq!(unknown.code, ErrorCode::UnknownModel);
    assert_eq!(refused(ada.plan(&job("{run: x, group: rivals}")).await).field.as_deref(), Some("group"));
    assert_eq!(world.engine.read(|view| view.federation.state().clone()).await.unwrap(), before);
}
