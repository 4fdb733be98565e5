//! Agents that are killed, stopped and started again: a running job goes on under its supervisor, or is run again as
//! its policy says, and never in two places at the same time.

use spillway_api::v1::JobState;
use spillway_tests::federation::{ON_PREM, SOON};
use spillway_tests::{Federation, Work, wait_for};
use spillway_types::{FailureReason, NodeState};

#[test]
fn a_killed_agent_that_is_started_again_takes_its_job_up() {
    let mut federation = Federation::start();
    let agent = federation.join("one", 1);
    let job = federation.submit(Work::new("carried").at(ON_PREM).until_told().lease("30s").only_once());
    federation.wait_job(&job, JobState::Running);
    federation.agents[agent].process.kill();
    federation.agents[agent].restart();
    federation.wait_node("one", NodeState::Ready);
    federation.finish(&job);
    let view = federation.wait_job(&job, JobState::Succeeded);
    assert_eq!(view.attempts.len(), 1, "{:#?}", view.attempts);
    federation.audit();
}

#[test]
fn a_job_that_ends_while_its_agent_is_dead_is_reported_by_the_next_one() {
    let mut federation = Federation::start();
    let agent = federation.join("one", 1);
    let job = federation.submit(Work::new("quiet").at(ON_PREM).until_told().lease("30s").only_once());
    federation.wait_job(&job, JobState::Running);
    federation.agents[agent].process.kill();
    federation.finish(&job);
    federation.wait_evidence(&job, "an end", |copies| copies.first()?.finished.then_some(()));
    federation.agents[agent].restart();
    federation.wait_job(&job, JobState::Succeeded);
    federation.audit();
}

#[test]
fn a_job_of_an_agent_that_never_comes_back_is_run_elsewhere() {
    let mut federation = Federation::start();
    let lost = federation.join("lost", 1);
    let job = federation.submit(Work::new("moves").at(ON_PREM).until_told());
    federation.wait_job(&job, JobState::Running);
    federation.join("spare", 1);
    federation.agents[lost].process.kill();
    federation.wait_evidence(&job, "a second start", |copies| (copies.len() == 2).then_some(()));
    federation.finish(&job);
    federation.wait_job(&job, JobState::Succeeded);
    assert_eq!(federation.attempt(&job, 2).nodes[0].hostname, "spare");
    federation.audit();
}

#[test]
fn a_job_that_must_not_start_twice_fails_with_its_agent() {
    let mut federation = Federation::start();
    let lost = federation.join("lost", 1);
    federation.join("spare", 1);
    let work = Work::new("once").at(ON_PREM).until_told().only_once().expecting(JobState::Failed);
    let job = federation.submit(work);
    let host = federation.wait_job(&job, JobState::Running).attempts[0].nodes[0].hostname.clone();
    let at = if host == "lost" { lost } else { 1 };
    federation.agents[at].process.kill();
    let view = federation.wait_job(&job, JobState::Failed);
    assert_eq!(view.failure, Some(FailureReason::Lost));
    federation.audit();
}

#[test]
fn a_gang_that_loses_a_node_is_stopped_whole_and_run_again_whole() {
    let mut federation = Federation::start();
    let lost = federation.join("lost", 1);
    federation.join("kept", 1);
    let job = federation.submit(Work::new("gang").at(ON_PREM).on_nodes(2).until_told());
    federation.wait_job(&job, JobState::Running);
    federation.join("spare", 1);
    federation.agents[lost].process.kill();
    federation.wait_evidence(&job, "two more starts", |copies| (copies.len() == 4).then_some(()));
    federation.finish(&job);
    federation.wait_job(&job, JobState::Succeeded);
    let hosts = federation.attempt(&job, 2).nodes.into_iter().map(|node| node.hostname);
    assert_eq!(hosts.collect::<std::collections::BTreeSet<_>>(), ["kept", "spare"].map(str::to_owned).into());
    federation.audit();
}

#[test]
fn a_stopped_agent_does_not_keep_its_job_alive_past_the_lease() {
    let mut federation = Federation::start();
    let stopped = federation.join("stopped", 1);
    // Even a job that does not listen is dead when it is placed again.
    let job = federation.submit(Work::new("held").at(ON_PREM).until_told().stubborn());
    federation.wait_job(&job, JobState::Running);
    federation.join("spare", 1);
    federation.agents[stopped].process.pause();
    federation.wait_evidence(&job, "a second start", |copies| (copies.len() == 2).then_some(()));
    federation.agents[stopped].process.resume();
    // Its report comes late, and counts once.
    wait_for("the late report", SOON, || {
        let first = federation.attempt(&job, 1);
        if first.ended.is_some() && first.cost.micros > 0 { Ok(()) } else { Err(format!("{first:?}")) }
    });
    federation.finish(&job);
    federation.wait_job(&job, JobState::Succeeded);
    federation.audit();
}

#[test]
fn a_second_agent_with_the_same_identity_takes_over_and_the_first_one_says_why_it_ends() {
    let mut federation = Federation::start();
    let first = federation.join("twin", 1);
    let job = federation.submit(Work::new("seen-once").at(ON_PREM));
    federation.wait_job(&job, JobState::Succeeded);
    let mut spec = federation.agents[first].spec.clone();
    wait_for("the run's folder to be cleared away", SOON, || {
        let left = std::fs::read_dir(spec.state.join("runs")).unwrap().count();
        if left == 0 { Ok(()) } else { Err(format!("{left} folders are left")) }
    });
    let copy = federation.path().join("agents/copied/state");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    let copied = std::process::Command::new("cp").arg("-r").arg(&spec.state).arg(&copy).status().unwrap();
    assert!(copied.success());
    // The copied part of the trace would tell a second life of what ran before.
    std::fs::remove_file(copy.join("trace.log")).unwrap();
    spec.state = copy;
    spec.name = "copied".to_owned();
    let second = spec.start(None);
    let status = federation.agents[first].process.wait(SOON);
    assert_eq!(status.code(), Some(1));
    let said = federation.agents[first].process.stderr();
    assert!(said.contains("another agent with this identity connected later"), "{said}");
    federation.agents[first].take_over(second);
    let job = federation.submit(Work::new("after").at(ON_PREM));
    federation.wait_job(&job, JobState::Succeeded);
    federation.audit();
}

#[test]
fn two_agents_in_one_folder_are_one_too_many() {
    let mut federation = Federation::start();
    let first = federation.join("one", 1);
    let mut spec = federation.agents[first].spec.clone();
    spec.name = "intruder".to_owned();
    let mut second = spec.start(None);
    assert_eq!(second.wait(SOON).code(), Some(1));
    assert!(second.stderr().contains("another agent uses the folder"), "{}", second.stderr());
    drop(second);
    assert_eq!(federation.node("one").unwrap().state, NodeState::Ready);
    federation.audit();
}
