//! `kill -9` of the broker at every named step of a job's way. It is started again, and then: nothing that it
//! acknowledged is lost, nothing ran twice, no instance is left, the ledger balances. That is the auditor's to say.

use spillway_api::v1::JobState;
use spillway_tests::federation::{CLOUD, ON_PREM, Submitted};
use spillway_tests::{Federation, Work, postgres};

/// Long enough for a broker to be started again meanwhile: the job must not notice.
const LEASE: &str = "60s";

/// Submits until the broker acknowledges: at the first point it dies before it can.
fn submit_through(federation: &mut Federation, work: &Work) -> Submitted {
    match federation.try_submit(work.clone()) {
        Ok(submitted) => {
            federation.wait_broker_dead();
            federation.start_broker();
            submitted
        }
        Err(_) => {
            federation.wait_broker_dead();
            federation.start_broker();
            federation.submit(work.clone())
        }
    }
}

/// The job survives a broker that dies at `point`, without ever being started twice.
fn dies_at(mut federation: Federation, point: &str, site: &str) {
    if site == ON_PREM {
        federation.join("one", 1);
    }
    federation.stop_broker();
    federation.start_broker_that_dies_at(point);
    let work = Work::new("survivor").at(site).lease(LEASE).only_once();
    let job = submit_through(&mut federation, &work);
    let view = federation.wait_job(&job, JobState::Succeeded);
    assert_eq!(view.attempts.len(), 1, "a second attempt was made: {:#?}", view.attempts);
    federation.audit();
}

macro_rules! points {
    ($($name:ident: $point:literal at $site:expr;)+) => {
        $(#[test]
        fn $name() {
            dies_at(Federation::start(), $point, $site);
        })+
    };
}

points! {
    on_prem_when_submitted: "job-submitted" at ON_PREM;
    on_prem_when_placed: "attempt-placed" at ON_PREM;
    on_prem_when_running: "attempt-activated" at ON_PREM;
    on_prem_when_finishing: "part-ended" at ON_PREM;
    on_prem_when_settled: "attempt-settled" at ON_PREM;
    cloud_when_submitted: "job-submitted" at CLOUD;
    cloud_when_intended: "instance-intended" at CLOUD;
    cloud_when_launched: "instance-launched" at CLOUD;
    cloud_when_leased: "attempt-leased" at CLOUD;
    cloud_when_running: "attempt-activated" at CLOUD;
    cloud_when_finishing: "part-ended" at CLOUD;
    cloud_when_settled: "attempt-settled" at CLOUD;
    cloud_when_terminating: "instance-terminating" at CLOUD;
}

#[test]
fn on_postgresql_when_running() {
    let Some(database) = postgres::fresh_database() else { return };
    dies_at(Federation::start_on(database.url()), "attempt-activated", ON_PREM);
}

#[test]
fn on_postgresql_when_launched() {
    let Some(database) = postgres::fresh_database() else { return };
    dies_at(Federation::start_on(database.url()), "instance-launched", CLOUD);
}

#[test]
fn a_lost_answer_to_a_launch_gives_one_machine() {
    let mut federation = Federation::start();
    std::fs::write(
        federation.path().join("sky/faults.toml"),
        "[[faults]]\nkind = \"timeout-after-launch\"\n",
    )
    .unwrap();
    let job = federation.submit(Work::new("ambiguous").at(CLOUD).lease(LEASE).only_once());
    let view = federation.wait_job(&job, JobState::Succeeded);
    assert_eq!(view.attempts.len(), 1, "{:#?}", view.attempts);
    federation.audit();
}

#[test]
fn a_broker_that_is_gone_for_longer_than_a_lease_starts_the_job_again_only_after_its_end() {
    let mut federation = Federation::start();
    federation.join("one", 1);
    let job = federation.submit(Work::new("short-lease").at(ON_PREM).until_told());
    federation.wait_begun(&job);
    federation.kill_broker();
    federation.wait_evidence(&job, "nothing more", |copies| {
        // The lease ended it: no line for a second.
        let last = copies.last()?.last_ms;
        (uptime_ms() > last + 1000).then_some(())
    });
    federation.start_broker();
    federation.wait_evidence(&job, "a second start", |copies| (copies.len() == 2).then_some(()));
    federation.finish(&job);
    let view = federation.wait_job(&job, JobState::Succeeded);
    assert_eq!(view.attempts.len(), 2, "{:#?}", view.attempts);
    federation.audit();
}

#[test]
fn a_broker_that_is_killed_again_and_again_loses_nothing() {
    let mut federation = Federation::start();
    federation.join("one", 2);
    let mut jobs = vec![];
    for round in 0..4 {
        for (number, site) in [ON_PREM, ON_PREM, CLOUD].into_iter().enumerate() {
            let work = Work::new(&format!("job-{round}-{number}")).at(site).lease(LEASE).only_once();
            jobs.push(federation.submit(work));
        }
        // At whatever step the others are when the first one of the round is at work.
        federation.wait_begun(&jobs[3 * round]);
        federation.kill_broker();
        federation.start_broker();
    }
    federation.audit();
}

/// CLOCK_BOOTTIME, to hundredths of a second.
fn uptime_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").expect("the kernel tells");
    let (seconds, rest) = text.split_once('.').expect("seconds and hundredths");
    let hundredths = rest.split(' ').next().expect("a first number");
    seconds.parse::<u64>().expect("seconds") * 1000 + hundredths.parse::<u64>().expect("hundredths") * 10
}
