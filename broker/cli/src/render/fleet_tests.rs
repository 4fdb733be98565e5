//! Machines as people see them.

use super::*;
use crate::render::job::tests::look;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect(text)
}

#[test]
fn the_list_of_sites() {
    let page: Page<SiteView> = read(
        r#"{"items":[
        {"name":"dc","kind":"on-prem","jurisdiction":"eu","nodes":3,"nodes_ready":2,"blocks":2400,"blocks_free":750,
         "pools":[{"name":"dgx","tariff":{"per_gpu":2000000,"per_cpu":10000}},{"name":"old","groups":["vision"],"tariff":{}}]},
        {"name":"desk","kind":"personal","nodes":1,"nodes_ready":1,"blocks":100,"blocks_free":100}]}"#,
    );
    insta::assert_snapshot!("sites", sites(&look(false), &page));
    insta::assert_snapshot!("sites_wide", sites(&look(true), &page));
}

#[test]
fn the_list_of_nodes() {
    let page: Page<NodeView> = read(
        r#"{"items":[{"id":"node_00000000000000010000000000000002","hostname":"dgx-1","site":"dc","kind":"on-prem","pool":"dgx",
        "state":"ready","gpus":[{"model":"H100","count":8,"memory_mib":81920}],"blocks":800,"blocks_free":425,
        "cpus_milli":112000,"cpus_milli_free":500,"memory_mib":2097152,"memory_mib_free":1536,"running":3,
        "last_seen":1799999998000,"version":"0.1.0","labels":{"rack":"a1"}}]}"#,
    );
    insta::assert_snapshot!("nodes", nodes(&look(false), &page));
    insta::assert_snapshot!("nodes_wide", nodes(&look(true), &page));
}

#[test]
fn who_is_told_of_limits() {
    let page: Page<DestinationView> = read(
        r#"{"items":[{"name":"finance","channel":"webhook","waiting":0},{"name":"chat","channel":"slack",
        "groups":["vision","audio"],"thresholds":[80,100],"waiting":2,"problem":"it answered 503"}]}"#,
    );
    insta::assert_snapshot!("alerts", alerts(&look(false), &page));
}

#[test]
fn clouds_and_offers() {
    let page: Page<CloudView> = read(
        r#"{"items":[{"name":"aws","regions":["eu-west","us-east"],"instances":[{"id":"inst_00000000000000010000000000000003",
        "provider_id":"i-0abc","state":"booting","site":"eu-west","instance_type":"p5.48xlarge","price":98320000,
        "launched":1799999940000,"cost":{"micros":1638666,"currency":"USD"}}]},{"name":"gcp","regions":[],"problem":"quota exceeded"}]}"#,
    );
    insta::assert_snapshot!("clouds", clouds(&look(false), &page));
    let page: Page<OfferView> = read(
        r#"{"items":[{"cloud":"aws","site":"eu-west","instance_type":"p5.48xlarge","gpus":[{"model":"H100","count":8,"memory_mib":81920}],
        "cpus_milli":192000,"memory_mib":2097152,"price":98320000,"boot":180000,"available":4}]}"#,
    );
    insta::assert_snapshot!("offers", offers(&look(false), &page));
}

#[test]
fn the_brokers_health() {
    let view: HealthView = read(
        r#"{"version":"0.1.0","deployment":"dep-1","incarnation":3,"mode":"starting","nodes_awaited":2,
        "invariant_violations":0,"ledger_imbalance_micros":0,"database":"sqlite /var/lib/spillway/state.db"}"#,
    );
    insta::assert_snapshot!(health(&look(false), &view));
    assert!(view.is_well());
}

#[test]
fn a_broker_shows_the_admins_token_at_its_first_start_only() {
    let started = |admin_token: Option<&str>| spillway_server::Ready {
        http: "http://127.0.0.1:7878".to_owned(),
        tunnel: "127.0.0.1:7879".to_owned(),
        ca_fingerprint: "ab".to_owned(),
        pid: 7,
        admin_token: admin_token.map(str::to_owned),
    };
    assert!(ready(&look(false), &started(Some("sw_1"))).contains("sw_1"));
    assert!(!ready(&look(false), &started(None)).contains("admin token"));
}
