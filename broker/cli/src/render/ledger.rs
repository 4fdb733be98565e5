//! The books as they are seen.

use spillway_api::v1::{CorrectionView, LedgerCheckView, Page, PeriodView, RatesView, ReconciliationView};
use spillway_ledger::calendar::{Period, Zone};
use spillway_ledger::journal::SiteManifest;
use spillway_ledger::reconcile::{Finding, Verdict};
use spillway_types::Money;

use super::value::{amount, maybe};
use crate::output::Look;
use crate::table::{Table, facts};

/// What a verification found.
pub(crate) fn check(_: &Look, view: &LedgerCheckView) -> String {
    let verdict = view.defect.clone().unwrap_or_else(|| "everything is as it was written".to_owned());
    facts(&[
        ("records", Some(view.records.to_string())),
        ("accounts", Some(view.accounts.to_string())),
        ("closed periods", Some(view.periods.to_string())),
        ("roll-ups", Some(view.rollups.to_string())),
        ("head", Some(view.head.to_string())),
        ("verdict", Some(verdict)),
    ])
}

/// A correction that was made.
pub(crate) fn correction(_: &Look, view: &CorrectionView) -> String {
    facts(&[
        ("corrects", Some(view.corrects.clone())),
        ("was", Some(amount(view.was))),
        ("is", Some(amount(view.is))),
        ("charged in", Some(view.period.to_string())),
        ("booked into", Some(view.booked.to_string())),
    ])
}

/// The closed periods.
pub(crate) fn periods(look: &Look, page: &Page<PeriodView>) -> String {
    let mut table = Table::new(look, &["PERIOD", "CLOSED", "EXPORT SHA-256"]);
    for view in &page.items {
        table.row([view.period.to_string(), view.closed_at.to_string(), maybe(view.digest)]);
    }
    table.lines()
}

/// What was here of each site's usage at a close: in the wide form a line for each node, and one for those that had left.
pub(crate) fn manifests(look: &Look, page: &Page<SiteManifest>) -> String {
    let heads = ["SITE", "NODE", ">EVENTS", ">IN MONTH", "NUMBERS", "SHA-256"];
    let mut table = Table::new(look, &heads);
    for site in &page.items {
        let nodes = site.nodes.len() as u64 + site.gone.marks;
        let of = format!("{nodes} nodes, {} left", site.gone.marks);
        let (name, count) = (site.site.to_string(), site.count.to_string());
        table.row([name.clone(), of, count, site.added.to_string(), "-".to_owned(), site.hash.to_string()]);
        for node in site.nodes.iter().filter(|_| look.wide) {
            let count = node.mark.count.saturating_add(node.earlier.count);
            let numbers = node.mark.range.map(|(first, last)| format!("{first}-{last}"));
            let (count, hash) = (count.to_string(), node.mark.hash.to_string());
            table.row([name.clone(), node.node.to_string(), count, "-".to_owned(), maybe(numbers), hash]);
        }
    }
    table.lines()
}

/// One period.
pub(crate) fn period(look: &Look, view: &PeriodView) -> String {
    periods(look, &Page { items: vec![view.clone()], next: None })
}

/// Rate cards, a line for each model. Those made of a cost are of their first month.
pub(crate) fn rates(look: &Look, page: &Page<RatesView>) -> String {
    let mut table = Table::new(look, &["POOL", "FROM", "MODEL", ">GPU HOUR", "IN", "UNUSED TO", "?LENT BY"]);
    for view in &page.items {
        let lent = view.card.lending().map(|lending| {
            let permille = lending.permille();
            format!("{} for {}.{}%", lending.owner(), permille / 10, permille % 10)
        });
        let rates = view.card.rates(Period::of(view.effective, &Zone::utc()), &Zone::utc());
        for (model, rate) in rates {
            let rate = format!("{rate:.6}");
            let from = view.effective.to_string();
            let (currency, unused) = (view.card.currency().to_string(), view.card.unused().to_string());
            let (pool, model) = (view.pool.to_string(), model.to_string());
            table.row([pool, from, model, rate, currency, unused, maybe(lent.as_ref())]);
        }
    }
    table.lines()
}

/// One rate card.
pub(crate) fn rate(look: &Look, view: &RatesView) -> String {
    rates(look, &Page { items: vec![view.clone()], next: None })
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Matched => "matched",
        Verdict::Price => "price",
        Verdict::Usage => "usage",
        Verdict::Orphan => "orphan",
        Verdict::Missing => "missing",
    }
}

