//! What runs is stopped so that it, or another, runs better elsewhere, and everybody tells the same about it.

use spillway_api::v1::{JobState, JobView};
use spillway_tests::federation::{CLOUD, ON_PREM};
use spillway_tests::{Federation, Work};
use spillway_types::SiteName;

/// Where the attempts of a job ran, the oldest first.
fn sites(job: &JobView) -> Vec<SiteName> {
    job.attempts.iter().rev().map(|attempt| attempt.site.clone()).collect()
}

#[test]
fn a_patient_job_gives_way_to_an_urgent_one_and_runs_again() {
    let mut federation = Federation::start();
    federation.join("one", 1);
    let patient =
        federation.submit(Work::new("patient").at(ON_PREM).class("patient").expected("100s").until_told());
    federation.wait_begun(&patient);
    let urgent = federation.submit(Work::new("urgent").at(ON_PREM).class("urgent"));
    federation.wait_job(&urgent, JobState::Succeeded);
    federation.wait_evidence(&patient, "a second start", |copies| (copies.len() == 2).then_some(()));
    federation.finish(&patient);
    let view = federation.wait_job(&patient, JobState::Succeeded);
    assert_eq!(view.attempts.len(), 2, "{:#?}", view.attempts);
    federation.audit();
}

#[test]
fn a_job_with_checkpoints_comes_home_when_a_node_is_there() {
    let mut federation = Federation::start();
    let travels = federation.submit(Work::new("travels").expected("100s").checkpoints("1s").until_told());
    federation.wait_begun(&travels);
    federation.join("one", 1);
    federation.wait_evidence(&travels, "a second start", |copies| (copies.len() == 2).then_some(()));
    federation.finish(&travels);
    let view = federation.wait_job(&travels, JobState::Succeeded);
    let [abroad, home] = [CLOUD, ON_PREM].map(|site| site.parse().unwrap());
    assert_eq!(sites(&view), [abroad, home]);
    federation.audit();
}

#[test]
fn a_job_without_checkpoints_stays_where_it_runs() {
    let mut federation = Federation::start();
    let stays = federation.submit(Work::new("stays").expected("100s").until_told());
    federation.wait_begun(&stays);
    federation.join("one", 1);
    let next = federation.submit(Work::new("next").at(ON_PREM));
    federation.wait_job(&next, JobState::Succeeded);
    federation.finish(&stays);
    let view = federation.wait_job(&stays, JobState::Succeeded);
    assert_eq!(sites(&view), [CLOUD.parse::<SiteName>().unwrap()]);
    federation.audit();
}
