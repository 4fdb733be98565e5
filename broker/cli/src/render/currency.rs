//! What currencies are worth as it is seen.

use spillway_api::v1::{ExchangeView, Page};
use spillway_ledger::calendar::Day;
use spillway_ledger::rates::Stated;

use super::value::amount;
use crate::output::Look;
use crate::table::Table;

/// What currencies are worth, a line for each rate; the one that counts today is marked.
pub(crate) fn currencies(look: &Look, page: &Page<ExchangeView>) -> String {
    let mut table = Table::new(look, &["CURRENCY", "FROM", ">WORTH", "IN", "TODAY"]);
    let today = Day::of(look.now);
    for (place, view) in page.items.iter().enumerate() {
        let next = page.items.get(place + 1).filter(|next| next.currency == view.currency);
        let counts = view.from <= today && next.is_none_or(|next| today < next.from);
        table.row([
            view.currency.to_string(),
            view.from.to_string(),
            view.rate.to_string(),
            view.base.to_string(),
            if counts { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.lines()
}

/// An amount as it was stated, with what one unit was worth then.
pub(crate) fn stated(stated: Option<Stated>) -> String {
    stated.map(|it| format!("{} at {} of {}", amount(it.amount), it.rate, it.on)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_types::UnixMs;

    #[test]
    fn the_rate_that_counts_today_is_marked() {
        let page: Page<ExchangeView> = serde_json::from_str(
            r#"{"items":[
            {"currency":"EUR","from":"2026-01-01","rate":"1.05","base":"USD"},
            {"currency":"EUR","from":"2026-03-01","rate":"1.0853","base":"USD"},
            {"currency":"EUR","from":"2026-04-01","rate":"1.1","base":"USD"},
            {"currency":"KRW","from":"2026-01-01","rate":"0.00072","base":"USD"}]}"#,
        )
        .expect("a page");
        let now: Day = "2026-03-31".parse().expect("a day");
        let look = Look { wide: false, width: None, now: UnixMs(now.start().0 + 5) };
        insta::assert_snapshot!("currencies", currencies(&look, &page));
    }
}
