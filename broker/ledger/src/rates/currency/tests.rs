//! The table of currencies: what is converted, how it is rounded, and which rates can be set.

use super::*;

fn code(text: &str) -> Currency {
    text.parse().unwrap()
}

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn table() -> CurrencyTable {
    let mut table = CurrencyTable::new(Currency::USD);
    for (currency, from, rate) in
        [("EUR", "2026-01-01", "1.05"), ("EUR", "2026-03-01", "1.10"), ("KRW", "2026-01-01", "0.00072")]
    {
        table.set(code(currency), day(from), rate.parse().unwrap()).unwrap();
    }
    table
}

#[test]
fn the_rate_of_the_day_counts_and_halves_go_away_from_zero() {
    let table = table();
    let convert = |micros, from: &str, to: &str, on: &str| {
        let amount = Money { micros, currency: code(from) };
        table.convert(amount, code(to), day(on).start()).unwrap().micros
    };
    assert_eq!(convert(100_000_000, "EUR", "USD", "2026-02-28"), 105_000_000);
    assert_eq!(convert(100_000_000, "EUR", "USD", "2026-03-01"), 110_000_000);
    assert_eq!(convert(1_000_000_000_000, "KRW", "USD", "2026-03-01"), 720_000_000);
    assert_eq!(convert(10, "EUR", "USD", "2026-01-01"), 11, "10.5 away from zero");
    assert_eq!(convert(-10, "EUR", "USD", "2026-01-01"), -11);
    assert_eq!(convert(1_100_000, "EUR", "KRW", "2026-03-01"), 1_680_555_556, "one rounding, not two");
    assert_eq!(convert(7, "USD", "USD", "1970-01-01"), 7);
    let much = Money { micros: i64::MAX, currency: code("EUR") };
    let error = table.convert(much, Currency::USD, day("2026-03-01").start()).unwrap_err();
    assert!(matches!(error, CurrencyError::TooMuch { .. }));
}

#[test]
fn what_is_not_known_is_named_with_the_way_out() {
    let mut table = table();
    let at = |text: &str| day(text).start();
    let error = table.rate(code("GBP"), at("2026-01-01")).unwrap_err().to_string();
    assert_eq!(
        error,
        "currency GBP is not known: set what it is worth in USD first, with `spillway currencies set GBP RATE`; \
         known are USD, EUR, KRW"
    );
    let error = table.rate(code("EUR"), at("2025-12-31")).unwrap_err().to_string();
    assert!(error.contains("no rate on 2025-12-31: its first is of 2026-01-01"), "{error}");
    let error = table.set(Currency::USD, day("2026-01-01"), "1".parse().unwrap()).unwrap_err();
    assert_eq!(error, CurrencyError::Base(Currency::USD));
    for wrong in ["", "0", "-1", "1e3", "1.0000000001", ".5", "1.", "99999999999999999999"] {
        let error = wrong.parse::<ExchangeRate>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{wrong}`")), "{error}");
    }
}

#[test]
fn a_table_survives_storage() {
    let json = serde_json::to_string(&table()).unwrap();
    assert!(json.contains("\"2026-03-01\":\"1.1\""), "{json}");
    assert_eq!(serde_json::from_str::<CurrencyTable>(&json).unwrap(), table());
}

#[test]
fn a_rate_is_set_where_it_changes_nothing_that_was_charged() {
    let today = day("2026-03-10");
    let closed = Some(("2025-12".parse().unwrap(), day("2026-01-01")));
    let set = |currency: &str, from: &str, rate: &str| {
        let mut table = table();
        table.set_checked(code(currency), (day(from), rate.parse().unwrap()), today, closed).map(|()| table)
    };
    for (currency, from, rate) in [
        ("EUR", "2026-03-11", "1.2"),
        ("EUR", "2026-03-10", "1.2"),
        ("EUR", "2026-03-01", "1.10"),
        ("GBP", "2026-01-01", "1.3"),
        ("GBP", "2026-04-01", "1.3"),
    ] {
        let set = set(currency, from, rate).unwrap();
        assert_eq!(
            set.rate(code(currency), day(from).start()),
            Ok(rate.parse().unwrap()),
            "{currency} {from}"
        );
    }
    for (currency, from, words) in [
        ("EUR", "2026-03-09", "on 2026-03-09 EUR is worth 1.1, and that day has begun"),
        ("EUR", "2026-03-01", "another one can be set from 2026-03-10 on"),
        (
            "EUR",
            "2025-12-31",
            "lies in period 2025-12 or before it, which is closed; a rate can be set from 2026-01-01",
        ),
        ("USD", "2026-03-11", "is the deployment's own currency"),
    ] {
        let error = set(currency, from, "1.5").unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let mut table = table();
    table.set_checked(code("EUR"), (today, "1.2".parse().unwrap()), today, closed).unwrap();
    let before = table.clone();
    let error = table.set_checked(code("EUR"), (today, "1.3".parse().unwrap()), today, closed).unwrap_err();
    assert!(error.to_string().contains("from 2026-03-11 on"), "{error}");
    assert_eq!(table, before, "a refused rate changes nothing");
    table.set_checked(code("EUR"), (today, "1.2".parse().unwrap()), today, closed).unwrap();
    assert_eq!(table, before, "the same again is no change");
}

#[test]
fn stretches_of_one_rate_cover_the_span() {
    let table = table();
    let span = (UnixMs(day("2025-12-30").start().0 + 5), UnixMs(day("2026-03-02").start().0 + 7));
    let shown = |currency: &str| {
        let stretches = table.stretches(code(currency), span.0, span.1);
        assert_eq!((stretches[0].from, stretches[stretches.len() - 1].to), span);
        assert!(stretches.windows(2).all(|pair| pair[0].to == pair[1].from));
        let rates = stretches.iter().map(|it| it.rate.map(|rate| rate.to_string()).unwrap_or_default());
        rates.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown("EUR"), " 1.05 1.1");
    assert_eq!(shown("USD"), "1.0");
    assert_eq!(shown("GBP"), "");
    let begin = day("2026-03-01").start();
    assert_eq!(table.stretches(code("EUR"), begin, UnixMs(begin.0 + 1)).len(), 1, "it begins with a rate");
    assert_eq!(table.stretches(code("EUR"), begin, begin), []);
}

#[test]
fn what_was_stated_is_kept_with_its_rate() {
    let at = day("2026-03-05").start();
    let euros = Money { micros: 1_000_000_000, currency: code("EUR") };
    let (micros, stated) = table().stated(euros, at).unwrap();
    assert_eq!(micros, 1_100_000_000);
    assert_eq!(stated, Some(Stated { amount: euros, rate: "1.1".parse().unwrap(), on: day("2026-03-05") }));
    assert_eq!(table().stated(Money::usd_micros(7), at), Ok((7, None)));
    let unknown = Money { micros: 1, currency: code("GBP") };
    assert!(matches!(table().stated(unknown, at), Err(CurrencyError::Unknown { .. })));
}
