//! Reports: what was charged, by what it was for and when, added up by the database.
//!
//! Whole months and days come from the roll-ups, the edges of what a time zone cuts otherwise from the charges; a
//! report by job is made of charges alone. One statement sees one moment.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use spillway_ledger::calendar::{Day, Period, Zone};
use spillway_ledger::rollup::{Bucket, Grain, Measures, Piece, cover};
use spillway_types::{GroupName, UnixMs};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::rollup::measures;
use crate::sql::Value;
use crate::tables::MEASURES;
use crate::{Store, StoreError};

/// By what a report adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportBy {
    /// The group that pays.
    Group,
    /// The user who submitted.
    User,
    /// Where it ran.
    Site,
    /// The pool; empty where that was not noted.
    Pool,
    /// The cloud, or [`spillway_ledger::rollup::Provider::ON_PREM`].
    Provider,
    /// The class of accelerators; empty where there were none, or where that was not noted.
    Class,
    /// How the machine was bought; empty where it was not, or where that was not noted.
    Market,
    /// The month into which it is booked.
    Booked,
    /// The job.
    Job,
    /// The data set. What read several is in the row of each, and what read none in no row.
    Dataset,
}

/// Which charges, and by what they are added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportQuery {
    /// By what, in this order. Job and data set are not asked for together: no row is of both.
    pub by: Vec<ReportBy>,
    /// The stretches of time that have rows of their own. What lies in none of them is not in the report.
    pub buckets: Vec<Bucket>,
    /// Only what is booked into this month.
    pub booked: Option<Period>,
    /// Only of these groups; none means all.
    pub groups: Option<Vec<GroupName>>,
    /// Most rows that are read. A row of the report is read from three places at the most.
    pub limit: usize,
}

/// One row of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRow {
    /// Which of the buckets.
    pub bucket: usize,
    /// One for each key, in their order.
    pub keys: Vec<String>,
    /// The sums.
    pub measures: Measures,
}

/// From what a part of a report is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Months,
    Days,
    Datasets,
    Charges,
}

impl Source {
    const fn table(self) -> &'static str {
        match self {
            Self::Months => "spend_months",
            Self::Days => "spend_days",
            Self::Datasets => "spend_datasets",
            Self::Charges => "charges",
        }
    }

    /// The column that says when.
    const fn time(self) -> &'static str {
        match self {
            Self::Months | Self::Days | Self::Datasets => "day",
            Self::Charges => "effective_ms",
        }
    }

    const fn column(self, by: ReportBy) -> &'static str {
        match (by, self) {
            (ReportBy::Group, _) => "group_name",
            (ReportBy::User, _) => "user_name",
            (ReportBy::Site, _) => "site",
            (ReportBy::Booked, Self::Charges) => "month",
            (ReportBy::Booked, _) => "booked",
            (ReportBy::Pool, Self::Charges) => "COALESCE(pool, '')",
            (ReportBy::Pool, _) => "pool",
            (ReportBy::Provider, _) => "provider",
            (ReportBy::Class, Self::Charges) => "COALESCE(class, '')",
            (ReportBy::Class, _) => "class",
            (ReportBy::Market, Self::Charges) => "COALESCE(market, '')",
            (ReportBy::Market, _) => "market",
            (ReportBy::Job, _) => "job",
            (ReportBy::Dataset, Self::Charges) => "COALESCE(datasets, '')",
            (ReportBy::Dataset, _) => "dataset",
        }
    }

    /// What is summed, in the order of [`MEASURES`].
    const fn sums(self) -> [&'static str; MEASURES.len()] {
        match self {
            Self::Months | Self::Days | Self::Datasets => MEASURES,
            Self::Charges => [
                "spend_micros",
                "CASE WHEN kind = 'overhead' THEN spend_micros ELSE 0 END",
                "CASE WHEN kind = 'egress' THEN spend_micros ELSE 0 END",
                "listed_micros",
                "list_micros",
                "gpu_ms",
                "slices",
            ],
        }
    }
}

/// The pieces of every bucket by what answers for them.
fn sources(query: &ReportQuery) -> BTreeMap<Source, Vec<(usize, Piece)>> {
    let mut sources: BTreeMap<Source, Vec<(usize, Piece)>> = BTreeMap::new();
    for (number, bucket) in query.buckets.iter().enumerate() {
        if query.by.contains(&ReportBy::Job) {
            let piece = Piece { grain: Grain::Instant, from: bucket.from.0, to: bucket.to.0 };
            sources.entry(Source::Charges).or_default().push((number, piece));
            continue;
        }
        for piece in cover(bucket.from, bucket.to) {
            let source = match (piece.grain, query.by.contains(&ReportBy::Dataset)) {
                (Grain::Instant, _) => Source::Charges,
                (Grain::Month | Grain::Day, true) => Source::Datasets,
                (Grain::Month, false) => Source::Months,
                (Grain::Day, false) => Source::Days,
            };
            sources.entry(source).or_default().push((number, piece));
        }
    }
    sources
}

