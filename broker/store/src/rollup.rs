//! Roll-ups as rows: written beside the entries that they add up, read back to be compared with the journal.

use spillway_ledger::calendar::Day;
use spillway_ledger::rollup::{Dimensions, Measures, Provider, Rollup};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::batch::Rows;
use crate::sql::{Row, Value};
use crate::tables::{self, DIMENSIONS, MEASURES, Table};
use crate::target::Target;
use crate::{Store, StoreError};

/// The roll-ups of a store at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    /// By days, and by data sets and days.
    pub(crate) days: Rollup,
    /// By months.
    pub(crate) months: Rollup,
    /// The newest number of the ledger at that moment.
    pub(crate) newest: u64,
}

/// The rows that add a roll-up to what is stored.
pub(crate) fn rows(rollup: &Rollup) -> Result<Vec<Rows>, String> {
    let mut datasets = vec![];
    for ((dataset, dimensions), measures) in rollup.datasets() {
        datasets.push(crate::batch::portable(dataset).into());
        values(&mut datasets, dimensions, measures)?;
    }
    let of = |table: &'static Table, rollup: &Rollup| {
        let mut row_values = vec![];
        for (dimensions, measures) in rollup.rows() {
            values(&mut row_values, dimensions, measures)?;
        }
        Ok::<_, String>(Rows { table, values: row_values })
    };
    Ok(vec![
        of(&tables::SPEND_DAYS, rollup)?,
        of(&tables::SPEND_MONTHS, &rollup.by_month())?,
        Rows { table: &tables::SPEND_DATASETS, values: datasets },
    ])
}

/// In the order of [`DIMENSIONS`] and [`MEASURES`].
fn values(into: &mut Vec<Value>, dimensions: &Dimensions, measures: &Measures) -> Result<(), String> {
    let Dimensions { day, booked, group, user, site, pool, provider, class, market } = dimensions;
    let by: [Value; DIMENSIONS.len()] = [
        day.number().into(),
        booked.to_string().into(),
        group.as_str().into(),
        user.as_str().into(),
        site.as_str().into(),
        pool.as_str().into(),
        provider.to_string().into(),
        class.as_str().into(),
        market.as_str().into(),
    ];
    into.extend(by);
    for sum in sums(measures) {
        let narrow = i64::try_from(sum);
        into.push(narrow.map_err(|_| format!("a sum of {sum} is more than a BIGINT can hold"))?.into());
    }
    Ok(())
}

/// In the order of [`MEASURES`].
const fn sums(measures: &Measures) -> [i128; MEASURES.len()] {
    [
        measures.spend_micros,
        measures.overhead_micros,
        measures.egress_micros,
        measures.listed_micros,
        measures.list_micros,
        measures.matched_micros,
        measures.on_prem_micros,
        measures.gpu_ms,
        measures.normalised_ms,
        measures.slices,
    ]
}

/// The measures of sums in the order of [`MEASURES`].
pub(crate) const fn measures_of(sums: [i128; MEASURES.len()]) -> Measures {
    let [spend, overhead, egress, listed, list, matched, on_prem, gpu_ms, normalised_ms, slices] = sums;
    Measures {
        spend_micros: spend,
        overhead_micros: overhead,
        egress_micros: egress,
        listed_micros: listed,
        list_micros: list,
        matched_micros: matched,
        on_prem_micros: on_prem,
        gpu_ms,
        normalised_ms,
        slices,
    }
}

/// The measures of a row from `column` on, in the order of [`MEASURES`].
pub(crate) fn measures(row: &Row, column: usize) -> Result<Measures, sqlx::Error> {
    let mut sums = [0; MEASURES.len()];
    for (place, sum) in sums.iter_mut().enumerate() {
        *sum = i128::from(row.int(column + place)?);
    }
    Ok(measures_of(sums))
}

fn dimensions(target: &Target, row: &Row, column: usize) -> Result<Dimensions, StoreError> {
    let text = |place: usize| row.text(column + place).map_err(|error| target.sqlx(error));
    let provider = text(6)?;
    let provider = if provider == Provider::ON_PREM {
        Provider::OnPrem
    } else {
        Provider::Cloud(provider.parse().map_err(|error| target.corrupt(error))?)
    };
    Ok(Dimensions {
        day: Day::numbered(row.int(column).map_err(|error| target.sqlx(error))?),
        booked: text(1)?.parse().map_err(|error| target.corrupt(error))?,
        group: text(2)?.parse().map_err(|error| target.corrupt(error))?,
        user: text(3)?,
        site: text(4)?.parse().map_err(|error| target.corrupt(error))?,
        pool: text(5)?,
        provider,
        class: text(7)?,
        market: text(8)?,
    })
}

impl Store {
    /// All roll-ups, and how far the ledger went when they were read: of one moment, as one statement sees it.
    pub(crate) async fn rollups(&self) -> Result<Stored, StoreError> {
        let target = &self.inner.target;
        let columns = [&DIMENSIONS[..], &MEASURES[..]].concat().join(", ");
        let nothing = [", ''"; DIMENSIONS.len() - 1].concat() + &[", 0"; MEASURES.len()].concat();
        let sql = format!(
            "SELECT 'days', '', {columns} FROM spend_days UNION ALL \
             SELECT 'months', '', {columns} FROM spend_months UNION ALL \
             SELECT 'datasets', dataset, {columns} FROM spend_datasets UNION ALL \
             SELECT 'newest', '', COALESCE(MAX(chain_seq), 0){nothing} FROM ledger_entries"
        );
        let mut stored = Stored::default();
        for row in self.rows(AssertSqlSafe(sql).into_sql_str(), vec![]).await? {
            let which = row.text(0).map_err(|error| target.sqlx(error))?;
            if which == "newest" {
                let newest = row.int(2).map_err(|error| target.sqlx(error))?;
                stored.newest = u64::try_from(newest).map_err(|_| target.corrupt("a count below 0"))?;
                continue;
            }
            let by = dimensions(target, &row, 2)?;
            let sums = measures(&row, 2 + DIMENSIONS.len()).map_err(|error| target.sqlx(error))?;
            match which.as_str() {
                "days" => stored.days.add_row(by, sums),
                "months" => stored.months.add_row(by, sums),
                _ => {
                    let dataset = row.text(1).map_err(|error| target.sqlx(error))?;
                    stored.days.add_dataset(dataset, by, sums);
                }
            }
        }
        Ok(stored)
    }
}
