//! Money and people as they are seen.

use super::*;
use crate::render::job::tests::look;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect(text)
}

#[test]
fn the_list_of_groups() {
    let page: Page<GroupView> = read(
        r#"{"items":[
        {"name":"lab","weight":1,"priority":0,"spent":{"micros":7500000,"currency":"USD"},"held":{"micros":0,"currency":"USD"}},
        {"name":"vision","parent":"lab","weight":2,"priority":-1,"budget":{"micros":100000000,"currency":"USD"},
         "spent":{"micros":7500000,"currency":"USD"},"held":{"micros":2500000,"currency":"USD"},
         "left":{"micros":90000000,"currency":"USD"},"members":["ada","bob"]}]}"#,
    );
    insta::assert_snapshot!(groups(&look(false), &page));
}

#[test]
fn spend_ends_with_its_total() {
    let report: SpendReport = read(
        r#"{"by":["group","site"],"rows":[
        {"keys":{"group":"vision","site":"dc"},"amount":{"micros":5000001,"currency":"USD"},"gpu_ms":9000000},
        {"keys":{"group":"vision","site":"eu-west"},"amount":{"micros":2500000,"currency":"USD"},"gpu_ms":90000}],
        "total":{"micros":7500001,"currency":"USD"},"ledger_total":{"micros":7500001,"currency":"USD"}}"#,
    );
    insta::assert_snapshot!("spend", spend(&look(false), &report));
    insta::assert_snapshot!("spend_wide", spend(&look(true), &report));
}