/// The statement, with what it binds. None where there is nothing to ask.
fn statement(query: &ReportQuery) -> Option<(String, Vec<Value>)> {
    let mut values: Vec<Value> = vec![];
    let mut bind = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let mut conditions = String::new();
    let booked = query.booked.map(|period| bind(period.to_string().into()));
    if let Some(groups) = &query.groups {
        let groups: Vec<String> = groups.iter().map(|group| bind(group.as_str().into())).collect();
        conditions = format!(" AND group_name IN ({})", groups.join(", "));
    }
    let sources = sources(query);
    let (mut tables, mut parts) = (vec![], vec![]);
    for (source, pieces) in &sources {
        let name = format!("at_{}", source.table());
        let rows: Vec<String> = pieces
            .iter()
            .map(|(bucket, piece)| format!("({bucket}, {}, {})", piece.from, piece.to))
            .collect();
        tables.push(format!("{name} (bucket, low, high) AS (VALUES {})", rows.join(", ")));
        let mut part = "SELECT CAST(bucket AS BIGINT)".to_owned();
        let mut write = |text: std::fmt::Arguments<'_>| {
            part.write_fmt(text).expect("writing to a string does not fail");
        };
        query.by.iter().for_each(|by| write(format_args!(", {}", source.column(*by))));
        source.sums().iter().for_each(|sum| write(format_args!(", CAST(SUM({sum}) AS BIGINT)")));
        let (table, time) = (source.table(), source.time());
        // SQLite keeps the order of a cross join: the few stretches first, then the rows of each by their index.
        write(format_args!(
            " FROM {name} CROSS JOIN {table} WHERE {time} >= low AND {time} < high{conditions}"
        ));
        if let Some(booked) = &booked {
            write(format_args!(" AND {} = {booked}", source.column(ReportBy::Booked)));
        }
        let places: Vec<String> = (1..=query.by.len() + 1).map(|place| place.to_string()).collect();
        write(format_args!(" GROUP BY {}", places.join(", ")));
        parts.push(part);
    }
    let nobody = query.groups.as_ref().is_some_and(Vec::is_empty);
    let (tables, parts, limit) =
        (tables.join(", "), parts.join(" UNION ALL "), query.limit.saturating_add(1));
    (!parts.is_empty() && !nobody).then(|| (format!("WITH {tables} {parts} LIMIT {limit}"), values))
}

impl Store {
    /// The first instant of the first month of UTC in which anything was charged, and the end of the last one; none
    /// where nothing was.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn charged_time(&self) -> Result<Option<(UnixMs, UnixMs)>, StoreError> {
        let sql = "SELECT MIN(day), MAX(day) FROM spend_months";
        let rows = self.rows(sql.into_sql_str(), vec![]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let days = row.maybe_int(0).and_then(|first| Ok(first.zip(row.maybe_int(1)?)));
        let days = days.map_err(|error| self.inner.target.sqlx(error))?;
        let utc = Zone::utc();
        Ok(days.map(|(first, last)| {
            let end = Period::of(Day::numbered(last).start(), &utc).end(&utc);
            (Day::numbered(first).start(), end)
        }))
    }

    /// What was charged, row by row, in the order of bucket and keys; none where more rows than the limit were read.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn report(&self, query: &ReportQuery) -> Result<Option<Vec<ReportRow>>, StoreError> {
        let target = &self.inner.target;
        let Some((sql, values)) = statement(query) else { return Ok(Some(vec![])) };
        let rows = self.rows(AssertSqlSafe(sql).into_sql_str(), values).await?;
        if rows.len() > query.limit {
            return Ok(None);
        }
        let dataset = query.by.iter().position(|by| *by == ReportBy::Dataset);
        let mut sums: BTreeMap<(usize, Vec<String>), Measures> = BTreeMap::new();
        for row in rows {
            let read = || -> Result<(i64, Vec<String>, Measures), sqlx::Error> {
                let keys: Result<Vec<String>, sqlx::Error> =
                    (0..query.by.len()).map(|column| row.text(column + 1)).collect();
                Ok((row.int(0)?, keys?, measures(&row, query.by.len() + 1)?))
            };
            let (bucket, keys, measures) = read().map_err(|error| target.sqlx(error))?;
            let bucket = usize::try_from(bucket).map_err(|_| target.corrupt("a bucket below 0"))?;
            for keys in each_dataset(keys, dataset) {
                *sums.entry((bucket, keys)).or_default() += measures;
            }
        }
        let row = |((bucket, keys), measures)| ReportRow { bucket, keys, measures };
        Ok(Some(sums.into_iter().map(row).collect()))
    }
}

/// A charge names all data sets that were read in one text, a roll-up has a row for each.
fn each_dataset(keys: Vec<String>, dataset: Option<usize>) -> Vec<Vec<String>> {
    let Some(place) = dataset else { return vec![keys] };
    let names = keys.get(place).cloned().unwrap_or_default();
    let with = |name: &str| {
        let mut keys = keys.clone();
        if let Some(key) = keys.get_mut(place) {
            name.clone_into(key);
        }
        keys
    };
    names.split(',').filter(|name| !name.is_empty()).map(with).collect()
}
