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
fn what_lenders_are_owed_is_in_the_list_of_users() {
    let page: Page<UserView> = read(
        r#"{"items":[{"name":"ada","group":"lab","role":"member","credit":{"micros":12500000,"currency":"USD"}},
        {"name":"ada","group":"vision","role":"member"},{"name":"eve","group":"lab","role":"admin"}]}"#,
    );
    insta::assert_snapshot!(users(&look(false), &page));
    let nobody = Page { items: page.items[1..].to_vec(), next: None };
    assert!(!users(&look(false), &nobody).contains("CREDIT"));
}
