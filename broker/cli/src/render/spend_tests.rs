//! Reports as they are seen.

use super::*;
use crate::render::job::tests::look;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect(text)
}

fn usd(micros: i64) -> String {
    format!(r#"{{"micros":{micros},"currency":"USD"}}"#)
}

/// Sums with everything there is.
fn sums(amount: i64, list: i64, overhead: i64, gpu_ms: i64) -> String {
    format!(
        r#""amount":{},"on_demand":{},"saved":{},"overhead":{},"egress":{},"gpu_ms":{gpu_ms},"per_gpu_hour":{},"on_prem":{},"saved_on_prem":{},"normalised_ms":{},"per_normalised_gpu_hour":{},"slices":7"#,
        usd(amount),
        usd(list),
        usd(list - amount + overhead),
        usd(overhead),
        usd(0),
        usd(2_000_001),
        usd(list / 4),
        usd(list / 4 - amount + overhead),
        gpu_ms * 5 / 2,
        usd(800_000),
    )
}

/// Sums of what has no list price and no accelerators.
fn plain(amount: i64) -> String {
    format!(
        r#""amount":{},"overhead":{},"egress":{},"gpu_ms":0,"slices":1"#,
        usd(amount),
        usd(0),
        usd(amount)
    )
}

fn groups() -> SpendReport {
    read(&format!(
        r#"{{"by":["group"],"zone":"UTC","closed_through":"2026-02","rows":[
        {{"keys":{{"group":"speech"}},{},"outlook":{{"budget":{},"budget_window":"month","committed":{},"forecast":{},"method":"mean-of-days"}}}},
        {{"keys":{{"group":"vision"}},{},"outlook":{{"committed":{},"forecast":{},"method":"seasonal-naive-weekday-mean"}}}}],
        "total":{},"sums":{{{}}},"ledger_total":{}}}"#,
        sums(5_000_001, 9_000_000, 250_000, 9_000_000),
        usd(100_000_000),
        usd(2_500_000),
        usd(12_000_000),
        plain(2_500_000),
        usd(0),
        usd(2_600_000),
        usd(7_500_001),
        sums(7_500_001, 9_000_000, 250_000, 9_000_000),
        usd(7_500_001),
    ))
}

fn periods() -> SpendReport {
    read(&format!(
        r#"{{"by":["period","accelerator"],"zone":"UTC","closed_through":"2026-02","rows":[
        {{"keys":{{"period":"2026-02","accelerator":"H100"}},{}}},
        {{"keys":{{"period":"2026-03","accelerator":""}},{}}},
        {{"keys":{{"period":"2026-03","accelerator":"H100"}},{}}}],
        "total":{},"sums":{{{}}}}}"#,
        sums(5_000_000, 9_000_000, 0, 9_000_000),
        plain(1_000),
        sums(-2_000_000, -2_500_000, 0, -3_600_000),
        usd(3_001_000),
        sums(3_001_000, 6_500_000, 0, 5_400_000),
    ))
}

#[test]
fn a_report_by_group_has_budgets_and_forecasts_and_ends_with_its_total() {
    insta::assert_snapshot!("spend", spend(&look(false), &groups()));
    insta::assert_snapshot!("spend_wide", spend(&look(true), &groups()));
    insta::assert_snapshot!("spend_csv", csv(&groups()));
}

#[test]
fn months_of_the_books_say_whether_they_can_change() {
    insta::assert_snapshot!("spend_periods", spend(&look(false), &periods()));
    insta::assert_snapshot!("spend_periods_csv", csv(&periods()));
}

#[test]
fn usage_says_each_rows_share() {
    insta::assert_snapshot!("usage", usage(&look(false), &groups()));
    insta::assert_snapshot!("usage_periods", usage(&look(false), &periods()));
}

#[test]
fn a_report_of_nothing_is_its_total() {
    let report: SpendReport = read(&format!(
        r#"{{"by":["day"],"zone":"Asia/Seoul","period":"2026-03","state":{{"state":"open"}},"rows":[],
        "total":{},"sums":{{{}}}}}"#,
        usd(0),
        plain(0)
    ));
    insta::assert_snapshot!("spend_nothing", spend(&look(false), &report));
    insta::assert_snapshot!("usage_nothing", usage(&look(false), &report));
}

#[test]
fn days_out_of_the_ordinary() {
    let found: AnomaliesView = read(
        r#"{"from":"2026-03-01","to":"2026-03-31","items":[
        {"group":"vision","sku":"H100","day":"2026-03-08","micros":400000000,"median_micros":100000000,
         "mad_micros":5000000,"score_milli":40470},
        {"group":"vision","sku":"","day":"2026-03-09","micros":0,"median_micros":12000000,"mad_micros":0,
         "score_milli":null}]}"#,
    );
    insta::assert_snapshot!("anomalies", anomalies(&look(false), &found));
    insta::assert_snapshot!("anomalies_csv", anomalies_csv(&found));
}

#[test]
fn shares_are_rounded() {
    assert_eq!(
        (share(1, 3).as_str(), share(2, 3).as_str(), share(0, 5).as_str()),
        ("33.3 %", "66.7 %", "0.0 %")
    );
    assert_eq!((share(-1, 3).as_str(), share(1, 0).as_str()), ("", ""));
}
