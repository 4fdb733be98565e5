//! What groups may use, as it is seen.

use super::*;
use crate::render::job::tests::look;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect(text)
}

const GROUPS: &str = r#"{"items":[
    {"name":"audio","parent":"lab","weight":1,"priority":0,"spent":{"micros":0,"currency":"USD"},"held":{"micros":0,"currency":"USD"}},
    {"name":"deep","parent":"vision","weight":1,"priority":0,"spent":{"micros":0,"currency":"USD"},"held":{"micros":0,"currency":"USD"}},
    {"name":"lab","weight":1,"priority":0,"zone":"Asia/Seoul","spent":{"micros":7500000,"currency":"USD"},"held":{"micros":0,"currency":"USD"}},
    {"name":"seen","parent":"hidden","weight":1,"priority":0,"spent":{"micros":0,"currency":"USD"},"held":{"micros":0,"currency":"USD"}},
    {"name":"vision","parent":"lab","weight":2,"priority":-1,"budget":{"micros":100000000,"currency":"USD"},
     "spent":{"micros":7500000,"currency":"USD"},"held":{"micros":2500000,"currency":"USD"},
     "left":{"micros":90000000,"currency":"USD"},"members":["ada","bob"]}]}"#;

const LIMITS: &str = r#"{"items":[
    {"group":"lab","metric":"concurrent-gpus","scope":"on-prem","window":"instant","nominal":1600,"limit":1600,"used":1850,
     "held":0,"left":-250,"borrow":400,"action":"deny-new"},
    {"group":"vision","metric":"money","scope":"cloud","window":"month","nominal":5000000000,"limit":5500000000,
     "used":4999000000,"held":1000000,"left":500000000,"overshoot":830000,"action":"drain","thresholds":[50,80,100],"reached":80,
     "from":1793491200000,"to":1796083200000},
    {"group":"vision","metric":"gpu-time:H100","scope":"everywhere","window":"2026-01-01T00:00:00Z..2026-07-01T00:00:00Z",
     "nominal":5400000000,"limit":5400000000,"used":1800000,"held":0,"left":5398200000,"action":"warn","to":1782864000000}]}"#;

#[test]
fn groups_are_a_tree() {
    insta::assert_snapshot!("tree", tree(&look(false), &read(GROUPS)));
}

#[test]
fn limits_stand_somewhere() {
    insta::assert_snapshot!("limits", limits(&look(false), &read(LIMITS)));
}

#[test]
fn budgets_are_in_all_and_by_window() {
    let groups: Page<GroupView> = read(GROUPS);
    let limits: Page<LimitView> = read(LIMITS);
    let group = groups.items.into_iter().find(|group| group.name.as_str() == "vision").expect("it is there");
    let limits = limits.items.into_iter().filter(|limit| limit.metric.to_string() == "money").collect();
    let dollars = Budgets { currency: Currency::USD, group, limits };
    insta::assert_snapshot!("budgets", budgets(&look(false), &dollars));
    let euros = "EUR".parse().expect("a code");
    let stated = serde_json::from_str(
        r#"{"amount":{"micros":4000000000,"currency":"EUR"},"rate":"1.0853","on":"2026-11-01"}"#,
    );
    let stated = Some(stated.expect("what was stated"));
    let Budgets { mut group, mut limits, .. } = dollars;
    group.budget_stated = stated;
    let (budget, left) = (group.budget.as_mut(), group.left.as_mut());
    for amount in [Some(&mut group.spent), Some(&mut group.held), budget, left].into_iter().flatten() {
        amount.currency = euros;
    }
    limits.iter_mut().for_each(|limit| limit.stated = stated);
    insta::assert_snapshot!(
        "budgets_in_euros",
        budgets(&look(false), &Budgets { currency: euros, group, limits })
    );
}

#[test]
fn transfers_say_why() {
    let page: Page<TransferView> = read(
        r#"{"items":[{"key":"t-1","from":"vision","to":"audio","metric":"money","amount":500000000,
        "effective":1793491200000,"recorded":1793491200000,"by":"root","because":"the deadline of the other paper"}]}"#,
    );
    insta::assert_snapshot!("transfers", transfers(&look(false), &page));
}

#[test]
fn fair_shares_are_a_tree() {
    let page: Page<FairShareView> = read(
        r#"{"items":[
        {"group":"audio","parent":"lab","weight":1,"share":333333,"used_ms":0,"used":0,"effective":333333,"factor":500000,"in_use":0},
        {"group":"lab","weight":1,"share":1000000,"used_ms":5400000,"used":1000000,"effective":1000000,"factor":500000,"in_use":850},
        {"group":"vision","parent":"lab","weight":2,"share":666667,"used_ms":5400000,"used":1000000,"effective":1000000,"factor":353553,"in_use":850}]}"#,
    );
    insta::assert_snapshot!("fair_share", fair_share(&look(false), &page));
}
