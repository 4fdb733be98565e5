//! In which currency a report is told: each stretch of days over which that was worth the same has rows of its own, which
//! are converted and added up here. What the days of the past come to thus never changes.

use super::{
    Api, BTreeMap, Bucket, Failure, GroupName, Measures, Money, ReportRow, SpendAsked, UnixMs, narrow,
};
use crate::http::currencies::{self, refused};
use spillway_ledger::rates::{CurrencyTable, ExchangeRate, sum_into};
use spillway_types::Currency;

/// A currency, and what it is worth.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) currency: Currency,
    /// What one unit is worth today: at that budgets, holds and forecasts are told.
    today: ExchangeRate,
    table: CurrencyTable,
}

/// Stretches of time of one bucket and one rate each.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) buckets: Vec<Bucket>,
    rates: Vec<Option<ExchangeRate>>,
}

/// What a row comes to, by the rate of its days.
pub(super) type ByRate = BTreeMap<ExchangeRate, Measures>;

/// The currency that was asked for, or that of the group whose report it is, or dollars.
pub(super) async fn read(api: &Api, asked: &SpendAsked) -> Result<Told, Failure> {
    let of_group = asked.group.clone();
    let read = move |view: &crate::View<'_>| {
        let limits = &view.federation.state().limits;
        of_group.map(|group: GroupName| limits.currency(&group)).unwrap_or_default()
    };
    let currency = match asked.currency {
        Some(currency) => currency,
        None => api.app.engine.read(read).await?,
    };
    let table = currencies::table(api).await?;
    let today = table.rate(currency, api.app.engine.clock().now());
    let today = today.map_err(|error| refused("currency", error))?;
    Ok(Told { currency, today, table })
}

impl Told {
    /// The buckets, each cut where the rate changes.
    pub(super) fn cut(&self, buckets: &[Bucket]) -> Cut {
        let mut cut = Cut { buckets: vec![], rates: vec![] };
        for bucket in buckets {
            for stretch in self.table.stretches(self.currency, bucket.from, bucket.to) {
                let (name, from, to) = (bucket.name.clone(), stretch.from, stretch.to);
                cut.buckets.push(Bucket { name, from, to });
                cut.rates.push(stretch.rate);
            }
        }
        cut
    }

    /// Refuses rows of a time before the currency's first rate.
    pub(super) fn check(&self, cut: &Cut, rows: &[ReportRow]) -> Result<(), Failure> {
        let early = rows.iter().find(|row| cut.rate(row.bucket).is_none());
        let at = early.and_then(|row| cut.buckets.get(row.bucket)).map(|bucket| bucket.from);
        let Some(error) = at.and_then(|at: UnixMs| self.table.rate(self.currency, at).err()) else {
            return Ok(());
        };
        Err(refused("currency", error))
    }

    pub(super) fn money(&self, micros: i128) -> Money {
        Money { micros: narrow(micros), currency: self.currency }
    }

    /// An amount of dollars at what they are worth today.
    pub(super) fn today(&self, micros: i64) -> Money {
        self.money(sum_into(&BTreeMap::from([(self.today, i128::from(micros))])))
    }
}

impl Cut {
    /// What the currency was worth in a bucket.
    pub(super) fn rate(&self, bucket: usize) -> Option<ExchangeRate> {
        self.rates.get(bucket).copied().flatten()
    }

    /// The sum of all rows.
    pub(super) fn sum(&self, rows: &[ReportRow]) -> ByRate {
        let mut sums = ByRate::new();
        for row in rows {
            if let Some(rate) = self.rate(row.bucket) {
                *sums.entry(rate).or_default() += row.measures;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_ledger::rollup::in_currency;

    fn at(day: &str) -> UnixMs {
        day.parse::<spillway_ledger::calendar::Day>().unwrap().start()
    }

    fn told(currency: &str) -> Told {
        let mut table = CurrencyTable::default();
        for (day, rate) in [("2026-02-01", "1.05"), ("2026-02-10", "1.1")] {
            table.set("EUR".parse().unwrap(), day.parse().unwrap(), rate.parse().unwrap()).unwrap();
        }
        let currency = currency.parse().unwrap();
        Told { currency, today: table.rate(currency, at("2026-03-01")).unwrap(), table }
    }

    fn months() -> [Bucket; 2] {
        [("2026-01", "2026-01-01", "2026-02-01"), ("2026-02", "2026-02-01", "2026-03-01")]
            .map(|(name, from, to)| Bucket { name: name.to_owned(), from: at(from), to: at(to) })
    }

    fn row(bucket: usize, spend_micros: i128) -> ReportRow {
        let measures = Measures { spend_micros, gpu_ms: 7, ..Measures::default() };
        ReportRow { bucket, keys: vec![], measures }
    }

    #[test]
    fn a_month_is_what_its_days_come_to_at_the_rates_of_the_days() {
        let told = told("EUR");
        let cut = told.cut(&months());
        let named: Vec<&str> = cut.buckets.iter().map(|bucket| bucket.name.as_str()).collect();
        assert_eq!(named, ["2026-01", "2026-02", "2026-02"]);
        let rows = [row(1, 1_050_000), row(2, 2_200_000)];
        assert!(told.check(&cut, &rows).is_ok());
        let sum = in_currency(&cut.sum(&rows));
        assert_eq!((told.money(sum.spend_micros).micros, sum.gpu_ms), (3_000_000, 14));
        assert_eq!(told.today(1_100_000).micros, 1_000_000, "a budget is told at today's rate");
    }

    #[test]
    fn what_was_charged_before_the_first_rate_is_refused_with_the_first_day() {
        let told = told("EUR");
        let cut = told.cut(&months());
        let Err(Failure(error)) = told.check(&cut, &[row(1, 1), row(0, 1)]) else { panic!("not refused") };
        assert_eq!(error.field.as_deref(), Some("currency"));
        let said = format!("{} {}", error.message, error.hint.unwrap_or_default());
        assert!(
            said.contains("no rate on 2026-01-01") && said.contains("its first is of 2026-02-01"),
            "{said}"
        );
    }

    #[test]
    fn a_report_in_dollars_is_cut_nowhere_and_converted_by_nothing() {
        let told = told("USD");
        let cut = told.cut(&months());
        assert_eq!(cut.buckets, months());
        let rows = [row(0, i128::from(i64::MAX)), row(1, -7)];
        assert_eq!(in_currency(&cut.sum(&rows)).spend_micros, i128::from(i64::MAX) - 7);
        assert_eq!(told.today(-7), Money::usd_micros(-7));
    }
}
