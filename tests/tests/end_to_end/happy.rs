//! Nothing goes wrong: jobs run on-prem and in the cloud, and everybody tells the same about it.

use spillway_api::v1::JobState;
use spillway_tests::federation::{CLOUD, ON_PREM};
use spillway_tests::{Federation, Work, postgres};
use spillway_types::FailureReason;

fn runs(mut federation: Federation) {
    federation.join("one", 2);
    let jobs = [
        federation.submit(Work::new("here").at(ON_PREM)),
        federation.submit(Work::new("there").at(CLOUD)),
        federation.submit(Work::new("wrong").at(ON_PREM).exiting(3).expecting(JobState::Failed)),
    ];
    let wrong = federation.wait_job(&jobs[2], JobState::Failed);
    assert_eq!(wrong.failure, Some(FailureReason::ExitCode { code: 3 }));
    for job in &jobs[..2] {
        federation.wait_job(job, JobState::Succeeded);
    }
    federation.audit();
}

#[test]
fn jobs_run_on_prem_and_in_the_cloud_on_sqlite() {
    runs(Federation::start());
}

#[test]
fn jobs_run_on_prem_and_in_the_cloud_on_postgresql() {
    let Some(database) = postgres::fresh_database() else { return };
    runs(Federation::start_on(database.url()));
}

#[test]
fn a_queue_longer_than_its_machine_runs_one_after_the_other() {
    let mut federation = Federation::start();
    federation.join("one", 1);
    for name in ["first", "second", "third"] {
        federation.submit(Work::new(name).at(ON_PREM));
    }
    federation.audit();
}

#[test]
fn arrays_and_gangs_run_whole() {
    let mut federation = Federation::start();
    federation.join("one", 2);
    federation.join("two", 2);
    federation.submit(Work::new("array").at(ON_PREM).array("3-8"));
    let gang = federation.submit(Work::new("gang").at(ON_PREM).on_nodes(2));
    federation.submit(Work::new("cloud-gang").at(CLOUD).on_nodes(2));
    let view = federation.wait_job(&gang, JobState::Succeeded);
    assert_eq!(view.attempts[0].nodes.len(), 2, "{:?}", view.attempts);
    federation.audit();
}

#[test]
fn an_orderly_restart_of_everything_keeps_running_jobs() {
    let mut federation = Federation::start();
    let agent = federation.join("one", 1);
    let job = federation.submit(Work::new("patient").at(ON_PREM).until_told().lease("60s").only_once());
    let waits = federation.submit(Work::new("behind-it").at(ON_PREM));
    federation.wait_begun(&job);
    federation.stop_broker();
    federation.agents[agent].process.stop(spillway_tests::federation::SOON);
    federation.agents[agent].restart();
    federation.start_broker();
    let running = federation.wait_job(&job, JobState::Running);
    assert_eq!(running.attempts.len(), 1, "{:?}", running.attempts);
    federation.finish(&job);
    federation.wait_job(&waits, JobState::Succeeded);
    federation.audit();
}
