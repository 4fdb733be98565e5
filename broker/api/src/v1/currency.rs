//! What currencies are worth in dollars, in which the books are kept.

use serde::{Deserialize, Serialize};
use spillway_ledger::calendar::Day;
use spillway_ledger::rates::{CurrencyTable, ExchangeRate};
use spillway_types::Currency;

/// Notes what one unit of a currency is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeRequest {
    /// The day in UTC from which on it is; today where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Day>,
    /// What it is worth in dollars, as a decimal: `"1.0853"`.
    pub rate: ExchangeRate,
}

/// What one unit of a currency is worth from a day on, until the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeView {
    /// The currency.
    pub currency: Currency,
    /// The first day, in UTC.
    pub from: Day,
    /// What it is worth in `base`.
    pub rate: ExchangeRate,
    /// The currency of the books.
    pub base: Currency,
}

/// The table that the rows are of; a row of the books' own currency is none of it.
#[must_use]
pub fn currency_table(rows: &[ExchangeView]) -> CurrencyTable {
    let mut table = CurrencyTable::default();
    for row in rows {
        // The one error is of the books' own currency, which is worth 1 of itself whatever is said.
        drop(table.set(row.currency, row.from, row.rate));
    }
    table
}
