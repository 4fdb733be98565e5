//! The one planner that lasts, with a real engine on a SQLite file.

use spillway_policies::{Delay, DelayCause};
use spillway_types::UserName;

use super::*;
use crate::http::tests::world::{World, submit};

/// A job on so many of the node's four GPUs.
fn takes(gpus: u32, minutes: u32) -> String {
    format!("group: lab\nresources: {{gpus: 'A100:{gpus}'}}\ntime_limit: {minutes}m\nrun: ['true']")
}

fn planning(engine: &Engine) -> Planning {
    let endpoint = Endpoint::default();
    Planning { engine: engine.clone(), endpoint, follower: None, doubtful: BTreeSet::new(), rest_until: 0 }
}

async fn explained(engine: &Engine, job: JobId) -> Option<Explanation> {
    engine.read(move |view| view.explanations.get(&job).cloned()).await.unwrap()
}

async fn unseen(engine: &Engine) -> Unseen {
    engine.follow(|_, unseen| unseen).await.unwrap()
}

#[tokio::test]
async fn whoever_follows_sees_each_change_once() {
    let world = World::start().await;
    assert_eq!(unseen(&world.engine).await, Unseen::Everything);
    let job = submit(&world.client("ada"), &takes(4, 60), "key").await.id;
    let Unseen::Rows(rows) = unseen(&world.engine).await else { panic!("not everything") };
    assert!(rows.contains(&Key::Job(job)) && !rows.contains(&Key::Node(world.node)), "{rows:?}");
    assert_eq!(unseen(&world.engine).await, Unseen::Rows(BTreeSet::new()));
}

#[tokio::test]
async fn a_promise_that_gets_worse_says_why_across_plans() {
    let world = World::start().await;
    let (client, mut planning) = (world.client("ada"), planning(&world.engine));
    submit(&client, &takes(4, 60), "first").await;
    planning.once().await.unwrap();
    let patient = submit(&client, &takes(4, 30), "patient").await.id;
    // However long a plan took, the next one is whole.
    planning.rest_until = 0;
    planning.once().await.unwrap();
    let before = explained(&world.engine, patient).await.unwrap();
    assert_eq!(before.delay, None);
    let hasty = submit(&client, &takes(4, 45), "hasty").await.id;
    let user: UserName = "root".parse().unwrap();
    world.engine.command(Command::Top { job: hasty, user }).await.unwrap();
    planning.rest_until = 0;
    planning.once().await.unwrap();
    let after = explained(&world.engine, patient).await.unwrap();
    let was = before.planned_start.unwrap();
    assert_eq!(after.delay, Some(Delay { was, cause: DelayCause::JobBefore }));
    assert!(after.planned_start > Some(was), "{after:?}");
}

#[tokio::test]
async fn jobs_that_come_while_whole_plans_rest_start_behind_what_is_planned() {
    let policy = Policy { search: 0, ..Policy::default() };
    let world = World::with_policy(policy).await;
    let (client, mut planning) = (world.client("ada"), planning(&world.engine));
    submit(&client, &takes(2, 60), "first").await;
    let wide = submit(&client, &takes(4, 30), "wide").await.id;
    planning.once().await.unwrap();
    assert_eq!(world.attempts().await.len(), 1);
    // Nothing is laid on a node that has changed until a whole plan has seen it.
    planning.rest_until = 0;
    planning.once().await.unwrap();
    let promised = explained(&world.engine, wide).await.unwrap();
    planning.rest_until = u64::MAX;
    // It would still run when the wide one is to start.
    let long = submit(&client, &takes(2, 90), "long").await.id;
    submit(&client, &takes(2, 45), "short").await;
    let pause = planning.once().await.unwrap();
    assert!(pause > AT_LEAST_EVERY, "a whole plan is owed when the rest is over");
    assert_eq!(world.attempts().await.len(), 2, "the short one has started");
    assert_eq!(explained(&world.engine, wide).await.unwrap(), promised, "nothing that was planned has moved");
    let long = explained(&world.engine, long).await.unwrap();
    assert!(long.planned_start > promised.planned_start && long.position == 2, "{long:?}");
}

#[tokio::test]
async fn a_planner_that_was_lost_begins_anew() {
    let world = World::start().await;
    let mut planning = planning(&world.engine);
    submit(&world.client("ada"), &takes(4, 60), "first").await;
    planning.once().await.unwrap();
    let second = submit(&world.client("ada"), &takes(4, 60), "second").await.id;
    planning.follower = None;
    planning.once().await.unwrap();
    let explanation = explained(&world.engine, second).await.unwrap();
    assert!(explanation.planned_start.is_some(), "it knows of the first: {explanation:?}");
}

#[tokio::test]
async fn what_could_not_be_carried_out_is_looked_at_again() {
    let world = World::start().await;
    let mut planning = planning(&world.engine);
    let first = submit(&world.client("ada"), &takes(4, 60), "first").await.id;
    // The plan is made, and the job is held before it is carried out.
    let heard = world.engine.follow(|view, unseen| hear(None, &BTreeSet::new(), view, unseen)).await.unwrap();
    let made = plan_whole(heard, world.engine.clock());
    let user: UserName = "ada".parse().unwrap();
    world.engine.command(Command::Hold { job: first, user: user.clone() }).await.unwrap();
    assert_eq!(planning.place(made.decisions).await.unwrap(), 0);
    assert_eq!(planning.doubtful, [Key::Job(first), Key::Node(world.node)].into());
    planning.follower = Some(made.follower);
    planning.once().await.unwrap();
    world.engine.command(Command::Release { job: first, user }).await.unwrap();
    planning.once().await.unwrap();
    assert_eq!(world.attempts().await.len(), 1);
}
