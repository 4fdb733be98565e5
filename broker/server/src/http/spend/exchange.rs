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
