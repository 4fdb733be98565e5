//! Jobs as people see them.

use spillway_types::UnixMs;

use super::*;

/// Noon of a day; everything below is told from then.
pub(in crate::render) fn look(wide: bool) -> Look {
    Look { wide, width: None, now: UnixMs(1_800_000_000_000) }
}

fn summary(state: &str, more: &str) -> String {
    format!(
        r#"{{"id":"job_00000000000000010000000000000007","name":"train","group":"vision","user":"ada","state":"{state}",
        "submitted":1799996400000,"cost":{{"micros":12345678,"currency":"USD"}},{more}}}"#
    )
}

const SPEC: &str = r#"{"name":"train","group":"vision","command":["python","train.py"],"env":{},"image":null,
    "resources":{"gpus":"H100:8","cpus_milli":16000,"memory_mib":65536},"nodes":2,"array":null,"time_limit":7200000,"expected":null,
    "placement":{"allow":[],"prefer":[],"residency":[],"max_price":null,"max_wait":null,"spot":"never"},
    "checkpoint":{"signal":15,"grace":10000},"retry":{"max_attempts":3,"on_loss":true,"on_failure":false},"lease":60000}"#;

const EXPLANATION: &str = r#"{"reason":"Resources","planned_start":1800000600000,"position":2,"candidates":[
    {"site":"dc","what":"dgx","verdict":"Planned","detail":"8 of 16 H100 are busy until 12:10","rate":16000000,"cost":{"micros":32000000,"currency":"USD"},"wait":600000},
    {"site":"eu-west","what":"p5.48xlarge","verdict":"Dearer","detail":"costs 180.00 more, saves 8m","rate":98320000,"cost":{"micros":212000000,"currency":"USD"},"wait":120000},
    {"site":"desk-ada","what":"desks","verdict":"TooSmall","detail":"has 1 of 8 GPUs"}]}"#;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect(text)
}

#[test]
fn the_list_of_jobs() {
    let running = summary("running", r#""tasks":{"running":1},"started":1799999940000,"sites":["dc"]"#);
    let queued =
        summary("queued", r#""reason":"Budget","tasks":{"queued":3,"succeeded":7},"name":"sweep \u001b[2J""#)
            .replacen(r#""name":"train","#, "", 1);
    let page: Page<JobSummary> = read(&format!(r#"{{"items":[{running},{queued}]}}"#));
    insta::assert_snapshot!("jobs", jobs(&look(false), &page));
    insta::assert_snapshot!("jobs_wide", jobs(&look(true), &page));
    insta::assert_snapshot!("jobs_narrow", jobs(&Look { width: Some(80), ..look(false) }, &page));
    let none: Page<JobSummary> = read(r#"{"items":[]}"#);
    assert_eq!(jobs(&look(false), &none).lines().count(), 1);
}

#[test]
fn a_job_that_waits_says_why() {
    let waits = summary("queued", r#""reason":"Resources","tasks":{"queued":1}"#);
    let view: JobView = read(&format!(r#"{{"summary":{waits},"spec":{SPEC},"explanation":{EXPLANATION}}}"#));
    insta::assert_snapshot!(job(&look(false), &view));
}

#[test]
fn a_held_job_says_who_holds_it_and_how_it_goes_on() {
    let held = summary(
        "queued",
        r#""reason":"Held","held":{"by":"root","role":"admin","since":1799999940000},"top":"group","tasks":{"queued":1}"#,
    );
    let spec = SPEC
        .replace(r#""expected":null,"#, r#""expected":null,"deadline":{"within":7200000},"class":"urgent","#);
    let spec = spec.replace(r#""spot":"never""#, r#""spot":"never","interconnect":"same-domain""#);
    let estimate = r#"{"duration":900000,"source":{"from":"history","runs":5}}"#;
    let explanation = r#"{"reason":"Held","way_out":"`spillway release` lets it go on"}"#;
    let view: JobView = read(&format!(
        r#"{{"summary":{held},"spec":{spec},"estimate":{estimate},"explanation":{explanation}}}"#
    ));
    insta::assert_snapshot!(job(&look(false), &view));
    let line = arranged(&look(false), &view.summary);
    assert_eq!(line, "job_00000000000000010000000000000007 queued, held, before the others of its group\n");
    let running = summary("running", r#""top":"all","tasks":{"running":1}"#);
    let line = arranged(&look(false), &read(&running));
    assert_eq!(line, "job_00000000000000010000000000000007 running, before the jobs of all groups\n");
}

#[test]
fn a_job_that_failed_says_how_and_where() {
    let failed = summary(
        "failed",
        r#""tasks":{"succeeded":9,"failed":1},"started":1799999400000,"ended":1800000000000,"sites":["eu-west"]"#,
    );
    let attempt = r#"{"id":"att_00000000000000010000000000000009","task":3,"number":2,"state":"settled","site":"eu-west","kind":"cloud",
        "instance_type":"p5.48xlarge","nodes":[{"node":"node_00000000000000010000000000000002","hostname":"ip-10-0-0-1"}],"rate":98320000,
        "because":"waiting for dc would cost more than 180.00","placed":1799999280000,"started":1799999400000,"ended":1800000000000,
        "wait":65000,"cost":{"micros":16386666,"currency":"USD"},"end":"exit code 7"}"#;
    let failure = r#"{"kind":"exit-code","code":7}"#;
    let view: JobView =
        read(&format!(r#"{{"summary":{failed},"spec":{SPEC},"attempts":[{attempt}],"failure":{failure}}}"#));
    insta::assert_snapshot!(job(&look(false), &view));
}

#[test]
fn a_job_that_waits_for_its_data_says_how_far_it_is() {
    let attempt = r#"{"id":"att_00000000000000010000000000000009","task":0,"number":1,"state":"leased","site":"dc","kind":"on-prem",
        "rate":0,"because":"free","placed":1799999280000,"wait":0,"cost":{"micros":0,"currency":"USD"},
        "input_bytes":150000000000,"moved_bytes":2500000000}"#;
    let attempt: AttemptView = read(attempt);
    assert_eq!(brought(&attempt).as_deref(), Some("data: 2.5GB of 150GB"));
    let runs = AttemptView { started: Some(UnixMs(0)), ..attempt.clone() };
    assert_eq!((brought(&runs), brought(&AttemptView { input_bytes: 0, ..attempt })), (None, None));
}

#[test]
fn a_plan_names_every_candidate() {
    let hold = r#"{"micros":224000000,"currency":"USD"}"#;
    let view: PlanView = read(&format!(r#"{{"spec":{SPEC},"hold":{hold},"explanation":{EXPLANATION}}}"#));
    insta::assert_snapshot!(plan(&look(false), &view));
}