/// What a bill and the charges differ in: every finding in the wide form, else those that do not match.
pub(crate) fn reconciliation(look: &Look, view: &ReconciliationView) -> String {
    let heads = ["VERDICT", "RESOURCE", "FROM", ">BILL", ">CHARGED", ">PRICE", ">USAGE"];
    let mut table = Table::new(look, &heads);
    let micros = |micros: i64| amount(Money { micros, currency: view.theirs.currency });
    let shown = |it: &&Finding| look.wide || it.verdict != Verdict::Matched;
    for it in view.findings.iter().filter(shown) {
        table.row([
            word(it.verdict).to_owned(),
            if it.resource.is_empty() { "-".to_owned() } else { it.resource.clone() },
            it.from.to_string(),
            micros(it.theirs_micros),
            micros(it.ours_micros),
            micros(it.price_micros),
            micros(it.usage_micros),
        ]);
    }
    let matched = view.findings.iter().filter(|it| it.verdict == Verdict::Matched).count();
    let total = |verdict: &str| format!("{verdict} {matched} of {}", view.findings.len());
    let (price, usage) = view.findings.iter().fold((0_i64, 0_i64), |(price, usage), it| {
        (price.saturating_add(it.price_micros), usage.saturating_add(it.usage_micros))
    });
    table.row([
        "total".to_owned(),
        total("matched"),
        String::new(),
        amount(view.theirs),
        amount(view.ours),
        micros(price),
        micros(usage),
    ]);
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::job::tests::look;

    fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
        serde_json::from_str(text).expect(text)
    }

    #[test]
    fn what_was_verified() {
        let hash = "ab".repeat(32);
        let view = |defect: &str| -> LedgerCheckView {
            read(&format!(r#"{{"records":42,"head":"{hash}","accounts":7,"periods":1{defect}}}"#))
        };
        insta::assert_snapshot!("ledger_verified", check(&look(false), &view("")));
        let defect = r#","defect":"record 7 is missing: record 8 is in its place""#;
        insta::assert_snapshot!("ledger_defect", check(&look(false), &view(defect)));
    }

    #[test]
    fn rates_are_a_line_for_each_model() {
        let page: Page<RatesView> = read(
            r#"{"items":[{"pool":"dgx","effective":1775001600000,
            "card":{"basis":"flat","per_gpu":{"A100":1500000,"H100":2500000}}},
            {"pool":"lab","effective":1775001600000,
            "card":{"basis":"flat","per_gpu":{"H100":2200000},"currency":"EUR"}}]}"#,
        );
        insta::assert_snapshot!("rates", rates(&look(false), &page));
    }

    #[test]
    fn manifests_are_a_line_for_each_site_and_node() {
        let hash = "ab".repeat(32);
        let node = format!("node_{:032x}", 7);
        let page: Page<SiteManifest> = read(&format!(
            r#"{{"items":[{{"site":"seoul","period":"2026-03","count":52,"added":40,
            "gone":{{"marks":2,"count":10,"hash":"{hash}"}},"hash":"{hash}",
            "nodes":[{{"node":"{node}","mark":{{"after":3,"count":42,"range":[4,99],"hash":"{hash}"}}}}]}}]}}"#
        ));
        insta::assert_snapshot!("manifests", manifests(&look(false), &page));
        insta::assert_snapshot!("manifests_wide", manifests(&look(true), &page));
    }

    #[test]
    fn a_reconciliation_shows_what_differs_and_its_total() {
        let finding = |resource: &str, verdict: &str, theirs: i64, ours: i64, price: i64, usage: i64| {
            format!(
                r#"{{"resource":"{resource}","from":1775001600000,"to":1775005200000,"verdict":"{verdict}",
                "theirs_micros":{theirs},"ours_micros":{ours},"price_micros":{price},"usage_micros":{usage},"lines":[2]}}"#
            )
        };
        let findings = [
            finding("i-1", "matched", 2_000_000, 2_000_000, 0, 0),
            finding("i-2", "price", 3_000_000, 2_000_000, 1_000_000, 0),
            finding("i-3", "orphan", 9_000_000, 0, 0, 9_000_000),
        ];
        let view: ReconciliationView = read(&format!(
            r#"{{"theirs":{{"micros":14000000,"currency":"USD"}},"ours":{{"micros":4000000,"currency":"USD"}},
            "findings":[{}]}}"#,
            findings.join(",")
        ));
        insta::assert_snapshot!("reconciliation", reconciliation(&look(false), &view));
    }
}
