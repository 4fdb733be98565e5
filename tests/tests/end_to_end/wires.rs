//! The tunnel is cut: for less than a lease the job never notices; for longer it is stopped there before it starts
//! elsewhere.

use spillway_api::v1::JobState;
use spillway_tests::federation::{LATER, ON_PREM};
use spillway_tests::{Federation, Work, wait_for};

#[test]
fn a_cut_shorter_than_the_lease_is_not_noticed() {
    let mut federation = Federation::start();
    let link = federation.link();
    federation.join_through(link, "far", 1);
    let job = federation.submit(Work::new("unaware").at(ON_PREM).until_told().lease("30s").only_once());
    federation.wait_job(&job, JobState::Running);
    federation.wire(link).cut();
    let begun = federation.wait_evidence(&job, "a line", |copies| Some(copies.first()?.last_ms));
    federation.wait_evidence(&job, "four seconds more", |copies| {
        (copies.first()?.last_ms >= begun + 4000).then_some(())
    });
    federation.wire(link).mend();
    federation.finish(&job);
    let view = federation.wait_job(&job, JobState::Succeeded);
    assert_eq!(view.attempts.len(), 1, "{:#?}", view.attempts);
    federation.audit();
}

#[test]
fn a_cut_longer_than_the_lease_stops_the_job_before_it_starts_elsewhere() {
    let mut federation = Federation::start();
    let link = federation.link();
    federation.join_through(link, "far", 1);
    let job = federation.submit(Work::new("parted").at(ON_PREM).until_told().stubborn());
    federation.wait_job(&job, JobState::Running);
    federation.join("near", 1);
    federation.wire(link).cut();
    let (ended, started) = federation.wait_evidence(&job, "a second start", |copies| match copies {
        [first, second] => Some((first.last_ms, second.first_ms)),
        _ => None,
    });
    assert!(ended < started, "it ended at {ended} ms and started at {started} ms");
    federation.wire(link).mend();
    // The node that was cut off comes back and reports what it could not: it is charged once.
    wait_for("the late report", LATER, || {
        let first = federation.attempt(&job, 1);
        if first.cost.micros >= 2_000_000 { Ok(()) } else { Err(format!("{first:?}")) }
    });
    federation.finish(&job);
    federation.wait_job(&job, JobState::Succeeded);
    assert_eq!(federation.attempt(&job, 2).nodes[0].hostname, "near");
    federation.audit();
}
