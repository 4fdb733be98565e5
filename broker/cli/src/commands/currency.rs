//! What currencies are worth, and amounts that are told in one.

use spillway_api::Client;
use spillway_api::v1::{ExchangeRequest, Page, currency_table};
use spillway_ledger::limits::MAX_AMOUNT;
use spillway_ledger::rates::CurrencyTable;
use spillway_types::{Currency, Money};

use crate::args::currency::{CurrenciesArgs, CurrenciesCommand};
use crate::clock;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::currency as render;

pub(super) async fn currencies(
    client: &Client,
    args: &CurrenciesArgs,
    output: &mut Output,
) -> Result<u8, Failure> {
    match args.command.unwrap_or(CurrenciesCommand::Show) {
        CurrenciesCommand::Show => output.show(&client.currencies().await?, render::currencies),
        CurrenciesCommand::Set { currency, rate, from } => {
            let set = client.set_currency(currency, &ExchangeRequest { from, rate }).await?;
            output.show(&Page { items: vec![set], next: None }, render::currencies);
        }
    }
    Ok(0)
}

/// An amount of 0 or more that may name its currency; where it does not, it is in `usual`.
pub(super) fn money(argument: &str, text: &str, usual: Currency) -> Result<Money, Failure> {
    let money = Money::parse_in(text, usual);
    let money = money.map_err(|error| Failure::usage(argument, text, error.to_string()))?;
    if (0..=MAX_AMOUNT).contains(&money.micros) {
        return Ok(money);
    }
    let problem = format!("give 0 to {:.0}", Money { micros: MAX_AMOUNT, ..money });
    Err(Failure::usage(argument, text, problem))
}

/// Converts dollars into a currency, at what that is worth today.
#[derive(Debug)]
pub(super) struct Converter {
    table: CurrencyTable,
    pub(super) currency: Currency,
}

impl Converter {
    /// Asks the broker only where there is something to convert.
    pub(super) async fn new(client: &Client, currency: Currency) -> Result<Self, Failure> {
        let table = if currency == Currency::USD {
            CurrencyTable::default()
        } else {
            currency_table(&client.currencies().await?.items)
        };
        Ok(Self { table, currency })
    }

    pub(super) fn convert(&self, amount: Money) -> Result<Money, Failure> {
        let converted = self.table.convert(amount, self.currency, clock::now());
        converted.map_err(|error| Failure::usage("--currency", self.currency.as_str(), error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_in_the_usual_currency_where_they_name_none() {
        let euros: Currency = "EUR".parse().expect("a code");
        for (text, currency) in [("12.50", euros), ("12.50EUR", euros), ("12.50 USD", Currency::USD)] {
            assert_eq!(money("AMOUNT", text, euros).expect(text), Money { micros: 12_500_000, currency });
        }
        for wrong in ["", "lots", "-5", "1.0000001", "5 EURO", "1000000000001"] {
            assert_eq!(money("AMOUNT", wrong, euros).expect_err(wrong).exit_code(), 2);
        }
    }
}
