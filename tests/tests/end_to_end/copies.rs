//! A broker that is started from an old copy of its database ends nothing, starts nothing, and says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use spillway_api::v1::{BrokerMode, JobState};
use spillway_api::{ClientError, ErrorCode};
use spillway_tests::federation::{CLOUD, ON_PREM, SOON, Submitted};
use spillway_tests::{Federation, Work, wait_for};

/// Replaces a folder by a copy of another. The broker must not run.
fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).expect("a folder of the test's own");
    }
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(status.success());
}

fn copies(federation: &Federation) -> [PathBuf; 2] {
    ["old", "new"].map(|name| federation.path().join(name))
}

/// A copy of the database before `job` was placed, and the broker on it while the job runs.
fn start_from_old_copy(federation: &mut Federation, work: Work) -> Submitted {
    let [old, new] = copies(federation);
    federation.stop_broker();
    copy(&federation.data_dir(), &old);
    federation.start_broker();
    let job = federation.submit(work);
    federation.wait_job(&job, JobState::Running);
    federation.kill_broker();
    copy(&federation.data_dir(), &new);
    copy(&old, &federation.data_dir());
    federation.start_broker();
    job
}

fn expect_recovery(federation: &mut Federation, job: &Submitted, evidence: &str) {
    let health = wait_for("the recovery mode", SOON, || {
        let health = federation.health();
        if health.mode == BrokerMode::Recovery { Ok(health) } else { Err(format!("{health:?}")) }
    });
    let message = health.message.unwrap_or_default();
    assert!(message.contains("old copy") && message.contains(evidence), "{message}");
    // What runs goes on, for longer than its lease: it is renewed.
    let seen = federation.wait_evidence(job, "a line", |copies| Some(copies.first()?.last_ms));
    federation.wait_evidence(job, "five seconds more", |copies| {
        (copies.first()?.last_ms >= seen + 5000).then_some(())
    });
    match federation.try_submit(Work::new("refused").at(ON_PREM)) {
        Err(ClientError::Api(error)) => {
            assert_eq!((error.code, error.status()), (ErrorCode::Recovery, 503));
            assert!(error.message.contains("old copy"), "{error:?}");
        }
        other => panic!("a submission to a broker in recovery gave {other:?}"),
    }
}

/// Goes back to the newest database; the job ends well, as if nothing had been.
fn go_on_from_the_newest(mut federation: Federation, job: &Submitted) {
    let [_, new] = copies(&federation);
    federation.kill_broker();
    copy(&new, &federation.data_dir());
    federation.start_broker();
    federation.finish(job);
    let view = federation.wait_job(job, JobState::Succeeded);
    assert_eq!(view.attempts.len(), 1, "{:#?}", view.attempts);
    federation.audit();
}

#[test]
fn on_prem_a_node_that_has_seen_more_shows_it() {
    let mut federation = Federation::start();
    federation.join("one", 1);
    let job = start_from_old_copy(
        &mut federation,
        Work::new("untouched").at(ON_PREM).until_told().lease("10s").only_once(),
    );
    expect_recovery(&mut federation, &job, "has seen journal entry");
    go_on_from_the_newest(federation, &job);
}

#[test]
fn in_the_cloud_an_instance_that_was_launched_later_shows_it() {
    let mut federation = Federation::start();
    let job = start_from_old_copy(
        &mut federation,
        Work::new("untouched").at(CLOUD).until_told().lease("10s").only_once(),
    );
    expect_recovery(&mut federation, &job, "was launched at journal entry");
    let clouds = federation.ask(federation.client().clouds()).unwrap();
    assert!(clouds.items.iter().all(|cloud| cloud.instances.is_empty()), "it knows of none: {clouds:?}");
    go_on_from_the_newest(federation, &job);
}
